"""A folder of numbered pictures read as a video."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.closing import Closing
from yowo_deploy.errors import InputError, VideoError, foreign
from yowo_deploy.files import is_hidden, one_level, read_within
from yowo_deploy.video.ffmpeg_options import silent_opencv
from yowo_deploy.video.picture_size import MAX_PIXELS, picture_size, plain_png, refuse_scans
from yowo_deploy.video.suffixes import PICTURE_SUFFIXES, is_picture


class ImageFolder(Closing):
    """Frames in the order of the numbers that their names end with, as `VideoReader` gives those of a file.

    Args:
        pattern: of the names, where only some of the pictures are meant.

    Attributes:
        path: of the folder.
        size_wh: (width, height) of the first frame; all have it.
        fps: 25, as a folder says nothing.
        frames_declared: pictures in it.

    Raises:
        VideoError: no picture, a number missing between the first and the last, a picture that cannot be read (also
            while iterating) or is of another size.
    """

    fps = 25.0

    def __init__(self, path: str | os.PathLike[str], pattern: str = "*") -> None:
        self.path = Path(path)
        found = [file for file in self.path.glob(one_level(pattern)) if is_picture(file) and not is_hidden(file.name)]
        self._files = [file for _, file in sorted((_number(file), file) for file in found)]
        if not self._files:
            raise VideoError(f"{self.path} is a folder without any picture ({', '.join(PICTURE_SUFFIXES)})")
        numbers = list(map(_number, self._files))
        first, last = numbers[0], numbers[-1]
        if len(set(numbers)) < len(numbers) or last - first + 1 != len(numbers):  # or one more makes up for one less
            raise VideoError(
                f"{self.path} holds {len(self._files)} pictures numbered {first} to {last}: missing or duplicate files"
            )
        self.frames_declared = len(self._files)
        height, width = self._read(self._files[0]).shape[:2]  # OpenCV itself refuses pictures of absurd size
        self.size_wh = width, height
        self._begin, self.timestamp_s = 0, 0.0

    def __iter__(self) -> Iterator[Frame]:
        """Every frame once, from the first; `timestamp_s` is the time of the frame that was given last."""
        for number, frame in enumerate(self.window(self._begin, len(self._files) - 1), self._begin):
            self.timestamp_s = number / self.fps
            yield frame

    def start_at(self, number: int, seconds: float) -> bool:
        """See `VideoReader.start_at`; `seconds` alone says which frame."""
        self._begin = max(0, round(seconds * self.fps))
        return self._begin < len(self._files)

    def window(self, first: int, last: int) -> Iterator[Frame]:
        """Frames `first` to `last` alone, counted from 0, fewer where the folder ends before.

        Raises:
            VideoError: a picture cannot be read, or has another size than the first.
        """
        for file in self._files[first : last + 1]:
            frame = self._read(file)
            if (frame.shape[1], frame.shape[0]) != self.size_wh:
                raise VideoError(f"{file} is {frame.shape[1]}x{frame.shape[0]}, the first picture is {self.size_wh}")
            yield frame

    def _read(self, file: Path) -> Frame:
        with foreign(f"{file} cannot be read as a picture", VideoError), silent_opencv():
            try:
                packed = read_within(file)  # from memory: OpenCV crashes on names that are no UTF-8
            except InputError as error:
                raise VideoError(str(error)) from error
            width, height = picture_size(packed)
            if not width * height:  # OpenCV reads TIFF, JPEG 2000 and more, whatever the name is, and of any size
                raise VideoError(f"{file} cannot be read as a picture: expected JPEG, PNG, BMP or WebP")
            if width * height > MAX_PIXELS:
                raise VideoError(f"{file} is of {width}x{height}, more than {MAX_PIXELS} pixels: scale it down")
            refuse_scans(packed)
            frame = cv2.imdecode(np.frombuffer(plain_png(packed), np.uint8), cv2.IMREAD_COLOR)
        if frame is None:
            raise VideoError(f"{file} cannot be read as a picture")
        return np.asarray(frame, np.uint8)


def _number(file: Path) -> int:
    found = re.search(r"(\d+)$", file.stem)
    if not found:
        raise VideoError(f"{file}: its name does not end with the number of the frame")
    return int(found.group(1))
