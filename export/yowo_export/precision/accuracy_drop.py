"""Loss of detection scores and of raw accuracy of a converted network against its float32 reference."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np

from yowo_deploy.arrays import Float
from yowo_deploy.boxes import Detections, iou_matrix
from yowo_deploy.postprocess.decode import detect
from yowo_export.sample_clips import Clips

SAME_IOU = 0.5  # the threshold of frame-mAP


@dataclass(frozen=True)
class Damage:
    """Loss on some clips; ordered by lost scores, then by raw difference.

    Attributes:
        score_lost: percent of the reference's scores: for each of its detections above the display threshold, by how
            much the best overlapping box (IoU 0.5) scores lower for its class; 0 for none lower, 100 for none found.
        raw: largest difference of any output value, relative to the largest output; infinite for a non-finite output.
    """

    score_lost: float
    raw: float

    def __lt__(self, other: Damage) -> bool:
        return (self.score_lost, self.raw) < (other.score_lost, other.raw)


class Judge:
    """A float32 network's answers to some clips.

    Args:
        expected: (A * (5 + C), rows, columns) each, in the order of the clips.
    """

    def __init__(self, expected: Iterable[Float], clips: Clips) -> None:
        self._expected, self._clips, self._spec = list(expected), clips, clips.spec
        self._detections = [
            detect(raw, self._spec, size_wh) for raw, size_wh in zip(self._expected, clips.sizes, strict=True)
        ]

    @property
    def detections(self) -> int:
        """Number of the reference's detections above its display threshold."""
        return sum(map(len, self._detections))

    def damage(
        self, answers: Iterable[Float], every: int = 1, accept: Callable[[Damage], bool] = lambda damage: True
    ) -> Damage:
        """Damage of a network for the same task, by its answers to each `every`-th clip.

        Args:
            accept: the damage so far, of all scores, never falls: once it is not accepted, it is the result and no
                further answer is computed.
        """
        total = sum(float(wanted.confidence.sum()) for wanted in self._detections[::every])
        lost, found = 0.0, Damage(0.0, 0.0)
        columns = (self._expected, self._detections, self._clips.sizes)
        for expected, wanted, size_wh, answer in zip(*(each[::every] for each in columns), answers, strict=True):
            if not np.isfinite(answer).all():
                return Damage(100.0, np.inf)
            raw = float(np.abs(answer - expected).max() / max(1.0, np.abs(expected).max()))
            lost += _lost(wanted, detect(answer, self._spec, size_wh, self._spec.evaluation_threshold))
            found = Damage(100 * lost / total if total else 0.0, max(found.raw, raw))
            if not accept(found):
                break
        return found


def _lost(wanted: Detections, found: Detections) -> float:
    if not len(wanted):
        return 0.0
    found_score = np.zeros(len(wanted), np.float32)
    if len(found):
        same = iou_matrix(wanted.xyxy, found.xyxy) >= SAME_IOU
        found_score = (same * found.scores.T[wanted.class_id]).max(axis=1)
    return float(np.maximum(wanted.confidence - found_score, 0).sum())
