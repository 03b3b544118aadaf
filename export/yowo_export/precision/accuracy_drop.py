"""Loss of detection scores and of raw accuracy of a converted file against its float32 reference."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from yowo_deploy.arrays import Float
from yowo_deploy.backends.loader import open_model
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
    """Clips and the reference's answers to them.

    Args:
        reference: an ONNX file in float32.
        engine: runs both files.
    """

    def __init__(self, reference: Path, clips: Clips, engine: str = "onnxruntime") -> None:
        self._engine, self._clips, self._spec = engine, clips, clips.spec
        self._expected = self._answers(reference)
        self._detections = [
            detect(raw, self._spec, size_wh) for raw, size_wh in zip(self._expected, clips.sizes, strict=True)
        ]

    @property
    def count(self) -> int:
        """Number of clips."""
        return len(self._clips)

    @property
    def detections(self) -> int:
        """Number of the reference's detections above its display threshold."""
        return sum(map(len, self._detections))

    def damage(self, candidate: Path, every: int = 1) -> Damage:
        """Damage of a file for the same task, on each `every`-th clip."""
        lost = total = raw = 0.0
        columns = (self._expected, self._detections, self._clips.sizes)
        for expected, wanted, size_wh, answer in zip(
            *(each[::every] for each in columns), self._answers(candidate, every), strict=True
        ):
            if not np.isfinite(answer).all():
                return Damage(100.0, np.inf)
            raw = max(raw, float(np.abs(answer - expected).max() / max(1.0, np.abs(expected).max())))
            found = detect(answer, self._spec, size_wh, self._spec.evaluation_threshold)
            lost += _lost(wanted, found)
            total += float(wanted.confidence.sum())
        return Damage(100 * lost / total if total else 0.0, raw)

    def _answers(self, model: Path, every: int = 1) -> list[Float]:
        # No precision option: each file runs in the precision that it records.
        with open_model(model, self._engine) as backend:
            return [backend.infer(self._clips.clip(index)[None])[0] for index in range(0, self.count, every)]


def _lost(wanted: Detections, found: Detections) -> float:
    if not len(wanted):
        return 0.0
    found_score = np.zeros(len(wanted), np.float32)
    if len(found):
        same = iou_matrix(wanted.xyxy, found.xyxy) >= SAME_IOU
        found_score = (same * found.scores.T[wanted.class_id]).max(axis=1)
    return float(np.maximum(wanted.confidence - found_score, 0).sum())
