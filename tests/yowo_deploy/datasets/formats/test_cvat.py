"""CVAT's other forms, with the elements that its exporter writes.

Right values: `dump_as_cvat_interpolation` (formats/cvat.py) and `JobData`, `TaskData`, `ProjectData` (bindings.py) of
CVAT 2.x, and its documentation ("CVAT for video", "XML annotation format"): a job has no name and no source, its
original_size stands beside it; a task of pictures has neither; every frame of a track is listed but for deleted ones;
frames of a project count on from task to task within a subset; a skeleton has no `outside`, its points have; a label
of a point has a parent; a checkbox is "true" or "false".
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yowo_deploy.datasets.data_json import Annotations
from yowo_deploy.datasets.formats import cvat
from yowo_deploy.datasets.formats.box_rows import Options
from yowo_deploy.datasets.importer import import_annotations
from yowo_deploy.errors import DatasetError

Write = Callable[..., None]

WALK = "<label><name>walk</name><color>#ff0000</color><type>any</type><attributes></attributes></label>"
SIZE = "<original_size><width>64</width><height>48</height></original_size>"


def about(kind: str = "task", labels: str = WALK, last: int = 19, number: int = 9, **more: object) -> str:
    """`<task>` or `<job>` as in <meta>."""
    facts = {"id": number, "size": last + 1, "mode": "interpolation", "subset": "default", "start_frame": 0}
    facts |= {"stop_frame": last, "frame_filter": ""} | more
    inside = "".join(f"<{key}>{value}</{key}>" for key, value in facts.items())
    return f"<{kind}>{inside}<labels>{labels}</labels></{kind}>"


def box(frame: int, outside: int = 0, keyframe: int = 0, x: float = 10, attributes: str = "") -> str:
    sides = f'xtl="{x:.2f}" ytl="10.00" xbr="{x + 20:.2f}" ybr="40.00"'
    state = f'frame="{frame}" keyframe="{keyframe}" outside="{outside}" occluded="0"'
    return f'<box {state} {sides} z_order="0">{attributes}</box>'


def track(*shapes: str, number: int = 0, label: str = "walk", task: int | None = None) -> str:
    of_task = f' task_id="{task}" subset="default"' if task is not None else ""
    return f'<track id="{number}" label="{label}" source="manual"{of_task}>{"".join(shapes)}</track>'


def read(
    folder: Path, meta: str, *tracks: str, name: str = "a.xml", **options: object
) -> tuple[Annotations, list[str]]:
    text = f"<annotations><version>1.1</version><meta>{meta}</meta>{''.join(tracks)}</annotations>"
    (folder / name).write_text(f'<?xml version="1.0" encoding="utf-8"?>\n{text}', encoding="utf-8")
    return import_annotations(folder / name, "cvat", Options(**options))  # type: ignore[arg-type]


def frames(data: Annotations, video: int = 0) -> list[int]:
    return sorted(frame for tube in data.videos[video].tubes for frame in tube.frames.tolist())


def listed(*spans: tuple[int, int], step: int = 1) -> list[str]:
    """Every frame of each span, as CVAT interpolates."""
    return [box(frame, keyframe=int(frame in (a, b))) for a, b in spans for frame in range(a, b + 1, step)]


def test_a_job_is_of_the_only_video_there(tmp_path: Path, write_video: Write) -> None:
    write_video(tmp_path / "videos" / "yard.avi", frames=20)
    job = about("job", last=14) + "<dumped>2024</dumped>" + SIZE
    found, notes = read(tmp_path, job, track(*listed((5, 12)), box(13, 1, 1)))
    [video] = found.videos
    assert (video.name, video.path) == ("yard", tmp_path / "videos" / "yard.avi")
    assert (video.size_wh, video.frames, frames(found), found.splits) == ((64, 48), 15, list(range(5, 13)), ())
    assert notes == ["job 9 does not name its video: the only one there is used, yard.avi (yard)"]


def test_a_job_of_one_of_several_videos_says_what_to_do(tmp_path: Path, write_video: Write) -> None:
    for name in ("yard", "roof"):
        write_video(tmp_path / f"{name}.avi")
    found, [note] = read(tmp_path, about("job") + SIZE, track(*listed((5, 12))))
    assert (found.videos[0].name, found.videos[0].path.exists(), found.videos[0].size_wh) == ("job 9", False, (64, 48))
    assert note.startswith("job 9 does not name its video, and 2 are there: give --videos a folder with only its video")


@pytest.mark.parametrize(("size", "last"), [(SIZE.replace("64", "640"), 12), (SIZE, 40)])
def test_a_video_of_another_size_or_length_is_not_taken(
    size: str, last: int, tmp_path: Path, write_video: Write
) -> None:
    write_video(tmp_path / "yard.avi", frames=20)
    found, [note] = read(tmp_path, about("job", last=last) + size, track(*listed((5, last))))
    assert not found.videos[0].path.exists()
    assert "the only one there, yard.avi, is another (64x48, 20 frames): give --videos a folder with" in note
    assert "or rename that to 'job 9'" in note
    (tmp_path / "yard.avi").rename(tmp_path / "job 9.avi")
    assert import_annotations(tmp_path / "a.xml", "cvat", Options())[0].videos[0].path == tmp_path / "job 9.avi"


def test_jobs_of_one_video_are_two_videos_of_one_recording(tmp_path: Path, write_video: Write) -> None:
    write_video(tmp_path / "yard.avi", frames=20)
    read(tmp_path, about("job", number=1) + SIZE, track(*listed((0, 3))))
    read(tmp_path, about("job", number=2) + SIZE, track(*listed((10, 13))), name="b.xml")
    found, _ = import_annotations(tmp_path, "cvat", Options())
    assert [video.name for video in found.videos] == ["yard job 1", "yard job 2"]
    assert len({video.group for video in found.videos}) == 1


def test_a_task_of_pictures_is_of_the_only_folder_there(tmp_path: Path, write_pictures: Write) -> None:
    write_pictures(tmp_path / "fr", range(1, 21))
    task = about(name="Session 3, yard", mode="annotation")
    found, notes = read(tmp_path, task, track(*listed((5, 12))), videos=(tmp_path / "fr",))
    [video] = found.videos
    assert (video.name, video.path, video.size_wh) == ("Session 3, yard", tmp_path / "fr", (64, 48))
    assert any("does not name its video: the only one there is used, fr" in note for note in notes)


def project(*tasks: str) -> str:
    return f"<project><labels>{WALK}</labels><tasks>{''.join(tasks)}</tasks></project>"


def test_frames_of_a_project_count_on_within_a_subset(tmp_path: Path) -> None:
    """Offsets are sums of start_frame + step * size of the tasks before (`_init_task_frame_offsets`)."""
    a = about(labels="", last=9, number=1, name="a", source="a.mp4", subset="Train")
    b = about(labels="", number=2, name="b", source="b.mp4", subset="Train", start_frame=4, size=6, stop_frame=14)
    b = b.replace("<frame_filter></frame_filter>", "<frame_filter>step=2</frame_filter>")
    c = about(labels="", last=9, number=3, name="c", source="c.mp4", subset="Train")
    d = about(labels="", last=9, number=4, name="d", source="d.mp4", subset="Validation")
    tracks = [track(*listed((2, 4)), task=1), track(*listed((14, 18), step=2), task=2)]  # 10 + 4, every second
    tracks += [track(box(26 + 7, keyframe=1), task=3), track(box(7, keyframe=1), task=4)]  # 10 + 4 + 2 * 6
    found, notes = read(tmp_path, project(a, b, c, d), *tracks)
    assert [frames(found, video) for video in range(4)] == [[2, 3, 4], [4, 5, 6, 7, 8], [7], [7]]
    assert found.splits == ({"train": ("a", "b", "c"), "test": ("d",)},) and not notes


def test_a_project_whose_tasks_count_anew_is_read_so_and_told(tmp_path: Path) -> None:
    tasks = [about(labels="", last=9, number=number, name=f"v{number}") for number in (1, 2)]
    found, notes = read(tmp_path, project(*tasks), *(track(box(3, keyframe=1), task=number) for number in (1, 2)))
    assert [frames(found, video) for video in range(2)] == [[3], [3]]
    assert "frames of a project's tasks start from 0 in each task (2 videos, the first: v1)" in notes


def test_tracks_of_no_task_and_elements_that_are_not_known_are_counted(tmp_path: Path) -> None:
    meta = project(about(labels="", number=1, name="a", source="a.mp4"))
    second = about(labels="", number=2, name="b", source="b.mp4", subset="x")
    meta = meta.replace("</tasks>", f"{second}</tasks>")
    odd = track(box(3, keyframe=1), '<brush frame="4"/>', task=1)
    found, notes = read(tmp_path, meta, odd, track(box(3, keyframe=1), number=5, task=7), "<interval/>")
    assert len(found.videos[0].tubes) == 1
    assert notes[-1] == "left out: 1 <brush> elements, 1 <interval> elements, 1 tracks of no task"


def point(label: str, x: float, y: float, outside: int, attributes: str = "") -> str:
    return (
        f'<points label="{label}" keyframe="1" outside="{outside}" occluded="0" points="{x},{y}">{attributes}</points>'
    )


def skeleton(frame: int, *outside: int, attributes: str = "") -> str:
    action = '<attribute name="action">of a part</attribute>'
    points = [
        point(name, 10 + 5 * n, 10 + 5 * n, out, action)
        for n, (name, out) in enumerate(zip("abc", outside, strict=True))
    ]
    return f'<skeleton frame="{frame}" keyframe="1" z_order="0">{"".join(points)}{attributes}</skeleton>'


def test_a_skeleton_is_gone_when_all_its_points_are(tmp_path: Path) -> None:
    parts = "".join(f"<label><name>{name}</name><type>points</type><parent>walk</parent></label>" for name in "abc")
    shapes = [
        skeleton(3, 0, 0, 0),
        skeleton(4, 0, 1, 0),
        skeleton(5, 1, 1, 1),
        skeleton(9, 1, 1, 0),
        skeleton(10, 1, 1, 1),
    ]
    found, notes = read(tmp_path, about(labels=WALK + parts, source="a.mp4"), track(*shapes))
    assert (found.classes, frames(found)) == (("walk",), [3, 4, 9])
    assert [found.videos[0].at(n)[0][0].tolist() for n in (3, 4, 9)] == [[10, 10, 20, 20]] * 2 + [[20, 20, 20, 20]]
    assert notes[-2:] == [
        "taken as the upright boxes around them: 3 skeleton",
        "left out: 3 labels of parts of skeletons",
    ]


def test_attributes_of_a_skeletons_points_are_not_its_own(tmp_path: Path) -> None:
    shape = skeleton(3, 0, 0, 0, attributes='<attribute name="action">sit</attribute>')
    found, _ = read(tmp_path, about(source="a.mp4"), track(shape), action_from="attribute:action")
    assert found.classes == ("sit",)


@pytest.mark.parametrize(
    ("tracks", "expected", "deleted"),
    [
        ([listed((0, 7), (12, 19))], [*range(8), *range(12, 20)], "8 to 11"),
        ([[box(0, keyframe=1), box(7, keyframe=1), box(12, keyframe=1)]], [*range(13)], ""),  # keyframes alone
        # The frame at the end of the gap is of a keyframe, and so are all of the other track.
        ([listed((0, 7)), [box(5, keyframe=1), box(12, keyframe=1, x=40)]], [*range(8), 5, 6, 7, 12], "8 to 11"),
        (
            [[*listed((0, 3)), box(4, 1, 1), *listed((9, 11))], listed((0, 19))],
            [*range(4), *range(9, 12), *range(20)],
            "",
        ),
        ([listed((0, 2), (4, 6), (9, 9))], [0, 1, 2, 4, 5, 6, 9], "3, 7 to 8"),
        # The first person left in a deleted frame and came back in 15; the second was there all the time.
        (
            [listed((0, 7), (15, 19)), listed((0, 7), (12, 19))],
            [*range(8), *range(15, 20), *range(8), *range(12, 20)],
            "8 to 11",
        ),
    ],
)
def test_frames_that_no_track_lists_were_deleted(
    tracks: list[list[str]], expected: list[int], deleted: str, tmp_path: Path
) -> None:
    found, notes = read(tmp_path, about(source="a.mp4"), *(track(*shapes, number=n) for n, shapes in enumerate(tracks)))
    assert frames(found) == sorted(expected)
    assert notes == ([f"frames that no track lists were deleted in CVAT: {deleted} (a)"] if deleted else [])


def test_between_the_frames_of_a_filter_nothing_was_deleted(tmp_path: Path) -> None:
    """`step=5` from frame 2: boxes go on from one to the next; 17 was deleted; nobody is there from 27 on."""
    task = about(source="a.mp4", start_frame=2, last=40).replace("></frame_filter>", ">step=5</frame_filter>")
    shapes = [*listed((2, 12), step=5), box(22, keyframe=1), box(27, 1, 1)]
    found, notes = read(tmp_path, task, track(*shapes))
    assert frames(found) == [*range(2, 13), 22]
    assert notes == ["frames that no track lists were deleted in CVAT: 17 (a)"]


def attribute(name: str, value: object) -> str:
    return f'<attribute name="{name}">{str(value).lower() if isinstance(value, bool) else value}</attribute>'


def declared(kind: str, *values: str, name: str = "action") -> str:
    inside = "\n".join(values)
    spec = f"<attribute><name>{name}</name><mutable>True</mutable><input_type>{kind}</input_type>"
    return WALK.replace(
        "<attributes>", f"<attributes>{spec}<default_value></default_value><values>{inside}</values></attribute>"
    )


@pytest.mark.parametrize("is_declared", [True, False])
def test_a_checkbox_is_an_action_where_it_is_true(is_declared: bool, tmp_path: Path) -> None:
    labels = declared("checkbox", "false", name="waving") if is_declared else WALK
    shapes = [box(n, attributes=attribute("waving", 5 <= n < 15) + attribute("age", "old")) for n in range(20)]
    found, notes = read(tmp_path, about(labels=labels, source="a.mp4"), track(*shapes), action_from="attribute:waving")
    assert (found.classes, frames(found)) == (("waving",), list(range(5, 15)))
    assert notes == ["attributes that are not taken: age", "left out: 10 boxes without an action"]


def test_several_checkboxes_are_several_actions_at_once(tmp_path: Path) -> None:
    both = [box(n, attributes=attribute("walking", n < 10) + attribute("waving", 5 <= n < 15)) for n in range(20)]
    found, _ = read(tmp_path, about(source="a.mp4"), track(*both), action_from="attribute:walking,waving")
    spans = {found.classes[tube.class_id]: tube.frames.tolist() for tube in found.videos[0].tubes}
    assert spans == {"walking": list(range(10)), "waving": list(range(5, 15))} and found.exclusive == 0
    comma = [box(n, attributes=attribute("walking,waving", True)) for n in range(20)]
    found, _ = read(tmp_path, about(source="a.mp4"), track(*comma), action_from="attribute:walking,waving")
    assert found.classes == ("walking,waving",)


@pytest.mark.parametrize(
    ("kind", "values", "value", "expected"),
    [
        ("select", ("open (e.g., a window)", "sit, then stand"), "sit, then stand", ("sit, then stand",)),
        ("radio", ("a, b", "c"), "a, b", ("a, b",)),
        ("text", ("",), "walk, wave", ("walk", "wave")),
        ("text", ("walk, wave",), "walk, wave", ("walk, wave",)),  # its default value
        ("text", ("",), "open (e.g., a window), walk", ("open (e.g., a window)", "walk")),
        ("select", ("true", "x"), "true", ("true",)),
        ("number", ("0", "9", "1"), "3", ("3",)),
    ],
)
def test_values_of_choice_are_whole(
    kind: str, values: tuple[str, ...], value: str, expected: tuple[str, ...], tmp_path: Path
) -> None:
    shape = box(0, keyframe=1, attributes=attribute("action", value))
    meta = about(labels=declared(kind, *values), source="a.mp4")
    found, _ = read(tmp_path, meta, track(shape), action_from="attribute:action")
    assert sorted(found.classes) == sorted(expected)


def test_a_turned_ellipse_reaches_less_far_than_its_rectangle(tmp_path: Path) -> None:
    """Of half axes 20 and 10 turned by 45 degrees it is sqrt(20^2 / 2 + 10^2 / 2) either way."""
    shape = '<ellipse frame="0" keyframe="1" outside="0" occluded="0" cx="30" cy="24" rx="20" ry="10" rotation="45"/>'
    found, _ = read(tmp_path, about(source="a.mp4"), track(shape))
    reach = np.sqrt(250)
    expected = [30 - reach, 24 - reach, 30 + reach, 24 + reach]
    assert found.videos[0].tubes[0].xyxy[0] == pytest.approx(expected, abs=1e-4)  # float32 of 1e2


def test_names_are_read_without_the_blanks_of_their_layout(tmp_path: Path) -> None:
    meta = about(labels=WALK.replace("walk", "\n walk\n "), source="\n  yard %20 &amp; #1.mp4\n ", name=" yard ")
    found, _ = read(tmp_path, meta, track(box(0, keyframe=1)))
    assert (found.classes, found.videos[0].name) == (("walk",), "yard")
    assert found.videos[0].path.name == "yard %20 & #1.mp4"


@pytest.mark.parametrize(
    ("subsets", "splits"),
    [
        (("default", "default"), ()),
        (("default", "Test"), ({"train": ("v1",), "test": ("v2",)},)),
        (("night", "Validation"), ({"train": ("v1",), "test": ("v2",)},)),
    ],
)
def test_default_is_no_subset_and_other_names_are_told(
    subsets: tuple[str, str], splits: tuple[dict[str, tuple[str, ...]], ...], tmp_path: Path
) -> None:
    for number, subset in enumerate(subsets, 1):
        task = about(number=number, name=f"v{number}", source=f"v{number}.mp4", subset=subset)
        read(tmp_path, task, track(box(0, keyframe=1)), name=f"{number}.xml")
    found, notes = import_annotations(tmp_path, "cvat", Options())
    assert found.splits == splits
    assert notes == ([] if not splits else [f"subset {subsets[0]!r} is to train on (v1)"])


def test_a_job_that_is_none_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=r"a.xml: in <meta>: .*'x'"):
        read(tmp_path, about("job", stop_frame="x"), track(box(0)))


def test_a_value_is_read_once_for_all_frames_that_it_lasts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two keyframes far apart with a long value made hours of 2 kB."""
    parsed: list[str] = []
    monkeypatch.setattr(cvat, "parted", lambda text: [parsed.append(text) or text])  # type: ignore[func-returns-value]
    shapes = [box(n, keyframe=1, attributes=attribute("action", n)) for n in (0, 50, 99)]
    meta = about(source="a.mp4", last=99)
    found, _ = read(tmp_path, meta, track(*shapes), action_from="attribute:action")
    assert parsed == ["0", "50", "99"] and frames(found) == list(range(100))


def test_the_labels_of_a_project_are_read_once_for_all_tasks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[str] = []
    attribute_of = cvat._Attribute
    monkeypatch.setattr(cvat, "_Attribute", lambda *given: made.append(given[0]) or attribute_of(*given))
    tasks = [about(labels="", number=number, name=f"v{number}", source=f"{number}.mp4") for number in range(30)]
    tracks = [track(box(3, keyframe=1, attributes=attribute("action", "a, b")), task=number) for number in (0, 29)]
    meta = project(*tasks).replace(WALK, declared("select", "a, b"))
    found, _ = read(tmp_path, meta, *tracks, action_from="attribute:action")
    assert made.count("select") == 1 and found.classes == ("a, b",)


def test_a_note_lists_the_most_frequent_kinds_alone(tmp_path: Path) -> None:
    odd = [f"<odd{number}/>" * (1 + (number < 20)) for number in range(50)]
    _, notes = read(tmp_path, about(source="a.mp4"), track(box(3, keyframe=1), *odd))
    assert notes[-1].count("<odd") == 20 and notes[-1].startswith("left out: 2 <odd0>") and "30 more kinds" in notes[-1]
