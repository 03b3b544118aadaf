"""Where results go: a video with boxes, JSON lines, tubes to be corrected. Context managers with `write(result)`."""

from __future__ import annotations

import os
import queue
import threading
from contextlib import ExitStack
from pathlib import Path
from types import TracebackType
from typing import Protocol, TextIO

from yowo_deploy.artifacts import atomic_write
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.native import Annotations, write_annotations
from yowo_deploy.detector import Result
from yowo_deploy.online import OnlineLinker
from yowo_deploy.video import VideoWriter

_ALL_FRAMES = 1 << 31


class Sink(Protocol):
    """Takes every result of a video in order. What it writes is whole when its block ends well, else absent."""

    def write(self, result: Result) -> None:
        """Take the next result."""
        ...

    def __enter__(self) -> Sink: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class JsonSink:
    """One line of JSON a frame, see `Result.to_json`.

    Raises:
        OutputError: the folder cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._stack = ExitStack()
        temporary = self._stack.enter_context(atomic_write(path))
        self._stream: TextIO = self._stack.enter_context(temporary.open("w", encoding="utf-8"))

    def write(self, result: Result) -> None:
        """Append a line."""
        self._stream.write(result.to_json() + "\n")

    def __enter__(self) -> JsonSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.__exit__(kind, error, trace)


class TubesSink:
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

    def write(self, result: Result) -> None:
        """Take the next frame's detections."""
        self._linker.push(result.detections)
        self._frames += 1

    def __enter__(self) -> TubesSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            return
        (fps, size_wh), name = self._facts, self._source.stem
        tubes = tuple(sorted(self._linker.close(), key=lambda tube: tube.tracker_id or 0))
        video = AnnotatedVideo(name, name, self._source, self._frames, tubes, size_wh, fps=fps)
        write_annotations(Annotations(self._classes, (video,)), self._path)


class VideoSink:
    """The video with detections drawn, encoded in a thread of its own so that the engine does not wait.

    Args:
        path, fps, size_wh: see `VideoWriter`.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float, size_wh: tuple[int, int]) -> None:
        self._writer = VideoWriter(path, fps, size_wh)
        self._queue: queue.Queue[Result | None] = queue.Queue(maxsize=32)
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self, result: Result) -> None:
        """Hand a result over; waits when the encoder is far behind, raises what the encoder raised."""
        if self._failure is not None:
            raise self._failure
        self._queue.put(result)

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._failure = error  # what is still queued is not worth encoding: the file goes
        self._queue.put(None)
        self._thread.join()
        failure = self._failure if error is None else error
        self._writer.__exit__(None if failure is None else type(failure), failure, trace)
        if error is None and self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        while (result := self._queue.get()) is not None:
            if self._failure is None:
                self._encode(result)

    def _encode(self, result: Result) -> None:
        try:
            self._writer.write(result.plot())
        except BaseException as error:  # handed over, not swallowed: `write` and `__exit__` raise it
            self._failure = error
