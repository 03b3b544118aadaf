"""Filter detections and tubes by class."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import numpy as np

from yowo_deploy.arrays import Float
from yowo_deploy.boxes import Detections, Tube
from yowo_deploy.errors import InputError
from yowo_deploy.spec import ModelSpec


class ClassFilter:
    """Leaves out what is of other classes, after linking, so that people keep their ids.

    A box stays when its best class is wanted; of a model that gives several classes to a box (AVA's), when any wanted
    one exceeds the threshold. The scores of other classes become 0.

    Args:
        classes: labels of the model, or one; None for all.
        confidence: the threshold.

    Attributes:
        labels: all of the model.

    Raises:
        InputError: a label that the model does not have.
    """

    def __init__(self, spec: ModelSpec, classes: Iterable[str] | None, confidence: float) -> None:
        names = spec.labels if classes is None else (classes,) if isinstance(classes, str) else tuple(classes)
        if unknown := [name for name in names if name not in spec.labels]:
            raise InputError(f"the model has no class {unknown[0]!r}, expected some of {', '.join(spec.labels)}")
        self.labels = spec.labels
        self._mask = np.isin(np.array(spec.labels, object), np.array(names, object))
        self._several, self._confidence = spec.class_activation != "softmax", confidence

    def among(self, detections: Detections) -> Detections:
        """Those that are wanted, best first."""
        if self._mask.all():
            return detections
        scores = self._masked(detections.scores)
        best = scores.max(axis=1, initial=0)
        kept = best > self._confidence if self._several else self._mask[detections.class_id]
        rows = np.flatnonzero(kept)
        rows = rows[np.argsort(-best[rows], kind="stable")]
        found = replace(detections, scores=scores, confidence=best, class_id=scores.argmax(axis=1))
        return found[rows]

    def tubes(self, tubes: Sequence[Tube]) -> tuple[Tube, ...]:
        """Those of a wanted class; of a model that gives several, also those whose wanted one exceeds the threshold.

        These have that class and its mean score, and no scores of single frames, which a tube has of its best class.
        """
        wanted = (tube if self._mask[tube.class_id] else self._second(tube) for tube in tubes)
        return tuple(tube for tube in wanted if tube is not None)

    def _second(self, tube: Tube) -> Tube | None:
        scores = self._masked(np.zeros(1, np.float32) if tube.class_scores is None else tube.class_scores)
        best = int(scores.argmax())
        exceeds = self._several and bool(scores[best] > self._confidence)
        return replace(tube, class_id=best, score=float(scores[best]), scores=None) if exceeds else None

    def _masked(self, scores: Float) -> Float:
        return np.where(self._mask, scores, np.float32(0))


def parse_classes(texts: Sequence[str], labels: Sequence[str]) -> list[str] | None:
    """Labels from what was typed: each text is one label, or several with commas between; None of nothing."""
    named = [[text] if text in labels else [part.strip() for part in text.split(",")] for text in texts]
    return [name for names in named for name in names if name] or None
