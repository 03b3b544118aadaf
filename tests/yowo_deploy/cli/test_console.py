"""What every command shows: names that are near, other tools' names, and progress at any width."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import click
import pytest
from click.testing import CliRunner
from rich.console import Console

from yowo_deploy.cli import cli, console
from yowo_deploy.cli.console import parse_labels
from yowo_deploy.errors import InputError


@pytest.mark.parametrize(("typed", "meant"), [("detekt", "detect"), ("trian", "train"), ("exprot", "export")])
def test_a_mistyped_command_is_told_the_near_one(typed: str, meant: str) -> None:
    ended = CliRunner().invoke(cli, [typed, "x"])
    assert ended.exit_code == 2 and f"Did you mean '{meant}'?" in ended.output


def test_no_help_gives_a_default_twice() -> None:
    def texts(command: click.Command, above: click.Context | None = None) -> Iterator[str]:
        """The help of every option below a command, as it is shown."""
        context = click.Context(command, parent=above, **command.context_settings)
        yield from (str(each.get_help_record(context)) for each in command.params)
        for name in command.list_commands(context) if isinstance(command, click.Group) else ():
            yield from texts(cast(click.Command, command.get_command(context, name)), context)

    shown = list(texts(cli))
    assert len(shown) > 100 and any("[default: " in each for each in shown)
    assert [each for each in shown if each.count("default: ") > 1] == []


@pytest.mark.parametrize(("alias", "name"), [("predict", "detect"), ("val", "evaluate")])
def test_names_of_other_tools_are_understood(alias: str, name: str) -> None:
    shown = [CliRunner().invoke(cli, [each, "--help"]).output.partition("\n")[2] for each in (alias, name)]
    assert shown[0] == shown[1] != ""


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("label", ["training", "detecting " + "a very long name of a video " * 9 + ".mp4"])
def test_percent_and_time_left_are_shown_whatever_the_name(
    label: str, width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown = io.StringIO()
    terminal = Console(file=shown, force_terminal=True, width=width, highlight=False, markup=False, soft_wrap=True)
    monkeypatch.setattr(console, "talk", terminal)
    with console.progress_bar(label, 200.0, thread=False) as update:
        update(50, "epoch 3  box 0.31  confidence 1.20  class 2.31  25.0 clips/s  cache 0.1 GB")
    lines = [re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", line) for line in re.split(r"[\r\n]", shown.getvalue())]
    drawn = [line for line in lines if "25%" in line]
    assert drawn and all(re.search(r"25% +(\d+:\d\d:\d\d|-:--:--) +left", line) for line in drawn)
    assert all(len(line.rstrip()) <= width for line in lines)


def test_the_first_line_comes_before_a_slow_library(project_root: Path, tmp_path: Path) -> None:
    """Not for a library that is only looked for, nor where quiet is asked for."""
    slow = tmp_path / "torch"
    slow.mkdir()
    (slow / "__init__.py").write_text("import torch.inner\nprint('loaded')\n")
    (slow / "inner.py").write_text("raise SystemExit\n")
    code = "import sys; sys.path.insert(0, sys.argv.pop()); from yowo_deploy.cli import main; main()"

    def said(*arguments: object) -> str:
        words = [sys.executable, "-c", code, *map(str, arguments), tmp_path]
        return subprocess.run(words, cwd=project_root, capture_output=True, text=True).stderr

    assert said("train", "synthetic", "--data", tmp_path, "-o", tmp_path).startswith("loading PyTorch ...\n")
    assert "loading" not in said("export", "--help") + said("inspect", tmp_path / "absent.onnx")


@pytest.mark.parametrize(
    "command",
    [
        ["build", "default"],
        ["export", "default"],
        ["parity", "default", "default"],
        ["train", "synthetic"],
        ["demo"],
        ["features", "a.pt", "v.mp4", "-o", "o"],
    ],
    ids=lambda words: str(words[0]),
)
def test_where_only_the_runtime_is_installed_a_command_names_its_extra(command: list[str], tmp_path: Path) -> None:
    """As README installs it: numpy, OpenCV and OpenVINO."""
    (tmp_path / "a.pt").write_bytes(b"PK\x03\x04rest")
    code = (
        "import sys\n"
        "for name in ('torch', 'onnx', 'onnx_ir', 'onnxscript', 'onnxruntime'): sys.modules[name] = None\n"
        "from yowo_deploy.cli import main\n"
        "main()\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, *command], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert re.search(r"^Error: \w+ is not installed: run `pip install 'yowo-deploy\[\w+\]'`$", ended.stderr, re.M)


def test_labels_are_the_lines_of_a_file_whatever_its_signs_are(tmp_path: Path) -> None:
    (tmp_path / "labels.txt").write_bytes("\ufeffwalk\r\nsit\u2028down\r\n".encode())
    assert parse_labels(str(tmp_path / "labels.txt")) == ["walk", "sit\u2028down"]
    (tmp_path / "labels.txt").write_bytes(b"caf\xe9\n")
    with pytest.raises(InputError, match="is not text in UTF-8"):
        parse_labels(str(tmp_path / "labels.txt"))


def test_the_time_left_of_a_resumed_run_counts_what_this_process_did(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    times = iter([0.0, 0.0, 60.0])
    monkeypatch.setattr(console, "monotonic", lambda: next(times))
    update = console._plain_lines("training", 1.0)
    update(0.5)
    update(0.6)  # a tenth in a minute
    assert capsys.readouterr().err.startswith("training: 60 %, 4.0 min left")
