"""The annotated video, encoded in a thread of its own."""

from __future__ import annotations

import os
import queue
import threading
from time import perf_counter
from types import TracebackType

import cv2
import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.result import Result
from yowo_deploy.video.writer import VideoWriter

WAITING = 32  # frames between engine and encoder


class VideoSink:
    """The video with detections drawn, encoded in a thread of its own so that the engine does not wait.

    Where frames were dropped the one before stays: frames are numbered as the source's, and shown at its rate. Of a
    camera that gives fewer frames than it says, or is away for a while, the video is so much shorter. A frame of
    another size, as a camera may send in the middle, is drawn on and then scaled.

    Args:
        path, fps, size_wh: see `VideoWriter`.

    Attributes:
        encode_ms: that drawing and encoding took in all, beside the engine.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float, size_wh: tuple[int, int]) -> None:
        self._writer, self._size_wh = VideoWriter(path, fps, size_wh), size_wh
        self._queue: queue.Queue[tuple[Frame, Result] | None] = queue.Queue(maxsize=WAITING)
        self._failure: BaseException | None = None
        self._shown: Frame | None = None
        self._next_number = 0
        self.encode_ms = 0.0
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def write(self, frame: Frame, result: Result) -> None:
        """Hand a frame over; waits when the encoder is far behind, raises what the encoder raised."""
        if self._failure is not None:
            raise self._failure
        self._queue.put((frame, result))

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
        while (item := self._queue.get()) is not None:
            if self._failure is None:
                self._encode(*item)

    def _encode(self, frame: Frame, result: Result) -> None:
        start = perf_counter()
        try:
            drawn = result.plot(frame)
            if (drawn.shape[1], drawn.shape[0]) != self._size_wh:
                drawn = np.asarray(cv2.resize(drawn, self._size_wh, interpolation=cv2.INTER_AREA), np.uint8)
            for _ in range(self._next_number, result.frame_index):
                if self._shown is not None:
                    self._writer.write(self._shown)
            self._writer.write(drawn)
            self._shown, self._next_number = drawn, result.frame_index + 1
        except BaseException as error:  # handed over, not swallowed: `write` and `__exit__` raise it
            self._failure = error
        self.encode_ms += 1000 * (perf_counter() - start)
