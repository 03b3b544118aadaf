"""Append detections to a text file video by video, and resume a run that was stopped."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Protocol

import numpy as np

from yowo_deploy.arrays import Int
from yowo_deploy.errors import InputError, OutputError
from yowo_deploy.files import write_text
from yowo_deploy.metrics.frame_ap import FrameBoxes
from yowo_deploy.spec import MAX_LABELS

_LAST_PIXEL = np.array([0, 0, 1, 1])  # the text form names the last pixel of a box, everything else its edge
_DONE = re.compile(r"# done (\d{1,18}) frames missing in (.*)")


class DetectionsLog(Protocol):
    """A file of detections that grows video by video.

    Attributes:
        done: for each finished video its rows and the annotated frames that its file lacks. Frames count from 0.
    """

    done: dict[str, tuple[FrameBoxes, int]]

    def add(self, video: str, boxes: FrameBoxes, missing: int) -> None:
        """Append a finished video."""
        ...


def append(path: Path, text: str) -> None:
    """Write at the end of a file, or raise an OutputError."""
    try:
        with path.open("a", encoding="utf-8", newline="") as stream:
            stream.write(text)
    except OSError as error:
        raise OutputError(f"cannot write {path}: {error.strerror}") from error


class DetectionsFile:
    """Rows of `frame_id class score x1 y1 x2 y2`, frames and classes from 1, x2 and y2 the last pixel of the box (score
    them with --pixel-inclusive); a comment ends each video.

    Args:
        path: made if it is not there. Videos that are whole in it need not be run again; half of one is dropped.
        stamp: what the detections depend on, for example the model's hash; a file of another stamp is not added to.

    Attributes:
        done: see `DetectionsLog`.

    Raises:
        InputError: the file was made by another model or is something else.
        OutputError: it cannot be written.
    """

    def __init__(self, path: str | Path, stamp: str) -> None:
        self.path, header = Path(path), f"# yowo-deploy detections {stamp}"
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.is_file() else header + "\n"
        first, _, rest = text.partition("\n")
        if first != header:
            raise InputError(f"{path} holds other detections ({first[:60]!r}): remove it, or give another name")
        self.done: dict[str, tuple[FrameBoxes, int]] = {}
        rows: list[list[str]] = []
        kept = [header]
        for line in rest.split("\n")[:-1]:  # the last was torn by whatever stopped the run, or is empty
            if ended := _DONE.fullmatch(line):
                kept += [" ".join(row) for row in rows] + [line]
                self.done[ended.group(2)] = self._boxes(rows), int(ended.group(1))
                rows = []
            else:
                rows.append(line.split())
        write_text(self.path, "\n".join(kept) + "\n")

    def add(self, video: str, boxes: FrameBoxes, missing: int) -> None:
        """Append a finished video."""
        name = re.sub(r"[/\s]", "_", video)
        columns = boxes.frame + 1, boxes.class_id + 1, boxes.score, *(boxes.xyxy - _LAST_PIXEL).T
        rows = zip(*(column.tolist() for column in columns), strict=True)
        lines = [
            f"{name}_{frame:05} {class_id} " + " ".join(f"{v:.9g}" for v in rest) for frame, class_id, *rest in rows
        ]
        append(self.path, "\n".join([*lines, f"# done {missing} frames missing in {video}"]) + "\n")
        self.done[video] = boxes, missing

    def _boxes(self, rows: list[list[str]]) -> FrameBoxes:
        try:
            frames: Int = np.array([int(row[0].rpartition("_")[2]) - 1 for row in rows], np.int64)
            numbers = np.array([row[1:] for row in rows], np.float64).reshape(-1, 6)
        except (ValueError, IndexError, OverflowError) as error:
            raise InputError(f"{self.path} is damaged ({error}): remove it, or give another name") from error
        # A class that is no whole number becomes -1, which is refused where the classes are known.
        whole = np.floor(numbers[:, 0].clip(0, MAX_LABELS))
        class_id = np.where(whole == numbers[:, 0], whole, 0).astype(np.int64) - 1
        score = numbers[:, 1].astype(np.float32)
        return FrameBoxes(frames, class_id, (numbers[:, 2:] + _LAST_PIXEL).astype(np.float32), score)
