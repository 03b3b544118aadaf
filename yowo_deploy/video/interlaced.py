"""Find interlaced frames, which OpenCV does not convert."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.errors import VideoError, foreign
from yowo_deploy.video.pyav import AvCapture

# Codecs without fields: their files are not opened by PyAV to look.
_PROGRESSIVE = {cv2.VideoWriter.fourcc(*name) for name in ("VP80", "VP90", "AV01", "FLV1", "theo")}
_EVERY = 8  # row and column of those that are compared
MOST = 256  # repeated frames of a file that are looked at: each of a screen recording may be one


class InterlacedCheck:
    """Compares frames of OpenCV with those before them, and asks PyAV about those in doubt.

    FFmpeg's swscale refuses interlaced pictures since 7.1 ("Cannot convert interlaced to progressive frames"). OpenCV
    4.13 and 5.0 pass that over: the frame is memory as it was, which is noise, black, or the frame before. So the
    first frame is in doubt, and each that repeats the one before. Without PyAV nothing is found.

    Args:
        path: of the file.
        codec: its FOURCC.
    """

    def __init__(self, path: Path, codec: int) -> None:
        self._path, self._left = path, MOST if codec not in _PROGRESSIVE and find_spec("av") is not None else 0
        self._before: Frame | None = None
        self._other: AvCapture | None = None
        self._grabbed = 0

    def found(self, frame: Frame, number: int) -> AvCapture | None:
        """A capture that has grabbed this frame, if it is interlaced; the caller closes it.

        Args:
            frame: as OpenCV gave it.
            number: of the frame in the file, from 0; ascends.
        """
        few, before = frame[::_EVERY, ::_EVERY].copy(), self._before
        self._before = few
        if not self._left or (number and (before is None or not np.array_equal(few, before))):
            return None
        self._left -= 1
        try:
            with foreign(str(self._path), VideoError):
                self._other = self._other or AvCapture(self._path, threads="SLICE")
                while self._grabbed <= number and self._other.grab():
                    self._grabbed += 1
        except VideoError:  # what PyAV cannot read stays as OpenCV has it
            self._left = 0
        if self._grabbed > number and self._other is not None and self._other.is_interlaced:
            other, self._other, self._left = self._other, None, 0
            return other
        if not number:  # most files are never looked at again
            self.close()
        return None

    def close(self) -> None:
        """Release the file."""
        if self._other is not None:
            self._other.release()
        self._other, self._grabbed = None, 0
