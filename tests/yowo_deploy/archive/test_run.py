"""`batch`: every video has a result or a reason, nothing is done twice, and results of two kinds are not mixed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from benchmarks.archive import contents, differences
from tests.waiting import wait_until
from yowo_deploy import Detector, Outputs
from yowo_deploy.archive import ArchiveSummary, Progress, batch
from yowo_deploy.archive import run as run_module
from yowo_deploy.archive.linking import record_of
from yowo_deploy.archive.plan import Video, plan
from yowo_deploy.archive.settings import ArchiveSettings
from yowo_deploy.archive.tables import rows_of
from yowo_deploy.archive.worker import ArchiveWorker, Cut, Done, _identity
from yowo_deploy.cli import cli
from yowo_deploy.detector import DetectorOptions
from yowo_deploy.errors import InputError
from yowo_deploy.video.sources import open_source
from yowo_deploy.worker_pool import ProcessPool, attempt

OPTIONS: dict[str, Any] = {"backend": "onnxruntime", "confidence": 0.3, "keep": 0.2, "tube_scores": True}
EVENTS = Outputs(on=0.3, off=0.2, min_frames=2)


def run(films: Path, output: Path, **options: Any) -> ArchiveSummary:
    return batch(films, output, films / "small.onnx", outputs=EVENTS, segment_s=1.0, **{**OPTIONS, **options})


@pytest.fixture(scope="module")
def films(film: Callable[..., Path], model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two short videos, a long one, a damaged one; and the model."""
    folder = tmp_path_factory.mktemp("films")
    for number, frames in enumerate((8, 40, 9)):
        film(folder / f"film{number}.avi", frames, number)
    broken = (folder / "film1.avi").read_bytes()
    (folder / "broken.avi").write_bytes(broken[: len(broken) // 2])
    shutil.copy(model, folder / "small.onnx")
    return folder


@pytest.fixture(scope="module")
def done(films: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[ArchiveSummary, Path, list[Progress]]:
    shown: list[Progress] = []
    folder = tmp_path_factory.mktemp("results") / "out"
    return run(films, folder, workers=2, on_progress=shown.append), folder, shown


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_video_has_the_tubes_and_events_of_one_pass_or_a_reason(
    films: Path, done: tuple[ArchiveSummary, Path, list[Progress]]
) -> None:
    summary, folder, shown = done
    expected = []
    with Detector.open(films / "small.onnx", threads=1, **OPTIONS) as detector:
        for number in range(3):
            path = str(films / f"film{number}.avi")
            detector.reset(path)
            with open_source(path) as source:
                record = record_of(detector.stream(source), detector.spec, EVENTS, source.fps)
            expected.append(json.loads(json.dumps({"source": path, **record})))
    assert lines_of(folder / "tubes.jsonl") == [
        {"source": each["source"], **tube} for each in expected for tube in each["tubes"]
    ]
    assert lines_of(folder / "events.jsonl") == [event for each in expected for event in each["events"]] != []
    assert [each.source for each in summary.failed] == [str(films / "broken.avi")]
    assert lines_of(folder / "failed.jsonl") == [vars(each) for each in summary.failed]
    assert "broken.avi breaks off" in summary.failed[0].reason
    totals = json.loads((folder / "summary.json").read_text())
    assert totals["frames"] == summary.totals["frames"] == 8 + 40 + 9 and totals["failed"] == 1
    assert shown[-1].done == 3 and shown[-1].failed == 1 and shown[-1].reused == 0


def test_the_table_has_a_row_for_each_action(done: tuple[ArchiveSummary, Path, list[Progress]]) -> None:
    parquet = pytest.importorskip("pyarrow.parquet")
    summary, folder, _ = done
    records = [json.loads(path.read_text()) for path in (folder / "videos").rglob("*.json")]
    rows = parquet.read_table(folder / "tubes.parquet").to_pylist()
    expected = sorted((row["source"], row["tube"], row["first_frame"]) for each in records for row in rows_of(each))
    assert [(row["source"], row["tube"], row["first_frame"]) for row in rows] == expected
    assert len(rows) == summary.totals["actions"] > 0
    assert all(len(row["boxes"]) == 4 * (1 + row["last_frame"] - row["first_frame"]) for row in rows)


def test_the_long_video_was_cut_and_its_pieces_are_stored(
    films: Path, done: tuple[ArchiveSummary, Path, list[Progress]]
) -> None:
    _, folder, _ = done
    [video] = plan([films / "film1.avi"])
    names = sorted(path.name for path in (folder / "parts").rglob(f"{video.key}*"))
    assert len(names) > 1 and names == [f"{video.key}-{number:05}.npz" for number in range(len(names))]


def test_a_resumed_run_does_what_is_missing_and_nothing_twice(
    films: Path, done: tuple[ArchiveSummary, Path, list[Progress]], tmp_path: Path
) -> None:
    _, undisturbed, _ = done
    folder = tmp_path / "out"
    shutil.copytree(undisturbed, folder)
    expected = contents(folder)
    [video] = plan([films / "film1.avi"])
    settings = ArchiveSettings(folder, "")
    lost = [settings.part(video, 1), settings.record(video), folder / "tubes.jsonl"]
    for path in lost:
        path.unlink()
    settings.part(video, 0).write_bytes(b"torn")
    before = {path: path.stat().st_ino for path in folder.rglob("*.npz")} | {
        path: path.stat().st_ino for path in folder.rglob("videos/*/*.json")
    }
    summary = run(films, folder, workers=1, resume=True)
    assert differences(contents(folder), expected) == [] and summary.progress.reused == 2
    again = {path for path, inode in before.items() if path.stat().st_ino != inode}
    assert again == {settings.part(video, 0)}


def test_what_was_linked_another_way_is_linked_anew_from_the_stored_detections(
    films: Path, done: tuple[ArchiveSummary, Path, list[Progress]], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    shutil.copytree(done[1], folder)
    before = {path: path.stat().st_ino for path in folder.rglob("*.npz")}
    run(films, folder, workers=1, resume=True, whole_tubes=True)
    assert {path: path.stat().st_ino for path in folder.rglob("*.npz")} == before
    by_person: dict[tuple[str, int], set[str]] = {}
    for tube in lines_of(folder / "tubes.jsonl"):
        by_person.setdefault((tube["source"], tube["person"]), set()).update(each["label"] for each in tube["actions"])
    assert by_person and all(len(labels) == 1 for labels in by_person.values())
    assert contents(folder)["tubes.jsonl"] != contents(done[1])["tubes.jsonl"]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({}, "holds results already: continue them with --resume"),
        ({"resume": True, "confidence": 0.31}, "results of another thresholds"),
        ({"resume": True, "clips": True}, "results of another clips"),
    ],
)
def test_results_of_two_kinds_are_not_mixed(
    change: dict[str, Any],
    message: str,
    films: Path,
    done: tuple[ArchiveSummary, Path, list[Progress]],
) -> None:
    before = contents(done[1])
    with pytest.raises(InputError, match=message):
        run(films, done[1], workers=1, **change)
    assert differences(contents(done[1]), before) == []


def worker_of(films: Path, folder: Path, **options: Any) -> ArchiveWorker:
    shown = DetectorOptions(**{name: value for name, value in OPTIONS.items() if name != "backend"} | options)
    engine = {"backend": "onnxruntime", "threads": 1}
    return ArchiveWorker(ArchiveSettings(folder, str(films / "small.onnx"), shown, segment_s=1.0, options=engine))


def test_a_part_of_another_threshold_is_refused_and_one_of_a_changed_video_made_anew(
    films: Path, film: Callable[..., Path], tmp_path: Path
) -> None:
    path = film(tmp_path / "film.avi", 40)
    [video], quiet = plan([path]), lambda seconds: None
    worker = worker_of(films, tmp_path / "out")
    cut = worker.do(video, quiet)
    assert isinstance(cut, Cut) and cut.missing == cut.pieces
    worker.do(cut.pieces[0], quiet)
    again = worker.do(video, quiet)
    assert isinstance(again, Cut) and again.missing == cut.pieces[1:]
    with pytest.raises(InputError, match="made with another model, threshold or version: give another folder"):
        worker_of(films, tmp_path / "out", iou=0.3).do(video, quiet)
    film(path, 41, seed=5)
    changed = worker.do(video, quiet)
    assert isinstance(changed, Cut) and changed.missing == changed.pieces


def test_a_video_whose_pieces_cannot_be_joined_is_read_whole(
    films: Path, film: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if seeking led to another frame than to the one that was asked for."""
    from yowo_deploy.video.reader import VideoReader

    seek = VideoReader.start_at
    monkeypatch.setattr(VideoReader, "start_at", lambda self, number, seconds: seek(self, number, seconds + 0.1))
    [video], quiet = plan([film(tmp_path / "film.avi", 40)]), lambda seconds: None
    worker = worker_of(films, tmp_path / "out")
    cut = worker.do(video, quiet)
    assert isinstance(cut, Cut)
    for piece in cut.missing:
        worker.do(piece, quiet)
    worker._link(cut.pieces, quiet)
    assert worker._settings.part(video, None).is_file()
    made = json.loads(worker._settings.record(video).read_text())
    monkeypatch.undo()
    other = worker_of(films, tmp_path / "straight")
    for piece in cut.missing:
        other.do(piece, quiet)
    other._link(cut.pieces, quiet)
    assert not other._settings.part(video, None).is_file()
    assert json.loads(other._settings.record(video).read_text()) == made


@pytest.mark.parametrize("trust", [None, True, False])
def test_workers_trust_the_file_where_the_user_does(
    trust: bool | None, films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A plan without its hash is loaded then; what was tried before is known by its hash."""
    given: list[ArchiveSettings] = []

    def noted(settings: ArchiveSettings, *_: object) -> None:
        given.append(settings)
        raise InputError("noted")

    monkeypatch.setattr(run_module, "_pool", noted)
    with pytest.raises(InputError, match="noted"):
        run(films, tmp_path / "out", trust=trust)
    [settings] = given
    assert (settings.options.get("trust"), settings.sha256 is not None) == (trust or None, trust is False)


def test_a_killed_worker_changes_nothing(
    films: Path, done: tuple[ArchiveSummary, Path, list[Progress]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the middle of the long video: the first time that a piece of it is there."""
    pools, killed = list[ProcessPool](), list[int]()
    make = run_module._pool
    monkeypatch.setattr(run_module, "_pool", lambda *given: pools.append(make(*given)) or pools[0])

    def kill_one(progress: Progress) -> None:
        busy = [seat for seat in pools[0]._seats if seat.task is not None]
        if busy and not killed and list((tmp_path / "out").rglob("*-00000.npz")):
            killed.append(busy[0].child.process.pid)
            os.kill(killed[0], signal.SIGKILL)

    summary = run(films, tmp_path / "out", workers=1, on_progress=kill_one)
    assert differences(contents(tmp_path / "out"), contents(done[1])) == [] and len(summary.failed) == 1


def test_a_killed_driver_leaves_no_worker_and_a_run_that_can_be_resumed(
    films: Path, done: tuple[ArchiveSummary, Path, list[Progress]], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    code = (
        f"from tests.yowo_deploy.archive.test_run import *; run(Path({str(films)!r}), Path({str(folder)!r}), workers=2)"
    )
    driver = subprocess.Popen([sys.executable, "-c", code], start_new_session=True, stderr=subprocess.DEVNULL)
    wait_until(lambda: bool(list(folder.rglob("*.npz"))) or driver.poll() is not None)
    driver.kill()
    driver.wait()
    wait_until(lambda: not is_group(driver.pid))
    run(films, folder, workers=1, resume=True)
    assert differences(contents(folder), contents(done[1])) == []


def is_group(number: int) -> bool:
    """Whether a process of a group is alive."""
    try:
        os.killpg(number, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_full_disk_costs_the_videos_that_cannot_be_stored(
    films: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [video], worker = plan([films / "film0.avi"]), worker_of(films, tmp_path / "out")

    def full(path: Path, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        value, reason = attempt(worker, video, lambda seconds: None)
    assert value is None and "No space left on device" in reason and "MB free there" in reason
    assert contents(tmp_path / "out") == {}
    assert attempt(worker, video, lambda seconds: None) == (Done(0.8), "")


def test_the_command_exits_with_1_and_says_which_failed(films: Path, tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text(f"# two\n{films}/film0.avi\nabsent.avi\n")
    arguments = ["batch", str(tmp_path / "list.txt"), "-o", str(tmp_path / "out"), "--workers", "1", "--json"]
    ended = CliRunner().invoke(cli, [*arguments, "--model", str(films / "small.onnx"), "--backend", "onnxruntime"])
    assert ended.exit_code == 1 and isinstance(ended.exception, SystemExit), ended.exception
    *progress, totals = map(json.loads, ended.stdout.splitlines())
    assert totals["videos"] == 2 and totals["failed"] == 1 and progress[-1]["done"] == 1
    assert "video not found" in ended.stderr and "absent.avi" in ended.stderr


def test_a_hundred_thousand_paths_are_planned_without_a_look_at_them(tmp_path: Path) -> None:
    names = [f"cameras/{number % 100}/{number}.mp4" for number in range(100_000)]
    (tmp_path / "list.csv").write_text("id,path\n" + "".join(f"{number},{name}\n" for number, name in enumerate(names)))
    videos = plan([tmp_path / "list.csv"])
    assert [each.path for each in videos] == [str(tmp_path / name) for name in names]
    shares = [plan([tmp_path / "list.csv"], share) for share in _shards(4)]
    assert sorted(each for share in shares for each in share) == sorted(videos)
    assert all(23_000 < len(share) < 27_000 for share in shares)


def _shards(count: int) -> list[Any]:
    from yowo_deploy.archive import Shard

    return [Shard.parse(f"{number}/{count}") for number in range(1, count + 1)]


@pytest.mark.parametrize(
    ("text", "message"), [("0/3", "does not exist"), ("4/3", "does not exist"), ("a", "expected I/N")]
)
def test_a_shard_that_is_none_is_refused(text: str, message: str) -> None:
    from yowo_deploy.archive import Shard

    with pytest.raises(InputError, match=message):
        Shard.parse(text)


@pytest.mark.parametrize("source", ["0", "rtsp://user:secret@host/x"])
def test_cameras_are_refused_without_their_passwords(source: str) -> None:
    with pytest.raises(InputError, match="is not a file: `batch` reads files") as error:
        plan([source])
    assert "secret" not in str(error.value)


def test_a_video_has_the_same_key_on_every_machine() -> None:
    assert plan(["/no/such/film.mp4"]) == [Video("/no/such/film.mp4", "fe94b8637ab5ce4aa04709fd")]


def test_a_list_ends_its_lines_where_text_files_do(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("yard\x85one.mp4\r\nyard\u2028two.mp4\n", encoding="utf-8", newline="")
    names = [Path(each.path).name for each in plan([tmp_path / "list.txt"])]
    assert names == ["yard\x85one.mp4", "yard\u2028two.mp4"]


@pytest.mark.parametrize("pattern", ["", "*.png"])
def test_a_picture_that_is_written_anew_makes_another_video_of_its_folder(pattern: str, tmp_path: Path) -> None:
    for number in range(3):
        (tmp_path / f"{number}.png").write_bytes(b"a")
    (tmp_path / "notes.txt").write_text("")
    [video] = plan([tmp_path / pattern if pattern else tmp_path])
    before = _identity(video)
    (tmp_path / "notes.txt").write_text("no picture")
    assert _identity(video) == before
    time_ns = os.stat(tmp_path / "1.png").st_mtime_ns
    with (tmp_path / "1.png").open("r+b") as stream:
        stream.write(b"b")
    os.utime(tmp_path / "1.png", ns=(time_ns + 1000, time_ns + 1000))
    assert _identity(video) != before
