"""Work done ahead keeps its order, hands its errors over, and does no more than was asked."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from itertools import islice

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.waiting import stands_in, wait_until
from yowo_deploy.errors import VideoError
from yowo_deploy.prefetch import AHEAD_BYTES, Prefetch, map_ahead


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


def test_no_more_is_read_ahead_than_asked_and_closing_stops_it() -> None:
    made = 0

    def endless() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    before = set(threading.enumerate())
    with Prefetch(endless(), depth=3) as ahead:
        wait_until(lambda: made > 4 or stands_in(ahead._thread, "_put"))
        assert made == 3 + 1  # three waiting, and one in hand for which there is no room
        assert list(islice(ahead, 9)) == list(range(1, 10))
    assert not set(threading.enumerate()) - before


@pytest.mark.parametrize(("nbytes", "waiting"), [(1, 8), (AHEAD_BYTES // 3, 3), (106 << 20, 1)])
def test_fewer_items_wait_where_they_are_large(nbytes: int, waiting: int) -> None:
    made = 0

    def endless() -> Iterator[int]:
        nonlocal made
        while True:
            made += 1
            yield made

    with Prefetch(endless(), 8, lambda item: nbytes) as ahead:
        wait_until(lambda: made > waiting + 1 or (stands_in(ahead._thread, "_put") and made == waiting + 1))
        assert made == waiting + 1
        assert list(islice(ahead, 5)) == [1, 2, 3, 4, 5]


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 12), st.integers(1, 4))
def test_calls_side_by_side_answer_in_order(count: int, calls: int) -> None:
    """Of every two neighbours the second one ends first, where both are worked on at once."""
    ended = [threading.Event() for _ in range(count + 1)]
    ended[count].set()

    def answer(number: int) -> int:
        if calls > 1 and number % 2 == 0:
            ended[number + 1].wait()
        ended[number].set()
        return number

    assert list(map_ahead(answer, range(count), calls)) == list(range(count))


@pytest.mark.parametrize("calls", [1, 2, 3])
def test_as_many_calls_run_at_once_as_asked(calls: int) -> None:
    together = threading.Barrier(calls)  # which nobody passes alone
    assert len(list(map_ahead(lambda _: together.wait(), range(2 * calls), calls))) == 2 * calls


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
