"""Moments are found by action, score, length and zone, and cut out of their videos."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from yowo_deploy.archive import ArchiveSummary, Failure, Progress, cut_clips, find
from yowo_deploy.archive.tables import schema, write_tables
from yowo_deploy.cli import cli
from yowo_deploy.cli.find import parse_seconds
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.rule_files import parse_zone
from yowo_deploy.video.reader import VideoReader

pyarrow = pytest.importorskip("pyarrow")
parquet = pytest.importorskip("pyarrow.parquet")
FPS = 10


def action(label: str, score: float, first: int, last: int) -> dict[str, Any]:
    times = {"first_time": first / FPS, "last_time": last / FPS}
    names = {"label": label, "class_id": 0, "person": 1, "score": score}
    return {**names, "first_frame": first, "last_frame": last, **times}


@pytest.fixture(scope="module")
def archive(film: Callable[..., Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A person who waves on the left in frames 5 to 14, and on the right in 15 to 34; and one who sits."""
    folder = tmp_path_factory.mktemp("archive")
    boxes = [[0.0 if frame < 15 else 40.0, 10.0, 20.0 if frame < 15 else 60.0, 40.0] for frame in range(5, 35)]
    actions = [[action("wave", 0.8, 5, 34)], [action("sit", 0.5, 5, 14), action("wave", 0.4, 15, 34)]]
    tubes = [
        {"id": number, **action("wave", 0.6, 5, 34), "actions": each, "boxes": boxes, "scores": []}
        for number, each in enumerate(actions)
    ]
    record = {"source": str(film(folder / "film.avi")), "frames": 40, "detections": 60, "fps": FPS, "size": [64, 48]}
    (folder / "record.json").write_text(json.dumps({**record, "seconds": 4.0, "tubes": tubes, "events": []}))
    write_tables(folder, [folder / "record.json"])
    return folder


def found(archive: Path, **wanted: Any) -> list[tuple[str, int, int]]:
    return [(each.label, each.first_frame, each.last_frame) for each in find(archive, **wanted)]


ROW = {"source": "a.mp4", "tube": 1, "person": 1, "class_id": 0, "label": "wave", "score": 0.9, "seconds": 0.2}
ROW |= {"first_frame": 0, "last_frame": 1, "first_time": 0.0, "last_time": 0.1, "width": 64, "height": 48}


@pytest.mark.parametrize(
    "wrong",
    [
        *({name: None} for name in ("source", "label", "first_frame", "first_time", "width", "boxes")),
        *({"boxes": boxes} for boxes in ([1.0, 2.0, 3.0], [float("nan")] * 4)),
        *({"width": 0}, {"seconds": float("inf")}, {"first_time": float("nan")}),
    ],
    ids=repr,
)
def test_a_table_of_others_is_named(wrong: dict[str, Any], tmp_path: Path) -> None:
    row = {**ROW, "boxes": [0.0, 0.0, 9.0, 9.0] * 2, **wrong}
    parquet.write_table(pyarrow.Table.from_pylist([row], schema()), tmp_path / "tubes.parquet")
    with pytest.raises(InputError, match="cannot be searched"):
        find(tmp_path, boxes=True) if "boxes" in wrong else find(tmp_path, zones=[parse_zone(LEFT)])


def test_a_table_of_a_few_kB_with_many_rows_is_refused(archive: Path, tmp_path: Path) -> None:
    table = pyarrow.concat_tables([parquet.read_table(archive / "tubes.parquet").slice(0, 1)] * 200_000)
    parquet.write_table(table.combine_chunks(), tmp_path / "tubes.parquet")
    with pytest.raises(InputError, match="claims 200000 rows in"):
        find(tmp_path)


LEFT, RIGHT = "left=0,0,0.5,0,0.5,1,0,1", "right=0.5,0,1,0,1,1,0.5,1"


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        ({}, [("wave", 5, 34), ("sit", 5, 14), ("wave", 15, 34)]),
        ({"limit": 1}, [("wave", 5, 34)]),
        ({"action": "wave"}, [("wave", 5, 34), ("wave", 15, 34)]),
        ({"action": ["sit", "wave"], "min_score": 0.5}, [("wave", 5, 34), ("sit", 5, 14)]),
        ({"seconds": 1.5}, [("wave", 5, 34), ("wave", 15, 34)]),
        ({"zones": [parse_zone(LEFT)]}, [("wave", 5, 14), ("sit", 5, 14)]),
        ({"zones": [parse_zone(RIGHT)], "seconds": 1.5}, [("wave", 15, 34), ("wave", 15, 34)]),
        ({"zones": [parse_zone(LEFT), parse_zone(RIGHT)], "limit": 1}, [("wave", 5, 34)]),
    ],
)
def test_what_is_asked_for_is_found(wanted: dict[str, Any], expected: list[Any], archive: Path) -> None:
    assert found(archive, **wanted) == expected


def test_a_stretch_in_a_zone_has_its_own_times_and_boxes(archive: Path) -> None:
    first, *_ = find(archive, zones=[parse_zone(RIGHT)], boxes=True)
    assert (first.first_time, first.last_time, first.seconds) == pytest.approx((1.5, 3.4, 2.0))
    assert first.boxes is not None and first.boxes.tolist() == [[40, 10, 60, 40]] * 20


def test_an_action_that_is_not_there_is_refused_with_those_that_are(archive: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no tube has the action 'run', expected one of sit, wave"):
        find(archive, "run")
    assert find(archive, "sit", min_score=0.9) == []
    with pytest.raises(InputError, match=r"holds no tubes.parquet: expected the output of `yowo-deploy batch`"):
        find(tmp_path)


def test_shards_are_searched_together(archive: Path, tmp_path: Path) -> None:
    for number in (1, 2):
        (tmp_path / "shards" / f"{number}-of-2").mkdir(parents=True)
        write_tables(tmp_path / "shards" / f"{number}-of-2", [archive / "record.json"])
    assert len(find(tmp_path)) == 2 * len(find(archive))


def test_clips_show_the_moment_and_a_second_on_both_sides(archive: Path, tmp_path: Path) -> None:
    [path] = cut_clips(find(archive, zones=[parse_zone(RIGHT)], boxes=True, limit=1), tmp_path / "clips")
    assert path.name == "0001-film-15-wave.webm"
    with VideoReader(path) as reader, VideoReader(archive / "film.avi") as source:
        clip, frames = list(reader), list(source)[5:40]
    assert len(clip) == 35  # from frame 15 - 10 to the end of the video
    change = [float(np.abs(a.astype(int) - b).mean()) for a, b in zip(clip, frames, strict=True)]
    assert max(change[:10]) < 30 and np.mean(change[10:30]) > np.mean(change[:10])  # a box is drawn in these


@pytest.mark.parametrize("label", ["jump/leap", "../../out", "\u8dd1" * 100])
def test_no_label_leads_out_of_the_folder_of_clips(label: str, archive: Path, tmp_path: Path) -> None:
    [moment] = find(archive, boxes=True, limit=1)
    [path] = cut_clips([replace(moment, label=label)], tmp_path / "clips")
    assert path.is_file() and [*(tmp_path / "clips").iterdir()] == [path] and [*tmp_path.iterdir()] == [path.parent]


def test_the_command_lists_moments_and_cuts_clips(archive: Path, tmp_path: Path) -> None:
    options = ["--action", "wave", "--min-score", "0.5", "--for", "2s", "-o", str(tmp_path / "clips"), "--json"]
    ended = CliRunner().invoke(cli, ["find", str(archive), *options])
    assert ended.exit_code == 0, ended.output
    [line] = map(json.loads, ended.stdout.splitlines())
    assert line["label"] == "wave" and line["seconds"] == pytest.approx(3.0) and "boxes" not in line
    assert len(list((tmp_path / "clips").iterdir())) == 1
    assert "wave" in CliRunner().invoke(cli, ["find", str(archive)]).stdout


@pytest.mark.parametrize(("limit", "more"), [(2, True), (3, False)])
def test_the_command_says_that_there_is_more(limit: int, more: bool, archive: Path) -> None:
    ended = CliRunner().invoke(cli, ["find", str(archive), "--limit", str(limit), "--json"])
    assert len(ended.stdout.splitlines()) == limit and ("the best 2 of more" in ended.stderr) == more


@pytest.mark.parametrize(("text", "seconds"), [("2s", 2), ("500ms", 0.5), ("1.5min", 90), ("3", 3), ("1h", 3600)])
def test_durations(text: str, seconds: float) -> None:
    assert parse_seconds(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "2 weeks", "-1s", "nan", "١s"])
def test_a_duration_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="is not understood"):
        parse_seconds(text)


def test_boxes_are_read_only_where_they_are_needed(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a million tubes they would be a gigabyte."""
    read, names = parquet.read_table, list[list[str]]()
    monkeypatch.setattr(
        parquet, "read_table", lambda *given, **more: names.append(more["columns"]) or read(*given, **more)
    )
    find(archive)
    find(archive, boxes=True)
    assert ["boxes" in each for each in names] == [False, True] and set(names[1]) <= set(schema().names)


def test_the_python_of_the_page_runs(
    archive: Path,
    project_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """With results that are there already."""
    [code] = re.findall(r"```python\n(.*?)```", (project_root / "docs" / "archives.md").read_text(), flags=re.DOTALL)
    failed = (Failure("broken.mp4", "breaks off"),)
    done = ArchiveSummary(archive, 2, failed, {}, Progress(2, 1, 1, 0, 4.0, 2.0, {}))
    monkeypatch.setattr("yowo_deploy.archive.batch", lambda sources, output, **options: done)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").symlink_to(archive)
    exec(compile(code, "archives.md", "exec"), {})
    assert capsys.readouterr().out == "broken.mp4 breaks off\n" and list((tmp_path / "clips").iterdir())
