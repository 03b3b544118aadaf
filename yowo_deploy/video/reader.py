"""Video files read frame by frame."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from contextlib import AbstractContextManager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.closing import Closing
from yowo_deploy.errors import MissingExtraError, VideoError, foreign
from yowo_deploy.files import existing_file
from yowo_deploy.video.container import (
    CONTAINERS,
    HEAD,
    MovTimes,
    Packets,
    is_cut,
    is_video_head,
    mean_fps,
    mov_times,
    open_capture,
    read_packets,
)
from yowo_deploy.video.image_folder import ImageFolder
from yowo_deploy.video.interlaced import InterlacedCheck
from yowo_deploy.video.mov_claims import refuse_absurd_tables
from yowo_deploy.video.picture_size import MAX_PIXELS
from yowo_deploy.video.pyav import AvCapture, NoVideoError

# FFmpeg talks to stderr about every damaged packet; the reader says it once, in its own words.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

MAX_FPS = 1_000_000  # of frames with times of their own


class Capture(Protocol):
    """What is used of `cv2.VideoCapture`."""

    def read(self) -> tuple[bool, Any]: ...
    def grab(self) -> bool: ...
    def retrieve(self) -> tuple[bool, Any]: ...
    def get(self, what: int, /) -> float: ...
    def release(self) -> None: ...


class BehindDoor:
    """A capture whose errors are ours: OpenCV and PyAV raise what they like on damaged files."""

    def __init__(self, name: str, capture: Capture) -> None:
        self._capture, self._complaint = capture, f"{name} cannot be decoded"

    def read(self) -> tuple[bool, Any]:
        """`grab` and `retrieve`."""
        with foreign(self._complaint, VideoError):
            return self._sane(self._capture.read())

    def grab(self) -> bool:
        """Go to the next frame; false where there is none."""
        with foreign(self._complaint, VideoError):
            return self._capture.grab()

    def retrieve(self) -> tuple[bool, Any]:
        """The frame that was grabbed."""
        with foreign(self._complaint, VideoError):
            return self._sane(self._capture.retrieve())

    def get(self, what: int, /) -> float:
        """A property; 0 where it is no finite number."""
        with foreign(self._complaint, VideoError):
            value = self._capture.get(what)
            return value if math.isfinite(value) else 0.0

    def seek(self, seconds: float) -> bool:
        """Go to about a time; false where the capture cannot, as PyAV's."""
        with foreign(self._complaint, VideoError):
            capture = self._capture
            return isinstance(capture, cv2.VideoCapture) and capture.set(cv2.CAP_PROP_POS_MSEC, 1000 * seconds)

    def release(self) -> None:
        """Close it."""
        with foreign(self._complaint, VideoError):
            self._capture.release()

    def _sane(self, answer: tuple[bool, Any]) -> tuple[bool, Any]:
        """Frames may grow in the middle of a video, and in what a camera sends."""
        decoded, frame = answer
        if decoded and frame.shape[0] * frame.shape[1] > MAX_PIXELS:
            size = f"{frame.shape[1]}x{frame.shape[0]}"
            raise VideoError(f"{self._complaint}: a frame of {size}, more than {MAX_PIXELS} pixels: scale it down")
        return answer


class FrameSource(AbstractContextManager["FrameSource"], Protocol):
    """What `VideoReader` and `ImageFolder` have in common; they say what it means."""

    path: Path
    size_wh: tuple[int, int]

    @property
    def fps(self) -> float: ...
    @property
    def frames_declared(self) -> int: ...
    def __iter__(self) -> Iterator[Frame]: ...
    @property
    def timestamp_s(self) -> float: ...
    def window(self, first: int, last: int) -> Iterator[Frame]: ...
    def start_at(self, number: int, seconds: float) -> bool: ...
    def close(self) -> None: ...


def open_video(path: str | os.PathLike[str], allow_damaged: bool = False) -> FrameSource:
    """The frames of a video file, or of a folder of numbered pictures; errors as the two classes say."""
    return ImageFolder(path) if Path(path).is_dir() else VideoReader(path, allow_damaged)


class VideoReader(Closing):
    """Frames of a video file as (H, W, 3) uint8 BGR, turned upright as the file's rotation flag says.

    Attributes:
        path: of the file.
        size_wh: (width, height) of the frames.
        can_seek: whether `start_at` can: not in what PyAV alone decodes, AV1 and interlaced videos; from there on it
            decodes.

    Raises:
        VideoError: not a video, no frame in it, frames of absurd size, a codec that needs PyAV where that is absent;
            and while iterating, when frames are missing at the end and `allow_damaged` is false.
    """

    def __init__(self, path: str | os.PathLike[str], allow_damaged: bool = False) -> None:
        self.path = existing_file(path, "video")
        self._allow_damaged = allow_damaged
        self._head = _read_head(self.path)
        refuse_absurd_tables(self.path)
        self._capture = BehindDoor(str(self.path), open_capture(self.path))
        refuse_absurd_size(str(self.path), self._capture)
        self._check = InterlacedCheck(self.path, int(self._capture.get(cv2.CAP_PROP_FOURCC)))
        self._check_from: float = 0  # number of the first frame
        self._count, self._latest_s, self._timestamp_s = 0, 0.0, 0.0
        self.can_seek = True
        self._first = self._read()
        if self._first is None:
            self.can_seek = False
            self._capture.release()
            self._capture = BehindDoor(str(self.path), _open_by_pyav(self.path))
            refuse_absurd_size(str(self.path), self._capture)
            self._first = self._read()
        if self._first is None:
            self.close()
            raise VideoError(f"{self.path} holds no frame that can be decoded; is it complete?")
        self.size_wh = self._first.shape[1], self._first.shape[0]
        self._stated_fps = self._capture.get(cv2.CAP_PROP_FPS)
        self._declared = declared_frames(self._capture)

    @cached_property
    def fps(self) -> float:
        """Mean of the frames per second: by the length of an MP4 or MOV, else by the times of the packets, which are
        read once; as the file states it where it fits; 25 where there is nothing of it."""
        frames, seconds = self._declared, self._mov.media_s
        if not seconds:
            frames, seconds = self._packets.frames, self._packets.seconds
        fps = mean_fps(frames, seconds, self._stated_fps)
        # Of a length that is known any rate: high-speed cameras have more than 1000.
        return fps if frames > 1 and seconds > 0 and 0 < fps <= MAX_FPS else _sane(fps)

    @cached_property
    def frames_declared(self) -> int:
        """Frames to expect: as an MP4 counts them, less what an edit list hides; else the packets.

        Where the end of a file is missing: as many as its header or its duration says.
        """
        if self._mov.media_s:
            return self._declared if self._mov.shown is None else min(self._mov.shown, self._declared)
        if self._head.startswith(b"RIFF"):
            return self._packets.frames if is_cut(self.path) is False else max(self._declared, self._packets.frames)
        if is_cut(self.path):
            return max(self._packets.frames, round(self._declared / self._stated_fps * self.fps))
        return self._packets.frames

    @cached_property
    def _packets(self) -> Packets:
        return read_packets(self.path)

    @cached_property
    def _mov(self) -> MovTimes:
        return mov_times(self.path)

    def __iter__(self) -> Iterator[Frame]:
        """Every frame once, from the first; a reader is read once."""
        frame, self._first = self._first, None  # which may be large
        while frame is not None:
            yield frame
            frame = self._read()
        if not self._allow_damaged and not self._is_whole():
            raise broken_off(str(self.path), self._count, self.frames_declared)

    def _is_whole(self) -> bool:
        """Whether no more than two frames or 5 % of those that the file shows are missing at its end.

        A count is exact in MP4 and MOV, but for edit lists. AVI files declare repeated frames and skip them. Elsewhere
        a count follows from the duration, which may be that of the sound.
        """
        by_count = self._declared - self._count <= _slack(self._declared)
        by_time = not breaks_off(self._declared, self._latest_s, self._stated_fps)
        if self._mov.media_s:
            return by_count or self._shows_all_of_mov()
        if self._head.startswith(b"RIFF"):
            whole = by_count or by_time
            return whole or (is_cut(self.path) is False and self._reaches_last_packet())
        return by_time or (not is_cut(self.path) and self._reaches_last_packet())

    def _shows_all_of_mov(self) -> bool:
        if self._mov.shown_s is not None:
            shown = self._mov.shown_s * self.fps
            return shown - (self._latest_s * self.fps + 1) <= _slack(shown)
        came = self._declared - self._packets.frames <= _slack(self._declared)
        return came and not is_cut(self.path) and self._reaches_last_packet()

    def _reaches_last_packet(self) -> bool:
        rest, span = (self._packets.last_s - latest for latest in (self._latest_s, self._packets.first_s))
        return rest * self.fps <= _slack(span * self.fps)

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
                yield self._converted(frame, index)

    def start_at(self, number: int, seconds: float) -> bool:
        """Let iterating begin at the frame that is shown at `seconds`, decoded from the key frame before it.

        OpenCV seeks to about a time: what it gives is looked at, and tried again from further before. Its
        `CAP_PROP_POS_FRAMES` is a guess by the frame rate.

        Args:
            number: of that frame, for how many the file lacks at its end.

        Returns:
            Whether there is one, to half a frame; otherwise the reader is at its end.
        """
        half_s, self._check_from = 0.5 / self.fps, math.inf
        for frames_before in (2, 32, 512, math.inf) if self.can_seek else ():
            self._capture.seek(max(0.0, seconds - frames_before / self.fps))
            self._count, self._latest_s, self._timestamp_s = 0, 0.0, 0.0
            self._first = self._read()
            if self._first is None or self._timestamp_s < seconds + half_s:
                break
        while self._first is not None and self._timestamp_s < seconds - half_s:
            self._first = self._read()
        self._count, self._check_from = number + 1, number + 1
        return self._first is not None and abs(self._timestamp_s - seconds) < half_s

    def times_ms(self) -> list[float]:
        """When each frame is shown, as the file says, pixels left undecoded; in place of iterating."""
        times = [1000 * self._timestamp_s]
        while self._capture.grab():
            times.append(1000 * self._next_time())
        return times

    @property
    def timestamp_s(self) -> float:
        """When the frame that iterating gave last is shown, in seconds, as the file says; later than the one before."""
        return self._timestamp_s

    def _read(self) -> Frame | None:
        decoded, frame = self._capture.read()
        if not decoded:
            return None
        frame = self._converted(frame, self._count)
        self._next_time()
        return frame

    def _converted(self, frame: Any, number: int) -> Frame:
        """The frame, by PyAV from the first one on that OpenCV does not convert."""
        if not self._check_from <= number or (other := self._check.found(frame, number)) is None:
            return np.asarray(frame, np.uint8)
        self._capture.release()
        self._capture, self.can_seek = BehindDoor(str(self.path), other), False
        return np.asarray(self._capture.retrieve()[1], np.uint8)

    def _next_time(self) -> float:
        """The time of the frame that was grabbed; the last of some AVI and MPEG files has none, which reads as 0."""
        seconds = self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1000
        self._latest_s = max(self._latest_s, seconds)
        if self._count and seconds <= self._timestamp_s:
            seconds = self._timestamp_s + 1 / stated_fps(self._capture)
        self._count, self._timestamp_s = self._count + 1, seconds
        return seconds

    def close(self) -> None:
        """Release the file; safe to call twice."""
        self._capture.release()
        self._check.close()


def _open_by_pyav(path: Path) -> Capture:
    """A file that OpenCV gives no frame of.

    Raises:
        VideoError: PyAV is not installed, or cannot open it either.
    """
    packets = open_capture(path, raw=True)
    is_av1 = packets.isOpened() and int(packets.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"AV01")
    packets.release()
    installed = find_spec("av") is not None
    if is_av1 and not installed:
        raise VideoError(f"{path}: {MissingExtraError('AV1 needs PyAV, which', 'video')}")
    try:
        with foreign(str(path), VideoError):
            if installed:
                return AvCapture(path)
    except NoVideoError:
        raise
    except VideoError:  # the complaint of OpenCV's user is the better one
        pass
    raise VideoError(f"{path} cannot be decoded: damaged, or a codec that this OpenCV lacks; re-encode it")


def stated_fps(capture: Capture) -> float:
    """Frames per second as the source states them; 25 where it states none, or an absurd rate."""
    return _sane(capture.get(cv2.CAP_PROP_FPS))


def _sane(fps: float) -> float:
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
    return declared - (last_s * fps + 1) > _slack(declared)


def _slack(frames: float) -> float:
    return max(2.0, 0.05 * frames)


def broken_off(name: str, decoded: int, declared: int) -> VideoError:
    """The error of a video that breaks off."""
    return VideoError(
        f"{name} breaks off: {decoded} frames can be decoded, {declared} are declared. "
        "Repair or re-encode it, or pass --allow-damaged to take what there is"
    )


def _read_head(path: Path) -> bytes:
    """The first bytes; a playlist, text or picture under a video's name is refused before FFmpeg sees it (HARDENING,
    "Video")."""
    with path.open("rb") as stream:
        head = stream.read(HEAD)
    if not is_video_head(head):
        raise VideoError(f"{path} is not a video: its first bytes are not those of {CONTAINERS}")
    return head
