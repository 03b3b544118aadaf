"""How much of a reference model's answers another file still gives. Knows engines by their protocol alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yowo_deploy.arrays import Float
from yowo_deploy.backends.loader import open_model
from yowo_deploy.boxes import Detections, iou_matrix
from yowo_deploy.postprocess.decode import detect
from yowo_export.sample_clips import Clips

SAME_IOU = 0.5  # at which frame-mAP takes two boxes for one


@dataclass(frozen=True)
class Damage:
    """What was lost on some clips; the order of two is that of their damage to detections.

    Attributes:
        score_lost: percent of the reference's scores: for each of its detections above the display threshold, what
            the best overlapping box (IoU 0.5) has less of its class; 0 when nothing is less, 100 when nothing is left.
        raw: largest difference of any output value, relative to the largest output; infinite where it is no number.
    """

    score_lost: float
    raw: float

    def __lt__(self, other: Damage) -> bool:
        return (self.score_lost, self.raw) < (other.score_lost, other.raw)


class Judge:
    """Holds clips and what the reference answers to them.

    Args:
        reference: an ONNX file in float32.
        engine: that runs both.
    """

    def __init__(self, reference: Path, clips: Clips, engine: str = "onnxruntime") -> None:
        self._engine, self._clips, self._spec = engine, clips, clips.spec
        self._expected = self._answers(reference)
        self._detections = [
            detect(raw, self._spec, size_wh) for raw, size_wh in zip(self._expected, clips.sizes, strict=True)
        ]

    @property
    def count(self) -> int:
        """Of clips."""
        return len(self._clips)

    @property
    def detections(self) -> int:
        """Of the reference, above its display threshold."""
        return sum(map(len, self._detections))

    def damage(self, candidate: Path) -> Damage:
        """Of a file for the same task."""
        lost = total = raw = 0.0
        for expected, wanted, answer, size_wh in zip(
            self._expected, self._detections, self._answers(candidate), self._clips.sizes, strict=True
        ):
            if not np.isfinite(answer).all():
                return Damage(100.0, np.inf)
            raw = max(raw, float(np.abs(answer - expected).max() / max(1.0, np.abs(expected).max())))
            found = detect(answer, self._spec, size_wh, self._spec.evaluation_threshold)
            lost += _lost(wanted, found)
            total += float(wanted.confidence.sum())
        return Damage(100 * lost / total if total else 0.0, raw)

    def _answers(self, model: Path) -> list[Float]:
        # A file says its own precision; what it says is what is judged.
        with open_model(model, self._engine) as backend:
            return [backend.infer(clip[None])[0] for clip, _ in self._clips]


def _lost(wanted: Detections, found: Detections) -> float:
    if not len(wanted):
        return 0.0
    kept = np.zeros(len(wanted), np.float32)
    if len(found):
        same = iou_matrix(wanted.xyxy, found.xyxy) >= SAME_IOU
        kept = (same * found.scores.T[wanted.class_id]).max(axis=1)
    return float(np.maximum(wanted.confidence - kept, 0).sum())
