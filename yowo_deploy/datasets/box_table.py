"""Boxes of named frames, one row each, with the file and line that each came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Int
from yowo_deploy.errors import DatasetError

FRAMES = 10_000_000_000  # more than any video has: the frame key is video * FRAMES + frame


@dataclass(frozen=True)
class BoxTable:
    """Detections or ground truth of many videos, one row a box.

    Attributes:
        source: what was read, for messages.
        videos: names, "/" as "_".
        video: (N,) index into `videos`.
        frame: (N,) as the file counts.
        classes: names as the file has them; numbers count from 1.
        class_id: (N,) index into `classes`.
        xyxy: (N, 4) float64 corners.
        score: (N,) 1 for ground truth.
        files: names of the files in it.
        file: (N,) index into `files`.
        line: (N,) in that file, from 1; 0 where lines mean nothing.
        tube: (N,) which tube of its video a ground-truth box belongs to; -1 where the file has no tubes.
        labels: all class names in the order of their numbers, where the file declares them.
        lengths: frames of each video by name, where the file has them.
        ticks: frame numbers a second where the file counts seconds with fractions, as AVA's csv may; else 1.
        bare: video and second of AVA's rows without a box.
    """

    source: str
    videos: tuple[str, ...]
    video: Int
    frame: Int
    classes: tuple[str, ...]
    class_id: Int
    xyxy: NDArray[np.float64]
    score: NDArray[np.float64]
    files: tuple[str, ...]
    file: Int
    line: Int
    tube: Int
    labels: tuple[str, ...] = ()
    lengths: dict[str, int] = field(default_factory=dict)
    ticks: int = 1
    bare: frozenset[tuple[str, float]] = frozenset()

    def __post_init__(self) -> None:
        low, high = self.xyxy[:, :2], self.xyxy[:, 2:]
        self.refuse(~np.isfinite(self.xyxy).all(axis=1), "a corner is not a finite number")
        self.refuse((high < low).any(axis=1), "x2 < x1 or y2 < y1; is it x y width height (--xywh)?")
        self.refuse(~np.isfinite(self.score), "the score is not a finite number")
        self.refuse((self.frame < 0) | (self.frame >= FRAMES), f"the frame's number is not in 0 to {FRAMES - 1}")

    def check_frames(self, lengths: dict[str, int]) -> None:
        """Raise a DatasetError for a frame that its video, if it is known, does not have."""
        ends = np.array([lengths.get(name, FRAMES) for name in self.videos])
        self.refuse(self.frame > ends[self.video], "the video has fewer frames")

    def __len__(self) -> int:
        return len(self.frame)

    def rows(self, keep: NDArray[np.bool_]) -> BoxTable:
        """The table with some of its rows."""
        columns = {name: getattr(self, name)[keep] for name in ("frame", "xyxy", "score", "file", "line", "tube")}
        videos, classes = np.unique(self.video[keep]), np.unique(self.class_id[keep])
        return replace(
            self,
            videos=tuple(self.videos[number] for number in videos),
            video=np.searchsorted(videos, self.video[keep]),
            classes=tuple(self.classes[number] for number in classes),
            class_id=np.searchsorted(classes, self.class_id[keep]),
            **columns,
        )

    def moments(self) -> list[tuple[str, float]]:
        """Video and frame of each row; seconds to a millionth where the file counts them."""
        names = np.array(self.videos, object)[self.video].tolist()
        return list(zip(names, np.round(self.frame / self.ticks, 6).tolist(), strict=True))

    def where(self, row: int) -> str:
        """File and line of a row."""
        return f"{self.files[self.file[row]]}:{self.line[row]}" if self.line[row] else self.files[self.file[row]]

    def refuse(self, faulty: Any, fault: str) -> None:
        """Raise a DatasetError that names file and line of the first faulty row, if there is one."""
        if faulty.any():
            raise DatasetError(f"{self.where(int(np.argmax(faulty)))}: {fault}")


def frame_of(name: str) -> tuple[str, int]:
    """`walk_video_00012` is frame 12 of `walk_video`; a name without a number at its end is frame 0 of itself."""
    end = len(name)
    while end and name[end - 1].isdecimal():
        end -= 1
    video, number = name[:end], name[end:] or "0"
    video = video[:-1] if end < len(name) and video.endswith(("_", "/")) else video
    return video.replace("/", "_"), min(int(number), FRAMES)  # FRAMES is refused, and fits into 64 bits


def class_ids(table: BoxTable, labels: Sequence[str], ordered: bool) -> Int:
    """Each row's place in `labels`, by name, or by number where the order of the labels is the file's own.

    Args:
        ordered: whether a number in the file counts the labels, from 1.

    Raises:
        DatasetError: a class that is no label; with its place in the file.
    """
    by_name = {name: number for number, name in enumerate(labels)}
    by_number = {str(number + 1): number for number in range(len(labels))} if ordered else by_name
    places = [by_name.get(name, by_number.get(name.lstrip("0"), -1)) for name in table.classes]
    for place, name in zip(places, table.classes, strict=True):
        if place < 0:
            where = table.where(int(np.argmax(table.class_id == table.classes.index(name))))
            known = f"1 to {len(labels)}" if labels[0] == "1" else f"{', '.join(labels[:3])}, ... ({len(labels)})"
            raise DatasetError(f"{where}: class {name!r} is not known, expected {known}")
    return np.array(places, np.int64)[table.class_id]
