"""What the README shows works: its Python runs, its commands exist with the options it uses."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import yowo_deploy
from yowo_deploy.cli import COMMANDS, cli

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")
DETECT = (Path(__file__).parent.parent / "docs" / "detect.md").read_text(encoding="utf-8")
COMMAND_LINES = re.findall(r"^yowo-deploy .*$", README + DETECT, flags=re.MULTILINE)


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


@pytest.mark.parametrize("line", COMMAND_LINES)
def test_a_command_line_is_understood(line: str) -> None:
    arguments = shlex.split(line)[1:]
    result = CliRunner().invoke(cli, [*arguments, "--help"])
    assert result.exit_code == 0, result.output


def test_every_command_but_the_demo_is_shown() -> None:
    assert set(COMMANDS) - {"demo"} <= set(re.findall(r"yowo-deploy (\w+)", README))


def test_the_python_runs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    opened = []

    class Fake:
        """Answers with one sure detection in every frame."""

        name, streams = "fake", 1
        spec = yowo_deploy.ModelSpec(labels=("run",), anchors=((1.0, 1.0),), clip_length=2, input_size=(32, 32))

        def infer(self, clips: np.ndarray) -> np.ndarray:
            return np.full((len(clips), 6, 1, 1), 5, np.float32)

        def close(self) -> None: ...

    def open_model(path: str, **_: object) -> Fake:
        opened.append(path)
        return Fake()

    monkeypatch.setattr("yowo_deploy.detector.open_model", open_model)
    frames = [np.zeros((48, 64, 3), np.uint8)] * 3
    first, second = blocks("python")
    exec(compile(first, "README.md", "exec"), {"frames": frames})
    assert opened == ["yowo.onnx"]
    assert [line.split()[:2] for line in capsys.readouterr().out.splitlines()] == [[str(i), "run"] for i in range(3)]
    monkeypatch.chdir(tmp_path)
    exec(compile(second, "README.md", "exec"), {"frames": frames})
    assert capsys.readouterr().out.splitlines() == ["there: 0 run 0 2"]
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 3
