"""Videos by PyAV, for what OpenCV's FFmpeg lacks: AV1, and interlaced frames."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.errors import VideoError
from yowo_deploy.files import native_path


class NoVideoError(VideoError):
    """A container that can be read, of sound or subtitles."""


class AvCapture:
    """A video file with the methods of `cv2.VideoCapture` that are used of it; frames are turned upright as there.

    Args:
        path: of the file.
        threads: AUTO decodes several frames at once; SLICE gives the first one soonest.

    Raises:
        ValueError: PyAV cannot open the file.
        NoVideoError: it holds no video.
    """

    def __init__(self, path: Path, threads: Literal["AUTO", "SLICE"] = "AUTO") -> None:
        av: Any = importlib.import_module("av")
        self._error: type[Exception] = av.error.FFmpegError
        try:
            with native_path(path) as name:
                self._container = av.open(name, options={"protocol_whitelist": "file"})
        except self._error as error:
            raise ValueError(f"{path} cannot be opened: {error}") from error
        if not self._container.streams.video:
            kinds = sorted({stream.type for stream in self._container.streams})
            self._container.close()
            raise NoVideoError(f"{path} holds no video, only {', '.join(kinds) or 'a header'}")
        self._stream = self._container.streams.video[0]
        self._stream.thread_type = threads
        self._frames: Iterator[Any] = self._container.decode(self._stream)
        self._frame: Any = None

    def grab(self) -> bool:
        """Decode the next frame; false at the end, and where the file is damaged."""
        self._frame = None
        with suppress(self._error):
            self._frame = next(self._frames, None)
        return self._frame is not None

    @property
    def is_interlaced(self) -> bool:
        """Whether the frame that was grabbed is made of two fields."""
        return self._frame is not None and bool(self._frame.interlaced_frame)

    def retrieve(self) -> tuple[bool, Frame | None]:
        """The decoded frame as (H, W, 3) uint8 BGR."""
        if self._frame is None:
            return False, None
        image = np.asarray(self._frame.to_ndarray(format="bgr24"), np.uint8)
        return True, np.ascontiguousarray(np.rot90(image, self._frame.rotation // 90))

    def read(self) -> tuple[bool, Frame | None]:
        """`grab` and `retrieve`."""
        self.grab()
        return self.retrieve()

    def get(self, what: int) -> float:
        """A property by OpenCV's number; 0 where it is not known."""
        stream, frame = self._stream, self._frame
        rate = float(stream.guessed_rate or 0)
        if what == cv2.CAP_PROP_FPS:
            return rate
        if what == cv2.CAP_PROP_FRAME_COUNT:
            return float(stream.frames or int(float((stream.duration or 0) * stream.time_base) * rate))
        if what == cv2.CAP_PROP_POS_MSEC and frame is not None and frame.pts is not None:
            return float((frame.pts - (stream.start_time or 0)) * stream.time_base) * 1000
        sides = {cv2.CAP_PROP_FRAME_WIDTH: stream.width, cv2.CAP_PROP_FRAME_HEIGHT: stream.height}
        return float(sides.get(what, 0))

    def release(self) -> None:
        """Close the file."""
        self._container.close()
