"""Tubes as JSON by a schema."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import jsonschema

from tests.yowo_deploy.sinks.yard import NAMES, yard
from yowo_deploy.result import Result
from yowo_deploy.sinks import TubesSink
from yowo_deploy.sinks.tubes import TUBES_SCHEMA


def test_a_tube_is_a_person_and_its_actions_are_what_they_do(made_up: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "tubes.json"
    with TubesSink(path, "yard.avi", NAMES) as sink:
        for each in yard(made_up):
            sink.write(each.frame, each)
    told = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(told, json.loads(TUBES_SCHEMA.read_text(encoding="utf-8")))
    assert (told["source"], told["classes"], told["frames"], told["size"]) == ("yard.avi", list(NAMES), 40, [64, 48])
    keys = ("id", "person", "label", "first_frame", "last_frame", "first_time", "last_time", "score")
    assert [tuple(tube[key] for key in keys) for tube in told["tubes"]] == [
        (0, 4, "sit", 10, 14, 0.4, 0.56, 0.8),  # over before the others, so written first
        (1, 0, "歩く\n", 0, 39, 0.0, 1.56, 0.5),
    ]
    assert [[tuple(each[key] for key in keys[1:]) for each in tube["actions"]] for tube in told["tubes"]] == [
        [(4, "sit", 10, 14, 0.4, 0.56, 0.8)],
        [(0, "歩く\n", 0, 19, 0.0, 0.76, 0.9), (0, "run $5", 20, 39, 0.8, 1.56, 0.7)],
    ]
    for tube in told["tubes"]:
        length = tube["last_frame"] - tube["first_frame"] + 1
        assert len(tube["boxes"]) == len(tube["scores"]) == length
    assert told["tubes"][0]["boxes"] == [[12, 8, 44, 40]] * 5  # the missing one too


def test_without_times_and_without_anybody_it_is_valid_too(made_up: Callable[..., Result], tmp_path: Path) -> None:
    schema = json.loads(TUBES_SCHEMA.read_text(encoding="utf-8"))
    for name, people in (("untimed.json", {0: [0.9, 0, 0]}), ("nobody.json", {})):
        with TubesSink(tmp_path / name, "", NAMES) as sink:
            for number in range(3):
                sink.write(made_up(0).frame, made_up(number, people, timestamp=None))
        told = json.loads((tmp_path / name).read_text())
        jsonschema.validate(told, schema)
        assert [tube["first_time"] for tube in told["tubes"]] == [None] * len(people)
