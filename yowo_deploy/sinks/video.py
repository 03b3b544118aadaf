"""The annotated video, encoded in a thread of its own."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Sequence
from time import perf_counter
from types import TracebackType

import cv2
import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.background import Background
from yowo_deploy.errors import VideoError
from yowo_deploy.postprocess.zones import Zone
from yowo_deploy.result import Result
from yowo_deploy.video.writer import VideoWriter, check_suffix

WAITING = 32  # frames between engine and encoder
WAITING_BYTES = 1 << 26  # of them, where frames are large
FPS = 25.0  # of frames without times


class VideoSink:
    """The video with detections drawn, encoded in a thread of its own so that the engine does not wait.

    In place of dropped frames the one before is repeated, so that frames have the numbers and the rate of the source.
    If a camera gives fewer frames than its rate, or is lost for a while, the video is shorter by that time. A frame of
    another size, as a camera may send in the middle, is drawn on and then scaled.

        with Detector.open() as detector, VideoSink("out.webm") as sink:
            for result in detector.stream(frames):
                sink.write(result.frame, result)

    Args:
        path: see `VideoWriter`.
        fps: by default what the times of the first two results say, and 25 where they have none.
        size_wh: by default of the first frame.
        trail, zones: see `Result.plot`.

    Attributes:
        encode_ms: milliseconds of drawing and encoding in total, in parallel to the engine.

    Raises:
        VideoError, MissingExtraError, OutputError: see `VideoWriter`; without `size_wh` and `fps`, of the encoder and
            the folder not before the first frames are written.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        fps: float | None = None,
        size_wh: tuple[int, int] | None = None,
        trail: int = 0,
        zones: Sequence[Zone] = (),
    ) -> None:
        check_suffix(path)
        self._path, self._fps, self._size_wh = path, fps, size_wh
        self._trail, self._zones = trail, tuple(zones)
        self._writer = VideoWriter(path, fps, size_wh) if fps and size_wh else None
        self._held: list[tuple[Frame, Result]] = []  # the first, while the rate is not known
        self._queue: queue.Queue[tuple[Frame, Result] | None] = queue.Queue(maxsize=WAITING)
        self._failure: BaseException | None = None
        self._shown: Frame | None = None
        self._next_number = 0
        self.encode_ms = 0.0
        self._ended = threading.Event()
        # Started with the first frame: a thread would hold a sink that a signal lets no block close, and its file.
        self._thread = Background(self._run, self._drop)

    def write(self, frame: Frame, result: Result) -> None:
        """Queue a frame, see `Sink.write`; waits when the encoder is far behind, raises what the encoder raised."""
        if self._failure is not None:
            raise self._failure
        if self._thread.ident is None:
            self._thread.start()
        self._queue.maxsize = max(1, min(WAITING, WAITING_BYTES // frame.nbytes))
        self._queue.put((frame, result))

    def __enter__(self) -> VideoSink:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._failure = error  # what is still queued is not worth encoding: the file goes
        stopped = None
        try:
            self._end()
        except BaseException as interruption:  # a signal's, while the encoder works on: its file goes as well
            error = self._failure = stopped = interruption
            self._end()
        failure = self._failure if error is None else error
        if self._writer is not None:
            self._writer.__exit__(None if failure is None else type(failure), failure, trace)
        elif failure is None:
            raise VideoError(f"there was no frame to write to {self._path}")
        if stopped is not None:
            raise stopped
        if error is None and self._failure is not None:
            raise self._failure

    def _end(self) -> None:
        if self._thread.ident is None:
            return
        self._queue.put(None)
        self._ended.wait()  # Thread.join, once a signal has interrupted it, takes a thread that runs for one that ended
        self._thread.join()

    def _drop(self) -> None:
        self._failure = VideoError(f"the program ended before {self._path} was closed")  # what is queued goes
        self._queue.put(None)

    def _run(self) -> None:
        try:
            while (item := self._queue.get()) is not None:
                self._take(item)
            if self._held:
                self._take(None)
        finally:
            self._ended.set()

    def _take(self, item: tuple[Frame, Result] | None) -> None:
        """Encode the next frame, or keep the first until the next says how fast they are; None: there is no next."""
        if self._failure is not None:
            return
        start = perf_counter()
        try:
            if self._writer is None:
                self._held += [item] if item else []
                if self._fps is None and item and len(self._held) == 1 and item[1].timestamp is not None:
                    return
                self._writer = self._opened()
                for each in self._held:
                    self._encode(self._writer, *each)
                self._held.clear()
            elif item:
                self._encode(self._writer, *item)
        except BaseException as error:  # handed over, not swallowed: `write` and `__exit__` raise it
            self._failure = error
        self.encode_ms += 1000 * (perf_counter() - start)

    def _opened(self) -> VideoWriter:
        (frame, first), (_, last) = self._held[0], self._held[-1]
        frames = last.frame_index - first.frame_index
        seconds = (last.timestamp or 0) - (first.timestamp or 0)
        fps = self._fps or (frames / seconds if frames > 0 and seconds > 0 else FPS)
        self._size_wh = self._size_wh or (frame.shape[1], frame.shape[0])
        return VideoWriter(self._path, fps, self._size_wh)

    def _encode(self, writer: VideoWriter, frame: Frame, result: Result) -> None:
        drawn = result.plot(frame, self._trail, self._zones)
        if self._size_wh and (drawn.shape[1], drawn.shape[0]) != self._size_wh:
            drawn = np.asarray(cv2.resize(drawn, self._size_wh, interpolation=cv2.INTER_AREA), np.uint8)
        for _ in range(self._next_number, result.frame_index):
            if self._shown is not None:
                writer.write(self._shown)
        writer.write(drawn)
        self._shown, self._next_number = drawn, result.frame_index + 1
