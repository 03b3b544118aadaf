"""Average precision over frames, as Pascal VOC defines it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Int
from yowo_deploy.boxes import paired_iou
from yowo_deploy.errors import InputError


@dataclass(frozen=True)
class FrameBoxes:
    """Boxes of many frames, one row each, in any order.

    Attributes:
        frame: (N,) int64, which frame; equal numbers are the same frame.
        class_id: (N,) int64.
        xyxy: (N, 4) corners, all in one unit.
        score: (N,); 1 for ground truth.
    """

    frame: Int
    class_id: Int
    xyxy: NDArray[Any]
    score: NDArray[Any]

    @classmethod
    def concatenate(cls, parts: list[FrameBoxes]) -> FrameBoxes:
        """All rows of all parts."""
        if not parts:
            return cls(
                np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
            )
        return cls(
            *(
                np.concatenate([getattr(part, name) for part in parts])
                for name in ("frame", "class_id", "xyxy", "score")
            )
        )

    def moved(self, frames: int) -> FrameBoxes:
        """The same boxes so many frames later."""
        return replace(self, frame=self.frame + frames)

    def rows(self, keep: NDArray[Any]) -> FrameBoxes:
        """Those that a mask or indices pick."""
        return FrameBoxes(self.frame[keep], self.class_id[keep], self.xyxy[keep], self.score[keep])

    def __len__(self) -> int:
        return len(self.frame)


@dataclass(frozen=True)
class ClassAp:
    """Average precision by class.

    Attributes:
        per_class: (C,) in [0, 1]; NaN for a class without ground truth, which the mean leaves out.
        curves: for each class (2, N) recall and precision after each of its detections, best score first.
    """

    per_class: NDArray[np.float64]
    curves: tuple[NDArray[np.float64], ...] = ()

    @property
    def mean(self) -> float:
        """Over the classes; NaN when none has ground truth."""
        known = self.per_class[~np.isnan(self.per_class)]
        return float(known.mean()) if len(known) else float("nan")


def frame_map(
    detections: FrameBoxes,
    truth: FrameBoxes,
    classes: int,
    iou: float = 0.5,
    pixel_inclusive: bool = False,
    eleven_point: bool = False,
) -> ClassAp:
    """Frame-mAP (paper, section 4.1).

    A detection is right when the ground-truth box of its frame and class that it overlaps most reaches `iou` and no
    better-scored detection has taken it; ties of score keep the order of the rows.

    Args:
        detections, truth: boxes of all frames.
        classes: number of classes, C.
        iou: least overlap of a right box.
        pixel_inclusive: areas count the last pixel too (OFFICIAL_YOWO, "Linking and metrics").
        eleven_point: see `average_precision`.

    Raises:
        InputError: a class id is not in 0 to classes - 1.
    """
    order = np.argsort(-detections.score, kind="stable")
    right = correct(detections, truth, classes, iou, order, pixel_inclusive)
    ranked = by_class(right[order], detections.class_id[order], classes)
    return class_ap(ranked, np.bincount(truth.class_id, minlength=classes), eleven_point)


def correct(
    detections: FrameBoxes, truth: FrameBoxes, classes: int, iou: float, order: Int, pixel_inclusive: bool = False
) -> NDArray[np.bool_]:
    """(N,) whether each detection is right, see `frame_map`; a box goes to the first in `order` of those it fits.

    Args:
        classes: how many there are.
        iou: overlap that a right box has at least.
        order: (N,) rows of the detections, best first.
        pixel_inclusive: see `iou_matrix`.

    Raises:
        InputError: a class id is not among the classes.
    """
    for boxes in (detections, truth):
        if len(boxes) and not 0 <= boxes.class_id.min() <= boxes.class_id.max() < classes:
            found = f"{boxes.class_id.min()} to {boxes.class_id.max()}"
            raise InputError(f"class ids reach from {found}, expected 0 to {classes - 1}")
    match, overlap = _best_truth(detections, truth, classes, pixel_inclusive)
    candidates = order[overlap[order] >= iou]
    _, first = np.unique(match[candidates], return_index=True)
    right = np.zeros(len(detections), bool)
    right[candidates[first]] = True
    return right


def by_class(values: NDArray[Any], class_id: Int, classes: int) -> list[NDArray[Any]]:
    """For each class the values of its rows, in their order."""
    ends = np.bincount(class_id, minlength=classes).cumsum()
    return np.split(values[np.argsort(class_id, kind="stable")], ends[:-1])


def class_ap(ranked: Sequence[NDArray[np.bool_]], positives: Int, eleven_point: bool = False) -> ClassAp:
    """From what was right to figures.

    Args:
        ranked: for each class (N,) whether each detection is right, best score first.
        positives: (C,) how much there was to find.
    """
    pairs = list(zip(ranked, positives.tolist(), strict=True))
    per_class = np.array([average_precision(right, count, eleven_point) for right, count in pairs], np.float64)
    return ClassAp(per_class, tuple(_curve(right, count) for right, count in pairs))


def localization_recall(detections: FrameBoxes, truth: FrameBoxes, iou: float = 0.5) -> float:
    """Share of ground-truth boxes that some detection of any class overlaps by `iou` or more (paper, Table 3).

    Args:
        detections, truth: boxes of all frames.
        iou: least overlap.

    Returns:
        0 to 1; NaN without ground truth.
    """
    _, overlap = _best_truth(_any_class(truth), _any_class(detections), 1, False)
    return float((overlap >= iou).mean()) if len(truth) else float("nan")


def classification_accuracy(detections: FrameBoxes, truth: FrameBoxes, iou: float = 0.5) -> float:
    """Of the ground-truth boxes that are found, the share whose best-scoring detection has the right class.

    Args:
        detections, truth: boxes of all frames.
        iou: overlap with which a box counts as found.

    Returns:
        0 to 1 (paper, Table 3); NaN if no box is found.
    """
    seen_as = _seen_as(detections, truth, iou)
    found = seen_as >= 0
    return float((seen_as == truth.class_id)[found].mean()) if found.any() else float("nan")


def confusion_matrix(detections: FrameBoxes, truth: FrameBoxes, classes: int, iou: float = 0.5) -> Int:
    """(C, C + 1) counts of ground-truth boxes: by their class and that of their best-scoring detection.

    The last column counts the boxes that no detection overlaps by `iou` or more.
    """
    seen_as = _seen_as(detections, truth, iou)
    counts = np.zeros((classes, classes + 1), np.int64)
    np.add.at(counts, (truth.class_id, np.where(seen_as < 0, classes, seen_as)), 1)
    return counts


def _seen_as(detections: FrameBoxes, truth: FrameBoxes, iou: float) -> Int:
    """(N,) the class of the best-scoring detection of each ground-truth box; -1 of those that are not found."""
    match, overlap = _best_truth(_any_class(detections), _any_class(truth), 1, False)
    order = np.argsort(-detections.score, kind="stable")
    ranked = order[overlap[order] >= iou]
    found, first = np.unique(match[ranked], return_index=True)
    seen_as = np.full(len(truth), -1, np.int64)
    seen_as[found] = detections.class_id[ranked[first]]
    return seen_as


def average_precision(right: NDArray[np.bool_], positives: int, eleven_point: bool = False) -> float:
    """Area under the interpolated precision-recall curve.

    Args:
        right: (N,) whether each detection is, best score first.
        positives: ground truth to be found; 0 gives NaN.
        eleven_point: mean of the best precision at recalls of 0, 0.1, ... 1 and beyond, as Pascal VOC had it to 2009.
    """
    if positives == 0:
        return float("nan")
    recall, precision = _curve(right, positives)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    if eleven_point:
        at = np.searchsorted(recall, np.linspace(0, 1, 11) - 1e-12)  # 0.3 of a hundred boxes is 30 of them
        return float(np.append(envelope, 0.0)[at].mean())
    return float((envelope * right).sum() / positives)


def _curve(right: NDArray[np.bool_], positives: int) -> NDArray[np.float64]:
    """(2, N) recall and precision after each detection."""
    found = np.cumsum(right)
    return np.stack([found / max(positives, 1), found / np.arange(1, len(right) + 1)])


def _any_class(boxes: FrameBoxes) -> FrameBoxes:
    return FrameBoxes(boxes.frame, np.zeros(len(boxes), np.int64), boxes.xyxy, boxes.score)


def _best_truth(
    detections: FrameBoxes, truth: FrameBoxes, classes: int, pixel_inclusive: bool
) -> tuple[Int, NDArray[Any]]:
    """For each detection the row of the best box of its frame and class, and the overlap; -1 and 0 without one."""
    match, overlap = np.full(len(detections), -1, np.int64), np.zeros(len(detections))
    truth_key = truth.frame * classes + truth.class_id
    by_key = np.argsort(truth_key, kind="stable")
    key = detections.frame * classes + detections.class_id
    low = np.searchsorted(truth_key[by_key], key, side="left")
    count = np.searchsorted(truth_key[by_key], key, side="right") - low
    for nth in range(int(count.max(initial=0))):  # the nth candidate of every detection that has so many
        rows = np.flatnonzero(count > nth)
        candidates = by_key[low[rows] + nth]
        found = paired_iou(detections.xyxy[rows], truth.xyxy[candidates], pixel_inclusive)
        better = found > overlap[rows]
        match[rows[better]], overlap[rows[better]] = candidates[better], found[better]
    return match, overlap
