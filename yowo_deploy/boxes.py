"""Boxes, detections and tubes, and overlaps between boxes."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Int

# Overlaps worked out at a time, 64 kB: malloc has room for them, but takes new pages for the 480 kB of all pairs of 245
# boxes, which took three times as long.
_CACHED = 8_192


def one_line(text: str) -> str:
    """The text with single spaces, and no line breaks: what a `repr` gives, whatever names it holds."""
    return " ".join(text.split())


@dataclass(frozen=True)
class Detections:
    """What was found in one frame, best first.

    Attributes:
        xyxy: (N, 4) float32, corners in pixels of the original frame, inside the frame.
        confidence: (N,) float32, objectness times the best class probability.
        class_id: (N,) int64, the best class.
        scores: (N, C) float32, objectness times each class probability.
        tracker_id: (N,) int64 person ids, or None before linking.
        objectness: (N,) float32, or None where only scores are known.
    """

    xyxy: Float
    confidence: Float
    class_id: Int
    scores: Float
    tracker_id: Int | None = field(default=None)
    objectness: Float | None = field(default=None)

    def __len__(self) -> int:
        return len(self.xyxy)

    def __getitem__(self, index: Any) -> Detections:
        """The detections that a mask, slice or index array picks."""
        tracker_id, objectness = (None if each is None else each[index] for each in (self.tracker_id, self.objectness))
        rows = self.xyxy[index], self.confidence[index], self.class_id[index], self.scores[index]
        return Detections(*rows, tracker_id, objectness)

    def __repr__(self) -> str:
        scores = f", confidence {self.confidence[0]:.2f} to {self.confidence[-1]:.2f}" if len(self) else ""
        return f"Detections({len(self)} boxes, {self.scores.shape[1]} classes{scores})"

    def classes_above(self, row: int, threshold: float | None) -> list[int]:
        """Ids of a box's best class, and of the others whose scores exceed the threshold, best first; None: none do."""
        best = int(self.class_id[row])
        if threshold is None:
            return [best]
        order = np.argsort(-self.scores[row], kind="stable").tolist()
        return [best, *(each for each in order if each != best and self.scores[row, each] > threshold)]

    @classmethod
    def empty(cls, classes: int) -> Detections:
        """No detections of a model with so many classes."""
        return cls(
            np.zeros((0, 4), np.float32),
            np.zeros(0, np.float32),
            np.zeros(0, np.int64),
            np.zeros((0, classes), np.float32),
        )


class FrameResult(Protocol):
    """Detections of one frame of a video, as far as events and actions read a `Result`."""

    @property
    def frame_index(self) -> int: ...
    @property
    def timestamp(self) -> float | None: ...
    @property
    def source(self) -> str: ...
    @property
    def carried(self) -> bool: ...
    @property
    def detections(self) -> Detections: ...
    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def orig_shape(self) -> tuple[int, int]: ...


@dataclass(frozen=True)
class Tube:
    """One person over time; in ground truth, while the person does one thing.

    Attributes:
        class_id: class of the action.
        frames: (F,) int64, frame numbers from 0, ascending.
        xyxy: (F, 4) float32 corners in pixels of the video.
        score: mean of `scores`; 1 for ground truth.
        scores: (F,) float32 of the class in each frame, or None.
        tracker_id: person id, or None where tubes are linked class by class.
        class_scores: (C,) mean score of every class along the tube, or None where it has one class alone.
    """

    class_id: int
    frames: Int
    xyxy: Float
    score: float = 1.0
    scores: Float | None = None
    tracker_id: int | None = None
    class_scores: Float | None = None

    def __len__(self) -> int:
        return len(self.frames)

    def __repr__(self) -> str:
        frames = f"frames {self.frames[0]} to {self.frames[-1]}" if len(self) else "no frames"
        person = "" if self.tracker_id is None else f", person {self.tracker_id}"
        return f"Tube(class {self.class_id}{person}, {frames}, score {self.score:.2f})"


def paired_iou(boxes_xyxy: NDArray[Any], others_xyxy: NDArray[Any], pixel_inclusive: bool = False) -> NDArray[Any]:
    """(N,) float64 IoU of row with row; see `iou_matrix`.

    Args:
        boxes_xyxy, others_xyxy: (N, 4) corners, any one unit.
        pixel_inclusive: see `iou_matrix`.
    """
    boxes, others = boxes_xyxy.astype(np.float64), others_xyxy.astype(np.float64)
    extra = 1.0 if pixel_inclusive else 0.0
    low, high = np.maximum(boxes[:, :2], others[:, :2]), np.minimum(boxes[:, 2:], others[:, 2:])
    intersection = np.clip(high - low + extra, 0, None).prod(axis=1)
    union = sum((b[:, 2:] - b[:, :2] + extra).prod(axis=1) for b in (boxes, others)) - intersection
    return np.asarray(np.divide(intersection, union, out=np.zeros(len(boxes)), where=union > 0))


def cxcywh_to_xyxy(boxes_cxcywh: NDArray[Any]) -> NDArray[Any]:
    """(..., 4) centre and size to corners, any one unit."""
    centre, half = boxes_cxcywh[..., :2], boxes_cxcywh[..., 2:] / 2
    return np.concatenate([centre - half, centre + half], axis=-1)


def xyxy_to_cxcywh(boxes_xyxy: NDArray[Any]) -> NDArray[Any]:
    """(..., 4) corners to centre and size, any one unit."""
    low, high = boxes_xyxy[..., :2], boxes_xyxy[..., 2:]
    return np.concatenate([(low + high) / 2, high - low], axis=-1)


def iou_matrix(boxes_xyxy: NDArray[Any], others_xyxy: NDArray[Any], pixel_inclusive: bool = False) -> NDArray[Any]:
    """Intersection over union of every box with every other.

    Args:
        boxes_xyxy: (N, 4) corners.
        others_xyxy: (M, 4) corners in the same unit.
        pixel_inclusive: corners are the indices of pixels that belong to the box, so that sides are one longer
            (the release's evaluation; OFFICIAL_YOWO, "Linking and metrics").

    Returns:
        (N, M) float64 in [0, 1]; 0 for two boxes without area. Products of two differences of float32 corners are
        exact in float64, so that no fused multiplication changes a bit.
    """
    extra = 1.0 if pixel_inclusive else 0.0
    boxes, others = (np.ascontiguousarray(each.T, np.float64) for each in (boxes_xyxy, others_xyxy))
    boxes = boxes[:, :, None]
    across, down = (np.minimum(boxes[k + 2], others[k + 2]) - np.maximum(boxes[k], others[k]) + extra for k in (0, 1))
    intersection = np.maximum(across, 0) * np.maximum(down, 0)
    sides, other_sides = (np.maximum(each[2:] - each[:2] + extra, 0) for each in (boxes, others))
    union = sides[0] * sides[1] + other_sides[0] * other_sides[1] - intersection
    return np.asarray(np.divide(intersection, union, out=np.zeros(union.shape), where=union > 0))


def nms(boxes_xyxy: NDArray[Any], scores: NDArray[Any], iou_threshold: float) -> Int:
    """Indices of the boxes that survive greedy suppression, best first.

    Args:
        boxes_xyxy: (N, 4) corners, any one unit.
        scores: (N,) the order; ties keep the lower index.
        iou_threshold: a box goes when it overlaps a better one by more than this.

    Returns:
        (K,) int64, K <= N. The best box always survives.
    """
    left = np.argsort(-scores, kind="stable")
    kept = []
    while len(left) > 1:
        best = left[: max(1, _CACHED // len(left))]
        apart = iou_matrix(boxes_xyxy[best], boxes_xyxy[left]) <= iou_threshold
        alive = np.ones(len(left), bool)
        for rank, of_rank in enumerate(apart):
            if alive[rank]:
                alive &= of_rank  # better ones that are alive stay: they are apart, or this one were gone
                alive[rank] = True
        kept.append(best[alive[: len(best)]])
        left = left[len(best) :][alive[len(best) :]]
    return np.concatenate([*kept, left])
