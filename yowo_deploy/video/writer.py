"""Video files written frame by frame: VP8 in WebM, H.264 in MP4."""

from __future__ import annotations

import contextlib
import errno
import importlib
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from fractions import Fraction
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any

import cv2
import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.errors import MissingExtraError, VideoError, foreign
from yowo_deploy.files import atomic_write, native_path
from yowo_deploy.video.ffmpeg_options import FILES_ONLY, capture_options

BITS_A_PIXEL, MIN_BITS = 0.15, 1_000_000  # of a compressed video, the second a second; boxes and labels stay sharp


class VideoWriter:
    """Frames to a video file: `.webm` (VP8, plays everywhere) or `.mp4` (H.264, with the `[video]` extra).

    Both codecs have even sides only: of an odd size, the last row or column is left out.

    The file appears under its name when the block ends well; a block that fails leaves nothing behind.

    Args:
        path: `.webm` or `.mp4`.
        fps: frames a second at which it is shown.
        size_wh: (width, height) of every frame, in pixels.

    Raises:
        VideoError: another suffix, or the encoder does not start.
        MissingExtraError: `.mp4` without PyAV. OpenCV's own `mp4v` is never used: browsers refuse it.
        OutputError: the folder cannot be written.
    """

    def __init__(self, path: str | os.PathLike[str], fps: float, size_wh: tuple[int, int]) -> None:
        self.path = Path(path)
        check_suffix(path)
        if min(size_wh) < 2:
            raise VideoError(f"cannot write frames of {size_wh[0]}x{size_wh[1]}: expected 2x2 or larger")
        self._size_wh = size_wh
        self._door = partial(foreign, f"{self.path} cannot be encoded", VideoError, OSError)  # of the system: disk full
        self._stack = ExitStack()
        self._written = 0
        try:
            temporary = Path(self._stack.enter_context(native_path(self._stack.enter_context(atomic_write(self.path)))))
            with self._door():
                self._encoder = _ENCODERS[self.path.suffix.lower()](temporary, fps, size_wh)
        except BaseException as error:
            self._stack.__exit__(type(error), error, error.__traceback__)
            raise
        self._stack.callback(self._close)

    def write(self, frame_bgr: Frame) -> None:
        """Append one frame.

        Raises:
            VideoError: it has another size than the writer.
        """
        found_wh = (frame_bgr.shape[1], frame_bgr.shape[0])
        if found_wh != self._size_wh:
            raise VideoError(
                f"frame of {found_wh[0]}x{found_wh[1]} in {self.path}, which is {self._size_wh[0]}x{self._size_wh[1]}"
            )
        with self._door():
            self._encoder.write(frame_bgr)
        self._written += 1

    def _close(self) -> None:
        with self._door():
            self._encoder.close()

    def __enter__(self) -> VideoWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and not self._written:
            nothing = VideoError(f"there was no frame to write to {self.path}")
            self._stack.__exit__(VideoError, nothing, None)
            raise nothing
        self._stack.__exit__(kind, error, trace)


def check_suffix(path: str | os.PathLike[str]) -> None:
    """Refuse a name that no encoder is for.

    Raises:
        VideoError: it ends neither in .webm nor in .mp4.
    """
    if Path(path).suffix.lower() not in _ENCODERS:
        raise VideoError(f"cannot write {path}: expected a name that ends in .webm or .mp4")


def _h264(path: Path, fps: float, size_wh: tuple[int, int]) -> _PyAv:
    return _PyAv(path, fps, size_wh, "libx264", preset="superfast")


def _vp8(path: Path, fps: float, size_wh: tuple[int, int]) -> _PyAv | _OpenCvVp8:
    """By PyAV where it is installed: 3 ms of CPU for a frame of 768x432. OpenCV's takes 20 and cannot be set faster."""
    if find_spec("av") is None:
        return _OpenCvVp8(path, fps, size_wh)
    return _PyAv(path, fps, size_wh, "libvpx", deadline="realtime", threads="1", **{"cpu-used": "16"})


_ENCODERS: dict[str, Callable[[Path, float, tuple[int, int]], Any]] = {".webm": _vp8, ".mp4": _h264}


class _OpenCvVp8:
    def __init__(self, path: Path, fps: float, size_wh: tuple[int, int]) -> None:
        with _without_stderr():
            self._writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"VP80"), fps, size_wh)
        if not self._writer.isOpened():
            raise VideoError(f"this OpenCV cannot encode VP8 at {size_wh[0]}x{size_wh[1]}; write .mp4 instead")
        self._path, self._count = path, 0

    def write(self, frame_bgr: Frame) -> None:
        self._writer.write(frame_bgr)
        self._count += 1

    def close(self) -> None:
        """Raise an OSError if the file does not hold every frame: OpenCV keeps a full disk to itself."""
        self._writer.release()
        with capture_options(FILES_ONLY):  # a thread that connects to a camera has others set
            capture = cv2.VideoCapture(str(self._path), cv2.CAP_FFMPEG)
        written = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT))) if capture.isOpened() else 0
        capture.release()
        if written < self._count:
            raise OSError(errno.ENOSPC, f"{written} of {self._count} frames are in the file; is the disk full?")


class _PyAv:
    """Any codec of PyAV's."""

    def __init__(self, path: Path, fps: float, size_wh: tuple[int, int], codec: str, **options: str) -> None:
        if find_spec("av") is None:
            raise MissingExtraError("PyAV, which writes .mp4 as H.264 (.webm needs no extra),", "video")
        untyped: Any = importlib.import_module("av")  # its types make three kinds of stream of every stream
        self._av, self._container = untyped, untyped.open(str(path), "w")
        rate = Fraction(fps).limit_denominator(1001)
        try:
            self._stream: Any = self._container.add_stream(codec, rate=rate, options=options)
        except ValueError as error:
            raise VideoError(f"this PyAV has no encoder {codec}: install the wheel of `av` from PyPI") from error
        self._stream.width, self._stream.height = (side - side % 2 for side in size_wh)  # 4:2:0 needs even sides
        self._stream.pix_fmt = "yuv420p"
        self._stream.bit_rate = max(MIN_BITS, int(BITS_A_PIXEL * fps * size_wh[0] * size_wh[1]))
        self._container.start_encoding()  # makes the file, here and not in whatever thread writes the first frame

    def write(self, frame_bgr: Frame) -> None:
        even = frame_bgr[: self._stream.height, : self._stream.width]
        planes = cv2.cvtColor(np.ascontiguousarray(even), cv2.COLOR_BGR2YUV_I420)  # a seventh of PyAV's own time
        frame = self._av.VideoFrame.from_ndarray(planes, format="yuv420p")
        self._container.mux(self._stream.encode(frame))

    def close(self) -> None:
        self._container.mux(self._stream.encode())
        self._container.close()


@contextlib.contextmanager
def _without_stderr() -> Iterator[None]:
    """OpenCV prints to the file descriptor that VP8's tag "is not supported", and no log level stops it; it is."""
    kept = os.dup(2)
    with open(os.devnull, "wb") as nowhere:
        os.dup2(nowhere.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
