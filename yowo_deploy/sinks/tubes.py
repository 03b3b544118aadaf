"""Who does what from when to when, as files: to read, to look at, to be corrected. Knows actions; nothing of models."""

from __future__ import annotations

import importlib
import json
import os
from contextlib import ExitStack
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple

import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.data_json import Annotations, write_annotations
from yowo_deploy.errors import MissingExtraError, OutputError
from yowo_deploy.files import atomic_write
from yowo_deploy.postprocess.actions import Action, Actions
from yowo_deploy.postprocess.linker import OnlineLinker
from yowo_deploy.result import Result, rounded_time
from yowo_deploy.sinks.base import finish_and_leave

TUBES_SCHEMA = Path(__file__).parent / "tubes.schema.json"
FORMAT, VERSION = "yowo-deploy tubes", 1

_ALL_FRAMES = 1 << 31


class TubesSink:
    """The action tubes of one video as JSON, each written when it is over; `tubes.schema.json` lies beside this file.

    Args:
        source: name of the video.
        classes: the model's.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], source: str, classes: tuple[str, ...]) -> None:
        self._classes, self._actions = classes, Actions()
        self._stack = ExitStack()
        temporary = self._stack.enter_context(atomic_write(path))
        self._stream = self._stack.enter_context(temporary.open("w", encoding="utf-8"))
        head = {"format": FORMAT, "version": VERSION, "source": source, "classes": list(classes)}
        self._stream.write(json.dumps(head, ensure_ascii=False)[:-1] + ', "tubes": [')
        self._tubes = self._frames = 0
        self._size_wh: list[int] | None = None

    def write(self, frame: Frame, result: Result) -> None:
        """Take the next result."""
        self._frames += 1
        self._size_wh = [frame.shape[1], frame.shape[0]]
        self._append(self._actions.push(result))

    def __enter__(self) -> TubesSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        finish_and_leave(self._finish, self._stack, kind, error, trace)

    def _finish(self) -> None:
        self._append(self._actions.close())
        tail = json.dumps({"frames": self._frames, "size": self._size_wh})
        self._stream.write(f"\n], {tail[1:]}\n")

    def _append(self, actions: list[Action]) -> None:
        for action in actions:
            line = json.dumps({"id": self._tubes, **_told(action, self._classes)}, ensure_ascii=False)
            self._stream.write((",\n" if self._tubes else "\n") + line)
            self._tubes += 1


class Bar(NamedTuple):
    """An action without its boxes.

    Attributes:
        frames, times: first and last; times are None where nobody said.
    """

    person: int
    class_id: int
    score: float
    frames: tuple[int, int]
    times: tuple[float | None, float | None]


class TimelineSink:
    """A picture of who does what from when to when, with matplotlib.

    Args:
        path: .png.
        title: above it.
        classes: the model's.

    Raises:
        MissingExtraError: matplotlib is not installed.
        OutputError: another name.
    """

    def __init__(self, path: str | os.PathLike[str], title: str, classes: tuple[str, ...]) -> None:
        if find_spec("matplotlib") is None:
            raise MissingExtraError("matplotlib, which draws --timeline,", "plots")
        if Path(path).suffix.lower() != ".png":
            raise OutputError(f"cannot write {path}: expected a name that ends in .png")
        self._stack = ExitStack()
        self._temporary = self._stack.enter_context(atomic_write(path))
        self._title, self._classes, self._actions = title, classes, Actions()
        self._bars: list[Bar] = []
        self._first: tuple[int, float | None] | None = None
        self._last: tuple[int, float | None] = (0, None)

    def write(self, frame: Frame, result: Result) -> None:
        """Take the next result."""
        self._last = result.frame_index, result.timestamp
        self._first = self._first or self._last
        self._keep(self._actions.push(result))

    def __enter__(self) -> TimelineSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        finish_and_leave(self._finish, self._stack, kind, error, trace)

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


class AnnotationsSink:
    """The tubes of one video as a data.json, each person with the class that suits best: to be corrected by hand.

    Args:
        source: the video.
        fps, size_wh: of it.
        classes: the model's.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        source: str | os.PathLike[str],
        fps: float,
        size_wh: tuple[int, int],
        classes: tuple[str, ...],
    ) -> None:
        self._path, self._source, self._facts = path, Path(source), (fps, size_wh)
        self._classes, self._linker, self._frames = classes, OnlineLinker(memory=_ALL_FRAMES), 0
        self._seen_wh, self._tubes = size_wh, list[Tube]()

    def write(self, frame: Frame, result: Result) -> None:
        """Take the next frame's detections."""
        self._frames = result.frame_index + 1
        seen_wh = frame.shape[1], frame.shape[0]
        if seen_wh != self._seen_wh:  # a camera's picture has another size now: nobody goes on
            self._keep(self._linker.close())
            self._seen_wh = seen_wh
        if not result.carried:
            self._linker.follow(result.detections, result.frame_index)
            self._keep(self._linker.finished())

    def __enter__(self) -> AnnotationsSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            return
        self._keep(self._linker.close())
        (fps, size_wh), name = self._facts, self._source.stem
        tubes = tuple(sorted(self._tubes, key=lambda tube: tube.tracker_id or 0))
        video = AnnotatedVideo(name, name, self._source, self._frames, tubes, size_wh, fps=fps)
        write_annotations(Annotations(self._classes, (video,)), self._path)

    def _keep(self, ended: list[Tube]) -> None:
        """Tubes in pixels of the size that the video had at first."""
        scale = np.array([first / seen for first, seen in zip(self._facts[1], self._seen_wh, strict=True)] * 2)
        self._tubes += [replace(tube, xyxy=(tube.xyxy * scale).astype(np.float32)) for tube in ended]


def _told(action: Action, classes: tuple[str, ...]) -> dict[str, Any]:
    tube = action.tube
    scores = tube.scores if tube.scores is not None else np.ones(len(tube), np.float32)
    return {
        "person": tube.tracker_id,
        "class_id": tube.class_id,
        "label": classes[tube.class_id],
        "score": round(tube.score, 5),
        "first_frame": int(tube.frames[0]),
        "last_frame": int(tube.frames[-1]),
        "first_time": rounded_time(action.first_time),
        "last_time": rounded_time(action.last_time),
        "boxes": [[round(side, 2) for side in box] for box in tube.xyxy.tolist()],
        "scores": [round(score, 5) for score in scores.tolist()],
    }
