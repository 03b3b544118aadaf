"""What was found in one frame, as a picture, as a dict, as a line of JSON, as supervision has it."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import pytest

from yowo_deploy import result as result_module
from yowo_deploy.boxes import Detections, Tube
from yowo_deploy.errors import MissingExtraError, OutputError
from yowo_deploy.result import Result
from yowo_deploy.visuals.draw import draw

FRAME = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)


def made(**others: object) -> Result:
    found = Detections(
        np.array([[1.234567, 2, 30.005, 40]], np.float32),
        np.array([0.123456789], np.float32),
        np.array([1]),
        np.array([[0.1, 0.123456789]], np.float32),
        others.pop("tracker_id", None),  # type: ignore[arg-type]
    )
    return Result(7, FRAME, found, ("歩く", 'si"t'), {"infer": 1.0}, **others)  # type: ignore[arg-type]


def test_a_result_says_the_same_as_a_dict_and_as_a_line_of_json() -> None:
    row = {"label": 'si"t', "class_id": 1, "confidence": 0.12346, "xyxy": [1.23, 2.0, 30.0, 40.0]}
    result = made()
    assert result.summary() == [{**row, "xyxy": pytest.approx([1.23, 2, 30.005, 40], abs=0.0051)}]
    assert "\n" not in result.to_json()
    assert json.loads(result.to_json()) == {"v": 1, "frame": 7, "detections": result.summary()}


def test_what_is_known_of_the_frame_is_told() -> None:
    result = made(timestamp=0.28004, source="yard.avi", carried=True, tracker_id=np.array([3]))
    line = json.loads(result.to_json())
    assert [*line] == ["v", "source", "frame", "time", "carried", "detections"]
    assert (line["source"], line["time"], line["carried"]) == ("yard.avi", 0.28, True)
    assert line["detections"][0]["tracker_id"] == 3
    assert [*line["detections"][0]] == ["label", "class_id", "confidence", "tracker_id", "xyxy"]  # as C++ prints it


def test_a_model_of_several_labels_gives_all_above_the_threshold() -> None:
    names = ("stand", "walk", "talk", "listen")
    scores = np.array([[0.5, 0.25, 0.75, 0.1], [0.1, 0.2, 0.05, 0.0]], np.float32)
    boxes = np.array([[1, 2, 30, 40], [50, 2, 90, 40]], np.float32)
    found = Detections(boxes, scores.max(axis=1), scores.argmax(axis=1), scores)
    result = Result(7, FRAME, found, names, {}, label_threshold=0.25)
    first, second = json.loads(result.to_json())["detections"]
    assert [*first] == ["label", "class_id", "confidence", "labels", "xyxy"]
    assert first["labels"] == [
        {"label": "talk", "class_id": 2, "confidence": 0.75},
        {"label": "stand", "class_id": 0, "confidence": 0.5},
    ]
    assert [each["label"] for each in second["labels"]] == ["walk"]  # kept below the threshold: its best
    assert np.array_equal(result.plot(), draw(FRAME, found, names, 0.25))


def test_a_trail_is_drawn_from_the_tubes() -> None:
    boxes = np.array([[x, 20, x + 20, 60] for x in range(0, 100, 10)], np.float32)
    tube = Tube(0, np.arange(10), boxes, tracker_id=3)
    result = made(tubes=(tube,))
    assert np.array_equal(result.plot(), result.plot(trail=0))
    assert np.array_equal(result.plot(trail=4), draw(FRAME, result.detections, result.names, None, {3: boxes[-4:]}))
    assert not np.array_equal(result.plot(trail=4), result.plot(trail=9))


def test_a_plot_is_a_copy_with_the_detections_drawn_and_saved_as_a_picture(tmp_path: Path) -> None:
    before, result = FRAME.copy(), made()
    assert result.orig_shape == (120, 160)
    assert np.array_equal(result.plot(), draw(before, result.detections, result.names))
    assert not np.array_equal(result.plot(), before) and np.array_equal(FRAME, before)
    white = np.full_like(FRAME, 255)
    assert np.array_equal(result.plot(white), draw(white, result.detections, result.names))
    result.save(tmp_path / "out.png")
    assert np.array_equal(cv2.imread(str(tmp_path / "out.png")), result.plot())
    with pytest.raises(OutputError, match=r"ends in \.png"):
        result.save(tmp_path / "out.gif")


def test_all_that_is_found_prints_in_one_line() -> None:
    result = made(tracker_id=np.array([3]), source="two\nlines.mp4", timestamp=0.1)
    assert repr(result) == 'Result(frame 7 of two lines.mp4, 160x120: #3 si"t 0.12)'
    assert repr(replace(result, detections=Detections.empty(2), source="")) == "Result(frame 7, 160x120: no detections)"
    assert repr(result.detections) == "Detections(1 boxes, 2 classes, confidence 0.12 to 0.12)"
    assert repr(Detections.empty(2)) == "Detections(0 boxes, 2 classes)"
    tube = Tube(1, np.arange(3, 8), np.zeros((5, 4), np.float32), 0.25, tracker_id=2)
    assert repr(tube) == "Tube(class 1, person 2, frames 3 to 7, score 0.25)"
    assert repr(Tube(1, np.arange(0), np.zeros((0, 4), np.float32))) == "Tube(class 1, no frames, score 1.00)"


def test_supervision_gets_its_own_kind(monkeypatch: pytest.MonkeyPatch) -> None:
    class Theirs:
        def __init__(self, **given: object) -> None:
            self.given = given

    fake = ModuleType("supervision")
    fake.Detections = Theirs  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "supervision", fake)
    monkeypatch.setattr(result_module, "find_spec", lambda name: object())
    result = made(tracker_id=np.array([3]))
    given = result.to_supervision().given
    assert {*given} == {"xyxy", "confidence", "class_id", "tracker_id", "data"}
    assert given["xyxy"] is result.detections.xyxy and given["tracker_id"].tolist() == [3]
    assert given["data"]["class_name"].tolist() == ['si"t']


def test_without_supervision_the_command_that_installs_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(result_module, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"yowo-deploy\[supervision\]"):
        made().to_supervision()


def test_nobody_is_an_empty_list(made_up: Callable[..., Result]) -> None:
    assert made_up(3).summary() == [] and json.loads(made_up(3).to_json())["detections"] == []
