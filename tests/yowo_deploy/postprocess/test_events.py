"""Events: one new and one end each, by hysteresis, in the order of time."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.events import Events
from yowo_deploy.result import Result

MadeUp = Callable[..., Result]
GONE = -1.0  # a score that means: not shown in this frame


def told(events: Events, made_up: MadeUp, scores: list[float], **others: Any) -> list[tuple[int, dict[str, Any]]]:
    """Messages for one person and class, each with the frame after which it came; the last with the end."""
    messages = []
    for number, score in enumerate(scores):
        people = {} if score == GONE else {0: [score, 0.0, 0.0]}
        messages += [(number, message) for message in events.push(made_up(number, people, **others))]
    return messages + [(len(scores), message) for message in events.close()]


def kinds(messages: list[tuple[int, dict[str, Any]]]) -> list[tuple[int, str]]:
    return [(after, message["type"]) for after, message in messages]


# scores, what is told and after which frame; on 0.5, off 0.3, three frames, an update every five
COURSES: dict[str, tuple[list[float], list[tuple[int, str]]]] = {
    "never above on": ([0.5] * 9, []),
    "too short": ([0.6, 0.6, 0.2, 0.6, 0.6], []),
    "between on and off it goes on": ([0.6, 0.3, 0.3], [(2, "new"), (3, "end")]),
    "a dip is no end": ([0.6] * 3 + [0.1, GONE] + [0.4] * 2, [(2, "new"), (7, "end")]),
    "an end is no dip": ([0.6] * 3 + [0.1, GONE, 0.29] + [0.4] * 3, [(2, "new"), (5, "end")]),
    "again is another": ([0.6] * 3 + [0.0] * 3 + [0.6] * 3, [(2, "new"), (5, "end"), (8, "new"), (9, "end")]),
    "it is told again and again": ([0.6] * 14, [(2, "new"), (7, "update"), (12, "update"), (14, "end")]),
    "gone at the end": ([0.6] * 4 + [GONE], [(2, "new"), (5, "end")]),
}


@pytest.mark.parametrize("course", COURSES)
def test_hysteresis(course: str, made_up: MadeUp) -> None:
    scores, expected = COURSES[course]
    assert kinds(told(Events(0.5, 0.3, 3, 5), made_up, scores)) == expected


def test_one_look_that_is_held_for_a_while_begins_nothing(made_up: MadeUp) -> None:
    """As of `every` 4: one answer of the engine, three results that carry it."""
    for looks, expected in ((1, []), (2, ["new", "end"])):
        events, told_of = Events(0.5, 0.3, 4, 50), []
        for number in range(4 * looks):
            told_of += events.push(replace(made_up(number, {0: [0.9, 0.0, 0.0]}), carried=number % 4 > 0))
        assert [message["type"] for message in told_of + events.close()] == expected


def test_a_message_says_who_what_where_and_when(made_up: MadeUp) -> None:
    messages = [message for _, message in told(Events(0.5, 0.3, 2, 50), made_up, [0.1, 0.6, 0.8, 0.4, 0.1, GONE])]
    person = {"person_id": 0, "source": "yard.avi", "label": "歩く\n", "box": (8, 8, 40, 40), "v": 1, "id": "1-0-0"}
    new, end = messages
    assert new == {
        **person, "type": "new", "start_time": 0.04, "end_time": None, "frame": 2,
        "score": pytest.approx(0.8), "top_score": pytest.approx(0.8),
    }  # fmt: skip
    assert end == {
        **person, "type": "end", "start_time": 0.04, "end_time": 0.12, "frame": 3,
        "score": pytest.approx(0.4), "top_score": pytest.approx(0.8),
    }  # fmt: skip


def test_classes_that_hold_at_once_are_events_of_their_own(made_up: MadeUp) -> None:
    events = Events(0.5, 0.3, 1)
    messages = events.push(made_up(0, {3: [0.9, 0.0, 0.8], 1: [0.0, 0.7, 0.0]}))
    assert [(message["person_id"], message["label"]) for message in messages] == [
        (1, "run $5"), (3, "歩く\n"), (3, "sit")
    ]  # fmt: skip
    assert len({message["id"] for message in messages}) == 3


def test_without_times_they_are_null(made_up: MadeUp) -> None:
    [(_, new), (_, end)] = told(Events(0.5, 0.3, 1), made_up, [0.6], timestamp=None)
    assert new["start_time"] is end["start_time"] is end["end_time"] is None


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from([GONE, 0.0, 0.29, 0.3, 0.5, 0.51, 0.9]), min_size=3, max_size=3), max_size=40),
    st.integers(1, 5),
    st.integers(1, 6),
)
def test_of_each_event_there_is_one_new_and_one_end_and_nothing_outside(
    made_up: MadeUp, scores: list[list[float]], min_frames: int, update_frames: int
) -> None:
    events, messages = Events(0.5, 0.3, min_frames, update_frames), []
    for number, of_frame in enumerate(scores):
        people = {who: [score, 0.0, 1 - score] for who, score in enumerate(of_frame) if score != GONE}
        messages += events.push(made_up(number, people))
    messages += events.close()
    by_id: dict[str, list[dict[str, Any]]] = {}
    for message in messages:
        by_id.setdefault(message["id"], []).append(message)
    for course in by_id.values():
        types = [message["type"] for message in course]
        assert types == ["new", *["update"] * (len(types) - 2), "end"]
        assert len({(m["person_id"], m["label"], m["start_time"]) for m in course}) == 1
        assert [m["top_score"] for m in course] == sorted(m["top_score"] for m in course)
        assert [m["frame"] for m in course] == sorted(m["frame"] for m in course)
        assert course[0]["top_score"] > 0.5 and all(m["score"] >= 0.3 for m in course)
    one_thing: dict[tuple[int, str], list[tuple[float, float]]] = {}
    for course in by_id.values():
        end = course[-1]
        one_thing.setdefault((end["person_id"], end["label"]), []).append((end["start_time"], end["end_time"]))
    for times in one_thing.values():
        assert all(before[1] < after[0] for before, after in itertools.pairwise(times))  # never two at once
    assert events.close() == []


def test_memory_is_that_of_those_who_are_there(made_up: MadeUp) -> None:
    events = Events(0.5, 0.3, 2)
    for number in range(300):
        events.push(made_up(number, {number: [0.9, 0.6, 0.0]}))
    assert len(events._events) <= 4  # of each frame's person two, until they are seen to be gone


@pytest.mark.parametrize("options", [(0.3, 0.5, 8, 25), (1.5, 0.3, 8, 25), (0.5, 0.3, 0, 25), (0.5, 0.3, 8, 0)])
def test_thresholds_that_cannot_be_are_refused(options: tuple[float, float, int, int]) -> None:
    with pytest.raises(InputError, match="expected"):
        Events(*options)


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ([0.2] * 6, "best score 0.2 (lower --on)"),
        ([0.7, 0.2, 0.7, 0.2], "best score 0.7 (lower --on or --min-frames)"),
        ([0.0] * 4, "best score 0"),
        ([0.7] * 6, ""),
    ],
)
def test_events_that_did_not_come_name_the_option_to_lower(made_up: MadeUp, scores: list[float], expected: str) -> None:
    events = Events(0.5, 0.3, 3)
    told(events, made_up, scores)
    assert events.nothing() == (expected and f"no events: no action above 0.5 for 3 frames; {expected}")
