"""Cameras that are lost and found, and pictures that are not what the camera sees: scripted captures."""

from __future__ import annotations

import threading
from collections.abc import Callable
from itertools import islice, pairwise
from typing import Any

import cv2
import numpy as np
import pytest

from tests.local_camera import LocalFiles
from tests.waiting import NEVER_S
from yowo_deploy.arrays import Frame
from yowo_deploy.errors import VideoError
from yowo_deploy.video import cameras
from yowo_deploy.video.cameras import FIRST_DELAY_S, Camera, Captured, Connection, RemoteFile, connect_address
from yowo_deploy.video.ffmpeg_options import Address

Script = list[tuple[str, Frame | None]]  # None is a picture that is damaged


def picture(shade: int = 100, width: int = 32, height: int = 24, seed: int = 0) -> Frame:
    noise = np.random.default_rng(seed).integers(0, 9, (height, width, 3))
    return (shade + noise).astype(np.uint8)


def new_pictures(count: int, kinds: str = "I") -> Script:
    return [(kinds[min(number, len(kinds) - 1)], picture(seed=number)) for number in range(count)]


class Scripted:
    """A capture that gives frames of the kinds I, P, B or ? and then nothing."""

    def __init__(self, script: Script, **said: float) -> None:
        self._left, self._kind, self._said = list(script), "?", said
        self.released, self.index = 0, -1

    def read(self) -> tuple[bool, Any]:
        if not self._left:
            return False, None
        self._kind, frame = self._left.pop(0)
        self.index += 1
        return frame is not None, frame

    def grab(self) -> bool:
        return self.read()[0]

    def get(self, what: int, /) -> float:
        here = {cv2.CAP_PROP_FRAME_TYPE: ord(self._kind), cv2.CAP_PROP_POS_MSEC: 40.0 * self.index}
        return float(here.get(what, self._said.get(str(what), 0)))

    def release(self) -> None:
        self.released += 1


def connects(*captures: Scripted | None) -> Callable[[], Scripted]:
    """Connects to one after the other; None is a try that fails, and after the last everything does."""
    left = iter(captures)

    def connect() -> Scripted:
        capture = next(left, None)
        if capture is None:
            raise VideoError("camera cannot be reached")
        return capture

    return connect


class Pauses(threading.Event):
    """Remembers how long a camera would have waited, and lets it not wait."""

    def __init__(self, allowed: int) -> None:
        super().__init__()
        self.seconds: list[float] = []
        self._allowed = allowed

    def wait(self, timeout: float | None = None) -> bool:
        self.seconds.append(timeout or 0)
        if len(self.seconds) >= self._allowed:
            self.set()
        return self.is_set()


def all_of(camera: Camera | RemoteFile, connection: Connection, tries: int = 1) -> list[Captured]:
    """What a camera gives until it has been looked for in vain `tries` times in a row, or altogether."""
    connection._stopping = Pauses(tries)
    return list(camera.frames())


def reasons(captured: list[Captured]) -> list[str | None]:
    return [each.suspect for each in captured]


KEY, BLACK, AGAIN = "before a key frame", "black", "repeated"
_A, _B, _C, _DARK = picture(seed=1), picture(seed=2), picture(90, 48, 16, seed=3), picture(12)
_NEARLY = _A.copy()
_NEARLY[3, 3] += 1  # beside the pixels that are compared first


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ([("I", _A), ("P", _B)], [None, None]),
        ([("?", _A), ("?", _B)], [None, None]),
        ([("P", _A), ("B", _B), ("I", _A), ("P", _B)], [KEY, KEY, None, None]),
        ([("I", _A), ("P", _A), ("P", _A), ("P", _B)], [None, AGAIN, AGAIN, None]),
        ([("I", _A), ("P", _NEARLY)], [None, None]),
        ([("I", _A), ("P", _DARK), ("P", _B)], [None, BLACK, None]),
        ([("I", _A), ("P", _C), ("P", _C)], [None, None, AGAIN]),
    ],
)
def test_a_frame_is_suspect_where_that_can_be_known(script: Script, expected: list[str | None]) -> None:
    connection = Connection("camera", connects(Scripted(script)), None)
    captured = all_of(Camera(connection), connection)
    assert reasons(captured) == expected
    assert all(each.image is frame for each, (_, frame) in zip(captured, script, strict=True))


def test_one_bright_pixel_anywhere_makes_a_frame_not_black() -> None:
    lit = _DARK.copy()
    lit[3, 3] = 200
    connection = Connection("camera", connects(Scripted([("I", lit)])), None)
    assert reasons(all_of(Camera(connection), connection)) == [None]


def test_an_encoder_that_sends_no_key_frame_is_trusted_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "KEY_FRAME_WITHIN_S", -1.0)
    connection = Connection("camera", connects(Scripted(new_pictures(3, "P"))), None)
    assert reasons(all_of(Camera(connection), connection)) == [None] * 3


def test_a_camera_found_again_goes_on_with_another_size_and_waits_for_a_key_frame() -> None:
    small = [(kind, cv2.resize(frame, (16, 12))) for kind, frame in new_pictures(3, "PIP")]
    captures = Scripted(new_pictures(4)), None, Scripted(small)
    connection = Connection("camera", connects(*captures), None)
    camera = Camera(connection)
    captured = all_of(camera, connection, tries=2)
    assert reasons(captured) == [None] * 4 + [KEY, None, None]
    assert [each.image.shape[:2] for each in captured] == [(24, 32)] * 4 + [(12, 16)] * 3
    assert all(now.timestamp >= before.timestamp for before, now in pairwise(captured))
    assert (camera.size_wh, camera.reconnects) == ((32, 24), 1)
    assert captures[0].released == captures[2].released == 1


def test_pauses_double_up_to_a_ceiling() -> None:
    connection = Connection("camera", connects(Scripted(new_pictures(1))), None)
    pauses = connection._stopping = Pauses(9)
    assert len(list(Camera(connection).frames())) == 1
    assert pauses.seconds == [0.25, 0.5, 1, 2, 4, 8, 8, 8, 8]


def test_patience_may_end() -> None:
    connection = Connection("camera", connects(Scripted(new_pictures(1))), patience_s=0.0)
    frames = Camera(connection).frames()
    next(frames)
    with pytest.raises(VideoError, match="camera was lost and did not come back within 0 s"):
        next(frames)


def test_stopping_ends_a_pause() -> None:
    class Endless(threading.Event):
        """A pause that only `set` ends."""

        def wait(self, timeout: float | None = None) -> bool:
            begun.set()
            return super().wait()

    connection, begun = Connection("camera", connects(Scripted(new_pictures(1))), None), threading.Event()
    connection._stopping = Endless()
    waiting = threading.Thread(target=lambda: list(Camera(connection).frames()))
    waiting.start()
    begun.wait()
    connection.stop()
    waiting.join()


@pytest.mark.parametrize(
    ("capture", "expected"),
    [
        (Scripted([]), "camera gave no frame"),
        (
            Scripted(new_pictures(1), **{str(cv2.CAP_PROP_FRAME_WIDTH): 1e5, str(cv2.CAP_PROP_FRAME_HEIGHT): 1e4}),
            "camera has frames of 100000x10000, more than",
        ),
    ],
)
def test_a_camera_without_a_usable_frame_is_refused_and_released(
    capture: Scripted, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cameras, "FIRST_FRAME_S", 0.0)
    with pytest.raises(VideoError, match=expected):
        Connection("camera", connects(capture), None)
    assert capture.released == 1


def test_a_camera_whose_first_read_fails_is_released() -> None:
    class Fails(Scripted):
        def read(self) -> tuple[bool, Any]:
            raise VideoError("a frame of absurd size")

    capture = Fails([])
    with pytest.raises(VideoError, match="absurd"):
        Connection("camera", connects(capture), None)
    assert capture.released == 1


def test_damaged_pictures_before_the_first_whole_one_are_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cameras, "FIRST_FRAME_S", NEVER_S)
    script: Script = [*[("I", None)] * 20, *new_pictures(3)]
    connection = Connection("camera", connects(Scripted(script)), None)
    assert reasons(all_of(Camera(connection), connection)) == [None] * 3


def film(count: int, declared: int) -> Scripted:
    return Scripted(new_pictures(count), **{str(cv2.CAP_PROP_FRAME_COUNT): declared, str(cv2.CAP_PROP_FPS): 25})


@pytest.mark.parametrize("lost_after", [[], [7], [1, 1, 7], [7, 3, 9, 15]])
def test_of_a_file_whose_server_is_lost_no_frame_is_missing_or_double(lost_after: list[int]) -> None:
    """A server may come back and break off earlier than before."""
    captures = [film(count, 20) for count in lost_after] + [film(20, 20)]
    connection = Connection("film", connects(*captures), None)
    remote = RemoteFile(connection, allow_damaged=False)
    captured = all_of(remote, connection, tries=99)
    assert [each.timestamp for each in captured] == [pytest.approx(0.04 * number) for number in range(20)]
    assert all(np.array_equal(each.image, frame) for each, (_, frame) in zip(captured, new_pictures(20), strict=True))


def test_a_file_that_breaks_off_at_the_same_frame_again_and_again_is_damaged() -> None:
    connection = Connection("film", connects(*(film(7, 20) for _ in range(4))), None)
    frames = RemoteFile(connection, allow_damaged=False).frames()
    with pytest.raises(VideoError, match="film breaks off: 7 frames can be decoded, 20 are declared"):
        list(frames)
    connection = Connection("film", connects(*(film(7, 20) for _ in range(4))), None)
    assert len(list(RemoteFile(connection, allow_damaged=True).frames())) == 7


def test_an_address_that_gives_one_picture_a_time_is_not_asked_without_a_pause() -> None:
    _, picture = cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))
    with LocalFiles(picture.tobytes()) as server:
        address = Address.parse(server.url)
        connection = Connection("door", lambda: connect_address(address, NEVER_S), None)
        pauses = connection._stopping = Pauses(3)
        assert len(list(islice(Camera(connection).frames(), 9))) == 3 == server.answers
    assert pauses.seconds == [FIRST_DELAY_S, 2 * FIRST_DELAY_S, 4 * FIRST_DELAY_S]
