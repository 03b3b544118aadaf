"""Frames of webcams and network cameras, with reconnection."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import NamedTuple

import cv2
import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.closing import closed_on_error
from yowo_deploy.errors import VideoError, foreign
from yowo_deploy.video.ffmpeg_options import Address, Way, capture_options, silent_opencv
from yowo_deploy.video.reader import (
    BehindDoor,
    Capture,
    breaks_off,
    broken_off,
    declared_frames,
    refuse_absurd_size,
    stated_fps,
)

TIMEOUT_S = 2.0  # to connect, and for the next frame; recovery within 2.1 s was measured (HARDENING, "Live")
FIRST_DELAY_S, LONGEST_DELAY_S = 0.25, 8.0
RETRIES = 3  # of a file that ends too early, before it counts as damaged
FIRST_FRAME_S = 5.0  # that a connection may take to give a picture that is not damaged
_BETWEEN_READS_S = 0.01
KEY_FRAME_WITHIN_S = 10.0  # some encoders refresh a picture in stripes and send no whole one, ever
BLACK = 20  # brightest value of a black frame; video's black is 16, and a lossy codec adds a little
_EVERY = 8


class Captured(NamedTuple):
    """A frame, seconds since the first one, and why it should not be trusted, if there is a reason."""

    image: Frame
    timestamp: float
    suspect: str | None = None


def connect_address(address: Address, timeout_s: float = TIMEOUT_S) -> Capture:
    """A stream that answers; its reads return within `timeout_s`, with or without a frame.

    Raises:
        VideoError: it cannot be reached, or is no video.
    """
    address.reach(timeout_s)
    limits = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, cv2.CAP_PROP_READ_TIMEOUT_MSEC]
    with closed_on_error(Way(address)) as way:
        with capture_options(way.options), foreign(f"{address.shown} cannot be opened", VideoError):
            capture = cv2.VideoCapture(
                way.url, cv2.CAP_FFMPEG, [item for limit in limits for item in (limit, int(1000 * timeout_s))]
            )
        if capture.isOpened():
            return _Reached(BehindDoor(address.shown, capture), way)
        if way.refused:
            raise VideoError(f"{address.shown} leads to the host {way.refused}: allow it with --allow-hosts")
        raise VideoError(
            f"{address.shown} gives no video within {timeout_s:g} s: check path, user and password, or the format"
        )


class _Reached:
    """A capture with the way that it takes."""

    def __init__(self, capture: Capture, way: Way) -> None:
        self._capture, self._way = capture, way
        self.read, self.grab, self.retrieve, self.get = capture.read, capture.grab, capture.retrieve, capture.get

    def release(self) -> None:
        """Both."""
        self._capture.release()
        self._way.close()


def connect_webcam(number: int) -> Capture:
    """The webcam of this number.

    Raises:
        VideoError: there is none, or another program holds it.
    """
    with foreign(f"webcam {number} cannot be opened", VideoError), silent_opencv():
        capture = cv2.VideoCapture(number)
    if not capture.isOpened():
        raise VideoError(f"webcam {number} cannot be opened: is it connected, and not used by another program?")
    return BehindDoor(f"webcam {number}", capture)


class Connection:
    """A source that may be lost: opened once, and again when asked, its first frame read each time.

    Attributes:
        name: for messages.
        first: the frame that was read when it was opened.
        reconnects: how often it was opened again.

    Raises:
        VideoError: it cannot be opened at all, or its frames are of absurd size.
    """

    def __init__(self, name: str, connect: Callable[[], Capture], patience_s: float | None) -> None:
        self.name, self._connect, self.patience_s = name, connect, patience_s
        self._stopping = threading.Event()
        self.reconnects, self._pause = 0, FIRST_DELAY_S
        self.capture, self.first = self._open()

    def _open(self) -> tuple[Capture, Frame]:
        capture = self._connect()
        refuse_absurd_size(self.name, capture)
        try:
            decoded, frame = capture.read()
            end = time.monotonic() + FIRST_FRAME_S
            while not decoded and time.monotonic() < end and not self._stopping.wait(_BETWEEN_READS_S):
                decoded, frame = capture.read()  # a picture that is damaged is a read in vain
            if not decoded:
                raise VideoError(f"{self.name} gave no frame")
        except VideoError:  # of a read, too: it is tried again and again, and each way has a port and a thread
            capture.release()
            raise
        return capture, np.asarray(frame, np.uint8)

    def read(self) -> Frame | None:
        """The next frame; None when the connection is lost or `stop` was called."""
        if self._stopping.is_set():
            return None
        decoded, frame = self.capture.read()
        return np.asarray(frame, np.uint8) if decoded else None

    def read_from(self, index: int) -> Frame | None:
        """Frame `index` of a file that was opened anew, 1 or more; None as `read`."""
        for _ in range(1, index):
            if self._stopping.is_set() or not self.capture.grab():
                return None
        return self.read()

    def again(self, after: int = 0) -> bool:
        """Connect anew, with ever longer pauses between tries; false when `stop` was called meanwhile.

        Args:
            after: frames that the connection gave, if that matters. After one alone, as a snapshot's address gives it,
                or a camera that has too many viewers, there is a pause before the first try too, longer each time.

        Raises:
            VideoError: it did not come back within `patience_s`.
        """
        self.capture.release()
        if after == 1:
            self._stopping.wait(self._pause)
            self._pause = min(2 * self._pause, LONGEST_DELAY_S)
        else:
            self._pause = FIRST_DELAY_S
        lost, delay = time.monotonic(), self._pause
        while not self._stopping.is_set():
            with suppress(VideoError):
                self.capture, self.first = self._open()
                self.reconnects += 1
                return True
            if self.patience_s is not None and time.monotonic() - lost > self.patience_s:
                raise VideoError(f"{self.name} was lost and did not come back within {self.patience_s:g} s")
            self._stopping.wait(delay)
            delay = min(2 * delay, LONGEST_DELAY_S)
        return False

    def stop(self) -> None:
        """End a pause, and let no other read begin; from any thread."""
        self._stopping.set()

    def close(self) -> None:
        """Release the source; from the thread that reads, for a release beside a read crashes."""
        self.capture.release()


class _Remote:
    """What cameras and remote files have in common."""

    def __init__(self, connection: Connection) -> None:
        self._connection, self.name = connection, connection.name
        self.fps = stated_fps(connection.capture)
        self.size_wh = connection.first.shape[1], connection.first.shape[0]
        self.stop, self.close = connection.stop, connection.close

    @property
    def reconnects(self) -> int:
        """How often it was connected anew."""
        return self._connection.reconnects


class Camera(_Remote):
    """Frames of a live source for as long as it is wanted, from before and after it was lost.

    Timestamps are those of arrival. A frame is suspect where that can be known: until the first key frame of a
    connection (ten seconds at most), where it is black, and where it repeats the one before to the bit. Damage in the
    middle of a connection cannot be known: OpenCV keeps the decoder's doubts to itself.
    """

    live, frames_declared = True, 0

    def frames(self) -> Iterator[Captured]:
        """Every frame until `stop`; once.

        Raises:
            VideoError: it was lost and stayed so for longer than the connection's patience.
        """
        start = time.monotonic()
        before: Frame | None = None
        while True:
            image: Frame | None = self._connection.first
            connected, whole, count = time.monotonic(), False, 0
            while image is not None:
                now = time.monotonic()
                whole = whole or now - connected > KEY_FRAME_WITHIN_S or self._may_be_a_key_frame()
                reason = None if whole else "before a key frame"
                yield Captured(image, now - start, reason or _fault(image, before))
                before, image, count = image, self._connection.read(), count + 1
            if not self._connection.again(count):
                return

    def _may_be_a_key_frame(self) -> bool:
        """False where FFmpeg says that it is none; a webcam says nothing."""
        return int(self._connection.capture.get(cv2.CAP_PROP_FRAME_TYPE)) not in (ord("P"), ord("B"))


class RemoteFile(_Remote):
    """Frames of a file behind an address: it ends, and where its server is lost and found nothing of it is missing."""

    live = False

    def __init__(self, connection: Connection, allow_damaged: bool) -> None:
        super().__init__(connection)
        self._allow_damaged = allow_damaged
        self.frames_declared = declared_frames(connection.capture)

    def frames(self) -> Iterator[Captured]:
        """Every frame once.

        Raises:
            VideoError: it ends before its declared end and three more connections bring nothing new, or its server does
                not come back.
        """
        given, in_vain, latest_s = 0, 0, 0.0
        stated_fps = self._connection.capture.get(cv2.CAP_PROP_FPS)
        image: Frame | None = self._connection.first
        while True:
            before = given
            while image is not None:
                seconds = self._connection.capture.get(cv2.CAP_PROP_POS_MSEC) / 1000  # 0 for the last of some AVI files
                given, latest_s = given + 1, max(latest_s, seconds)
                yield Captured(image, seconds)
                image = self._connection.read()
            in_vain = in_vain + 1 if given == before else 0
            whole = not breaks_off(self.frames_declared, latest_s, stated_fps)
            if whole or (in_vain == RETRIES and self._allow_damaged):
                return
            if in_vain == RETRIES:
                raise broken_off(self.name, given, self.frames_declared)
            if not self._connection.again():
                return
            image = self._connection.read_from(given)


def _fault(image: Frame, before: Frame | None) -> str | None:
    """What is wrong with the picture itself; one pixel in 64 is looked at, and all only if those raise doubts."""
    few = image[::_EVERY, ::_EVERY]
    if few.max() <= BLACK and image.max() <= BLACK:
        return "black"
    if before is None or image.shape != before.shape or not np.array_equal(few, before[::_EVERY, ::_EVERY]):
        return None
    return "repeated" if np.array_equal(image, before) else None
