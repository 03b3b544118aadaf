"""Alerts: each told once when its rule has held for its time, and once when it no longer does."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import numpy as np
import pytest

from yowo_deploy.boxes import Detections
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.rule_files import RULES_SCHEMA, read_rules
from yowo_deploy.postprocess.rules import Rule, Rules, Times, since
from yowo_deploy.postprocess.zones import Zone, Zones
from yowo_deploy.result import Result
from yowo_deploy.sinks import MessageSink
from yowo_deploy.sinks.jsonl import ALERTS_SCHEMA

YARD = Zone("yard", ((0, 0.5), (0.5, 0.5), (0.5, 1), (0, 1)))
LABELS = ("sit", "fall")
IN, OUT = (0.25, 0.75), (0.75, 0.75)
NOON = datetime(2026, 11, 30, 12)  # a Monday

People = dict[int, tuple[tuple[float, float], float]]  # by number, where, and the score of "fall"


def result(number: int, people: People, fps: float = 4.0) -> Result:
    places = np.array([place for place, _ in people.values()], np.float32).reshape(-1, 2) * 64
    boxes = np.concatenate([places - np.array((4, 20)), places + np.array((4, 0))], axis=1).astype(np.float32)
    scores = np.array([(0.3, score) for _, score in people.values()], np.float32).reshape(-1, 2)
    found = Detections(boxes, scores.max(axis=1), scores.argmax(axis=1), scores, np.array(list(people), np.int64))
    return Result(number, np.zeros((64, 64, 3), np.uint8), found, LABELS, {}, number / fps, source="yard.avi")


def told(rule: Rule, frames: list[People], clock: Any = None, patience: float = 0.5) -> list[tuple[int, str, Any]]:
    """After which frame, the type and the person of each message."""
    rules = Rules([rule], LABELS, Zones([YARD], patience_s=patience), clock)
    found = [
        (at, m["type"], m["person_id"]) for at, people in enumerate(frames) for m in rules.push(result(at, people))
    ]
    return found + [(len(frames), m["type"], m["person_id"]) for m in rules.close()]


def one(place: tuple[float, float], *scores: float) -> list[People]:
    return [{7: (place, score)} for score in scores]


FALL = Rule("fall", ("fall",), ("yard",), 0.5, 0.4, 0.2)
COURSES: dict[str, tuple[Rule, list[People], list[tuple[int, str, Any]]]] = {
    "after its time": (FALL, one(IN, *[0.5] * 4), [(2, "new", 7), (4, "end", 7)]),
    "too short": (FALL, one(IN, 0.5, 0.5, 0.1, 0.1, 0.1, 0.1), []),
    "elsewhere": (FALL, one(OUT, *[0.9] * 6), []),
    "never above its score": (FALL, one(IN, *[0.4] * 6), []),
    "goes on at the lower score": (FALL, one(IN, 0.5, 0.2, 0.2, 0.2), [(2, "new", 7), (4, "end", 7)]),
    "an absence within the patience": (
        FALL,
        [*one(IN, 0.5, 0.5), {}, *one(IN, 0.5, 0.5), {}, {}, {}],
        [(4, "new", 7), (7, "end", 7)],
    ),
    "an absence beyond it": (FALL, [*one(IN, 0.5, 0.5), {}, {}, {}, *one(IN, 0.5, 0.5)], []),
    "at once": (Rule("any", for_s=0), one(OUT, 0.0), [(0, "new", 7), (1, "end", 7)]),
    "whoever loiters": (Rule("loiter", zones=("yard",), for_s=1), one(IN, *[0] * 5), [(4, "new", 7), (5, "end", 7)]),
}


@pytest.mark.parametrize("course", COURSES)
def test_an_alert_begins_and_ends(course: str) -> None:
    rule, frames, expected = COURSES[course]
    assert told(rule, frames) == expected


def test_several_people_are_counted_in_each_zone_by_itself() -> None:
    rule = Rule("crowd", zones=("yard",), people=2)
    both: People = {1: (IN, 0), 2: (IN, 0)}
    frames: list[People] = [{1: (IN, 0), 2: (OUT, 0)}, both, both, {1: (IN, 0)}, {}, {}, {}]
    assert told(rule, frames) == [(1, "new", None), (5, "end", None)]


@pytest.mark.parametrize(
    ("text", "day", "hour", "holds"),
    [
        ("08:00-18:00", 30, 8, True),
        ("08:00-18:00", 30, 18, False),
        ("22:00-06:00", 30, 23, True),
        ("22:00-06:00", 30, 5, True),
        ("22:00-06:00", 30, 6, False),
        ("mon-fri 08:00-18:00", 29, 9, False),
        ("sat-mon 08:00-18:00", 30, 9, True),
        ("mon 22:00-06:00", 30, 5, False),  # the part began on Sunday
        ("sun 22:00-06:00", 30, 5, True),
        ("sun 00:00-24:00", 29, 23, True),
    ],
)
def test_times_of_the_day(text: str, day: int, hour: int, holds: bool) -> None:
    moment = datetime(2026, 11, day, hour)
    assert Times.parse(text).hold(moment) is holds
    rule = Rule("any", times=(Times.parse(text),))
    assert bool(told(rule, one(IN, 0.0), since(moment))) is holds


def test_messages_obey_their_schema_and_go_where_a_sink_is_told() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    lines: list[str] = []
    rules = Rules([FALL, Rule("crowd", people=1)], LABELS, Zones([YARD]), since(NOON))
    with MessageSink(lines.append, rules) as sink:
        for at, people in enumerate(one(IN, *[0.5] * 4)):
            made = result(at, people)
            sink.write(made.frame, made)
    schema = json.loads(ALERTS_SCHEMA.read_text(encoding="utf-8"))
    messages = [json.loads(line) for line in lines]
    for message in messages:
        jsonschema.validate(message, schema)
    assert [(m["type"], m["rule"]) for m in messages] == [
        ("new", "crowd"),
        ("new", "fall"),
        ("end", "fall"),
        ("end", "crowd"),
    ]
    new, end = (message for message in messages if message["rule"] == "fall")
    assert new | {"type": "end", "end_time": 0.75, "seconds": 0.75, "frame": 3} == end
    assert (new["label"], new["score"], new["zones"], new["seconds"], new["start_time"]) == (
        "fall",
        0.5,
        ["yard"],
        0.5,
        0,
    )


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (Rule("r", ("fal",)), "did you mean 'fall'"),
        (Rule("r", zones=("roof",)), "there are yard"),
    ],
)
def test_a_rule_of_what_is_not_there_is_refused(rule: Rule, said: str) -> None:
    with pytest.raises(InputError, match=said):
        Rules([rule], LABELS, Zones([YARD]))
    with pytest.raises(InputError, match="different names"):
        Rules([Rule("r"), Rule("r")], LABELS)


@pytest.mark.parametrize(
    "text",
    ['{"v": 1, "rules": [{"name": "r"}], "rules": []}', '{"v": 1, "rules": [{"name": "r", "for_s": 9, "for_s": 1}]}'],
)
def test_a_file_that_says_something_twice_is_refused(text: str, tmp_path: Any) -> None:
    """The last would count: alerts that never come."""
    (tmp_path / "rules.json").write_text(text)
    with pytest.raises(InputError, match="occurs twice"):
        read_rules(tmp_path / "rules.json")


@pytest.mark.parametrize(
    "entry",
    [
        {},
        {"name": ""},
        {"name": "r", "for": 3},
        {"name": "r", "for_s": -1},
        {"name": "r", "for_s": float("nan")},
        {"name": "r", "score": 1.5},
        {"name": "r", "score": 0.2, "keep_score": 0.3},
        {"name": "r", "people": 0},
        {"name": "r", "people": 1.5},
        {"name": "r", "people": True},
        {"name": "r", "actions": "fall"},
        {"name": "r", "zones": [1]},
        {"name": "r", "times": ["8-18"]},
        {"name": "r", "times": ["25:00-26:00"]},
        {"name": "r", "times": ["08:00-08:00"]},
        {"name": "r", "times": ["foo 08:00-09:00"]},
    ],
)
def test_a_file_with_a_wrong_rule_is_refused_by_its_name(entry: dict[str, Any], tmp_path: Any) -> None:
    (tmp_path / "rules.json").write_text(json.dumps({"v": 1, "rules": [entry]}), encoding="utf-8")
    with pytest.raises(InputError, match=r"rules\.json"):
        read_rules(tmp_path / "rules.json")


def test_rules_are_read_as_written(tmp_path: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    content = {
        "v": 1,
        "rules": [
            {"name": "fall", "actions": ["fall"], "zones": ["yard"], "for_s": 0.5, "score": 0.4, "keep_score": 0.2},
            {"name": "crowd", "people": 3, "times": ["mon-fri 08:00-18:00"]},
        ],
    }
    jsonschema.validate(content, json.loads(RULES_SCHEMA.read_text(encoding="utf-8")))
    (tmp_path / "rules.json").write_text(json.dumps(content), encoding="utf-8")
    assert read_rules(tmp_path / "rules.json") == [
        FALL,
        Rule("crowd", people=3, times=(Times(frozenset(range(5)), 480, 1080),)),
    ]
