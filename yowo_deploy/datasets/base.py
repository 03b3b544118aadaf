"""Annotated videos, and the protocol of a data set."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

import numpy as np

from yowo_deploy.arrays import Float, Int
from yowo_deploy.boxes import Tube
from yowo_deploy.errors import DatasetError

Split = Literal["train", "test"]

# The rules by which frames are scored: Pascal VOC's, or AVA's (50 detections a frame, no tubes).
Rules = Literal["voc", "ava"]


@dataclass(frozen=True)
class AnnotatedVideo:
    """A video file and the tubes in it.

    Attributes:
        name: unique in the data set; results are matched by it.
        group: the recording it was cut from; clips of one group never stand on both sides of a validation split.
        path: of the file, or of the folder of its frames.
        frames: as annotated; the file may decode to fewer.
        tubes: ground truth.
        size_wh: of the picture that boxes are measured in; None where that is the video itself.
        judged: frames that an evaluation looks at where those are not the annotated ones.
        fps: frames a second, or None where unknown.
        judged_s: the second of each judged frame in the film, where the data set names frames by it.
    """

    name: str
    group: str
    path: Path
    frames: int
    tubes: tuple[Tube, ...]
    size_wh: tuple[int, int] | None = None
    judged: Int | None = None
    fps: float | None = None
    judged_s: tuple[float, ...] = ()

    def at(self, frame: int) -> tuple[Float, Int]:
        """Ground truth of one frame: (N, 4) corners and (N,) class ids."""
        rows = [(t.xyxy[i], t.class_id) for t in self.tubes for i in np.flatnonzero(t.frames == frame)]
        boxes = np.array([box for box, _ in rows], np.float32).reshape(-1, 4)
        return boxes, np.array([class_id for _, class_id in rows], np.int64)

    def annotated_frames(self) -> Int:
        """(F,) int64 numbers of the frames with at least one box, ascending."""
        if not self.tubes:
            return np.zeros(0, np.int64)
        return np.unique(np.concatenate([tube.frames for tube in self.tubes]))

    def judged_frames(self) -> Int:
        """(F,) int64 numbers of the frames that an evaluation uses, ascending."""
        return self.annotated_frames() if self.judged is None else self.judged


class Dataset(Protocol):
    """A data set: class names, anchors that fit its boxes, and videos by split.

    Attributes:
        labels: class names, in the order of class ids.
        anchors: width and height of each, in cells of `anchor_grid`.
        anchor_grid: (columns, rows) into which a frame is divided there.
        rules: of its evaluation.
        judged_classes: class ids that count there; empty for all.
        exclusive: by AVA's rules, classes at the front of which a box has one; of the others it has any number.
    """

    labels: tuple[str, ...]
    anchors: tuple[tuple[float, float], ...]
    anchor_grid: tuple[int, int]
    rules: Rules
    judged_classes: tuple[int, ...]
    exclusive: int

    def videos(self, split: Split) -> Sequence[AnnotatedVideo]:
        """The videos of one side of the official split."""
        ...


def annotations_hash(videos: Iterable[AnnotatedVideo]) -> str:
    """Hex digest of the annotations of videos: names, boxes and judged frames; not of the files."""
    digest = hashlib.sha256()
    for video in videos:
        digest.update(f"{video.name} {video.group} {video.size_wh} {len(video.tubes)}\n".encode())
        digest.update(video.judged_frames().astype(np.int64).tobytes())
        for tube in video.tubes:
            digest.update(f"{tube.class_id} {len(tube)}\n".encode())
            digest.update(tube.frames.astype(np.int64).tobytes() + tube.xyxy.astype(np.float32).tobytes())
    return digest.hexdigest()


def split_present(videos: Sequence[AnnotatedVideo]) -> tuple[list[AnnotatedVideo], int]:
    """The videos whose files exist, and the number of missing ones.

    Raises:
        DatasetError: none exists.
    """
    present = [video for video in videos if video.path.exists()]
    if videos and not present:
        raise DatasetError(f"none of the {len(videos)} videos exists: {videos[0].path} not found")
    return present, len(videos) - len(present)
