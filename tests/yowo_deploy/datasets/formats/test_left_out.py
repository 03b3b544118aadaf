"""What a reader leaves out, or guesses, is counted and listed at the import, whatever the format is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yowo_deploy.datasets.formats.box_rows import Options
from yowo_deploy.datasets.importer import import_annotations, recognise
from yowo_deploy.errors import DatasetError

Write = Callable[..., None]


def studio(**more: Any) -> list[dict[str, Any]]:
    """A task of Label Studio's export with one region of a person who walks in frame 0."""
    key = {"frame": 1, "x": 0, "y": 0, "width": 9, "height": 9, "enabled": False}
    value = {"framesCount": 10, "duration": 0.5, "sequence": [key], "labels": ["walk"]}
    region = {"type": "videorectangle", "id": "r", "value": value}
    return [{"data": {"video": "a.mp4"}, "annotations": [{"result": [region]}]} | more]


def noted(folder: Path, kind: str, content: Any, name: str = "a.json", **options: Any) -> list[str]:
    text = content if isinstance(content, str) else json.dumps(content)
    (folder / name).write_text(text, encoding="utf-8")
    return import_annotations(folder / name, kind, Options(**options))[1]


def test_label_studio(tmp_path: Path) -> None:
    """Kinds of results as its documentation names them (Export formats; VideoRectangle, TimelineLabels, Choices)."""
    assert noted(tmp_path, "labelstudio", studio()) == []
    [task] = studio(predictions=[{}, {}], drafts=[{}])
    task["annotations"][0]["result"] += [
        {"type": "timelinelabels", "value": {"ranges": [], "timelinelabels": ["walk"]}},
        {"type": "choices", "from_name": "weather", "value": {"choices": ["rain"]}},
        {"type": "videorectangle", "id": "s", "value": {"sequence": [], "labels": []}},
    ]
    task["annotations"] = [{"result": []}, {"result": [], "was_cancelled": True}, *task["annotations"]]
    assert noted(tmp_path, "labelstudio", [task]) == [
        "left out: 1 cancelled annotations, 1 drafts, 1 older annotations of a task, 2 predictions, "
        "1 regions without a label, 1 results of type choices, 1 results of type timelinelabels"
    ]


@pytest.mark.parametrize(
    ("times", "taken"),
    [
        (["2024-05-02T00:00:00.000000Z", "2024-05-01T23:59:59.999999Z", "2024-05-01T10:00:00Z"], 0),
        (["2024-05-01T00:00:00Z", "2024-05-01T00:00:00.500000Z", "2024-05-01T02:00:00+02:00"], 1),
        (["2024-05-01T00:00:00Z", "2024-05-01T00:00:00", "2024-05-01T00:00:00Z"], 2),
        (["2024-05-02T00:00:00Z", None, "2024-05-01T00:00:00Z"], 2),
        (["2024-05-02T00:00:00Z", "yesterday", 3], 2),
    ],
)
def test_the_newest_annotation_of_a_label_studio_task_is_that_changed_last(
    times: list[Any], taken: int, tmp_path: Path
) -> None:
    """Exports list them by their numbers, and an old one may have been corrected since."""
    [task] = studio()
    [annotation] = task["annotations"]
    task["annotations"] = []
    for number, time in enumerate(times):
        [region] = annotation["result"]
        region = {**region, "value": {**region["value"], "labels": [f"label {number}"]}}
        task["annotations"].append({"result": [region]} | ({} if time is None else {"updated_at": time}))
    (tmp_path / "a.json").write_text(json.dumps([task]))
    found = import_annotations(tmp_path / "a.json", "labelstudio", Options())[0]
    assert found.classes == (f"label {taken}",)


def test_regions_without_the_label_that_was_asked_for_say_what_there_is(tmp_path: Path) -> None:
    for options, said in (
        (
            {"action_from": "attribute:act"},
            r"no region has choices of 'act', see --action-from; there are .*type choices",
        ),
        ({}, "no task has a region of type videorectangle with a label; there are .*regions without a label"),
    ):
        content = studio()
        content[0]["annotations"][0]["result"] = [
            {"type": "videorectangle", "id": "a", "value": {"labels": [], "sequence": []}},
            {"type": "choices", "id": "a", "from_name": "action", "value": {"choices": ["walk"]}},
        ]
        with pytest.raises(DatasetError, match=said):
            noted(tmp_path, "labelstudio", content, **options)


def test_the_address_of_a_label_studio_task_is_the_text_that_is_a_videos(tmp_path: Path) -> None:
    """`data` holds whatever the user imported; the labelling interface alone says which is the video."""
    [task] = studio()
    task["data"] = {"title": "yard", "clip": "https://host/videos/yard%20cam.mp4?token=secret"}
    (tmp_path / "a.json").write_text(json.dumps([task]))
    [video] = import_annotations(tmp_path / "a.json", "labelstudio", Options())[0].videos
    assert (video.name, video.path) == ("yard cam", tmp_path / "videos" / "yard cam.mp4")


def test_via(tmp_path: Path) -> None:
    """VIA 3: `z` of two times is a stretch; a checkbox lists ids of options; text is as it was typed."""
    attributes = {
        "1": {"aname": "action", "type": 2, "options": {"0": "walk", "1": "sit"}},
        "2": {"aname": "colour", "type": 1, "options": {}},
    }
    rows = [
        {"z": [0.0], "xy": [2, 1, 1, 9, 9], "av": {"1": "0,1"}},
        {"z": [1.0], "xy": [2, 1, 1, 9, 9], "av": {}},
        {"z": [2.0, 3.0], "xy": [], "av": {"1": "0"}},
    ]
    content = {
        "attribute": attributes,
        "file": {"1": {"fname": "a.mp4"}},
        "view": {"1": {"fid_list": ["1"]}},
        "metadata": {str(number): {"vid": "1"} | row for number, row in enumerate(rows)},
    }
    assert noted(tmp_path, "via", content, fps=10.0, action_from="attribute:action") == [
        "the action is the attribute 'action'; not taken: colour",
        "left out: 1 boxes without an action, 1 stretches of time without a box",
    ]
    rows[0]["av"] = {"2": "open (e.g., a window), walk"}
    content["metadata"] = {"0": {"vid": "1"} | rows[0]}
    (tmp_path / "a.json").write_text(json.dumps(content))
    found, _ = import_annotations(tmp_path / "a.json", "via", Options(fps=10.0, action_from="attribute:colour"))
    assert found.classes == ("open (e.g., a window)", "walk")


def test_mot_and_ava(tmp_path: Path) -> None:
    """MOTChallenge: confidence 0 is not judged, whatever its class; an AVA row may lack its action."""
    notes = noted(tmp_path, "mot", "1,1,1,1,9,9,1,1,1\n2,1,1,1,9,9,0,1,1\n3,1,1,1,9,9,0,8,1\n", "gt.txt")
    assert notes[-1] == "left out: 2 rows of confidence 0"
    notes = noted(tmp_path, "ava", "a,1,0,0,1,1,1,0\na,2,0,0,1,1,,0\na,3\n", "a.csv", fps=1.0)
    assert notes[-1] == "left out: 1 boxes without an action"


def test_boxes_behind_the_end_of_their_video(tmp_path: Path, write_video: Write) -> None:
    write_video(tmp_path / "a.avi", frames=8, fps=1.0)
    rows = "".join(f"a,{second},0,0,1,1,1,0\n" for second in (902, 903))
    [_, note] = noted(tmp_path, "ava", rows, "a.csv")
    assert note == "2 boxes lie behind the last frame: --start, --fps, or another video? (a)"
    assert not any("behind" in note for note in noted(tmp_path, "ava", rows, "a.csv", start_s=900.0))


def test_corners_that_are_fractions_of_the_picture(tmp_path: Path) -> None:
    rows = "1,1,0.1,0.2,0.3,0.4,1,1,1\n2,1,0.1,0.2,{},0.4,1,1,1\n"
    warning = "no corner is above 1, as of fractions of the picture: taken as pixels"
    for width, expected in (("0.3", True), ("9", False)):
        notes = noted(tmp_path, "mot", rows.format(width), "gt.txt")
        assert any(warning in note for note in notes) is expected


def test_a_video_that_is_there_and_cannot_be_read(tmp_path: Path) -> None:
    rows = "a,0,0,0,1,1,1,0\n"
    assert not any("cannot be read" in note for note in noted(tmp_path, "ava", rows, "a.csv", fps=1.0))
    (tmp_path / "a.mp4").write_text("<!DOCTYPE html>")
    found = [note for note in noted(tmp_path, "ava", rows, "a.csv", fps=1.0) if "cannot be read" in note]
    assert len(found) == 1 and "a.mp4 is a web page, expected a video file" in found[0]


def test_the_rate_of_a_folder_of_pictures(tmp_path: Path, write_pictures: Write) -> None:
    write_pictures(tmp_path / "a", range(1, 9))
    said = [note for note in noted(tmp_path, "ava", "a,0,0,0,1,1,1,0\n", "a.csv") if "frames/s" in note]
    assert said == ["a folder of pictures has no rate: 25 frames/s are taken (--fps) (a)"]
    assert not any("rate" in note for note in noted(tmp_path, "ava", "a,0,0,0,1,1,1,0\n", "a.csv", fps=30.0))


def test_files_of_a_folder_that_are_not_read(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(studio()))
    (tmp_path / "b.csv").write_text("a,1,0,0,1,1,1,0\n")
    (tmp_path / "videos.zip").write_bytes(b"x")
    (tmp_path / ".c.csv").write_bytes(b"x")
    assert recognise(tmp_path) == "labelstudio"
    notes = import_annotations(tmp_path, "labelstudio", Options())[1]
    assert notes == [f"not read: 2 other files, the first {tmp_path / 'b.csv'}"]


@pytest.mark.parametrize("name", ["ava_train_excluded_timestamps.csv", "excluded.csv"])
def test_lists_of_excluded_seconds_are_not_read_and_told(name: str, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a,1,0,0,1,1,1,0\n")
    (tmp_path / name).write_text("a,1\n")
    notes = import_annotations(tmp_path, "ava", Options(fps=1.0))[1]
    assert f"not read: 1 other files, the first {tmp_path / name}" in notes
