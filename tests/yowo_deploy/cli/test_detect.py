"""`yowo-deploy detect`: what goes where, what is said, and what is left when it is interrupted or a disk is full."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest
from click.testing import CliRunner, Result

from tests.local_camera import LocalCamera, LocalFiles
from tests.waiting import NEVER_S, wait_until
from yowo_deploy.cli import cli
from yowo_deploy.detection.summary import FrameCounts, nothing_found
from yowo_deploy.errors import InputError, OutputError, YowoError
from yowo_deploy.sinks.jsonl import EVENTS_SCHEMA, FRAMES_SCHEMA
from yowo_deploy.sinks.tubes import TUBES_SCHEMA
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.reader import VideoReader
from yowo_deploy.video.sources import Counts, open_source
from yowo_deploy.video.writer import VideoWriter

pytest.importorskip("openvino")
FRAMES = 20


@pytest.fixture(scope="module")
def model(onnx_model: Callable[..., Any], spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("model") / "small.onnx"
    path.write_bytes(onnx_model(spec).SerializeToString())
    return path


def write_noise(path: Path, frames: int) -> Path:
    noise = np.random.default_rng(0).integers(0, 256, (frames, 48, 64, 3), np.uint8)
    with VideoWriter(path, 25, (64, 48)) as writer:
        for frame in noise:
            writer.write(frame)
    return path


@pytest.fixture(scope="module")
def videos(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("videos")
    return [write_noise(folder / f"{name}.webm", FRAMES) for name in ("yard", "hall")]


@pytest.fixture
def run(model: Path) -> Callable[..., Result]:
    def call(*arguments: object) -> Result:
        return CliRunner().invoke(cli, ["detect", *map(str, arguments), "--model", str(model)])

    return call


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_everything_at_once_is_whole_valid_and_consistent(
    run: Callable[..., Result], videos: list[Path], tmp_path: Path
) -> None:
    pytest.importorskip("matplotlib")
    options = ("--on", 0.1, "--off", 0.05, "--min-frames", 2, "--conf", 0.05)
    result = run(
        videos[0], "-o", tmp_path / "o.webm", "--json", tmp_path / "o.jsonl", "--events", tmp_path / "e.jsonl",
        "--tubes", tmp_path / "t.json", "--timeline", tmp_path / "t.png", "--save-json", tmp_path / "d.json", *options,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    names = {"o.webm", "o.jsonl", "e.jsonl", "t.json", "t.png", "d.json"}
    assert {path.name for path in tmp_path.iterdir()} == names
    with VideoReader(tmp_path / "o.webm") as reader:
        assert len(list(reader)) == FRAMES
    frames, events, tubes = lines_of(tmp_path / "o.jsonl"), lines_of(tmp_path / "e.jsonl"), lines_of_json(tmp_path)
    for values, schema in ((frames, FRAMES_SCHEMA), (events, EVENTS_SCHEMA), ([tubes], TUBES_SCHEMA)):
        rule = json.loads(schema.read_text(encoding="utf-8"))
        assert values
        for value in values:
            jsonschema.validate(value, rule)
    assert [frame["frame"] for frame in frames] == list(range(FRAMES))
    people = {row["tracker_id"] for frame in frames for row in frame["detections"]}
    assert {tube["person"] for tube in tubes["tubes"]} == people
    assert {event["person_id"] for event in events} <= people
    assert sum(event["type"] == "new" for event in events) == sum(event["type"] == "end" for event in events)
    assert f"{FRAMES} frames captured = {FRAMES} inferred + 0 skipped + 0 suspect" in result.stderr


def lines_of_json(folder: Path) -> dict[str, Any]:
    told: dict[str, Any] = json.loads((folder / "t.json").read_text(encoding="utf-8"))
    return told


def test_several_sources_come_one_after_the_other_into_a_folder(
    run: Callable[..., Result], videos: list[Path], tmp_path: Path
) -> None:
    out = f"{tmp_path}/out/"
    result = run(*videos, "-o", out, "--json", out, "--tubes", tmp_path / "{name}-t.json", "--conf", 0.05)
    assert result.exit_code == 0, result.output
    assert {path.name for path in (tmp_path / "out").iterdir()} == {
        f"{name}{suffix}" for name in ("yard", "hall") for suffix in (".webm", ".jsonl")
    }
    assert (tmp_path / "yard-t.json").exists() and (tmp_path / "hall-t.json").exists()
    one, other = (lines_of(tmp_path / "out" / f"{name}.jsonl") for name in ("yard", "hall"))
    assert {line["source"] for line in one} == {str(videos[0])}
    assert [line | {"source": ""} for line in one] == [line | {"source": ""} for line in other]  # the same noise


def test_one_broken_source_does_not_stop_the_others(
    run: Callable[..., Result], videos: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "bad.webm").write_text("no video")
    result = run(tmp_path / "bad.webm", *videos, "--json", f"{tmp_path}/out/")
    assert isinstance(result.exception, InputError) and "1 of 3 sources failed" in str(result.exception)
    assert "bad.webm is not a video" in result.stderr
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"yard.jsonl", "hall.jsonl"}


def test_a_model_that_cannot_be_opened_is_told_once(videos: list[Path], tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["detect", *map(str, videos), "--json", f"{tmp_path}/", "--model", str(videos[0])])
    assert isinstance(result.exception, YowoError) and "sources failed" not in str(result.exception)
    assert result.stderr == "" and list(tmp_path.iterdir()) == []


def test_what_is_there_is_not_overwritten_unless_asked(
    run: Callable[..., Result], videos: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "o.jsonl"
    out.write_text("precious")
    result = run(videos[0], "--json", out)
    assert isinstance(result.exception, OutputError) and "--overwrite" in str(result.exception)
    assert out.read_text() == "precious"
    assert run(videos[0], "--json", out, "--overwrite").exit_code == 0
    assert len(lines_of(out)) == FRAMES


def test_with_a_stride_carried_frames_are_marked_and_accounted_for(
    run: Callable[..., Result], videos: list[Path]
) -> None:
    result = run(videos[0], "--json", "-", "--every", 3, "--conf", 0.05)
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("carried", False) for line in lines] == [number % 3 != 0 for number in range(FRAMES)]
    assert f"{FRAMES} frames captured = 7 inferred + 13 skipped (13 by --every 3) + 0 suspect" in result.stderr


def test_only_the_classes_that_were_asked_for(run: Callable[..., Result], videos: list[Path]) -> None:
    lines = run(videos[0], "--json", "-", "--classes", "walk,stand", "--conf", 0.05).stdout.splitlines()
    labels = {row["label"] for line in lines for row in json.loads(line)["detections"]}
    assert labels == {"walk", "stand"}
    result = run(videos[0], "--json", "-", "--classes", "fly")
    assert isinstance(result.exception, InputError) and "no class 'fly'" in str(result.exception)


def test_nothing_found_says_what_would_have_been(run: Callable[..., Result], videos: list[Path]) -> None:
    result = run(videos[0], "--json", "-", "--conf", 1.0)
    assert "0 detections above 1; best score 0." in result.stderr and "(try --conf 0." in result.stderr


@pytest.mark.parametrize(
    ("best", "expected"),
    [
        (0.18, "best score 0.18 (try --conf 0.15)"),
        (0.1549, "best score 0.15 (try --conf 0.1)"),
        (0.05, "best score 0.05 (try --conf 0.04)"),
        (0.0123, "best score 0.012 (try --conf 0.01)"),
        (0.0, "best score 0"),
        (0.9, "best score 0.9"),  # of a class that was not asked for
    ],
)
def test_a_threshold_that_helps_is_below_the_best_score(best: float, expected: str) -> None:
    assert nothing_found(0.25, best) == f"0 detections above 0.25; {expected}"


def test_quiet_says_nothing(run: Callable[..., Result], videos: list[Path], tmp_path: Path) -> None:
    result = run(videos[0], "--json", tmp_path / "o.jsonl", "--quiet")
    assert (result.exit_code, result.output) == (0, "")


def test_without_an_output_a_run_folder_is_written_and_named(
    run: Callable[..., Result], videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(tmp_path)
    result = run(*videos)
    folders = [tmp_path / "runs" / "detect" / video.stem for video in videos]
    assert result.exit_code == 0 and result.stdout.split() == [f"runs/detect/{folder.name}" for folder in folders]
    for folder in folders:
        names = {f"{folder.name}.webm", "detections.jsonl", "events.jsonl", "timeline.png"}
        assert {path.name for path in folder.iterdir()} == names
        assert len(lines_of(folder / "detections.jsonl")) == FRAMES
    before = {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}
    assert "--overwrite" in str(run(*videos).exception)
    assert before == {file: file.read_bytes() for file in tmp_path.rglob("*.*") if file.is_file()}
    assert run(*videos, "--overwrite").exit_code == 0


def test_files_have_no_latency(run: Callable[..., Result], videos: list[Path], tmp_path: Path) -> None:
    said = run(videos[0], "--json", tmp_path / "o.jsonl").stderr
    assert "frames/s" in said and "latency" not in said


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--json", "-", "--events", "-"), "cannot both go to stdout"),
        (("-o", "-"), "--output cannot go to stdout"),
        (("--save-json", "-"), "--save-json cannot go to stdout"),
        (("--json", "{tmp}/a.json", "--tubes", "{tmp}/a.json"), "written twice"),
        (("--json", "{tmp}/a.json", "--tubes", "{tmp}/b/../a.json"), "written twice"),
        (("--events", "{tmp}/a.jsonl", "--off", 0.9), "expected 0 <= off <= on"),
        (("--timeline", "{tmp}/a.pdf"), ".png"),
        (("--tubes", "/dev/null"), "only --json and --events go to pipes and devices"),
        (("-o", "/dev/null", "--overwrite"), "only --json and --events go to pipes and devices"),
    ],
)
def test_what_cannot_be_is_said_and_leaves_nothing(
    run: Callable[..., Result], videos: list[Path], tmp_path: Path, arguments: tuple[object, ...], message: str
) -> None:
    result = run(videos[0], *(str(argument).replace("{tmp}", str(tmp_path)) for argument in arguments))
    assert isinstance(result.exception, YowoError) and message in str(result.exception), result.output
    assert list(tmp_path.iterdir()) == []


def test_some_pictures_of_a_folder_are_no_video_of_a_data_json(run: Callable[..., Result], tmp_path: Path) -> None:
    assert cv2.imwrite(str(tmp_path / "left1.png"), np.zeros((48, 64, 3), np.uint8))
    ended = run(f"{tmp_path}/left*.png", "--save-json", tmp_path / "data.json")
    assert "left*.png is neither" in str(ended.exception) and not (tmp_path / "data.json").exists()


def test_several_sources_and_one_file_do_not_fit(
    run: Callable[..., Result], videos: list[Path], tmp_path: Path
) -> None:
    for sources, message in ((videos, "several sources cannot go into one"), ([videos[0]] * 2, "written twice")):
        target = f"{tmp_path}/" if message == "written twice" else tmp_path / "o.jsonl"
        result = run(*sources, "--json", target)
        assert isinstance(result.exception, InputError) and message in str(result.exception)


def test_every_frame_is_accounted_for() -> None:
    counted = FrameCounts(inferred=60, carried=20)
    counts = Counts(100, 82, 3, {"overtaken": 5, "closed": 3}, {"black": 7}, 2)
    assert counted.account(counts, 2) == (
        "100 frames captured = 60 inferred + 33 skipped (20 by --every 2, 5 overtaken, 3 closed, 3 not read, "
        "2 left at the stop) + 7 suspect (7 black); 2 reconnects"
    )
    assert counts.captured == 60 + 33 + 7


PATIENTLY = f"""
from yowo_deploy.video.sources import open_source
open_source.__kwdefaults__["timeout_s"] = {NEVER_S}
"""


def detecting(*arguments: object, before: str = "pass") -> subprocess.Popen[str]:
    code = f"{before}\nimport sys; from yowo_deploy.cli import main; sys.argv = ['yowo-deploy', *sys.argv[1:]]; main()"
    command = [sys.executable, "-c", code, "detect", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_ctrl_c_closes_files_so_that_the_video_plays_and_the_json_is_whole(
    model: Path, tmp_path: Path, default_interrupts: None
) -> None:
    video = write_noise(tmp_path / "long.webm", 1500)
    out, tubes = tmp_path / "o.webm", tmp_path / "t.json"
    # stdout is a pipe that nobody empties: the command cannot come to the end of the video by itself
    process = detecting(video, "--model", model, "-o", out, "--json", "-", "--tubes", tubes, "--conf", 0.05)
    assert process.stdout is not None and process.stderr is not None
    first = [process.stdout.readline() for _ in range(5)]
    process.send_signal(signal.SIGINT)
    rest, said = process.stdout.read(), process.stderr.read()  # `communicate` would miss what `readline` read ahead
    assert process.wait() == 130, said
    lines = [json.loads(line) for line in [*first, *rest.splitlines()]]
    assert 5 <= len(lines) < 1500
    assert [line["frame"] for line in lines] == list(range(len(lines)))
    with VideoReader(out) as reader:
        assert len(list(reader)) == len(lines)
    told = json.loads(tubes.read_text())
    jsonschema.validate(told, json.loads(TUBES_SCHEMA.read_text()))
    assert told["frames"] == len(lines)
    assert f"= {len(lines)} inferred" in said and "Traceback" not in said


def test_a_full_disk_costs_one_output_and_no_other(model: Path, tmp_path: Path) -> None:
    video = write_noise(tmp_path / "video.webm", 100)
    out, tubes, limit = tmp_path / "o.webm", tmp_path / "t.json", 20_000
    before = f"import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, {limit}))"
    process = detecting(
        video, "--model", model, "-o", out, "--json", "-", "--tubes", tubes, "--conf", 1.0, before=before
    )
    lines, said = process.communicate()
    assert process.returncode == 1, said
    assert len(lines.splitlines()) == 100  # the detector went on to the end
    assert json.loads(tubes.read_text())["frames"] == 100
    assert {path.name for path in tmp_path.iterdir()} == {"video.webm", "t.json"}
    [failure, *_] = [line for line in said.splitlines() if "failed, the others continue" in line]
    assert str(out) in failure and ("File too large" in failure or "is the disk full" in failure)
    assert f"Error: 1 of 3 outputs failed: {out}" in said and "Traceback" not in said


def test_addresses_are_watched_at_once_and_find_what_their_files_give(
    run: Callable[..., Result], videos: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two that answer, and one with a password where nobody is."""
    monkeypatch.setitem(open_source.__kwdefaults__, "timeout_s", NEVER_S)
    for video in videos:
        assert run(video, "--conf", "0", "--json", tmp_path / f"{video.stem}.jsonl").exit_code == 0
    with ExitStack() as stack:
        urls = [stack.enter_context(LocalFiles(video.read_bytes())).url for video in videos]
        nobody = "http://user:hush@127.0.0.1:1/film"
        ended = run(*urls, nobody, "--conf", "0", "--json", f"{tmp_path}/many/", "-o", f"{tmp_path}/many/")
    assert "1 of 3 sources failed: http://127.0.0.1:1/film" in str(ended.exception)
    assert f"{FRAMES} frames captured = {FRAMES} inferred + 0 skipped + 0 suspect" in ended.output
    assert "hush" not in ended.output and not [path for path in (tmp_path / "many").iterdir() if "hush" in path.name]
    for video, url in zip(videos, urls, strict=True):
        place = tmp_path / "many" / f"http_127.0.0.1_{url.split(':')[2].replace('/', '_')}"
        alone = [json.loads(line) for line in (tmp_path / f"{video.stem}.jsonl").read_text().splitlines()]
        along = [json.loads(line) for line in place.with_name(f"{place.name}.jsonl").read_text().splitlines()]
        assert [line["detections"] for line in along] == [line["detections"] for line in alone]
        with VideoReader(place.with_name(f"{place.name}.webm")) as reader:
            assert sum(1 for _ in reader) == FRAMES


@pytest.mark.parametrize("count", [1, 2])
def test_ctrl_c_ends_cameras_with_whole_files(
    count: int, model: Path, tmp_path: Path, default_interrupts: None
) -> None:
    with ExitStack() as stack:
        cameras = [stack.enter_context(LocalCamera(20)).url for _ in range(count)]
        process = detecting(
            *cameras, "--model", model, "--json", f"{tmp_path}/", "-o", f"{tmp_path}/", before=PATIENTLY
        )

        def enough() -> bool:
            seen = [path.read_text().count("\n") for path in tmp_path.glob("*.jsonl")]
            return len(seen) == count and min(seen) >= 5

        wait_until(lambda: process.poll() is not None or enough())
        process.send_signal(signal.SIGINT)
        _, said = process.communicate()
    assert process.returncode == 0, said  # cameras have no end of their own
    written = sorted(tmp_path.glob("*.jsonl"))
    assert len(written) == count and "Traceback" not in said and "s3cret" not in said
    for path in written:
        lines = [json.loads(line) for line in path.read_text().splitlines()]
        assert len(lines) >= 5 and "s3cret" not in path.name
        with VideoReader(path.with_suffix(".webm")) as reader:
            assert len(list(reader)) >= len(lines)  # those that came between are held


def test_files_and_addresses_do_not_mix(run: Callable[..., Result], videos: list[Path], tmp_path: Path) -> None:
    ended = run(videos[0], "http://127.0.0.1:1/film", "--json", f"{tmp_path}/")
    assert isinstance(ended.exception, InputError) and "cannot be mixed with webcams" in str(ended.exception)


def test_what_was_kept_of_a_whole_video_is_refused_for_a_camera(
    run: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(open_source.__kwdefaults__, "timeout_s", NEVER_S)
    with LocalCamera() as camera:
        ended = run(camera.url, "--features", tmp_path / "a.npz", "--json", tmp_path / "a.jsonl")
    assert "a live source has no end" in str(ended.exception) and not (tmp_path / "a.jsonl").exists()
