"""Zones and dwell, against a plain reference that looks at whole walks afterwards."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from fractions import Fraction
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_deploy.boxes import Detections
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.events import Events
from yowo_deploy.postprocess.rule_files import ZONES_SCHEMA, parse_zone, read_zones, zones_json
from yowo_deploy.postprocess.zones import ANCHORS, Presence, Zone, Zones, counts
from yowo_deploy.result import Result
from yowo_deploy.visuals.draw import draw_zones

YARD = Zone("yard", ((0.0, 0.5), (0.5, 0.5), (0.5, 1.0), (0.0, 1.0)))
GATE = Zone("gate", ((0.25, 0.5), (1.0, 0.5), (1.0, 1.0), (0.25, 1.0)))
SIDE = 64
Walk = list[tuple[float, dict[int, tuple[float, float]]]]  # time, and where each person is, in shares


def result(time: float, people: dict[int, tuple[float, float]], number: int = 0) -> Result:
    """A frame with people whose feet stand at these places."""
    feet = np.array(list(people.values()), np.float32).reshape(-1, 2) * SIDE
    boxes = np.concatenate([feet - np.array((4, 20)), feet + np.array((4, 0))], axis=1)
    scores = np.tile(np.array([[0.2, 0.7]], np.float32), (len(people), 1))
    ids = np.array(list(people), np.int64)
    found = Detections(boxes.astype(np.float32), scores.max(axis=1), scores.argmax(axis=1), scores, ids)
    return Result(number, np.zeros((SIDE, SIDE, 3), np.uint8), found, ("sit", "walk"), {}, timestamp=time)


def is_in(zone: Zone, place: tuple[float, float]) -> bool:
    """Of rectangles alone; left and upper sides belong to them."""
    (left, top), _, (right, bottom), _ = zone.corners
    return left <= place[0] < right and top <= place[1] < bottom


def dwell_afterwards(walk: Walk, person: int, zone: Zone, upto: int, patience: float) -> float:
    """Seconds of the stay that frame `upto` belongs to, from the whole walk."""
    inside = [person in people and is_in(zone, people[person]) for _, people in walk[: upto + 1]]
    times = [time for time, _ in walk]
    begin = upto
    for at in range(upto, -1, -1):
        if inside[at]:
            if times[begin] - times[at] > patience:
                break
            begin = at
    return sum(times[at] - times[at - 1] for at in range(begin + 1, upto + 1) if inside[at] and inside[at - 1])


def entered_afterwards(walk: Walk, person: int, zones: list[Zone], upto: int, patience: float) -> list[str]:
    """Zones by first entry since the person was last away for longer than the patience."""
    seen = [at for at in range(upto + 1) if person in walk[at][1]]
    begin = seen[-1]
    for before, after in reversed(list(pairwise(seen))):
        if walk[after][0] - walk[before][0] > patience:
            break
        begin = before
    names: dict[str, None] = {}
    for at in range(begin, upto + 1):
        names |= {zone.name: None for zone in zones if person in walk[at][1] and is_in(zone, walk[at][1][person])}
    return list(names)


def random_walk(seed: int) -> Walk:
    """Three people on eighths of the picture, who are missed and come back; frames are dropped."""
    rng, time, walk = random.Random(seed), 0.0, Walk()
    places = {person: (rng.randrange(8), rng.randrange(8)) for person in range(3)}
    for _ in range(rng.randrange(1, 14)):
        time += rng.choice([1, 1, 1, 2, 5, 9]) / 8
        for person, (x, y) in places.items():
            places[person] = (min(7, max(0, x + rng.choice([-1, 0, 1]))), min(7, max(0, y + rng.choice([-1, 0, 1]))))
        shown = {person: (x / 8, y / 8) for person, (x, y) in places.items() if rng.random() < 0.8}
        walk.append((time, shown))
    return walk


def test_dwell_and_entries_equal_a_plain_reference_on_ten_thousand_walks() -> None:
    zones = [YARD, GATE]
    for seed in range(10_000):
        walk, patience = random_walk(seed), random.Random(seed).choice([0.25, 1.0, 2.0])
        under_test = Zones(zones, patience_s=patience)
        for at, (time, people) in enumerate(walk):
            present = under_test.push(result(time, people, at))
            assert set(present) == set(people)
            for person, place in people.items():
                expected = tuple(zone.name for zone in zones if is_in(zone, place))
                dwell = {z.name: dwell_afterwards(walk, person, z, at, patience) for z in zones if z.name in expected}
                entered = tuple(entered_afterwards(walk, person, zones, at, patience))
                assert present[person] == Presence(expected, entered, dwell), (seed, at, person)


def contains_exactly(corners: tuple[tuple[float, float], ...], x: float, y: float) -> bool:
    """The even-odd rule in fractions."""
    inside = False
    for (x1, y1), (x2, y2) in pairwise([*corners, corners[0]]):
        if (y1 > y) != (y2 > y):
            crossing = Fraction(x1) + (Fraction(y) - Fraction(y1)) * (Fraction(x2) - Fraction(x1)) / (
                Fraction(y2) - Fraction(y1)
            )
            inside ^= Fraction(x) < crossing
    return inside


eighths = st.integers(0, 8).map(lambda each: each / 8)


@settings(max_examples=300, deadline=None)
@given(corners=st.lists(st.tuples(eighths, eighths), min_size=3, max_size=7), x=eighths, y=eighths)
def test_a_point_is_in_a_polygon_by_the_even_odd_rule_also_on_its_sides(
    corners: list[tuple[float, float]], x: float, y: float
) -> None:
    try:
        zone = Zone("any", tuple(corners))
    except InputError:
        return  # flat
    assert zone.holds(x, y) == contains_exactly(zone.corners, x, y)


def test_of_two_zones_with_a_common_side_a_point_is_in_one() -> None:
    left = Zone("left", ((0, 0), (0.5, 0), (0.25, 1), (0, 1)))
    right = Zone("right", ((0.5, 0), (1, 0), (1, 1), (0.25, 1)))
    for y in np.linspace(0, 0.99, 34).tolist():
        for x in [0.5 - 0.25 * y, *np.linspace(0, 0.99, 34).tolist()]:
            assert left.holds(x, y) + right.holds(x, y) == 1


@pytest.mark.parametrize(("anchor", "expected"), [("bottom", ("low",)), ("center", ("high",))])
def test_the_anchor_is_the_middle_of_the_lower_edge_or_of_the_box(anchor: Any, expected: tuple[str, ...]) -> None:
    low = Zone("low", ((0, 0.9), (1, 0.9), (1, 1), (0, 1)))
    high = Zone("high", ((0, 0), (1, 0), (1, 0.9), (0, 0.9)))
    assert Zones([low, high], anchor).push(result(0, {4: (0.5, 0.95)}))[4].zones == expected
    assert anchor in ANCHORS


def test_feet_on_the_edge_of_the_picture_are_in_it() -> None:
    whole = Zone("whole", ((0, 0), (1, 0), (1, 1), (0, 1)))
    for place in ((0.0, 0.0), (0.5, 1.0), (1.0, 1.0), (1.0, 0.5)):
        assert Zones([whole]).push(result(0, {1: place}))[1].zones == ("whole",)


def test_people_and_actions_are_counted_by_zone() -> None:
    frame = result(0, {1: (0.3, 0.6), 2: (0.3, 0.7), 3: (0.9, 0.9), 4: (0.9, 0.1)})
    assert counts(frame, Zones([YARD, GATE]).push(frame)) == {"yard": {"walk": 2}, "gate": {"walk": 3}}


def test_a_fresh_copy_knows_nobody_and_frames_without_times_are_25_a_second() -> None:
    zones = Zones([YARD])
    for number in range(26):
        present = zones.push(replace(result(0, {1: (0.1, 0.9)}, number), timestamp=None))
    assert present[1].dwell["yard"] == pytest.approx(1.0)
    assert zones.fresh().push(result(0, {1: (0.1, 0.9)}))[1].dwell == {"yard": 0.0}


def test_memory_is_of_people_who_are_there() -> None:
    zones = Zones([YARD], patience_s=0.5)
    for number in range(500):
        zones.push(result(number, {number: (0.1, 0.9)}, number))
    assert len(zones._stays) <= 2 and len(zones._seen) <= 2 and len(zones._entered) <= 2


def test_events_say_where_they_are_and_where_they_were() -> None:
    events = Events(0.5, 0.3, 1, 100, zones=Zones([YARD, GATE]))
    walk = [(0.1, 0.9), (0.3, 0.9), (0.9, 0.9), (0.9, 0.1)]
    messages = [m for at, place in enumerate(walk) for m in events.push(result(at / 25, {0: place}, at))]
    messages += events.close()
    assert [(m["type"], m["zones"], m["entered_zones"]) for m in messages] == [
        ("new", ["yard"], ["yard"]),
        ("end", [], ["yard", "gate"]),
    ]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("yard", "not of the form"),
        ("yard=0,0,1", "not of the form"),
        ("yard=0,0,1,1", "2 corners"),
        ("yard=0,0,1,0,2,1", "fractions of the picture"),
        ("yard=0,0,1,0,nan,1", "fractions of the picture"),
        ("yard=0,0,0.5,0.5,1,1", "no area"),
        ("=0,0,1,0,1,1", "printable"),
        ("a\x1b[31m=0,0,1,0,1,1", "printable"),
    ],
)
def test_what_is_no_zone_is_refused(text: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        parse_zone(text)


def test_zones_are_read_from_text_and_file_and_files_obey_their_schema(tmp_path: Any) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    assert parse_zone("a=b=0,0,1,0,1,1") == Zone("a=b", ((0, 0), (1, 0), (1, 1)))
    (tmp_path / "zones.json").write_text(zones_json([YARD, GATE]), encoding="utf-8")
    assert read_zones(tmp_path / "zones.json") == [YARD, GATE]
    jsonschema.validate(json.loads(zones_json([YARD])), json.loads(ZONES_SCHEMA.read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[" * 100_000,
        "[]",
        '{"v": 2, "zones": []}',
        '{"v": 1, "zones": [], "more": 1}',
        '{"v": 1, "zones": [3]}',
        '{"v": 1, "zones": [{"name": "a"}]}',
        '{"v": 1, "zones": [{"name": "a", "corners": [[0, 0], [1, 0], [1, true]]}]}',
        '{"v": 1, "zones": [{"name": "a", "corners": [[0, 0], [1, 0], [1, NaN]]}]}',
        '{"v": 1, "zones": [{"name": "a", "corners": [[0, 0], [1, 0], [1, 1' + "0" * 400 + "]]}]}",
        '{"v": 1, "zones": [{"name": "a", "corners": [[0, 0], [1, 0], [1, 1]], "colour": "red"}]}',
        '{"v": 1, "zones": [{"name": 7, "corners": [[0, 0], [1, 0], [1, 1]]}]}',
    ],
)
def test_a_file_that_holds_no_zones_is_refused_by_its_name(text: str, tmp_path: Any) -> None:
    (tmp_path / "zones.json").write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=r"zones\.json") as refused:
        read_zones(tmp_path / "zones.json")
    assert len(str(refused.value)) < 500 + len(str(tmp_path))


def test_zones_of_one_name_unknown_anchors_and_no_patience_are_refused() -> None:
    for wrong in ({"zones": [YARD, YARD]}, {"anchor": "top"}, {"patience_s": 0.0}, {"patience_s": math.nan}):
        with pytest.raises(InputError):
            Zones(**{"zones": [YARD], **wrong})  # type: ignore[arg-type]


def test_outlines_lie_on_the_sides_of_a_zone() -> None:
    canvas = draw_zones(np.full((480, 640, 3), 90, np.uint8), [Zone("yard", ((0.25, 0.5), (0.75, 0.5), (0.5, 1.0)))])
    assert canvas[240, 330].tolist() == [255, 255, 255] and canvas[400, 320].tolist() == [90, 90, 90]
    assert (canvas[300:, :100] == 90).all() and (canvas != 90).any(axis=2)[300, 160:480].sum() > 4
