"""Every format that has a writer loses nothing; formats are told apart; the public data sets come in whole."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
import tracemalloc
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.yowo_deploy.datasets.random_data import annotations, assert_same
from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.data_json import Annotations, read_annotations, write_annotations
from yowo_deploy.datasets.formats.box_rows import Footage, Options, Rows
from yowo_deploy.datasets.importer import WRITERS, import_annotations, only_present, recognise, with_test_share
from yowo_deploy.errors import DatasetError, InputError

LAWS = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.mark.parametrize("kind", WRITERS)
@LAWS
@given(expected=annotations())
def test_what_is_exported_is_imported_again_or_said_to_be_lost(
    kind: str, expected: Annotations, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp(kind)
    written = WRITERS[kind](expected, folder, False)
    assert all(file.is_file() and folder in file.parents for file in written.files)
    assert recognise(folder) == kind
    found, _ = import_annotations(folder, kind, Options())
    assert bool(written.lost) == any(map(two_at_a_time, expected.videos))
    if written.lost:
        found, expected = without_tubes(found), without_tubes(expected)
    assert_same(sides_sorted(found), sides_sorted(expected))


@pytest.mark.parametrize("kind", WRITERS)
@settings(max_examples=5, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(expected=annotations())
def test_what_macos_adds_to_a_folder_changes_nothing(
    kind: str, expected: Annotations, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """AppleDouble files begin with 0x00051607 (RFC 1740, appendix B) and are called `._NAME`."""
    folder = tmp_path_factory.mktemp(kind)
    written = WRITERS[kind](expected, folder, False)
    before, _ = import_annotations(folder, kind, Options())
    (folder / "__MACOSX").mkdir()
    for file in written.files:
        for place in (file.parent, folder / "__MACOSX"):
            (place / f"._{file.name}").write_bytes(bytes.fromhex("0005160700020000") + b"Mac OS X        " + bytes(90))
    assert recognise(folder) == kind
    after, _ = import_annotations(folder, kind, Options())
    assert_same(after, before)


def test_an_archive_of_the_finder_holds_one_xml(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "task.zip", "w") as archive:
        archive.writestr("task/annotations.xml", CVAT)
        archive.writestr("__MACOSX/task/._annotations.xml", bytes.fromhex("0005160700020000") + bytes(90))
    for source in (tmp_path / "task.zip", tmp_path):
        found, _ = import_annotations(source, "cvat", Options())
        assert [len(tube) for video in found.videos for tube in video.tubes] == [2]


CVAT = """<annotations><version>1.1</version><meta><task><id>1</id><name>yard</name><size>2</size>
<start_frame>0</start_frame><stop_frame>1</stop_frame><source>yard.mp4</source>
<original_size><width>64</width><height>48</height></original_size></task></meta>
<track id="0" label="walk"><box frame="0" keyframe="1" outside="0" xtl="1" ytl="1" xbr="9" ybr="9"/>
<box frame="1" keyframe="1" outside="0" xtl="2" ytl="1" xbr="9" ybr="9"/></track></annotations>"""


@pytest.mark.parametrize(
    ("on_disk", "named", "found"),
    [
        (["cafe\u0301.mp4"], "caf\u00e9.mp4", "cafe\u0301.mp4"),  # a Mac decomposes names
        (["Yard.MP4"], "yard.mp4", "Yard.MP4"),
        (["cafe\u0301.mp4", "caf\u00e9.mp4"], "caf\u00e9.mp4", "caf\u00e9.mp4"),
        (["Yard.mp4", "yard.mp4"], "yard.mp4", "yard.mp4"),
        (["yard.mp4", "._yard.mp4"], "yard", "yard.mp4"),
    ],
)
def test_names_that_differ_by_case_or_form_are_found_and_told_apart(
    on_disk: list[str], named: str, found: str, tmp_path: Path
) -> None:
    """Unicode Standard Annex 15: canonically equivalent names; the exact one goes first."""
    (tmp_path / "films").mkdir()
    for name in on_disk:
        (tmp_path / "films" / name).touch()
    assert Footage(tmp_path, Options()).find(named) == tmp_path / "films" / found


def two_at_a_time(video: AnnotatedVideo) -> bool:
    """Whether a person has two tubes of one class that share a time: what docs/own-data.md says is lost."""
    return any(
        one is not other
        and (one.class_id, one.tracker_id) == (other.class_id, other.tracker_id)
        and one.frames[0] <= other.frames[-1]
        and other.frames[0] <= one.frames[-1]
        for one in video.tubes
        for other in video.tubes
    )


def without_tubes(data: Annotations) -> Annotations:
    return replace(data, videos=tuple(replace(video, tubes=()) for video in data.videos))


def sides_sorted(data: Annotations) -> Annotations:
    """The order in a side means nothing."""
    splits = tuple({side: tuple(sorted(names)) for side, names in sides.items()} for sides in data.splits)
    return replace(data, splits=splits)


@pytest.mark.parametrize("kind", ["ava", "cocovid"])
def test_frames_that_were_looked_at_with_nobody_there_survive(kind: str, tmp_path: Path) -> None:
    tube = Tube(0, np.array([0, 30, 60]), np.tile(np.array([[1, 2, 30, 40]], np.float32), (3, 1)), tracker_id=0)
    judged = np.array([0, 30, 60, 90])
    video = AnnotatedVideo("a", "a", Path("/nowhere/a.mp4"), 100, (tube,), (64, 48), judged, 30.0)
    expected = Annotations(("walk",), (video,))
    WRITERS[kind](expected, tmp_path, False)
    assert_same(import_annotations(tmp_path, kind, Options())[0], expected)


def test_jhmdb21_comes_in_whole_within_a_gigabyte(data_dir: Path, tmp_path: Path) -> None:
    found, _ = imported_within_a_gigabyte(data_dir / "jhmdb21", tmp_path)
    # Published are 31,838 annotated frames; the YOWO family's file has 14 more, by which three clips are cut short.
    assert counts(found) == (928, 928, 31_852)
    assert [[len(names) for names in sides.values()] for sides in found.splits] == [[660, 268], [658, 270], [663, 265]]
    assert {(video.size_wh, video.fps is not None) for video in found.videos} == {((320, 240), True)}
    with gzip.open(data_dir / "jhmdb21" / "JHMDB-GT.json.gz") as stream:
        truth = json.load(stream)
    videos = tubes = boxes = 0
    for name, of_video in truth["gttubes"].items():
        videos += 1
        for of_class in of_video.values():
            for tube in of_class:
                tubes += 1
                for frame, x1, y1, x2, y2 in tube:
                    boxes += 1
                    assert 1 <= frame <= truth["nframes"][name] and x1 <= x2 and y1 <= y2
    assert (videos, tubes, boxes) == counts(found)


def imported_within_a_gigabyte(source: Path, folder: Path) -> tuple[Annotations, str]:
    """What `data import` makes of it in a process of its own, and says."""
    program = (
        "import sys\n"
        "from yowo_deploy.cli import cli\n"
        "from yowo_deploy.diagnostics.system_info import peak_memory_bytes\n"
        "cli(sys.argv[1:], standalone_mode=False)\n"
        "print(peak_memory_bytes())"
    )
    made = folder / "data.json"
    command = [sys.executable, "-c", program, "data", "import", str(source), "-o", str(made)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert 10_000_000 < int(result.stdout.split()[-1]) < 1 << 30  # Python alone takes more than 10 MB
    return read_annotations(made), result.stderr


def counts(data: Annotations) -> tuple[int, int, int]:
    """Videos, tubes and boxes."""
    tubes = [tube for video in data.videos for tube in video.tubes]
    return len(data.videos), len(tubes), sum(map(len, tubes))


@pytest.fixture(scope="module")
def ucf24(data_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Annotations, str]:
    assert recognise(data_dir / "ucf24") == "ucf24"
    return imported_within_a_gigabyte(data_dir / "ucf24", tmp_path_factory.mktemp("ucf24"))


@pytest.mark.slow
@pytest.mark.parametrize("kind", WRITERS)
def test_the_nine_clips_of_ucf24_go_through_every_tool_unchanged(
    kind: str, ucf24: tuple[Annotations, str], tmp_path: Path
) -> None:
    nine = only_present(ucf24[0])
    assert (len(nine.videos), nine.splits) == (9, ())
    WRITERS[kind](nine, tmp_path, False)
    found, _ = import_annotations(tmp_path, kind, Options())
    assert found.classes == nine.classes
    by_name = {video.name: video for video in found.videos}
    for video in nine.videos:
        again = by_name[video.name]
        assert (again.path.resolve(), again.fps, again.size_wh) == (video.path.resolve(), video.fps, video.size_wh)
        for frame in video.annotated_frames()[::20].tolist():
            boxes, classes = video.at(frame)
            found_boxes, found_classes = again.at(frame)
            order, found_order = np.lexsort(boxes.T), np.lexsort(found_boxes.T)
            assert np.array_equal(boxes[order], found_boxes[found_order])
            assert np.array_equal(classes[order], found_classes[found_order])


@pytest.mark.slow
def test_ucf24_comes_in_whole_within_a_gigabyte_and_its_boxes_do_not_overflow(
    ucf24: tuple[Annotations, str],
) -> None:
    found, said = ucf24
    assert "3185 of 3194 videos are missing" in said and "573862 boxes" in said
    assert counts(found) == (3194, 4458, 573_862)
    assert [[len(names) for names in sides.values()] for sides in found.splits] == [[2284, 910]]
    boxes = np.concatenate([tube.xyxy for video in found.videos for tube in video.tubes])
    assert (boxes[:, 2] > 255).sum() > 10_000
    assert (boxes[:, 2:] > boxes[:, :2]).all()


def test_what_is_in_no_known_format_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        recognise(tmp_path / "absent")
    with pytest.raises(DatasetError, match="name it with --from"):
        recognise(tmp_path)
    (tmp_path / "notes.json").write_text("{}")
    (tmp_path / "number.json").write_text("42")
    (tmp_path / "notes.csv").write_text("a,b,c\n")
    for name in ("notes.json", "number.json", "notes.csv"):
        with pytest.raises(DatasetError, match="name it with --from"):
            recognise(tmp_path / name)
    write_annotations(Annotations(("walk",), ()), tmp_path / "data.json")
    with pytest.raises(DatasetError, match="already: nothing to import"):
        recognise(tmp_path / "data.json")


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        ({"attribute": {}, "view": {}, "metadata": {}, "file": {}}, "via"),
        ([{"data": {"video": "a.mp4"}, "annotations": []}], "labelstudio"),
        ({"images": [], "annotations": [], "categories": [], "videos": []}, "cocovid"),
    ],
)
def test_json_is_told_by_its_keys(content: object, kind: str, tmp_path: Path) -> None:
    (tmp_path / "project.json").write_text(json.dumps(content))
    assert recognise(tmp_path) == recognise(tmp_path / "project.json") == kind


def test_the_releases_folders_name_their_classes(tmp_path: Path, write_pictures: object) -> None:
    for name, number in (("walk", 2), ("sit", 1)):
        write_pictures(tmp_path / "rgb-images" / name / "a_c01", range(1, 4))  # type: ignore[operator]
        (tmp_path / "labels" / name / "a_c01").mkdir(parents=True)
        for frame in (1, 2):
            (tmp_path / "labels" / name / "a_c01" / f"{frame:05d}.txt").write_text(f"{number} 10 20 30 40\n")
    lists = {"trainlist.txt": "walk", "testlist.txt": "sit"}
    for file, name in lists.items():
        (tmp_path / file).write_text("".join(f"labels/{name}/a_c01/{frame:05d}.txt\n" for frame in (1, 2)))
    assert recognise(tmp_path) == "yowo-folders"
    found, _ = import_annotations(tmp_path, "yowo-folders", Options())
    assert found.classes == ("sit", "walk")
    assert found.splits == ({"train": ("walk_a_c01",), "test": ("sit_a_c01",)},)
    [tube] = found.videos[0].tubes
    assert (tube.class_id, tube.frames.tolist(), found.videos[0].size_wh) == (1, [0, 1], (64, 48))


@pytest.mark.parametrize(("kind", "action"), [("jhmdb21", "walk"), ("ucf24", "Diving")])
def test_a_public_set_in_the_release_s_folders_has_the_splits_that_it_lists(
    kind: str, action: str, tmp_path: Path
) -> None:
    for number in (1, 2):
        (tmp_path / "labels" / action / f"a_c0{number}").mkdir(parents=True)
        (tmp_path / "labels" / action / f"a_c0{number}" / "00001.txt").write_text("1 10 20 30 40\n")
    for number in (1, 2):
        for side, video in (("train", number), ("test", 3 - number)):
            (tmp_path / f"{side}list0{number}.txt").write_text(f"labels/{action}/a_c0{video}/00001.txt\n")
    found, _ = import_annotations(tmp_path, kind, Options())
    assert [sides["train"] for sides in found.splits] == [(f"{action}_a_c01",), (f"{action}_a_c02",)]


@LAWS
@given(given_data=annotations(), share=st.floats(0.1, 0.5))
def test_a_share_to_test_on_takes_whole_recordings_and_leaves_every_class_to_train_on(
    given_data: Annotations, share: float
) -> None:
    [sides] = with_test_share(given_data, share).splits
    groups = {video.name: video.group for video in given_data.videos}
    assert sorted((*sides["train"], *sides["test"])) == sorted(groups)
    assert not {groups[n] for n in sides["train"]} & {groups[n] for n in sides["test"]}
    used = {t.class_id for v in given_data.videos for t in v.tubes}
    assert used == {t.class_id for v in given_data.videos if v.name in sides["train"] for t in v.tubes}


@pytest.mark.parametrize(
    ("kind", "name", "content"),
    [
        (
            "cvat",
            "a.xml",
            "<annotations><track label='x'><box frame='x' xtl='1' ytl='1' xbr='2' ybr='2'/></track></annotations>",
        ),
        ("cocovid", "a.json", '{"info": null, "videos": [], "images": [], "annotations": [], "categories": []}'),
        ("ava", "a.csv", "v,1e300,0.1,0.1,0.2,0.2,1,1\\n"),
        ("labelstudio", "a.json", "3"),
    ],
)
def test_a_malformed_file_is_one_error_and_no_traceback(kind: str, name: str, content: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(content)
    with pytest.raises(InputError, match=name):
        import_annotations(tmp_path / name, kind, Options())


FAR = 10**12
FAR_FRAMES = [
    ("ava", "a.csv", f"v,{FAR},0.1,0.1,0.2,0.2,1,1\n"),
    ("ava", "a.csv", f"v,0,0.1,0.1,0.2,0.2,1,1\nv,{FAR},0.1,0.1,0.2,0.2,1,1\n"),
    ("mot", "gt.txt", f"{FAR},1,10,20,30,40,1,1,1\n"),
    ("mot", "gt.txt", "inf,1,10,20,30,40,1,1,1\n"),
    ("cvat", "a.xml", f"<annotations><track id='1' label='x'>{{}}<box frame='{FAR}' {{}}/></track></annotations>"),
    ("cocovid", "a.json", {"frame_id": FAR}),
    ("cocovid", "a.json", {"length": FAR}),
    ("labelstudio", "a.json", {"frame": FAR}),
    ("labelstudio", "a.json", {"framesCount": FAR}),
    ("via", "a.json", {"z": FAR}),
]


@pytest.mark.parametrize(("kind", "name", "content"), FAR_FRAMES)
def test_frames_that_no_video_has_are_an_error_and_take_no_memory(
    kind: str, name: str, content: str | dict[str, int], tmp_path: Path
) -> None:
    sides = "xtl='1' ytl='1' xbr='2' ybr='2'"
    text = content.format(f"<box frame='0' {sides}/>", sides) if isinstance(content, str) else far_json(kind, content)
    (tmp_path / name).write_text(text)
    tracemalloc.start()
    try:
        with pytest.raises(DatasetError, match=name):
            import_annotations(tmp_path / name, kind, Options(fps=25.0, max_boxes=1000))
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def far_json(kind: str, change: dict[str, int]) -> str:
    if kind == "cocovid":
        video = {"id": 1, "name": "a", "width": 64, "height": 48, "length": change.get("length", 9)}
        image = {"id": 1, "video_id": 1, "frame_id": change.get("frame_id", 1)}
        box = {"id": 1, "image_id": 1, "category_id": 1, "instance_id": 1, "bbox": [1, 2, 3, 4]}
        kinds = [{"id": 1, "name": "walk"}]
        return json.dumps({"videos": [video], "images": [image], "annotations": [box], "categories": kinds})
    if kind == "via":
        row = {"vid": "1", "z": [change["z"]], "xy": [2, 1, 2, 3, 4], "av": {"1": "0"}}
        about = {"attribute": {"1": {"aname": "action", "options": {"0": "walk"}}}, "metadata": {"1": row}}
        return json.dumps(about | {"file": {"1": {"fname": "a.mp4"}}, "view": {"1": {"fid_list": ["1"]}}})
    keys = [{"frame": frame, "x": 1, "y": 1, "width": 9, "height": 9} for frame in (1, change.get("frame", 2))]
    value = {"framesCount": change.get("framesCount", 10), "duration": 1.0, "sequence": keys, "labels": ["walk"]}
    region = {"type": "videorectangle", "id": "r", "value": value}
    return json.dumps([{"data": {"video": "a.mp4"}, "annotations": [{"result": [region]}]}])


def test_two_people_who_were_given_one_number_are_two() -> None:
    rows = Rows()
    for left in (10.0, 400.0):
        for frame in range(5):
            rows.add(frame, 0, "walk", (left, 10.0, left + 50, 90.0))
    tubes = rows.tubes(["walk"])
    assert sorted(float(tube.xyxy[0, 0]) for tube in tubes) == [10.0, 400.0]
    assert all(len(tube) == 5 for tube in tubes) and len({tube.tracker_id for tube in tubes}) == 2
