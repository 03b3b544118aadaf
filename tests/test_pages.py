"""Each Python block of the documentation runs as it stands, but for the addresses of cameras and servers, with the
shipped model and a short video. docs/python.md and the front page: test_readme."""

from __future__ import annotations

import ast
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.yowo_export.conftest import small_checkpoint
from yowo_deploy import Detector, open_source
from yowo_deploy.backends.loader import open_model
from yowo_deploy.model_files.default import model_path
from yowo_deploy.postprocess.decode import detect
from yowo_deploy.video.writer import VideoWriter
from yowo_export import export
from yowo_export.exporter import export_onnx
from yowo_training.checkpoints.checkpoint import save_checkpoint

DOCS = Path(__file__).parent.parent / "docs"
BLOCK = re.compile(r"```(python|json)\n(.*?)```", flags=re.DOTALL)
FRAMES = 6


def blocks(page: str, language: str = "python") -> list[str]:
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    return [code for kind, code in BLOCK.findall(text) if kind == language]


def block_with(page: str, words: str) -> str:
    [found] = [code for code in blocks(page) if words in code]
    return found


# By page: words that only one block has. A new block must be put here, or into a test of its own below.
PLAIN = [
    ("alerts", "MessageSink"),
    ("live", "open_source"),
    ("live", "StreamPool"),
    ("security", "trust=False"),
    ("zh", "open_source"),
]
OF_THEIR_OWN = [
    ("alerts", "hmac"),  # tests/yowo_deploy/sinks/test_webhook.py
    ("archives", "cut_clips"),  # tests/yowo_deploy/archive/test_find.py
    *(("alerts", words) for words in ("MqttSink", "polygon_pixels", "rerun")),
    *(("export", "NMSBoxes"), ("parity", "assert_parity"), ("serving", "urlopen"), ("streaming", "open_stream")),
]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """What the pages' programs find where they are started."""
    for name in ("yowo.onnx", "from-somewhere.onnx"):
        (tmp_path / name).symlink_to(model_path("default"))
    with VideoWriter(tmp_path / "video.webm", 25.0, (64, 48)) as writer:
        for number in range(FRAMES):
            writer.write(np.full((48, 64, 3), 40 * number, np.uint8))
    for name in ("video.mp4", "yard.mp4"):  # read by what they hold
        (tmp_path / name).symlink_to("video.webm")
    for text in blocks("alerts", "json"):
        kind = "zones" if '"zones": [{' in text else "rules"
        (tmp_path / f"{kind}.json").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(code: str, **names: Any) -> dict[str, Any]:
    """Run a block; the cameras in it are a video file."""
    code = re.sub(r'"rtsp://[^"]*"', '"video.mp4"', code)
    exec(compile(code, "page", "exec"), names)
    return names


def test_every_block_is_run() -> None:
    known = [*PLAIN, *OF_THEIR_OWN]
    pages = [page.stem for page in sorted(DOCS.glob("*.md")) if page.stem != "python"]
    for page in pages:
        for code in blocks(page):
            assert sum(page == where and words in code for where, words in known) == 1, f"{page}: {code}"


@pytest.mark.parametrize(("page", "words"), PLAIN)
def test_a_block_runs(page: str, words: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code = block_with(page, words)
    run(code)
    printed = capsys.readouterr().out
    assert bool(printed) == ("print(" in code) and (folder / "alerts.jsonl").exists() == ("alerts.jsonl" in code)


def test_polygons_in_pixels_become_shares() -> None:
    corners = run(block_with("alerts", "polygon_pixels"))["corners"]
    assert corners([(32, 24), (64, 48)], 64, 48) == [[0.5, 0.5], [1, 1]]


def test_a_camera_tells_a_broker_and_a_webhook(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[tuple[Any, ...]] = []

    class Fake:
        """Takes the arguments of a sink."""

        def __init__(self, *arguments: Any, **options: Any) -> None:
            made.append((*arguments, options))

        def write(self, frame: Any, result: Any) -> None:
            made.append((result.frame_index,))

        def __enter__(self) -> Fake:
            return self

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr("yowo_deploy.sinks.MqttSink", Fake)
    monkeypatch.setattr("yowo_deploy.sinks.WebhookSink", Fake)
    run(block_with("alerts", "MqttSink"))["watch"]("video.mp4", "mqtt://broker", "https://host/hook")
    assert made[0] == ("mqtt://broker", "door", {}) and len(made) == 2 + 2 * FRAMES


def test_rerun_is_shown_what_was_found(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rerun = pytest.importorskip("rerun", reason="rerun-sdk is not installed")
    rerun.init("test", spawn=False)
    with Detector.open(confidence=0.0) as detector, open_source("video.mp4") as source:
        for result in detector.stream(source):
            run(block_with("alerts", "rerun"))["show"](result.frame, result)


def test_a_model_that_was_exported_is_the_trained_one(folder: Path) -> None:
    checkpoint = small_checkpoint()
    save_checkpoint(folder / "ckpt.pth", checkpoint.model, checkpoint.spec, {})
    (folder / "yowo.onnx").unlink()
    export_onnx(checkpoint, folder / "yowo.onnx")
    (folder / "videos").mkdir()
    with VideoWriter(folder / "videos" / "noise.webm", 25.0, (96, 64)) as writer:
        for frame in np.random.default_rng(0).integers(0, 256, (20, 64, 96, 3), np.uint8):
            writer.write(frame)
    run(block_with("parity", "assert_parity"))["test_the_deployed_model_is_the_trained_one"]()


def test_boxes_and_scores_of_the_graph_with_opencv_are_those_of_the_runtime(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    export(model_path("default"), folder / "decoded.onnx", decode=True)
    code = block_with("export", "NMSBoxes")
    noise = "np.random.default_rng(0).standard_normal((1, 3, 16, 224, 224), np.float32)"
    for old, new in (("np.zeros((1, 3, 16, 224, 224), np.float32)", noise), ("0.15", "1e-4")):
        assert old in code
        code = code.replace(old, new)
    clips = run(code)["clips"]
    with open_model(folder / "decoded.onnx", "onnxruntime") as model:
        expected = detect(model.infer(clips)[0], model.spec, (320, 240), confidence=1e-4)
    assert len(capsys.readouterr().out.splitlines()) == len(expected) > 0


def test_the_frame_by_frame_loop(folder: Path) -> None:
    code = block_with("streaming", "open_stream").replace('"yowo-live.onnx"', '"yowo.onnx", streaming="one"')
    frames = [np.zeros((48, 64, 3), np.uint8)] * 2
    assert run(code, frames=frames)["raw"].ndim == 3


def test_the_server_answers_the_programs_frames(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("starlette")
    from tests.yowo_deploy.serving.calls import Running
    from yowo_deploy.serving import app

    with Running(app()) as server:
        code = block_with("serving", "urlopen")
        shorter = {"8000": server.port, "100": FRAMES, "99": FRAMES - 1}  # all at once: a port may hold "100"
        run(re.sub(r"\b(8000|100|99)\b", lambda number: str(shorter[number[0]]), code))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == FRAMES and all("boxes" in ast.literal_eval(line) for line in lines)


def test_the_messages_of_troubleshooting_are_those_of_the_product(project_root: Path) -> None:
    files = [each for room in ("yowo_deploy", "export", "training") for each in (project_root / room).rglob("*.py")]
    code = " ".join(re.sub(r'"\s*\n\s*f?"', "", each.read_text(encoding="utf-8")) for each in files)
    rows = re.findall(r"^\| (.*?) \|", (DOCS / "troubleshooting.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    messages = [words for row in rows for text in re.findall("`([^`]*)`", row) if len(words := text.split()) > 2]
    assert len(messages) > 25
    for words in messages:  # values stand between them: three words in a row that the code has are enough
        assert any(" ".join(words[i : i + 3]) in code for i in range(len(words) - 2)), " ".join(words)
