"""`detect` from Python: files and summaries like the command's, silent unless told otherwise."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from yowo_deploy import Outputs, detect
from yowo_deploy.cli import cli
from yowo_deploy.detector import Detector
from yowo_deploy.errors import InputError
from yowo_deploy.reporter import Reporter
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.reader import VideoReader
from yowo_deploy.video.writer import VideoWriter

pytest.importorskip("openvino")
FRAMES = 20


@pytest.fixture(scope="module")
def model(onnx_model: Callable[..., Any], spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("model") / "small.onnx"
    path.write_bytes(onnx_model(spec).SerializeToString())
    return path


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("videos") / "yard.webm"
    with VideoWriter(path, 25, (64, 48)) as writer:
        for frame in np.random.default_rng(0).integers(0, 256, (FRAMES, 48, 64, 3), np.uint8):
            writer.write(frame)
    return path


class Notes(Reporter):
    """Keeps what is reported."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.errors: list[str] = []
        self.labels: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)

    def error(self, text: str) -> None:
        self.errors.append(text)

    def progress(self, label: str, total: float | None) -> AbstractContextManager[Callable[..., None]]:
        self.labels.append(label)
        return super().progress(label, total)


def detections(path: Path) -> list[object]:
    return [json.loads(line)["detections"] for line in path.read_text(encoding="utf-8").splitlines()]


def test_one_call_writes_what_the_command_writes(
    model: Path, video: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    handler = signal.getsignal(signal.SIGINT)
    [summary] = detect(video, Outputs(json=str(tmp_path / "a.jsonl")), model, confidence=0.05, every=3)
    assert capsys.readouterr() == ("", "") and signal.getsignal(signal.SIGINT) is handler
    arguments = [
        str(video),
        "--model",
        str(model),
        "--conf",
        "0.05",
        "--every",
        "3",
        "--json",
        str(tmp_path / "b.jsonl"),
    ]
    assert CliRunner().invoke(cli, ["detect", *arguments]).exit_code == 0
    found = detections(tmp_path / "a.jsonl")
    assert found == detections(tmp_path / "b.jsonl") and any(found)
    assert (summary.source, summary.frames, summary.interrupted) == (str(video), FRAMES, False)
    assert summary.detections == sum(len(frame) for frame in found)  # type: ignore[arg-type]
    assert summary.confidence == 0.05 < summary.best_score and not summary.failed


@pytest.mark.parametrize("place", ["runs/{name}/{name}.webm", "runs/{name}.events.jsonl", "runs/"])
def test_a_long_name_of_a_video_makes_names_that_file_systems_take(place: str, tmp_path: Path) -> None:
    source = tmp_path / ("\u8dd1" * 83 + "ab.mp4")
    source.touch()
    [files] = Outputs(video=place).places([str(source)], "default", False)
    made = tmp_path / files["video"]
    made.parent.mkdir(parents=True)
    made.touch()
    assert made.name.startswith("\u8dd1" * 70)


def test_a_folder_that_is_named_by_dots_has_its_own_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "yard" / "below").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "yard" / "below")
    [files] = Outputs(json="runs/{name}/a.jsonl").places([".."], "default", False)
    assert files == {"json": "runs/yard/a.jsonl"}


@pytest.mark.parametrize("name", ["..mp4", "...mp4", "....mp4"])
def test_a_file_that_is_named_by_dots_is_written_into_a_folder_of_its_own(name: str, tmp_path: Path) -> None:
    (tmp_path / name).touch()
    [files] = Outputs(json="runs/{name}/a.jsonl").places([str(tmp_path / name)], "default", False)
    assert files == {"json": "runs/source/a.jsonl"}


def test_an_address_may_be_longer_than_the_name_of_a_file() -> None:
    [files] = Outputs(json="runs/{name}/a.jsonl").places([f"http://host/a.mp4?token={'a' * 500}"], "default", False)
    assert files == {"json": "runs/http_host_a.mp4/a.jsonl"}


def test_trails_are_drawn_in_the_video_on_request(model: Path, video: Path, tmp_path: Path) -> None:
    shown = []
    for trail in ("0", "9"):
        file = tmp_path / f"{trail}.webm"
        arguments = ["detect", str(video), "--model", str(model), "-o", str(file), "--conf", "0.05", "--trail", trail]
        done = CliRunner().invoke(cli, arguments)
        assert done.exit_code == 0, done.output
        with VideoReader(file) as reader:
            shown.append(np.stack(list(reader)).astype(int))
    assert np.abs(shown[0][0] - shown[1][0]).max() < np.abs(shown[0][-1] - shown[1][-1]).max()  # of one point, of nine


def test_the_reporter_gets_messages_errors_and_progress(model: Path, video: Path, tmp_path: Path) -> None:
    notes = Notes()
    (tmp_path / "bad.webm").write_text("no video")
    with pytest.raises(InputError, match="1 of 2 sources failed"):
        detect([tmp_path / "bad.webm", video], Outputs(json=f"{tmp_path}/out/"), model, reporter=notes)
    assert len(notes.errors) == 1 and "bad.webm is not a video" in notes.errors[0]
    assert notes.labels == ["detecting yard.webm"] and any("captured = 20 inferred" in each for each in notes.messages)


def test_the_reading_is_ended_from_outside_with_whole_files(model: Path, video: Path, tmp_path: Path) -> None:
    @contextmanager
    def at_once(stop: Callable[[], None]) -> Iterator[None]:
        stop()
        yield

    out = tmp_path / "{name}.jsonl"
    [summary] = detect(
        [video, model.parent], Outputs(json=str(out)), model, while_reading=at_once
    )  # the second: unread
    assert summary.interrupted and summary.frames < FRAMES
    assert len(detections(tmp_path / "yard.jsonl")) == summary.frames


def test_a_reading_that_is_stopped_before_the_first_frame_is_no_failure_and_leaves_an_old_video(
    model: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    @contextmanager
    def at_once(stop: Callable[[], None]) -> Iterator[None]:
        stop()
        yield

    monkeypatch.setattr(Detector, "stream", lambda *_: iter(()))  # as one whose source was closed in time
    (tmp_path / "old.webm").write_text("old")
    notes = Notes()
    outputs = Outputs(video=str(tmp_path / "old.webm"), json=str(tmp_path / "new.jsonl"))
    [summary] = detect([video], outputs, model, while_reading=at_once, overwrite=True, reporter=notes)
    assert summary.interrupted and not summary.failed and not notes.errors
    assert {each.name: each.read_text() for each in tmp_path.iterdir()} == {"old.webm": "old", "new.jsonl": ""}


def test_a_former_option_is_taken_and_reported_once(model: Path, video: Path) -> None:
    arguments = ["detect", str(video), "--model", str(model), "--json", "-", "--conf", "0.05"]
    new, old, joined = (
        CliRunner().invoke(cli, [*arguments, *more]) for more in (("--every", "3"), ("--stride", "3"), ("--stride=3",))
    )

    def carried(text: str) -> list[bool]:
        return [json.loads(line).get("carried", False) for line in text.splitlines()]

    assert carried(new.stdout) == carried(old.stdout) == carried(joined.stdout) == [n % 3 != 0 for n in range(FRAMES)]
    assert [each.stderr.count("--stride is now called --every") for each in (new, old, joined)] == [0, 1, 1]
    assert "--stride" not in CliRunner().invoke(cli, ["detect", "--help"]).output


def test_the_former_name_of_the_cache_goes_on_to_every_command_with_a_model(
    model: Path, video: Path, tmp_path: Path
) -> None:
    calls = {
        "detect": ["detect", str(video), "--model", str(model), "--json", str(tmp_path / "a.jsonl")],
        "bench": ["bench", "--engine", str(model), "--seconds", "0.01", "--no-stages", "--no-peak", "--json"],
    }
    for name, call in calls.items():
        folder = tmp_path / name
        ended = CliRunner().invoke(cli, [*call, "--backend", "openvino", "--engine-cache", str(folder)])
        assert ended.exit_code == 0 and ended.stderr.count("--engine-cache is now called --cache") == 1, ended.output
        assert [path.suffix for path in folder.iterdir()] == [".blob"]


def test_zones_are_drawn_and_told_and_rules_make_alerts(
    model: Path, video: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also in the run folder, where no output is named; a rule of what is not there stops before the first frame."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "zones.json").write_text(
        '{"v": 1, "zones": [{"name": "all", "corners": [[0,0], [1,0], [1,1], [0,1]]}]}'
    )
    (tmp_path / "rules.json").write_text('{"v": 1, "rules": [{"name": "anybody", "zones": ["all", "left"]}]}')
    zones = ("--zones", "zones.json", "--zone", "left=0,0,0.5,0,0.5,1,0,1", "--rules", "rules.json")
    seen = ("--conf", "0", "--min-frames", "1", "--on", "0", "--off", "0", "-q")
    made = CliRunner().invoke(cli, ["detect", str(video), "--model", str(model), *zones, *seen])
    assert made.exit_code == 0, made.output
    folder = tmp_path / "runs" / "detect" / "yard"
    alerts = [json.loads(line) for line in (folder / "alerts.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {alert["type"] for alert in alerts} == {"new", "end"} and {"all"} <= set(alerts[0]["zones"])
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()]
    assert events and all("all" in event["entered_zones"] for event in events)
    (tmp_path / "rules.json").write_text('{"v": 1, "rules": [{"name": "anybody", "zones": ["roof"]}]}')
    refused = CliRunner().invoke(cli, ["detect", str(video), "--model", str(model), *zones, "--overwrite", *seen])
    assert "roof" in str(refused.exception) and isinstance(refused.exception, InputError)
    with pytest.raises(InputError, match="--rules"):
        detect(video, Outputs(alerts="alerts.jsonl"), model)
    for name in ("zones", "rules"):  # also where no output needs them
        (tmp_path / f"{name}.json").write_text(f'{{"v": 1, "{name}": [{{"name": NaN}}]}}')
        with pytest.raises(InputError, match=rf"{name}\.json: an entry has no name"):
            detect(video, Outputs(json="only.jsonl", **{name: f"{name}.json"}), model)
    assert not Path("only.jsonl").exists()
