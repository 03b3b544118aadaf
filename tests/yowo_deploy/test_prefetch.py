"""Work done ahead keeps its order, hands its errors over, and does no more than was asked."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_deploy.errors import VideoError
from yowo_deploy.prefetch import Prefetch, map_ahead


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(), max_size=30), st.integers(1, 10))
def test_run_ahead_gives_the_same_items(items: list[int], depth: int) -> None:
    with Prefetch(iter(items), depth) as ahead:
        assert list(ahead) == items


def test_an_error_surfaces_after_the_items_before_it() -> None:
    def broken() -> Iterator[int]:
        yield from range(3)
        raise VideoError("breaks off")

    seen = []
    with Prefetch(broken()) as ahead, pytest.raises(VideoError, match="breaks off"):
        for item in ahead:
            seen.append(item)
    assert seen == [0, 1, 2]


def eventually(holds: Callable[[], bool]) -> bool:
    """Whether it holds within ten seconds; a thread's pace is nobody's promise."""
    end = time.monotonic() + 10
    while not holds():
        if time.monotonic() > end:
            return False
        time.sleep(0.01)
    return True


def test_no_more_is_read_ahead_than_asked_and_closing_stops_it() -> None:
    made = 0

    def endless() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    threads = threading.active_count()
    with Prefetch(endless(), depth=3) as ahead:
        assert next(iter(ahead)) == 1
        assert eventually(lambda: made == 1 + 3 + 1)  # one taken, three waiting, one in hand
        time.sleep(0.3)  # long enough to put a hundred more, were there room
        assert made == 5
    assert threading.active_count() == threads


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(0, 0.003), max_size=12), st.integers(1, 4))
def test_calls_side_by_side_answer_in_order(naps: list[float], calls: int) -> None:
    def nap(numbered: tuple[int, float]) -> int:
        time.sleep(numbered[1])
        return numbered[0]

    assert list(map_ahead(nap, enumerate(naps), calls)) == list(range(len(naps)))


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_as_many_calls_run_at_once_as_asked(calls: int) -> None:
    together = threading.Barrier(calls)
    assert list(map_ahead(lambda _: together.wait(10) >= 0, range(2 * calls), calls)) == [True] * 2 * calls


@pytest.mark.parametrize("calls", [1, 2])
def test_a_call_that_fails_does_so_in_its_place(calls: int) -> None:
    answers = map_ahead(lambda number: 6 // number, (3, 2, 0, 1), calls)
    assert [next(answers), next(answers)] == [2, 3]
    with pytest.raises(ZeroDivisionError):
        next(answers)


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_a_source_that_fails_does_so_after_the_answers_before_it(calls: int) -> None:
    def breaks_off() -> Iterator[int]:
        yield from range(5)
        raise VideoError("breaks off")

    seen = []
    with pytest.raises(VideoError, match="breaks off"):
        for answer in map_ahead(lambda number: 2 * number, breaks_off(), calls):
            seen.append(answer)
    assert seen == [0, 2, 4, 6, 8]
