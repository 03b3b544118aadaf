"""What each format means, by hand-worked cases; and that a row that does not fit is told with its place."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.data_json import Annotations
from yowo_deploy.datasets.formats import cvat
from yowo_deploy.datasets.formats.box_rows import Footage, Options, Rows, recording_of
from yowo_deploy.datasets.importer import import_annotations
from yowo_deploy.errors import DatasetError, MissingExtraError

META = """<version>1.1</version><meta><task><id>7</id><name>yard</name><size>20</size><mode>interpolation</mode>
<start_frame>0</start_frame><stop_frame>19</stop_frame><subset>Validation</subset>
<labels><label><name>walk</name></label><label><name>sit</name></label></labels>
<original_size><width>640</width><height>480</height></original_size><source>yard.mp4</source></task></meta>"""


def box(frame: int, x: float, outside: int = 0, attributes: str = "", **more: object) -> str:
    about = {"frame": frame, "outside": outside, "occluded": 0, "keyframe": 1} | more
    about |= {"xtl": x, "ytl": 10, "xbr": x + 20, "ybr": 60}
    sides = " ".join(f'{key}="{value}"' for key, value in about.items())
    return f"<box {sides}>{attributes}</box>"


def attribute(name: str, value: str) -> str:
    return f'<attribute name="{name}">{value}</attribute>'


def track(*boxes: str, number: int = 0, label: str = "walk") -> str:
    return f'<track id="{number}" label="{label}" source="manual">{"".join(boxes)}</track>'


def from_cvat(folder: Path, *tracks: str, meta: str = META, options: Options | None = None) -> Annotations:
    (folder / "a.xml").write_text(f"<?xml version='1.0'?><annotations>{meta}{''.join(tracks)}</annotations>")
    return import_annotations(folder / "a.xml", "cvat", options or Options())[0]


def seen(tube: Tube) -> tuple[list[int], list[float]]:
    """Frames and left sides."""
    return tube.frames.tolist(), [round(float(x), 4) for x in tube.xyxy[:, 0]]


# x at keyframe 0 is 100, at keyframe 4 it is 108: two pixels a frame.
CVAT_CASES: list[tuple[str, list[str], list[tuple[list[int], list[float]]]]] = [
    ("one box is one frame", [box(3, 50)], [([3], [50])]),
    ("between keyframes in a line", [box(0, 100), box(4, 108)], [([0, 1, 2, 3, 4], [100, 102, 104, 106, 108])]),
    ("in any order", [box(4, 108), box(0, 100)], [([0, 1, 2, 3, 4], [100, 102, 104, 106, 108])]),
    ("over three keyframes", [box(0, 0), box(2, 10), box(3, 0)], [([0, 1, 2, 3], [0, 5, 10, 0])]),
    ("outside ends it before its frame", [box(0, 100), box(3, 100, 1)], [([0, 1, 2], [100] * 3)]),
    ("it may come back", [box(0, 9), box(1, 9, 1), box(5, 7), box(6, 7, 1)], [([0], [9]), ([5], [7])]),
    ("outside at first is nothing", [box(0, 9, 1), box(2, 7), box(3, 7)], [([2, 3], [7, 7])]),
    ("every frame listed", [box(n, n, keyframe=int(n == 0)) for n in range(3)], [([0, 1, 2], [0, 1, 2])]),
    ("occluded is still a box", [box(0, 5, occluded=1), box(1, 5)], [([0, 1], [5, 5])]),
]


@pytest.mark.parametrize(("boxes", "expected"), [case[1:] for case in CVAT_CASES], ids=[case[0] for case in CVAT_CASES])
def test_cvat_tracks(boxes: list[str], expected: list[Any], tmp_path: Path) -> None:
    [video] = from_cvat(tmp_path, track(*boxes)).videos
    assert [seen(tube) for tube in video.tubes] == expected


def test_cvat_says_all_about_the_video(tmp_path: Path) -> None:
    found = from_cvat(tmp_path, track(box(0, 1), label="sit", number=4))
    [video] = found.videos
    assert (found.classes, found.splits) == (("walk", "sit"), ({"train": (), "test": ("yard",)},))
    assert (video.name, video.path, video.size_wh, video.frames) == ("yard", tmp_path / "yard.mp4", (640, 480), 20)
    assert [(tube.class_id, tube.tracker_id, tube.xyxy.tolist()) for tube in video.tubes] == [(1, 4, [[1, 10, 21, 60]])]


def test_cvat_actions_may_be_an_attribute_that_changes_along_the_track(tmp_path: Path) -> None:
    def acting(frame: int, action: str) -> str:
        return box(frame, 10, attributes=attribute("action", action))

    boxes = [acting(0, "walk"), acting(3, "walk, wave"), acting(5, "__undefined__"), acting(6, "sit")]
    found = from_cvat(tmp_path, track(*boxes, label="man"), options=Options(action_from="attribute:action"))
    tubes = {found.classes[t.class_id]: t.frames.tolist() for t in found.videos[0].tubes}
    assert tubes == {"walk": [0, 1, 2, 3, 4], "wave": [3, 4], "sit": [6]}
    assert found.exclusive == 0  # somebody walks and waves at once
    with pytest.raises(DatasetError, match="track 0 has no attribute 'deed', nor has any other; there is action"):
        from_cvat(tmp_path, track(*boxes), options=Options(action_from="attribute:deed"))
    with pytest.raises(DatasetError, match="expected label or attribute:NAME"):
        from_cvat(tmp_path, track(*boxes), options=Options(action_from="action"))


def test_cvat_tracks_without_the_attribute_are_counted_and_left_out(tmp_path: Path) -> None:
    tracks = track(box(0, 1, attributes=attribute("action", "walk"))), track(box(0, 9), number=1), track(number=2)
    from_cvat(tmp_path, *tracks)
    found, [note] = import_annotations(tmp_path / "a.xml", "cvat", Options(action_from="attribute:action"))
    assert [tube.tracker_id for tube in found.videos[0].tubes] == [0]
    assert note.startswith("2 tracks have no attribute 'action' and are left out, the first: ") and "track 1" in note


def test_cvat_labels_may_be_called_none(tmp_path: Path) -> None:
    found = from_cvat(tmp_path, track(box(0, 1), label="None"), track(box(0, 9), number=1, label="none"))
    assert [found.classes[tube.class_id] for tube in found.videos[0].tubes] == ["None", "none"]


# Each lies within x 10 to 30 and y 20 to 60; the box, 20 wide and 40 high, is turned by a quarter.
CVAT_SHAPES = [
    ("polygon", 'points="10,20;30,40;12,60"'),
    ("polyline", 'points="10,60;30,20"'),
    ("points", 'points="10.0,60.0;30.0,20.0"'),
    ("mask", 'left="10" top="20" width="20" height="40" rle="800"'),
    ("ellipse", 'cx="20" cy="40" rx="10" ry="20"'),
    ("box", 'xtl="0" ytl="30" xbr="40" ybr="50" rotation="90"'),
    ("cuboid", " ".join(f'{x}{n}="{v}"' for x, of in (("xt", (10, 30)), ("yt", (20, 60))) for n, v in enumerate(of))),
]


@pytest.mark.parametrize(("tag", "sides"), CVAT_SHAPES, ids=[tag for tag, _ in CVAT_SHAPES])
def test_cvat_shapes_that_are_no_upright_boxes_are_the_boxes_around_them_and_counted(
    tag: str, sides: str, tmp_path: Path
) -> None:
    from_cvat(tmp_path, track(f'<{tag} frame="3" outside="0" {sides}/>'))
    found, [note] = import_annotations(tmp_path / "a.xml", "cvat", Options())
    assert found.videos[0].tubes[0].xyxy == pytest.approx(np.array([[10, 20, 30, 60]]), abs=1e-4)  # float32 of 1e2
    assert note == f"taken as the upright boxes around them: 1 {'turned ' if tag == 'box' else ''}{tag}"


def test_cvat_skeletons_are_the_box_around_their_points(tmp_path: Path) -> None:
    parts = '<points points="10,20" outside="0"/><points points="30,60"/><points points="0,0" outside="1"/>'
    [video] = from_cvat(tmp_path, track(f'<skeleton frame="3" outside="0">{parts}</skeleton>')).videos
    assert video.tubes[0].xyxy.tolist() == [[10, 20, 30, 60]]


def test_cvat_hints_at_an_attribute_where_every_label_is_the_same(tmp_path: Path) -> None:
    from_cvat(tmp_path, track(box(0, 1, attributes=attribute("action", "walk"))))
    _, [note] = import_annotations(tmp_path / "a.xml", "cvat", Options())
    assert note.endswith("--action-from attribute:action")


@pytest.mark.parametrize("said", ["", "-1", "7", "9" * 5000])
def test_cvat_tracks_drawn_anew_are_nobody_who_is_there_already(said: str, tmp_path: Path) -> None:
    """Without a number, with the one that stands for none, or with that of somebody who is elsewhere."""
    told = track(*(box(n, 2, attributes=attribute("person", "7")) for n in range(8)), number=0)
    other = track(*(box(n, 90, attributes=attribute("person", "1")) for n in range(3)), number=1)
    anew = track(*(box(n, 50, attributes=attribute("person", said) if said else "") for n in range(4, 12)), number=1)
    found = from_cvat(tmp_path, told, other, anew)
    assert found.exclusive is None  # nobody does two things at once
    tubes = {tube.tracker_id: seen(tube) for tube in found.videos[0].tubes}
    assert tubes.pop(7) == (list(range(8)), [2] * 8) and tubes.pop(1) == (list(range(3)), [90] * 3)
    assert list(tubes.values()) == [(list(range(4, 12)), [50] * 8)]


def test_cvat_projects_hold_several_tasks(tmp_path: Path) -> None:
    tasks = "".join(f"<task><id>{n}</id><name>v{n}</name><size>9</size></task>" for n in (3, 4))
    meta = f"<meta><project><labels><label><name>walk</name></label></labels><tasks>{tasks}</tasks></project></meta>"
    tracks = [track(box(n, 0)).replace("<track", f'<track task_id="{n}"') for n in (3, 4)]
    found = from_cvat(tmp_path, *tracks, meta=meta)
    assert [(v.name, seen(v.tubes[0])) for v in found.videos] == [("v3", ([3], [0])), ("v4", ([4], [0]))]


def test_cvat_archives_are_read_as_they_come(tmp_path: Path) -> None:
    from_cvat(tmp_path, track(box(0, 1)))
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.write(tmp_path / "a.xml", "annotations.xml")
    (tmp_path / "a.xml").unlink()
    assert len(import_annotations(tmp_path, "cvat", Options())[0].videos[0].tubes) == 1


def test_cvat_archives_beside_xml_are_read_too_and_other_archives_are_not(tmp_path: Path) -> None:
    from_cvat(tmp_path, track(box(0, 1)))
    text = (tmp_path / "a.xml").read_text().replace("<name>yard</name>", "<name>roof</name>")
    for name, member in (("task.zip", "annotations.xml"), ("videos.zip", "yard.txt")):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.writestr(member, text)
    found = import_annotations(tmp_path, "cvat", Options())[0]
    assert sorted(video.name for video in found.videos) == ["roof", "yard"]


def test_keyframes_far_apart_do_not_make_boxes_without_end(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a.xml: keyframes lie so far apart that more than 1000000 boxes"):
        from_cvat(tmp_path, track(box(0, 1), box(9_999_999, 1)))
    few = Options(max_boxes=1000)
    with pytest.raises(DatasetError, match=r"a.xml: more than 1000 boxes"):
        from_cvat(tmp_path, track(box(0, 1), box(2000, 1)), options=few)
    far = studio({"frame": 1, "x": 1}, {"frame": 9_000_000, "x": 1})
    with pytest.raises(DatasetError, match=r"a.json: keyframes lie so far apart"):
        from_json(tmp_path, "labelstudio", far)


def test_an_xml_that_unpacks_to_too_much_is_refused_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from_cvat(tmp_path, track(*(box(n, 1) for n in range(100))))
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.write(tmp_path / "a.xml", "annotations.xml")
    monkeypatch.setattr(cvat, "MAX_BYTES", 1 << 10)
    for name in ("a.xml", "a.zip"):
        with pytest.raises(DatasetError, match=f"{name} "):
            import_annotations(tmp_path / name, "cvat", Options())
    monkeypatch.undo()
    monkeypatch.setattr(cvat, "MADE", 0)
    monkeypatch.setattr(cvat, "TIMES", 1)
    with pytest.raises(DatasetError, match="more elements than annotations of its size"):
        import_annotations(tmp_path / "a.xml", "cvat", Options())


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]>'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("<annotations>", "no XML"),
        (f"{BOMB}<annotations>&c;</annotations>", "no XML that can be trusted"),
        ('<!DOCTYPE a [<!ENTITY b SYSTEM "file:///etc/hostname">]><annotations>&b;</annotations>', "can be trusted"),
        ("<data/>", "begins with <data>"),
        ("<annotations><image/></annotations>", "export the task as `CVAT for video 1.1`"),
        ('<annotations><track id="3" label="a"><box frame="0"/></track></annotations>', "track 3: 'xtl'"),
        (f"<annotations>{track(box(10**12, 1))}</annotations>", "track 0: frame 1000000000000, expected 0 to 9999999"),
        (f"<annotations>{track(box(0, 1), number=10**20)}</annotations>", f"track {10**20}: its id is not a number"),
    ],
)
def test_cvat_files_that_are_none_are_refused(text: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "a.xml").write_text(text)
    with pytest.raises(DatasetError, match=expected):
        import_annotations(tmp_path / "a.xml", "cvat", Options())


def test_without_defusedxml_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(cvat.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match=r"yowo-deploy\[data\]"):
        from_cvat(tmp_path, track(box(0, 1)))


def from_ava(folder: Path, rows: str, labels: str | None = "walk\nsit\n", **options: Any) -> Annotations:
    (folder / "mine.csv").write_text(rows)
    if labels:
        (folder / "classes.txt").write_text(labels)
    return import_annotations(folder / "mine.csv", "ava", Options(**{"fps": 10.0} | options))[0]


def test_ava_counts_seconds_from_its_start_and_ids_from_1_and_corners_in_shares(tmp_path: Path) -> None:
    told = (("0902", 1), ("0903", 1), ("0905", 1), ("0905", 2))
    rows = "".join(f"a,{second},0.1,0.2,0.5,0.6,{action},0\n" for second, action in told)
    found = from_ava(tmp_path, rows, start_s=900.0)
    tubes = [(found.classes[t.class_id], t.frames.tolist()) for t in found.videos[0].tubes]
    assert tubes == [("walk", [20, 30]), ("walk", [50]), ("sit", [50])]  # nobody walked in second 904
    assert found.videos[0].size_wh == (1, 1)  # of a video that is not there
    assert np.allclose(found.videos[0].tubes[0].xyxy[0], [0.1, 0.2, 0.5, 0.6])
    assert found.exclusive == 0
    assert from_ava(tmp_path, rows).videos[0].tubes[0].frames[0] == 9020  # 900 is only AVA's


def test_ava_without_persons_tells_them_by_overlap(tmp_path: Path) -> None:
    rows = "".join(f"a,{second},{x},0,{x + 0.2},1,1\n" for second in (1, 2) for x in (0.0, 0.7))
    [video] = from_ava(tmp_path, rows).videos
    assert sorted((t.tracker_id, t.frames.tolist()) for t in video.tubes) == [(0, [10, 20]), (1, [10, 20])]


def test_label_maps_name_classes_by_id_and_a_class_without_a_name_is_called_by_its_id(tmp_path: Path) -> None:
    items = r'item { name: "put \"}\" down" id: 3 } label { name: "walk" label_id: 1 label_type: PERSON }'
    (tmp_path / "map.pbtxt").write_text(items)
    assert from_ava(tmp_path, "a,1,0,0,1,1,3,0\n", labels=None).classes == ("walk", "2", 'put "}" down')
    for broken, expected in (
        ('item { name: "walk" }', "an item has no id from 1 to 100,000"),
        ("walk", "not protobuf text"),
        ("# none", "names no class"),
    ):
        (tmp_path / "map.pbtxt").write_text(broken)
        with pytest.raises(DatasetError, match=f"map.pbtxt.*{expected}"):
            from_ava(tmp_path, "a,1,0,0,1,1,3,0\n", labels=None)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("a,1,0,0,1,1,0,0", "mine.csv:2: action 0, expected 1 to 2: AVA counts them from 1"),
        ("a,1,0,0,1,1,3,0", "mine.csv:2: action 3, expected 1 to 2"),
        ("a,1,0,0,100,200,1,0", "mine.csv:2: corner 200; .* these are pixels"),
        ("a,1,0,0,1", "mine.csv:2: 5 columns"),
        ("a,one,0,0,1,1,1", "mine.csv:2: could not convert"),
        ("a,nan,0,0,1,1,1", "mine.csv:2: the second or a corner"),
    ],
)
def test_an_ava_row_that_does_not_fit_is_told_by_its_line(row: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=expected):
        from_ava(tmp_path, f"a,1,0,0,1,1,1,0\n{row}\n")


def test_ava_seconds_before_the_start_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"second 1 lies before the start, 900 \(--start\)"):
        from_ava(tmp_path, "a,1,0,0,1,1,1,0\n", start_s=900.0)


COCO: dict[str, Any] = {
    "categories": [{"id": 7, "name": "sit"}, {"id": 3, "name": "walk"}],
    "videos": [{"id": 1, "name": "a.mp4", "width": 64, "height": 48}],
    "images": [{"id": n + 10, "video_id": 1, "frame_id": n, "file_name": f"a/{n}.jpg"} for n in (0, 2, 4, 6)],
    "annotations": [
        {"id": n, "image_id": n + 10, "category_id": 7, "instance_id": 5, "bbox": [1, 2, 30, 40]} for n in (0, 2, 6)
    ],
}


def from_json(folder: Path, kind: str, content: Any, **options: Any) -> Annotations:
    (folder / "a.json").write_text(json.dumps(content))
    return import_annotations(folder / "a.json", kind, Options(**options))[0]


def test_cocovid_boxes_are_corner_and_size_and_images_say_what_was_looked_at(tmp_path: Path) -> None:
    found = from_json(tmp_path, "cocovid", COCO)
    [video] = found.videos
    assert found.classes == ("walk", "sit")
    assert [(t.class_id, t.tracker_id, t.frames.tolist()) for t in video.tubes] == [(1, 5, [0, 2]), (1, 5, [6])]
    assert video.tubes[0].xyxy[0].tolist() == [1, 2, 31, 42]
    assert video.judged is not None and video.judged.tolist() == [0, 2, 4, 6]


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"category_id": 0}, r"annotations\[0\]: category_id 0 is not there, expected one of 3, 7"),
        ({"image_id": 1}, r"annotations\[0\]: image_id 1 is not there"),
        ({"bbox": [1, 2, 3]}, r"annotations\[0\]: not enough values"),
    ],
)
def test_a_cocovid_row_that_does_not_fit_is_told_by_its_number(
    change: dict[str, Any], expected: str, tmp_path: Path
) -> None:
    with pytest.raises(DatasetError, match=expected):
        from_json(tmp_path, "cocovid", {**COCO, "annotations": [COCO["annotations"][0] | change]})


def via(*metadata: dict[str, Any], **attributes: Any) -> dict[str, Any]:
    action = {"aname": "action", "type": 4, "options": {"0": "walk", "1": "sit"}}
    return {
        "attribute": {"1": action} | attributes,
        "file": {"1": {"fid": "1", "fname": "a.mp4"}},
        "view": {"1": {"fid_list": ["1"]}},
        "metadata": {f"1_{n}": {"vid": "1", "flg": 0} | row for n, row in enumerate(metadata)},
    }


def test_via_counts_seconds_and_parts_labels_by_commas(tmp_path: Path) -> None:
    moments = [{"z": [z], "xy": [2, 10, 20, 30, 40], "av": {"1": av}} for z, av in ((0.033, "0"), (0.1, "0,1"))]
    found = from_json(tmp_path, "via", via(*moments), fps=30.0)
    tubes = [(found.classes[t.class_id], t.tracker_id, t.frames.tolist()) for t in found.videos[0].tubes]
    assert tubes == [("walk", 0, [1, 3]), ("sit", 0, [3])]
    assert found.videos[0].tubes[0].xyxy[0].tolist() == [10, 20, 40, 60]


def test_via_stretches_of_time_name_the_boxes_within_them(tmp_path: Path) -> None:
    boxes = [{"z": [z], "xy": [2, 10, 20, 30, 40], "av": {}} for z in (0.0, 1.0, 2.0)]
    stretch = {"z": [0.5, 1.5], "xy": [], "av": {"1": "1"}}
    found = from_json(tmp_path, "via", via(*boxes, stretch), fps=10.0)
    assert [(found.classes[t.class_id], t.frames.tolist()) for t in found.videos[0].tubes] == [("sit", [10])]


def test_via_boxes_in_many_stretches_of_time_are_bounded_before_they_are_made(tmp_path: Path) -> None:
    """A label counts as often as stretches name it, and is taken once."""
    names = ",".join(f"name{number}" for number in range(50))
    stretches = [{"z": [0, 9], "xy": [], "av": {"1": names}} for _ in range(20)]
    boxes = [{"z": [number / 10], "xy": [2, 10, 20, 30, 40], "av": {}} for number in range(11)]
    found = from_json(tmp_path, "via", via(*boxes[:10], *stretches), fps=10.0, max_worked_out=10_000)
    assert len(found.videos[0].tubes) == 50 and found.videos[0].tubes[0].frames.tolist() == list(range(10))
    rows = list[int]()
    with (
        pytest.MonkeyPatch.context() as patch,
        pytest.raises(DatasetError, match="so many stretches of time that more than 10000"),
    ):
        patch.setattr(Rows, "add", lambda self, frame, *_: rows.append(frame))
        from_json(tmp_path, "via", via(*boxes, *stretches), fps=10.0, max_worked_out=10_000)
    assert len(rows) == 10 * 50


def test_via_boxes_that_are_left_out_are_told(tmp_path: Path) -> None:
    box = {"z": [0.0], "xy": [2, 10, 20, 30, 40]}
    rows = [box | {"av": {"1": "0"}}, box | {"av": {}}, box | {"av": {"1": "1"}, "vid": "9"}]
    (tmp_path / "a.json").write_text(json.dumps(via(*rows)))
    found, notes = import_annotations(tmp_path / "a.json", "via", Options(fps=10.0))
    assert [found.classes[tube.class_id] for tube in found.videos[0].tubes] == ["walk"]
    assert notes[1:] == ["left out: 1 boxes of no view, 1 boxes without an action"]


def test_via_asks_which_attribute_is_the_action(tmp_path: Path) -> None:
    two = via(**{"2": {"aname": "colour", "options": {}}})
    with pytest.raises(DatasetError, match="attributes action, colour: give --action-from attribute:NAME"):
        from_json(tmp_path, "via", two, fps=10.0)
    assert from_json(tmp_path, "via", two, fps=10.0, action_from="attribute:action").classes == ("walk", "sit")
    with pytest.raises(DatasetError, match="give --videos or --fps"):
        from_json(tmp_path, "via", via())
    with pytest.raises(DatasetError, match=r"shape \[9, 1, 2, 3, 4\], expected a rectangle"):
        from_json(tmp_path, "via", via({"z": [0.0], "xy": [9, 1, 2, 3, 4], "av": {}}), fps=10.0)


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("circle", [3, 20, 40, 10]),
        ("ellipse", [4, 20, 40, 10, 20]),
        ("polygon", [7, 10, 20, 30, 40, 12, 60]),
        ("", [8, 10, 40, 20, 20, 30, 40, 20, 60]),
    ],
)
def test_via_shapes_are_the_boxes_around_them_and_counted(name: str, numbers: list[int], tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps(via({"z": [0.0], "xy": numbers, "av": {"1": "0"}})))
    found, notes = import_annotations(tmp_path / "a.json", "via", Options(fps=10.0))
    half = 10 if name == "circle" else 20
    assert found.videos[0].tubes[0].xyxy.tolist() == [[10, 40 - half, 30, 40 + half]]
    assert notes[1:] == ([f"taken as the upright boxes around them: 1 {name}"] if name else [])


def studio(*sequence: dict[str, Any], labels: tuple[str, ...] = ("walk",), **more: Any) -> list[dict[str, Any]]:
    keys = [{"y": 50, "width": 10, "height": 20, "enabled": True, "rotation": 0} | key for key in sequence]
    value = {"framesCount": 10, "duration": 0.5, "sequence": keys, "labels": list(labels)}
    region = {"type": "videorectangle", "id": "r", "value": value} | more
    return [{"data": {"video": "/data/upload/1/0a1b2c3d-a.mp4"}, "annotations": [{"result": [region]}]}]


def test_label_studio_counts_frames_from_1_and_percent_in_a_line(tmp_path: Path) -> None:
    content = studio({"frame": 1, "x": 10}, {"frame": 5, "x": 30, "enabled": False}, {"frame": 9, "x": 50})
    found = from_json(tmp_path, "labelstudio", content)
    [video] = found.videos
    assert [seen(tube) for tube in video.tubes] == [([0, 1, 2, 3, 4], [10, 15, 20, 25, 30]), ([8, 9], [50, 50])]
    assert (video.size_wh, video.frames, video.fps) == ((100, 100), 10, 20.0)
    assert video.tubes[0].xyxy[0].tolist() == [10, 50, 20, 70]


def test_label_studio_regions_may_have_several_labels(tmp_path: Path) -> None:
    found = from_json(tmp_path, "labelstudio", studio({"frame": 10, "x": 0}, labels=("walk", "wave")))
    assert (found.classes, found.exclusive, len(found.videos[0].tubes)) == (("walk", "wave"), 0, 2)


def test_label_studio_boxes_that_are_turned_are_the_boxes_around_them(
    tmp_path: Path, write_video: Callable[..., None]
) -> None:
    write_video(tmp_path / "a.avi", frames=10, fps=20.0, size_wh=(200, 100))
    # 20 x 40 pixels at 100, 40, turned by a quarter about that corner: 40 x 20 to its left.
    content = studio({"frame": 1, "x": 50, "y": 40, "width": 10, "height": 40, "rotation": 90})
    content[0]["data"]["video"] = "a.avi"
    (tmp_path / "a.json").write_text(json.dumps(content))
    found, [note] = import_annotations(tmp_path / "a.json", "labelstudio", Options())
    assert found.videos[0].tubes[0].xyxy[0] == pytest.approx(np.array([60, 40, 100, 60]), abs=1e-4)  # float32 of 1e2
    assert note == "taken as the upright boxes around them: 1 turned box"


def test_label_studio_frames_are_placed_by_time_where_the_file_has_another_rate(
    tmp_path: Path, write_video: Callable[..., None]
) -> None:
    write_video(tmp_path / "a.avi", frames=60, fps=30.0)  # two seconds, 48 frames of the tool
    content = studio({"frame": 1, "x": 0}, {"frame": 25, "x": 30, "enabled": False}, {"frame": 41, "x": 50})
    content[0]["annotations"][0]["result"][0]["value"] |= {"framesCount": 48, "duration": 2.0}
    content[0]["data"]["video"] = "a.avi"
    (tmp_path / "a.json").write_text(json.dumps(content))
    found, [note] = import_annotations(tmp_path / "a.json", "labelstudio", Options())
    assert note == "annotated at 24 frames/s, the file has 30: placed by time (a)"
    [video] = found.videos
    assert (video.fps, video.frames) == (30.0, 60)
    # One second is frame 24 of the tool, 30 of the file; from 0 to 30 percent of 64 pixels in 30 frames.
    [walk, again] = video.tubes
    assert walk.frames.tolist() == list(range(31)) and again.frames.tolist() == list(range(50, 60))
    assert walk.xyxy[:, 0] == pytest.approx(0.64 * np.arange(31), abs=1e-5)
    content[0]["annotations"][0]["result"][0]["value"]["framesCount"] = 60
    assert from_json(tmp_path, "labelstudio", content).videos[0].tubes[0].frames.tolist() == list(range(25))


@pytest.mark.parametrize(
    ("cancelled", "expected"), [((False, False), "wave"), ((False, True), "walk"), ((True, False), "wave")]
)
def test_of_label_studio_annotations_the_newest_that_is_not_cancelled_counts(
    cancelled: tuple[bool, bool], expected: str, tmp_path: Path
) -> None:
    [task], [newer] = (studio({"frame": 10, "x": 0}, labels=(label,)) for label in ("walk", "wave"))
    task["annotations"] += newer["annotations"]
    for annotation, is_cancelled in zip(task["annotations"], cancelled, strict=True):
        annotation["was_cancelled"] = is_cancelled
    assert from_json(tmp_path, "labelstudio", [task]).classes == (expected,)


def test_label_studio_rates_of_24_and_25_are_two_rates(tmp_path: Path, write_video: Callable[..., None]) -> None:
    write_video(tmp_path / "a.avi", frames=100, fps=25.0)  # four seconds, 96 frames of the tool
    content = studio({"frame": 49, "x": 0, "enabled": False})
    content[0]["annotations"][0]["result"][0]["value"] |= {"framesCount": 96, "duration": 4.0}
    content[0]["data"]["video"] = "a.avi"
    (tmp_path / "a.json").write_text(json.dumps(content))
    found, [note] = import_annotations(tmp_path / "a.json", "labelstudio", Options())
    assert note == "annotated at 24 frames/s, the file has 25: placed by time (a)"
    assert found.videos[0].tubes[0].frames.tolist() == [50]  # two seconds are frame 48 of the tool


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ({"frame": 0, "x": 1}, "task 0: .*Label Studio counts from 1"),
        ({"frame": 1, "x": 1, "rotation": 5}, "task 0: .*rotated, and its video is missing: give --videos"),
        ({"frame": 1}, "task 0: .*KeyError: 'x'"),
    ],
)
def test_a_label_studio_task_that_does_not_fit_is_told(key: dict[str, Any], expected: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=expected):
        from_json(tmp_path, "labelstudio", studio(key))


def from_mot(folder: Path, rows: str, labels: str | None = "walk\nsit\n", info: str | None = None) -> Annotations:
    (folder / "seq" / "gt").mkdir(parents=True, exist_ok=True)
    (folder / "seq" / "gt" / "gt.txt").write_text(rows)
    if labels:
        (folder / "seq" / "gt" / "labels.txt").write_text(labels)
    if info:
        (folder / "seq" / "seqinfo.ini").write_text(info)
    return import_annotations(folder, "mot", Options())[0]


def test_mot_counts_frames_and_classes_from_1(tmp_path: Path) -> None:
    info = "[Sequence]\nname=yard\nimDir=img1\nframeRate=30\nseqLength=9\nimWidth=64\nimHeight=48\nimExt=.jpg\n"
    found = from_mot(tmp_path, "1,4,10,20,30,40,1,2,1\n2,4,10,20,30,40,1,2,1\n3,4,10,20,30,40,0,2,1\n", info=info)
    [video] = found.videos
    [tube] = video.tubes
    assert (found.classes, video.name, video.frames, video.fps) == (("walk", "sit"), "yard", 9, 30.0)
    assert (tube.class_id, tube.tracker_id, tube.frames.tolist()) == (1, 4, [0, 1])  # confidence 0 is not judged
    assert tube.xyxy[0].tolist() == [10, 20, 40, 60]


def test_mot_without_classes_is_of_persons(tmp_path: Path) -> None:
    assert from_mot(tmp_path, "1 4 10 20 30 40 -1 -1 -1 -1\n", labels=None).classes == ("person",)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("0,1,10,20,30,40,1,1,1", "gt.txt:2: frame 0, but MOTChallenge counts frames from 1"),
        ("1,1,10,20,30,40,1,0,1", "gt.txt:2: class 0, expected 1 to 2: they count from 1"),
        ("1,1,10,20", "gt.txt:2: 4 columns"),
        ("1,1,10,20,thirty,40", "gt.txt:2: could not convert"),
        ("1,1,10,20,30,40,nan,1,1", "gt.txt:2: confidence nan"),
        ("1,1,10,20,30,40,-inf,1,1", "gt.txt:2: confidence -inf"),
    ],
)
def test_a_mot_row_that_does_not_fit_is_told_by_its_line(row: str, expected: str, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=expected):
        from_mot(tmp_path, f"1,1,10,20,30,40,1,1,1\n{row}\n")


def test_videos_are_found_by_path_by_name_or_said_to_be_two(tmp_path: Path) -> None:
    for place in ("one/yard.mp4", "two/yard.mp4"):
        (tmp_path / place).parent.mkdir()
        (tmp_path / place).write_bytes(b"x")
    with pytest.raises(DatasetError, match=r"video 'yard.mp4' may be .*one/yard.mp4 or .*two/yard.mp4"):
        from_cvat(tmp_path, track(box(0, 1)))
    (tmp_path / "two" / "yard.mp4").unlink()
    assert from_cvat(tmp_path, track(box(0, 1))).videos[0].path == tmp_path / "one" / "yard.mp4"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("yard_c02", "yard"),
        ("yard-part3", "yard"),
        ("v_Biking_g01_c01", "v_Biking_g01"),
        ("camera_0001", "camera_0001"),
    ],
)
def test_a_recording_is_told_by_how_the_names_of_its_parts_end(name: str, expected: str) -> None:
    assert recording_of(name) == expected


def test_mot_sequences_do_not_take_each_others_pictures(tmp_path: Path, write_pictures: Callable[..., None]) -> None:
    write_pictures(tmp_path / "two" / "img1", range(1, 3))
    for name in ("one", "two"):
        (tmp_path / name / "gt").mkdir(parents=True)
        (tmp_path / name / "gt" / "gt.txt").write_text("1,1,1,1,9,9,1,1,1\n")
        (tmp_path / name / "seqinfo.ini").write_text(f"[Sequence]\nname={name}\nimDir=img1\n")
    found, notes = import_annotations(tmp_path, "mot", Options(videos=(tmp_path,)))
    assert [video.path for video in found.videos] == [tmp_path / "one" / "one", tmp_path / "two" / "img1"]
    assert not any("both" in note for note in notes)


def test_names_with_dots_are_not_cut_to_find_their_videos(tmp_path: Path, write_video: Callable[..., None]) -> None:
    write_video(tmp_path / "clip.avi")
    (tmp_path / "mine.csv").write_text("clip.v1,0,0,0,1,1,1\nclip.v2,0,0,0,1,1,1\nclip,0,0,0,1,1,1\n")
    found, _ = import_annotations(tmp_path / "mine.csv", "ava", Options(fps=10.0))
    assert [video.path.exists() for video in found.videos] == [False, False, True]


def test_two_videos_of_one_file_are_said_and_stay_together(tmp_path: Path, write_video: Callable[..., None]) -> None:
    write_video(tmp_path / "yard.mp4")
    (tmp_path / "mine.csv").write_text("yard.mp4,0,0,0,1,1,1\nyard.avi,0,0,0,1,1,1\n")
    found, notes = import_annotations(tmp_path / "mine.csv", "ava", Options())
    assert notes[-1] == f"yard.mp4 and yard.avi are both of {tmp_path / 'yard.mp4'}"
    assert len({video.group for video in found.videos}) == 1


def test_text_may_have_a_mark_at_its_start_and_the_line_ends_of_windows(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_bytes("\ufeffwalk\r\nsit\r\n".encode())
    (tmp_path / "mine.csv").write_bytes("\ufeffvideo,time,x1,y1,x2,y2,action\r\na,0,0,0,1,1,2\r\n".encode())
    found = import_annotations(tmp_path, "ava", Options(fps=10.0))[0]
    assert (found.classes, found.videos[0].name) == (("walk", "sit"), "a")
    (tmp_path / "mot" / "gt").mkdir(parents=True)
    (tmp_path / "mot" / "gt" / "labels.txt").write_bytes("\ufeffwalk\r\nsit\r\n".encode())
    (tmp_path / "mot" / "gt" / "gt.txt").write_bytes("\ufeff1,1,1,1,9,9,1,2,1\r\n".encode())
    (tmp_path / "mot" / "seqinfo.ini").write_bytes("\ufeff[Sequence]\r\nname=yard\r\n".encode())
    found = import_annotations(tmp_path / "mot", "mot", Options())[0]
    assert (found.classes, found.videos[0].name, found.videos[0].tubes[0].class_id) == (("walk", "sit"), "yard", 1)


def test_mot_sequences_may_list_their_classes_in_another_order(tmp_path: Path) -> None:
    for name, labels in (("one", "walk\nsit\n"), ("two", "sit\nwalk\n")):
        (tmp_path / name / "gt").mkdir(parents=True)
        (tmp_path / name / "gt" / "gt.txt").write_text("1,1,1,1,9,9,1,1,1\n")
        (tmp_path / name / "gt" / "labels.txt").write_text(labels)
    found, _ = import_annotations(tmp_path, "mot", Options())
    assert [found.classes[video.tubes[0].class_id] for video in found.videos] == ["walk", "sit"]


def test_tasks_of_one_name_are_called_after_their_videos(tmp_path: Path) -> None:
    from_cvat(tmp_path, track(box(0, 1)))
    text = (tmp_path / "a.xml").read_text()
    (tmp_path / "b.xml").write_text(text.replace("yard.mp4", "roof.mp4"))
    found, _ = import_annotations(tmp_path, "cvat", Options())
    assert [video.name for video in found.videos] == [f"{tmp_path.name}/yard", f"{tmp_path.name}/roof"]
    assert found.splits == ({"train": (), "test": tuple(video.name for video in found.videos)},)
    (tmp_path / "c.xml").write_text(text)
    (tmp_path / "b.xml").unlink()
    with pytest.raises(DatasetError, match="two videos are called 'yard'"):  # one task, twice
        import_annotations(tmp_path, "cvat", Options())


@pytest.mark.parametrize(
    ("name", "annotated", "given", "expected"),
    [
        ("a.avi", 24.0, 12.0, 24.0),
        ("a.avi", None, 12.0, 30.0),
        ("absent.avi", None, 12.0, 12.0),
        ("absent.avi", None, None, None),
        ("pictures", None, 12.0, 12.0),
        ("pictures", None, None, 25.0),  # as such folders are played
    ],
)
def test_a_rate_is_the_annotations_or_the_files_or_the_users(
    name: str,
    annotated: float | None,
    given: float | None,
    expected: float | None,
    tmp_path: Path,
    write_video: Callable[..., None],
    write_pictures: Callable[..., None],
) -> None:
    write_video(tmp_path / "a.avi", frames=3, fps=30.0)
    write_pictures(tmp_path / "pictures", range(1, 4))
    rows = Footage(tmp_path, Options(fps=given)).rows("a", tmp_path / name, fps=annotated)
    assert rows.fps == expected
    assert (rows.frames, rows.size_wh) == ((0, None) if name == "absent.avi" else (3, (64, 48)))


def test_an_empty_video_does_not_stop_an_import(tmp_path: Path) -> None:
    (tmp_path / "yard.mp4").touch()
    assert from_cvat(tmp_path, track(box(0, 1))).videos[0].size_wh == (640, 480)
