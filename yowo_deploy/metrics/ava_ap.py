"""Compute frame-mAP by the rules of AVA's official evaluator."""

from __future__ import annotations

import numpy as np

from yowo_deploy.arrays import Int
from yowo_deploy.metrics.frame_ap import ClassAp, FrameBoxes, frame_map

PER_FRAME = 50


def ava_map(detections: FrameBoxes, truth: FrameBoxes, classes: int, iou: float = 0.5) -> ClassAp:
    """Average precision by class: the 50 best detections of a frame, every-point, areas without the last pixel.

    Detections in frames without ground truth are wrong; classes without ground truth are left out of the mean.
    """
    return frame_map(detections.rows(_official_order(detections)), truth, classes, iou)


def _official_order(detections: FrameBoxes) -> Int:
    """The rows that are judged, in the order in which that evaluator ranks rows of equal score.

    It takes frames as they first appear, each frame's rows best first, and sorts all scores of a class ascending, read
    backwards.
    """
    _, first, inverse = np.unique(detections.frame, return_index=True, return_inverse=True)
    appeared = first[inverse.reshape(-1)]
    rows = np.lexsort((-detections.score, appeared))
    new_frame = np.flatnonzero(np.diff(appeared[rows], prepend=-1))
    rank = np.arange(len(rows)) - np.repeat(new_frame, np.diff(np.append(new_frame, len(rows))))
    rows = rows[rank < PER_FRAME]
    by_class = [rows[detections.class_id[rows] == class_id] for class_id in np.unique(detections.class_id[rows])]
    ranked = [part[np.argsort(detections.score[part])[::-1]] for part in by_class]
    return np.concatenate([*ranked, rows[:0]])
