"""Compute frame-mAP by the rules of AVA's official evaluator."""

from __future__ import annotations

import heapq

import numpy as np

from yowo_deploy.arrays import Int
from yowo_deploy.metrics.frame_ap import ClassAp, FrameBoxes, by_class, class_ap, correct

PER_FRAME = 50


def ava_map(detections: FrameBoxes, truth: FrameBoxes, classes: int, iou: float = 0.5) -> ClassAp:
    """Average precision by class: the 50 best detections of a frame, every-point, areas without the last pixel.

    Detections in frames without ground truth are wrong; classes without ground truth are left out of the mean.
    """
    judged = detections.rows(_kept(detections))
    right = correct(judged, truth, classes, iou, np.arange(len(judged)))
    # Scores of a class are sorted ascending and read backwards: of equal ones the last comes first.
    order = np.argsort(judged.score, kind="stable")[::-1]
    ranked = by_class(right[order], judged.class_id[order], classes)
    return class_ap(ranked, np.bincount(truth.class_id, minlength=classes))


def _kept(detections: FrameBoxes) -> Int:
    """The rows that are judged: frames as they first appear, each frame's rows best first."""
    _, first, inverse = np.unique(detections.frame, return_index=True, return_inverse=True)
    appeared = first[inverse.reshape(-1)]
    rows = np.lexsort((-detections.score, appeared))
    frames = np.split(rows, np.flatnonzero(np.diff(appeared[rows])) + 1)
    return np.concatenate([*(_best(detections, rows) for rows in frames), rows[:0]])


def _best(detections: FrameBoxes, rows: Int) -> Int:
    """The 50 best of a frame's rows; what a heap of (score, class, box) keeps of equal scores, in the heap's order."""
    if len(rows) <= PER_FRAME and (np.diff(detections.score[rows]) < 0).all():
        return rows
    heap: list[tuple[float, int, list[float], int]] = []
    for row in sorted(rows.tolist()):
        left, top, right, bottom = detections.xyxy[row].tolist()
        entry = float(detections.score[row]), int(detections.class_id[row]), [top, left, bottom, right], row
        if len(heap) < PER_FRAME:
            heapq.heappush(heap, entry)
        elif entry[0] > heap[0][0]:
            heapq.heapreplace(heap, entry)
    return np.array([entry[-1] for entry in sorted(heap, key=lambda entry: -entry[0])], np.int64)
