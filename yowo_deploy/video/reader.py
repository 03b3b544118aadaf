"""Video files read frame by frame."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.closing import Closing
from yowo_deploy.errors import VideoError
from yowo_deploy.files import existing_file
from yowo_deploy.video.ffmpeg_options import FILES_ONLY, capture_options
from yowo_deploy.video.image_folder import ImageFolder

# FFmpeg talks to stderr about every damaged packet; the reader says it once, in its own words.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

MAX_PIXELS = 8192 * 8192
CONTAINERS = "MP4, MOV, AVI, MKV, WebM, FLV, MPEG, OGG or ASF"
_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
# Matroska, FLV, MPEG programme stream, OGG, ASF; then bare MPEG-2, MPEG-4 (UCF101-24's clips are such) and H.264.
_MAGIC: tuple[bytes, ...] = (b"\x1aE\xdf\xa3", b"FLV\x01", b"\x00\x00\x01\xba", b"OggS", b"\x30\x26\xb2\x75")
_MAGIC += (b"\x00\x00\x01\xb3", b"\x00\x00\x01\xb0", b"\x00\x00\x00\x01")


class Capture(Protocol):
    """What is used of `cv2.VideoCapture`."""

    def read(self) -> tuple[bool, Any]: ...
    def grab(self) -> bool: ...
    def get(self, what: int, /) -> float: ...
    def release(self) -> None: ...


class FrameSource(AbstractContextManager["FrameSource"], Protocol):
    """What `VideoReader` and `ImageFolder` have in common; they say what it means."""

    path: Path
    size_wh: tuple[int, int]
    fps: float
    frames_declared: int

    def __iter__(self) -> Iterator[Frame]: ...
    def window(self, first: int, last: int) -> Iterator[Frame]: ...
    def close(self) -> None: ...


def open_video(path: str | os.PathLike[str], allow_damaged: bool = False) -> FrameSource:
    """The frames of a video file, or of a folder of numbered pictures; errors as the two classes say."""
    return ImageFolder(path) if Path(path).is_dir() else VideoReader(path, allow_damaged)


class VideoReader(Closing):
    """Frames of a video file as (H, W, 3) uint8 BGR, turned upright as the file's rotation flag says.

    Attributes:
        path: of the file.
        size_wh: (width, height) of the frames.
        fps: frames per second as the file says; 25 where it says nothing.
        frames_declared: as the container counts them; 0 if it does not.

    Raises:
        VideoError: not a video, no frame in it, frames of absurd size; and while iterating, when the stream breaks
            off before its declared end and `allow_damaged` is false.
    """

    def __init__(self, path: str | os.PathLike[str], allow_damaged: bool = False) -> None:
        self.path = existing_file(path, "video")
        self._allow_damaged = allow_damaged
        _refuse_other_formats(self.path)
        with capture_options(FILES_ONLY):
            self._capture = cv2.VideoCapture(str(self.path.resolve()), cv2.CAP_FFMPEG)
        if not self._capture.isOpened():
            raise VideoError(f"{self.path} cannot be decoded: damaged, or a codec that this OpenCV lacks; re-encode it")
        refuse_absurd_size(str(self.path), self._capture)
        self.fps, self.frames_declared = stated_fps(self._capture), declared_frames(self._capture)
        self._timestamp_s = 0.0
        self._first = self._read()
        if self._first is None:
            self.close()
            raise VideoError(f"{self.path} holds no frame that can be decoded; is it complete?")
        self.size_wh = self._first.shape[1], self._first.shape[0]

    def __iter__(self) -> Iterator[Frame]:
        """Every frame once, from the first; a reader is read once."""
        frame, count = self._first, 0
        while frame is not None:
            yield frame
            count += 1
            frame = self._read()
        if not self._allow_damaged and breaks_off(self.frames_declared, self._timestamp_s, self.fps):
            raise broken_off(str(self.path), count, self.frames_declared)

    def window(self, first: int, last: int) -> Iterator[Frame]:
        """Frames `first` to `last` alone, fewer where the file ends before; in place of iterating."""
        if first == 0 and self._first is not None:
            yield self._first
        for index in range(1, last + 1):
            if not self._capture.grab():
                return
            if index >= first:
                decoded, frame = self._capture.retrieve()
                if not decoded:
                    return
                yield np.asarray(frame, np.uint8)

    def times_ms(self) -> list[float]:
        """When each frame is shown, as the file says, pixels left undecoded; in place of iterating."""
        times = [1000 * self._timestamp_s]
        while self._capture.grab():
            times.append(self._capture.get(cv2.CAP_PROP_POS_MSEC))
        return times

    @property
    def timestamp_s(self) -> float:
        """When the frame that iterating gave last is shown, in seconds, as the file says."""
        return self._timestamp_s

    def _read(self) -> Frame | None:
        decoded, frame = self._capture.read()
        if not decoded:
            return None
        self._timestamp_s = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        return np.asarray(frame, np.uint8)

    def close(self) -> None:
        """Release the file; safe to call twice."""
        self._capture.release()


def stated_fps(capture: Capture) -> float:
    """Frames per second as the source states them; 25 where it states none, or an absurd rate."""
    fps = capture.get(cv2.CAP_PROP_FPS)
    return fps if 0 < fps < 1000 else 25.0


def declared_frames(capture: Capture) -> int:
    """Frames that a container counts; 0 where it does not, as in what is live."""
    return max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))


def refuse_absurd_size(name: str, capture: Capture) -> None:
    """Release a capture and raise a VideoError where its frames have more than `MAX_PIXELS` pixels."""
    width, height = (int(capture.get(side)) for side in (cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT))
    if width * height > MAX_PIXELS:
        capture.release()
        raise VideoError(f"{name} has frames of {width}x{height}, more than {MAX_PIXELS} pixels: scale it down")


def breaks_off(declared: int, last_s: float, fps: float) -> bool:
    """Whether a video whose last frame is shown at `last_s` lacks more than two frames and 5 % of those declared.

    By time, not by count: AVI files skip repeated frames and declare them all the same.
    """
    return declared - (last_s * fps + 1) > max(2, 0.05 * declared)


def broken_off(name: str, decoded: int, declared: int) -> VideoError:
    """The error of a video that breaks off."""
    return VideoError(
        f"{name} breaks off: {decoded} frames can be decoded, {declared} are declared. "
        "Repair or re-encode it, or pass --allow-damaged to take what there is"
    )


def _refuse_other_formats(path: Path) -> None:
    """A playlist, text or picture under a video's name is refused before FFmpeg sees it (HARDENING, "Video")."""
    with path.open("rb") as stream:
        head = stream.read(377)
    known = (
        head[4:8] in _BOXES
        or head.startswith(_MAGIC)
        or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
        or (len(head) > 376 and head[0] == head[188] == head[376] == 0x47)
    )
    if not known:
        raise VideoError(f"{path} is not a video: its first bytes are not those of {CONTAINERS}")
