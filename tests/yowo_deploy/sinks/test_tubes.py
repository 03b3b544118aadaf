"""Who does what from when to when: as JSON by a schema, as a picture, as data to correct."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest

from yowo_deploy.datasets.data_json import read_annotations
from yowo_deploy.errors import MissingExtraError, OutputError
from yowo_deploy.result import Result
from yowo_deploy.sinks import AnnotationsSink, TimelineSink, TubesSink
from yowo_deploy.sinks import tubes as tubes_module
from yowo_deploy.sinks.tubes import TUBES_SCHEMA

NAMES = ("歩く\n", "run $5", "sit")
LATIN = ("walk", "run $5", "sit")  # matplotlib's font has no others


def yard(made_up: Callable[..., Result]) -> list[Result]:
    """Person 0 walks for 20 frames and runs for 20; person 4 sits from frame 10 to 14, with frame 12 missing."""
    made = []
    for number in range(40):
        people = {0: [0.9, 0.1, 0.0] if number < 20 else [0.1, 0.7, 0.0]}
        if 10 <= number < 15 and number != 12:
            people[4] = [0.0, 0.0, 0.8]
        made.append(made_up(number, people))
    return made


def test_a_tube_is_one_person_doing_one_thing(made_up: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "tubes.json"
    with TubesSink(path, "yard.avi", NAMES) as sink:
        for each in yard(made_up):
            sink.write(each.frame, each)
    told = json.loads(path.read_text(encoding="utf-8"))
    jsonschema.validate(told, json.loads(TUBES_SCHEMA.read_text(encoding="utf-8")))
    assert (told["source"], told["classes"], told["frames"], told["size"]) == ("yard.avi", list(NAMES), 40, [64, 48])
    keys = ("id", "person", "label", "first_frame", "last_frame", "first_time", "last_time", "score")
    assert [tuple(tube[key] for key in keys) for tube in told["tubes"]] == [
        (0, 4, "sit", 10, 14, 0.4, 0.56, 0.8),  # over before the others, so told first
        (1, 0, "歩く\n", 0, 19, 0.0, 0.76, 0.9),
        (2, 0, "run $5", 20, 39, 0.8, 1.56, 0.7),
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


@pytest.mark.parametrize("timed", [True, False])
def test_a_timeline_has_a_bar_an_action(
    timed: bool, made_up: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plots: Any = pytest.importorskip("yowo_deploy.visuals.plots")
    given, draw = [], plots.timeline_plot
    monkeypatch.setattr(plots, "timeline_plot", lambda *arguments: (given.append(arguments), draw(*arguments)))
    others = {} if timed else {"timestamp": None}
    with TimelineSink(tmp_path / "t.png", "yard $ 5", LATIN) as sink:
        for each in yard(lambda number, people: made_up(number, people, **others)):
            sink.write(each.frame, each)
    [(bars, labels, span, unit, *_)] = given
    a_frame = 1 / 25 if timed else 1
    expected = [(4, 2, 0.8, 10, 15), (0, 0, 0.9, 0, 20), (0, 1, 0.7, 20, 40)]
    for bar, (person, class_id, score, begin, end) in zip(bars, expected, strict=True):
        assert bar[:2] == (person, class_id)
        assert bar[2:] == pytest.approx((score, begin * a_frame, end * a_frame))
    assert (labels, unit) == (LATIN, "seconds" if timed else "frames")
    assert span == pytest.approx((0, 40 * a_frame))
    picture = cv2.imread(str(tmp_path / "t.png"))
    assert (
        picture.shape[1] > 1000 and (np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)[1] > 2000).sum() >= 4
    )


def test_a_timeline_of_many_shows_those_seen_longest(made_up: Callable[..., Result], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with TimelineSink(tmp_path / "t.png", "crowd", LATIN) as sink:
        for number in range(3):
            each = made_up(number, {who: [0.9, 0, 0] for who in range(60)})
            sink.write(each.frame, each)
    assert cv2.imread(str(tmp_path / "t.png")).shape[0] < 2200  # 40 rows of 0.38 inch, and 1.6 inch, at 110 dots


def test_what_a_timeline_lacks_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match=r"ends in \.png"):
        TimelineSink(tmp_path / "t.pdf", "", NAMES)
    monkeypatch.setattr(tubes_module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"yowo-deploy\[plots\]"):
        TimelineSink(tmp_path / "t.png", "", NAMES)


def test_annotations_have_a_person_once_and_carried_boxes_on_a_line(
    made_up: Callable[..., Result], tmp_path: Path
) -> None:
    (tmp_path / "yard.avi").touch()
    with AnnotationsSink(tmp_path / "d.json", tmp_path / "yard.avi", 25, (64, 48), ("a", "b", "c")) as sink:
        for number in range(7):
            each = made_up(number, {0: [0.9, 0, 0]}, carried=number % 2 == 1)
            sink.write(each.frame, each)
    [video] = read_annotations(tmp_path / "d.json").videos
    [tube] = video.tubes
    assert (video.frames, tube.frames.tolist()) == (7, list(range(7)))


def test_boxes_of_a_picture_that_changes_its_size_are_in_pixels_of_the_first(
    made_up: Callable[..., Result], tmp_path: Path
) -> None:
    with AnnotationsSink(tmp_path / "d.json", tmp_path / "yard.avi", 25, (64, 48), ("a", "b", "c")) as sink:
        for number in range(10):
            each = made_up(number, {0: [0.9, 0, 0]})
            large = np.zeros((96, 128, 3), np.uint8)  # where the same pixels are half as far from the corner
            sink.write(each.frame if number < 5 else large, each)
    [video] = read_annotations(tmp_path / "d.json").videos
    small, halved = video.tubes
    assert [tube.frames.tolist() for tube in video.tubes] == [list(range(5)), list(range(5, 10))]
    assert video.size_wh == (64, 48) and small.tracker_id != halved.tracker_id
    expected = [made_up(number, {0: [0.9, 0, 0]}).detections.xyxy[0] / 2 for number in range(5, 10)]
    np.testing.assert_allclose(halved.xyxy, expected, atol=0.01)
