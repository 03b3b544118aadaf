"""Statistics of a data set: classes, lengths of tubes, box sizes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.datasets.anchors import Sizes, anchor_fit, box_sizes
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.data_json import Annotations, NativeDataset

USUAL_FPS = 25.0  # where the rate is unknown


@dataclass(frozen=True)
class ClassFigures:
    """Of one class: tubes on either side of the first split, boxes, and seconds of the middle tube."""

    name: str
    train: int
    test: int
    boxes: int
    median_s: float


@dataclass(frozen=True)
class Statistics:
    """Of a data set.

    Attributes:
        classes: a row each.
        videos, frames, tubes, boxes: how many.
        bare_frames: frames without anyone.
        most_people: in one frame.
        lengths_s: seconds of each tube.
        sizes: (N, 2) boxes in cells of the anchors' grid; empty where no size of a video is known.
        anchors: those that training takes by default.
        anchor_iou: mean overlap of boxes with the best of them; with those that k-means finds, where it can.
    """

    classes: tuple[ClassFigures, ...]
    videos: int
    frames: int
    tubes: int
    boxes: int
    bare_frames: int
    most_people: int
    lengths_s: tuple[float, ...]
    sizes: Sizes
    anchors: NDArray[np.float64]
    anchor_iou: dict[str, float]


def statistics_of(data: Annotations) -> Statistics:
    """Count everything; see `Statistics`."""
    sides = data.splits[0] if data.splits else {"train": tuple(video.name for video in data.videos)}
    train, test = (set(sides.get(side, ())) for side in ("train", "test"))
    seconds: list[list[float]] = [[] for _ in data.classes]
    counts, boxes = np.zeros((len(data.classes), 2), int), np.zeros(len(data.classes), int)
    for video in data.videos:
        for tube in video.tubes:
            counts[tube.class_id] += (video.name in train, video.name in test)
            boxes[tube.class_id] += len(tube)
            seconds[tube.class_id].append(float(tube.frames[-1] - tube.frames[0] + 1) / (video.fps or USUAL_FPS))
    rows = [
        ClassFigures(name, int(n[0]), int(n[1]), int(boxes[i]), float(np.median(seconds[i])) if seconds[i] else 0.0)
        for i, (name, n) in enumerate(zip(data.classes, counts, strict=True))
    ]
    measured = [video for video in data.videos if video.tubes and (video.size_wh or video.path.exists())]
    sizes = box_sizes(measured, NativeDataset.anchor_grid) if measured else np.zeros((0, 2))
    anchors, reached = np.array(NativeDataset.anchors), {}
    if len(sizes):
        present, fitted = anchor_fit(sizes, anchors)
        reached["default anchors"] = present
        if fitted is not None:
            reached["--fit-anchors"] = fitted
    return Statistics(
        tuple(rows),
        len(data.videos),
        sum(video.frames for video in data.videos),
        sum(len(video.tubes) for video in data.videos),
        int(boxes.sum()),
        sum(max(0, video.frames - len(video.annotated_frames())) for video in data.videos),
        max(map(_most_people, data.videos), default=0),
        tuple(length for of_class in seconds for length in of_class),
        sizes,
        anchors,
        reached,
    )


def _most_people(video: AnnotatedVideo) -> int:
    if not video.tubes:
        return 0
    places = [np.column_stack([tube.frames, np.full(len(tube), tube.tracker_id)]) for tube in video.tubes]
    people = np.unique(np.concatenate(places), axis=0)
    return int(np.unique(people[:, 0], return_counts=True)[1].max())
