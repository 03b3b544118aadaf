"""Annotations have each person once, in pixels of the first frame's size."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yowo_deploy.datasets.data_json import read_annotations
from yowo_deploy.errors import DatasetError
from yowo_deploy.result import Result
from yowo_deploy.sinks import AnnotationsSink


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


def test_names_that_no_data_json_holds_are_refused_before_the_first_frame(tmp_path: Path) -> None:
    for name, classes in (("ya\x1brd.avi", ("a",)), ("yard.avi", ("a\nb",)), ("\udcff.avi", ("a",))):
        with pytest.raises(DatasetError, match="rename"):
            AnnotationsSink(tmp_path / "d.json", tmp_path / name, 25, (64, 48), classes)


def test_boxes_of_a_picture_that_changes_its_size_are_in_pixels_of_the_first(
    made_up: Callable[..., Result], tmp_path: Path
) -> None:
    with AnnotationsSink(tmp_path / "d.json", tmp_path / "yard.avi", 25, (64, 48), ("a", "b", "c")) as sink:
        for number in range(10):
            each = made_up(number, {int(number >= 5): [0.9, 0, 0]})  # as `Detector` numbers them
            large = np.zeros((96, 128, 3), np.uint8)  # where the same pixels are half as far from the corner
            sink.write(each.frame if number < 5 else large, each)
    [video] = read_annotations(tmp_path / "d.json").videos
    small, halved = video.tubes
    assert [tube.frames.tolist() for tube in video.tubes] == [list(range(5)), list(range(5, 10))]
    assert video.size_wh == (64, 48) and small.tracker_id != halved.tracker_id
    expected = [made_up(number, {1: [0.9, 0, 0]}).detections.xyxy[0] / 2 for number in range(5, 10)]
    np.testing.assert_allclose(halved.xyxy, expected, atol=0.01)
