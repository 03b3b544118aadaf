"""Four cameras at once that stall, lie about their format, change their size and begin with damaged pictures."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack, suppress
from itertools import pairwise

import cv2
import pytest

from benchmarks.soak import OnePerson
from tests.local_camera import LocalCamera, number_in, numbered
from tests.waiting import NEVER_S
from yowo_deploy.arrays import Frame
from yowo_deploy.errors import VideoError
from yowo_deploy.stream_pool import StreamPool
from yowo_deploy.video.sources import Source, open_source

BETWEEN = 10  # results of each other camera while one is silent or lies
SIZE_WH = numbered(0).shape[1::-1]
SHORT_S = 0.5  # time-out of what has to be noticed
PAGE = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n<html>no camera</html>"


def grows_and_shrinks(number: int) -> Frame:
    """Another size every fifth picture; OpenCV gives all in the size of the first."""
    times = 1 + number // 5 % 3
    return cv2.resize(numbered(number), None, fx=times, fy=times, interpolation=cv2.INTER_NEAREST)


def opened(camera: LocalCamera, timeout_s: float) -> Source:
    """A busy machine may need several tries within so short a time."""
    while True:
        with suppress(VideoError):
            return open_source(camera.url, timeout_s=timeout_s)


class Phase:
    """Something that a camera does until each other camera has given some results more, and it was connected anew."""

    def __init__(self, camera: LocalCamera, name: str, begin: Callable[[], object], end: Callable[[], object]) -> None:
        self._camera, self._name, self._begin, self._end = camera, name, begin, end
        self._state, self._counted, self._accepted = "before", dict[str, int](), 0

    @property
    def over(self) -> bool:
        return self._state == "over"

    def look(self, seen: dict[str, list[int]]) -> None:
        """Begin or end, by what was seen."""
        if self._state == "before" and all(len(numbers) >= BETWEEN for numbers in seen.values()):
            self._counted, self._state = {n: len(each) for n, each in seen.items()}, "on"
            self._accepted = self._camera.accepted  # before it begins: the source may be there again at once
            self._begin()
        others = [len(each) - self._counted.get(name, 0) for name, each in seen.items() if name != self._name]
        if self._state == "on" and min(others) >= BETWEEN and self._camera.accepted >= self._accepted + 2:
            self._end()
            self._state = "over"


def test_cameras_that_stall_lie_change_size_or_begin_damaged_come_back_and_disturb_no_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("yowo_deploy.video.cameras.FIRST_FRAME_S", NEVER_S)
    monkeypatch.setattr("yowo_deploy.video.cameras.LONGEST_DELAY_S", SHORT_S)
    with ExitStack() as stack:
        names = ("honest", "stalls", "lies", "changes size", "begins damaged")
        cameras = {n: LocalCamera(100, grows_and_shrinks if n == "changes size" else numbered) for n in names}
        for camera in cameras.values():
            stack.enter_context(camera)
        cameras["begins damaged"].damage = lambda number, whole: whole[: len(whole) // 2] if number < 8 else whole
        pool = stack.enter_context(StreamPool(OnePerson()))
        sources = {n: opened(each, SHORT_S if n in ("stalls", "lies") else NEVER_S) for n, each in cameras.items()}
        for name, source in sources.items():
            pool.add(name, source)
        lies, stalls = cameras["lies"], cameras["stalls"]
        greeting = lies.greeting

        def says(what: bytes) -> None:
            lies.kill()
            lies.greeting = what
            lies.start()

        phases = (
            Phase(stalls, "stalls", stalls.silent.set, stalls.silent.clear),
            Phase(lies, "lies", lambda: says(PAGE), lambda: says(greeting)),
        )
        seen: dict[str, list[int]] = {name: [] for name in names}
        after: dict[str, int] = {}
        for name, result in pool:
            seen[name].append(number_in(cv2.resize(result.frame, SIZE_WH, interpolation=cv2.INTER_AREA)))
            for phase in phases:
                phase.look(seen)
            if all(phase.over for phase in phases):
                after = after or {each: len(numbers) for each, numbers in seen.items()}
                if all(len(seen[each]) >= after[each] + BETWEEN for each in names):
                    break
        assert pool.errors == {}
        assert {name for name in names if sources[name].counts.reconnects} == {"stalls", "lies"}
    assert {n: each for n, each in seen.items() if any(before >= now for before, now in pairwise(each))} == {}
    assert seen["begins damaged"][0] >= 8


def test_a_camera_that_is_none_ends_alone_with_a_line() -> None:
    with LocalCamera() as camera, LocalCamera(silent=True) as page, StreamPool(OnePerson()) as pool:
        page.greeting = b"HTTP/1.0 200 OK\r\n\r\n<html>no camera</html>"
        pool.add("runs", camera.url, timeout_s=NEVER_S)
        pool.add("page", page.url, timeout_s=SHORT_S)
        numbers = []
        for _, result in pool:
            numbers.append(number_in(result.frame))
            if pool.errors and len(numbers) >= BETWEEN:
                break
        assert list(pool.errors) == ["page"]
        assert "\n" not in str(pool.errors["page"]) and "s3cret" not in str(pool.errors["page"])
    assert all(before < now for before, now in pairwise(numbers))
