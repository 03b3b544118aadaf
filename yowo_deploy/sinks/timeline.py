"""A picture of who does what from when to when."""

from __future__ import annotations

import importlib
import os
from contextlib import ExitStack
from typing import NamedTuple

from yowo_deploy.arrays import Frame
from yowo_deploy.files import atomic_write
from yowo_deploy.postprocess.actions import Action, Actions
from yowo_deploy.result import Result
from yowo_deploy.sinks.base import FileSink
from yowo_deploy.visuals.image_io import check_plot


class Bar(NamedTuple):
    """An action without its boxes.

    Attributes:
        frames, times: first and last; times are None where unknown.
    """

    person: int
    class_id: int
    score: float
    frames: tuple[int, int]
    times: tuple[float | None, float | None]


class TimelineSink(FileSink):
    """A picture of each person's actions over time, made with matplotlib.

    Args:
        path: the picture to write, .png.
        title: text above the picture.
        classes: labels of the model.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: another name.
    """

    def __init__(self, path: str | os.PathLike[str], title: str, classes: tuple[str, ...]) -> None:
        check_plot(path)
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(atomic_write(path))
        self._title, self._classes, self._actions = title, classes, Actions(min_frames=2)
        self._bars: list[Bar] = []
        self._first: tuple[int, float | None] | None = None
        self._last: tuple[int, float | None] = (0, None)

    def write(self, frame: Frame, result: Result) -> None:
        """Take the next result, see `Sink.write`."""
        self._last = result.frame_index, result.timestamp
        self._first = self._first or self._last
        self._keep(self._actions.push(result))

    def _finish(self) -> None:
        self._keep(self._actions.close())
        first, last = self._first or self._last, self._last
        timed = first[1] is not None and last[1] is not None
        count, at = max(1, last[0] - first[0]), int(timed)
        begin, end = float(first[at] or 0), float(last[at] or 0)
        frame = (end - begin) / count if timed else 1.0  # the last frame lasts as long as the others
        rows = []
        for bar in self._bars:
            start, stop = bar.times if timed else bar.frames
            rows.append((bar.person, bar.class_id, bar.score, float(start or 0), float(stop or 0) + frame))
        unit = "seconds" if timed else "frames"
        plots = importlib.import_module("yowo_deploy.visuals.plots")
        plots.timeline_plot(rows, self._classes, (begin, end + frame), unit, self._title, self._temporary)

    def _keep(self, actions: list[Action]) -> None:
        for action in actions:
            tube, times = action.tube, (action.first_time, action.last_time)
            frames = int(tube.frames[0]), int(tube.frames[-1])
            self._bars.append(Bar(tube.tracker_id or 0, tube.class_id, tube.score, frames, times))
