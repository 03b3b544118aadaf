"""Files as tools of other people write them: read right, with what is odd in them noted, or refused with its place."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yowo_deploy.datasets.formats.box_rows import Options
from yowo_deploy.datasets.importer import import_annotations
from yowo_deploy.errors import DatasetError

Stretch = tuple[str, list[int]]  # class, first and last frame of a tube


def imported(folder: Path, kind: str, content: Any, name: str = "a.json") -> tuple[list[Stretch], list[str]]:
    """The tubes of all videos, and the notes; text is written as UTF-8, bytes as they are."""
    text = content if isinstance(content, str | bytes) else json.dumps(content)
    (folder / name).write_bytes(text if isinstance(text, bytes) else text.encode())
    data, notes = import_annotations(folder / name, kind, Options(fps=10.0))
    tubes = [tube for video in data.videos for tube in video.tubes]
    return [(data.classes[tube.class_id], [int(tube.frames[0]), int(tube.frames[-1])]) for tube in tubes], notes


def cvat(*boxes: str) -> str:
    return f"<annotations><version>1.1</version><track id='0' label='walk'>{''.join(boxes)}</track></annotations>"


def box(frame: object, outside: object = 0, left: int = 1, right: int = 9) -> str:
    return f"<box frame='{frame}' outside='{outside}' xtl='{left}' ytl='1' xbr='{right}' ybr='9'/>"


def coco(images: int = 3, **changes: Any) -> dict[str, Any]:
    """A person who walks in each frame of a video."""
    rows = [{"id": n, "video_id": 1, "frame_id": n} for n in range(images)]
    boxes = [{"id": n, "image_id": n, "category_id": 1, "track_id": 1, "bbox": [1, 1, 8, 8]} for n in range(images)]
    whole = {"videos": [{"id": 1, "name": "v"}], "images": rows, "annotations": boxes}
    return whole | {"categories": [{"id": 1, "name": "walk"}]} | changes


def changed(table: str, place: int, **fields: Any) -> dict[str, Any]:
    """`coco` with fields of one row changed; those that are `...` taken out."""
    content = coco()
    row = content[table][place] | fields
    content[table][place] = {key: value for key, value in row.items() if value is not ...}
    return content


def via(**of_box: Any) -> dict[str, Any]:
    row = {"vid": "1", "z": [0.1], "xy": [2, 1, 1, 8, 8], "av": {"1": "0"}} | of_box
    view = {"file": {"1": {"fname": "v.mp4"}}, "view": {"1": {"fid_list": ["1"]}}}
    return view | {"attribute": {"1": {"aname": "does", "options": {"0": "walk"}}}, "metadata": {"m": row}}


def studio(data: Any = None, **of_value: Any) -> list[dict[str, Any]]:
    key = {"frame": 1, "x": 0, "y": 0, "width": 9, "height": 9, "enabled": False}
    value = {"framesCount": 10, "duration": 1, "sequence": [key], "labels": ["walk"]} | of_value
    region = {"type": "videorectangle", "id": "r", "value": value}
    return [{"data": data or {"video": "v.mp4"}, "annotations": [{"result": [region]}]}]


def with_region(tasks: list[dict[str, Any]], **of_value: Any) -> list[dict[str, Any]]:
    """A region more, with other values."""
    results = tasks[0]["annotations"][0]["result"]
    results.append(results[0] | {"id": "s", "value": results[0]["value"] | of_value})
    return tasks


MOT = "1,1,2,3,10,12,1,1,1\n2,1,2,3,10,12,1,1,1\n"
AVA = "v,0,0.1,0.1,0.5,0.9,1,0\nv,1,0.1,0.1,0.5,0.9,1,0\n"
WALK: list[Stretch] = [("walk", [0, 2])]
ELSEWHERE = "1 boxes have the person's number of another box in that frame: treated as others, the first in frame 0"
BACKWARDS = "1 boxes end where they begin, or before: see `data check`"

READ: dict[str, tuple[str, Any, str, list[Stretch], str]] = {
    "outside as Python writes it": ("cvat", cvat(box(0, "False"), box(3, "True")), "a.xml", WALK, ""),
    "outside as JSON writes it": ("cvat", cvat(box(0, "false"), box(3, "true")), "a.xml", WALK, ""),
    "a track twice in a frame": (
        "cvat", cvat(box(0), box(2, left=3), box(2), box(3, 1)), "a.xml", WALK,
        "left out: 1 shapes of a track in one frame but the last",
    ),
    "XML in UTF-16": ("cvat", cvat(box(0), box(3, 1)).encode("utf-16"), "a.xml", WALK, ""),
    "right before left": ("cvat", cvat(box(0, left=9, right=1), box(1, 1)), "a.xml", [("walk", [0, 0])], BACKWARDS),
    "a width below 0": ("cocovid", changed("annotations", 1, bbox=[1, 1, -8, 8]), "a.json", WALK, BACKWARDS),
    "no width": ("cocovid", changed("annotations", 1, bbox=[1, 1, 0, 8]), "a.json", WALK, BACKWARDS),
    "frames as fractions": ("cocovid", changed("images", 1, frame_id=1.0), "a.json", WALK, ""),
    "a person in two places": (
        "cocovid", coco(annotations=[*coco()["annotations"], {**coco()["annotations"][0], "bbox": [30, 1, 8, 8]}]),
        "a.json", [*WALK, ("walk", [0, 0])], ELSEWHERE,
    ),
    "scores": (
        "cocovid", changed("annotations", 0, score=0.1), "a.json", WALK,
        "1 annotations have a score, as detections do: taken as people",
    ),
    "MOT in UTF-16": ("mot", MOT.encode("utf-16"), "gt.txt", [("person", [0, 1])], ""),
    "AVA in UTF-16": ("ava", AVA.encode("utf-16"), "a.csv", [("1", [0, 10])], ""),
    "AVA between tabs": ("ava", AVA.replace(",", "\t"), "a.csv", [("1", [0, 10])], ""),
    "AVA's ids as fractions": ("ava", AVA.replace(",1,0\n", ",1.0,0.0\n"), "a.csv", [("1", [0, 10])], ""),
    "VIA's facts of a file": (
        "via", via() | {"metadata": {**via()["metadata"], "n": {"vid": "1", "z": [], "xy": [], "av": {"1": "0"}}}},
        "a.json", [("walk", [1, 1])], "left out: 1 attributes of a whole file",
    ),
    "one label alone": ("labelstudio", studio(labels="walk"), "a.json", [("walk", [0, 0])], ""),
    "a region whose labels are null": (
        "labelstudio", with_region(studio(), labels=None), "a.json", [("walk", [0, 0])],
        "left out: 1 regions without a label",
    ),
    "ids as text in one table": (
        "cocovid", changed("annotations", 1, image_id="1", category_id="1"), "a.json", WALK, "",
    ),
    "ids as text in all tables": ("cocovid", json.loads(re.sub(r'id": (\d)', r'id": "\1"', json.dumps(coco()))),
        "a.json", WALK, ""),
    "a value that is null": ("via", via(av={"1": None}), "a.json", [], "left out: 1 boxes without an action"),
    "a spreadsheet's empty columns": ("ava", AVA.replace("\n", ",,\n") + ",,,,,,,,\n", "a.csv", [("1", [0, 10])], ""),
}  # fmt: skip


@pytest.mark.parametrize("case", READ)
def test_what_other_tools_write_is_read_and_noted(case: str, tmp_path: Path) -> None:
    kind, content, name, expected, noted = READ[case]
    tubes, notes = imported(tmp_path, kind, content, name)
    assert tubes == expected
    assert not noted or any(note.startswith(noted) for note in notes), notes


REFUSED: dict[str, tuple[str, Any, str, str]] = {
    "an image's id twice": ("cocovid", changed("images", 1, id=0), "a.json", "images: 2 have id 0"),
    "a video's id twice": ("cocovid", coco(videos=[{"id": 1, "name": "v"}] * 2), "a.json", "videos: 2 have id 1"),
    "a class's id twice": (
        "cocovid", coco(categories=[{"id": 1, "name": "walk"}, {"id": 1, "name": "run"}]), "a.json",
        "categories: 2 have id 1",
    ),
    "a frame twice": ("cocovid", changed("images", 1, frame_id=0), "a.json", "v: 2 have frame_id 0"),
    "half a frame": ("cocovid", changed("images", 1, frame_id=0.5), "a.json", r"images\[1\]: 0.5, expected a whole"),
    "no frame": ("cocovid", changed("images", 1, frame_id=...), "a.json", r"images\[1\]: no frame_id"),
    "a person by name": ("cocovid", changed("annotations", 2, track_id="p1"), "a.json", r"annotations\[2\]: 'p1'"),
    "no box": ("cocovid", changed("annotations", 2, bbox=...), "a.json", r"annotations\[2\]: KeyError: 'bbox'"),
    "single pictures": ("cocovid", changed("images", 0, video_id=...), "a.json", "describes single pictures"),
    "half a frame of MOT": ("mot", "1.5" + MOT[1:], "gt.txt", "gt.txt:1: '1.5', expected a whole number"),
    "no UTF-8": ("ava", AVA.replace("v", "ü").encode("latin-1"), "a.csv", "not text in UTF-8"),
    "three numbers of a rectangle": ("via", via(xy=[2, 1, 1, 8]), "a.json", "expected a rectangle at one time"),
    "a box at no time": ("via", via(z=[]), "a.json", "expected a rectangle at one time"),
    "a view of nothing": ("via", via() | {"view": {"1": {"fid_list": []}}}, "a.json", "view 1 has no file"),
    "no video": ("labelstudio", studio({"video": None}), "a.json", "its data names no video: video"),
    "a view of two files": ("via", via() | {"view": {"1": {"fid_list": ["1", "1"]}}}, "a.json", "view 1 has 2 files"),
    "a list for a label": ("via", via(av={"1": ["0", "1"]}), "a.json", r'\["0", "1"\], expected a text'),
    "an object for a label": ("via", via(av={"1": {"0": True}}), "a.json", r'\{"0": true\}, expected a text'),
    "a class that is null": ("cocovid", coco(categories=[{"id": 1, "name": None}]), "a.json", "classes: "),
    "an unknown word for outside": ("cvat", cvat(box(0), box(3, "yes")), "a.xml", "track 0: outside is 'yes'"),
    "outside as a fraction": ("cvat", cvat(box(0), box(3, "1.0")), "a.xml", "track 0: outside is '1.0'"),
    # Python's own `int` and `float` take `1_0` for ten.
    "1_0 as a frame of CVAT": ("cvat", cvat(box("1_0")), "a.xml", "track 0: '1_0', expected a whole number"),
    "1_0 as a corner of CVAT": ("cvat", cvat(box(0).replace("'1'", "'1_0'")), "a.xml", "track 0: '1_0', expected a"),
    "1_0 as a frame of MOT": ("mot", "1_0" + MOT[1:], "gt.txt", "gt.txt:1: '1_0', expected a whole number"),
    "1_0 as a corner of MOT": ("mot", MOT.replace("10", "1_0"), "gt.txt", "gt.txt:1: '1_0', expected a number"),
    "1_0 as a second of AVA": ("ava", AVA.replace("v,1,", "v,1_0,"), "a.csv", "a.csv:2: '1_0', expected a number"),
    "1_0 as an action of AVA": ("ava", AVA.replace(",1,0", ",1_0,0"), "a.csv", "a.csv:1: '1_0', expected a whole"),
    "1_0 as a person of CocoVID": ("cocovid", changed("annotations", 2, track_id="1_0"), "a.json", r"\[2\]: '1_0'"),
    "1_0 as a corner of CocoVID": ("cocovid", changed("annotations", 2, bbox=["1_0", 1, 8, 8]), "a.json", "'1_0'"),
    "1_0 as a corner of VIA": ("via", via(xy=[2, "1_0", 1, 8, 8]), "a.json", "'1_0', expected a number"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_what_means_nothing_is_refused_with_its_place(case: str, tmp_path: Path) -> None:
    kind, content, name, said = REFUSED[case]
    with pytest.raises(DatasetError, match=said):
        imported(tmp_path, kind, content, name)


def test_an_archive_of_another_format_is_not_taken_for_a_broken_one_of_cvat(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "mot.zip", "w") as archive:
        archive.writestr("gt/gt.txt", MOT)
    with pytest.raises(DatasetError, match="of another format: unpack it"):
        import_annotations(tmp_path / "mot.zip", "cvat", Options())


def test_several_label_maps_are_not_passed_over_in_silence(tmp_path: Path) -> None:
    for name, label in (("a.pbtxt", "walk"), ("b.pbtxt", "run")):
        (tmp_path / name).write_text(f'item {{ name: "{label}" id: 1 }}')
    tubes, notes = imported(tmp_path, "ava", AVA, "boxes.csv")
    assert tubes == [("walk", [0, 10])] and "classes are named by a.pbtxt; not read: b.pbtxt" in notes


@pytest.mark.parametrize("write", [lambda name: f'item {{ name: "{name}" id: 1 }}', lambda name: name])
def test_a_label_map_in_another_encoding_is_refused_not_garbled(write: Callable[[str], str], tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes(write("läuft").encode("latin-1"))
    with pytest.raises(DatasetError, match="not text in UTF-8"):
        imported(tmp_path, "ava", AVA, "boxes.csv")


def test_a_video_in_files_of_both_sides_is_noted(tmp_path: Path) -> None:
    for side in ("train", "val"):
        (tmp_path / f"boxes_{side}.csv").write_text(AVA)
    data, notes = import_annotations(tmp_path, "ava", Options(fps=10.0))
    assert data.splits == ({"train": ("v",), "test": ()},)
    assert "in files to train and to test on: all of it is to train on (v)" in notes
