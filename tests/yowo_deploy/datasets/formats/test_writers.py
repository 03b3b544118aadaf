"""What writers refuse, what their files are called, and what they say that other tools will not see."""

from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.data_json import Annotations, write_annotations
from yowo_deploy.datasets.formats.box_rows import Options
from yowo_deploy.datasets.formats.sidecar import read_remarks
from yowo_deploy.datasets.importer import WRITERS, import_annotations, recognise
from yowo_deploy.errors import DatasetError, OutputError


def one_video(place: Path, name: str = "a", **change: Any) -> Annotations:
    boxes = np.array([[1, 2, 30, 40], [2, 2, 31, 40]], np.float32)
    tube = Tube(0, np.array([0, 25]), change.pop("xyxy", boxes), tracker_id=change.pop("person", 0))
    video = AnnotatedVideo(name, name, place, 100, (tube,), (64, 48), fps=25.0)
    return Annotations(("walk",), (replace(video, **change),))


@pytest.mark.parametrize("kind", WRITERS)
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"xyxy": np.full((2, 4), np.nan, np.float32)}, "video 'a', tube 0: a corner is not a finite number"),
        ({"xyxy": np.full((2, 4), -np.inf, np.float32)}, "video 'a', tube 0: a corner is not a finite number"),
        ({"person": -1}, "video 'a', tube 0: person -1"),
        ({"person": None}, "video 'a', tube 0: person None"),
        ({"fps": float("nan")}, "video 'a': fps NaN"),
        ({"fps": -25.0}, "video 'a': fps -25"),
        ({"size_wh": (0, 48)}, r"video 'a': size \[0, 48\]"),
        ({"frames": -1}, "video 'a': frames -1"),
        ({"frames": 10**12}, "video 'a': frames 1000000000000, expected a whole number up to 10000000"),
        ({"judged": np.array([3, 1])}, "video 'a': judged_frames are not an ascending list"),
        ({"judged": np.array([10**12])}, "video 'a': judged_frames"),
        ({"path": Path("x" * 300)}, "path .* has a part of more than 255 bytes"),
        ({"name": "a\nb"}, r"video 'a\\nb': name"),
        ({"name": "a "}, "'a ' begins or ends with a blank, or has characters that cannot be printed"),
    ],
)
def test_what_could_not_be_read_is_not_written(
    kind: str, change: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    data = one_video(tmp_path / "a.mp4", **change)
    with pytest.raises(DatasetError, match=expected):
        WRITERS[kind](data, tmp_path / "out", False)
    assert not (tmp_path / "out").exists()
    if change.get("name") != "a ":  # which JSON holds as it is
        with pytest.raises(DatasetError, match=expected):
            write_annotations(data, tmp_path / "data.json")
        assert not (tmp_path / "data.json").exists()


@pytest.mark.parametrize("kind", WRITERS)
def test_files_are_called_after_videos_and_stay_in_their_folder_whatever_those_are_called(
    kind: str, tmp_path: Path
) -> None:
    names = ["a/b", "a_b", "A_B", "..", ".", "../../up", "/root", "é" * 200, "é" * 199 + "x", "con:1", "a\\b"]
    videos = tuple(one_video(tmp_path / f"{n}.mp4", name).videos[0] for n, name in enumerate(names))
    written = WRITERS[kind](Annotations(("walk",), videos), tmp_path / "out", False)
    assert len({str(file).lower() for file in written.files}) == len(written.files)
    made = [file for file in tmp_path.rglob("*") if file.is_file()]
    assert made and all(tmp_path / "out" in file.parents for file in made)
    found, _ = import_annotations(tmp_path / "out", kind, Options())
    assert [(video.name, video.path.name) for video in found.videos] == [
        (name, f"{n}.mp4") for n, name in enumerate(names)
    ]


@pytest.mark.parametrize("kind", WRITERS)
def test_annotations_are_not_replaced_unasked(kind: str, tmp_path: Path) -> None:
    data = one_video(tmp_path / "a.mp4")
    files = WRITERS[kind](data, tmp_path / "out", False).files
    files[0].write_text("corrected by hand")
    with pytest.raises(OutputError, match="already exists: give another name, or --overwrite"):
        WRITERS[kind](data, tmp_path / "out", False)
    assert files[0].read_text() == "corrected by hand"
    WRITERS[kind](data, tmp_path / "out", True)
    assert files[0].read_text() != "corrected by hand"


@pytest.mark.parametrize("kind", WRITERS)
def test_boxes_of_small_numbers_do_not_overflow(kind: str, tmp_path: Path) -> None:
    corners = np.array([[200, 100, 250, 130], [201, 100, 255, 130]], np.uint8)
    data = one_video(tmp_path / "a.mp4", xyxy=corners, size_wh=(320, 240))
    WRITERS[kind](data, tmp_path, False)
    [tube] = import_annotations(tmp_path, kind, Options())[0].videos[0].tubes
    assert tube.xyxy.tolist() == corners.tolist()


def test_only_boxes_on_whole_seconds_are_ava_and_others_are_said(tmp_path: Path) -> None:
    assert WRITERS["ava"](one_video(tmp_path / "a.mp4"), tmp_path / "whole", False).notes == []
    assert [row.split(",")[1] for row in (tmp_path / "whole" / "annotations.csv").read_text().splitlines()] == [
        "0",
        "1",
    ]
    [note] = WRITERS["ava"](one_video(tmp_path / "a.mp4", fps=24.0), tmp_path / "between", False).notes
    assert note.startswith("1 of 2 boxes lie between whole seconds")


def test_ava_has_no_word_for_boxes_far_outside_the_picture(tmp_path: Path) -> None:
    far = np.array([[1, 2, 30, 40], [1, 2, 30, 4000]], np.float32)
    with pytest.raises(DatasetError, match="a: a box in frame 25 lies more than 2 pictures away"):
        WRITERS["ava"](one_video(tmp_path / "a.mp4", xyxy=far), tmp_path / "out", False)


def test_frames_that_would_each_be_a_row_are_not_without_end(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="10000000 frames, each a row in CocoVID, expected 5000000 at most"):
        WRITERS["cocovid"](one_video(tmp_path / "a.mp4", frames=10_000_000), tmp_path, False)


def test_what_a_format_has_no_word_for_is_said(tmp_path: Path) -> None:
    data = replace(one_video(tmp_path / "a.mp4"), splits=({"train": ("a",)}, {"test": ("a",)}), judged_classes=(0,))
    [note] = WRITERS["cvat"](data, tmp_path, False).notes
    assert note.endswith("cannot express it: 1 more split, judged classes")


@pytest.mark.parametrize("kind", WRITERS)
def test_a_side_that_was_changed_in_the_file_counts(kind: str, tmp_path: Path) -> None:
    data = replace(one_video(tmp_path / "a.mp4"), splits=({"train": ("a",), "test": ()},))
    WRITERS[kind](data, tmp_path, False)
    for file in (file for file in tmp_path.rglob("*") if file.is_file()):
        file.write_text(file.read_text().replace("Train", "Test"))
    assert import_annotations(tmp_path, kind, Options())[0].splits == ({"train": (), "test": ("a",)},)


def test_sets_that_were_put_together_keep_what_they_agree_on(tmp_path: Path) -> None:
    one, other = (one_video(tmp_path / f"{name}.mp4", name) for name in "ab")
    WRITERS["cvat"](replace(one, splits=({"train": ("a",), "test": ()},)), tmp_path, False)
    WRITERS["cvat"](replace(other, exclusive=0, splits=({"train": (), "test": ("b",)},)), tmp_path, False)
    found, _ = import_annotations(tmp_path, "cvat", Options())
    assert found.splits == ({"train": ("a",), "test": ("b",)},)
    assert found.exclusive is None  # nobody does two things at once


def test_what_an_import_left_in_the_folder_is_not_read_by_the_next(tmp_path: Path) -> None:
    WRITERS["cocovid"](one_video(tmp_path / "a.mp4"), tmp_path, False)
    for _ in range(2):
        assert recognise(tmp_path) == "cocovid"
        found, _notes = import_annotations(tmp_path, "cocovid", Options())
        write_annotations(found, tmp_path / "data.json")


def test_options_may_be_used_for_several_imports(tmp_path: Path) -> None:
    WRITERS["cvat"](one_video(tmp_path / "a.mp4"), tmp_path, False)
    options = Options(max_boxes=2)  # as many as are in it
    for _ in range(2):
        assert len(import_annotations(tmp_path, "cvat", options)[0].videos[0].tubes[0]) == 2


@pytest.mark.parametrize("kind", WRITERS)
def test_remarks_that_are_damaged_are_told(kind: str, tmp_path: Path) -> None:
    WRITERS[kind](one_video(tmp_path / "a.mp4"), tmp_path, False)
    for file in (file for file in tmp_path.rglob("*") if file.is_file()):
        text = file.read_text()
        for quote in ('"', "&quot;"):
            text = text.replace(f"{quote}place{quote}: 0", f"{quote}place{quote}: -1")
        file.write_text(text)
    with pytest.raises(DatasetError, match="what yowo-deploy noted there is damaged"):
        import_annotations(tmp_path, kind, Options())


def test_remarks_of_thousands_of_splits_are_damaged(tmp_path: Path) -> None:
    remarks = {"place": 0, "recording": "a", "exclusive_classes": None, "judged_classes": [], "judged_frames": None}
    for count in (1000, 1001):
        text = json.dumps({**remarks, "sides": [[]] * count, "tubes": []})
        with pytest.raises(DatasetError, match="damaged") if count > 1000 else nullcontext():
            assert read_remarks("a.xml", text) is not None
