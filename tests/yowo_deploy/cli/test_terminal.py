"""What leaves the command line is clean, every end has its exit code, and a stream that is gone is one line."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest

from yowo_deploy.cli import terminal
from yowo_deploy.errors import InputError

NO_MEMORY = "Error: not enough memory: give a smaller --batch, --size or --clip, or end other programs"
MAIN = [sys.executable, "-c", "from yowo_deploy.cli import main; main()"]


def run(arguments: list[str], folder: Path, root: Path, **others: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONUTF8": "1"}
    return subprocess.run(
        [*MAIN, *arguments], cwd=folder, env=environment, stderr=-1, text=True, **others  # type: ignore[call-overload]
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["full", "closed", "gone"])
def test_a_stdout_that_takes_nothing_is_one_line_and_no_success(kind: str, tmp_path: Path, project_root: Path) -> None:
    if kind == "closed":
        ended = run(["--version"], tmp_path, project_root, preexec_fn=lambda: os.close(1))
    elif kind == "full":
        with open("/dev/full", "w") as full:
            ended = run(["--version"], tmp_path, project_root, stdout=full)
    else:
        reader, writer = os.pipe()
        os.close(reader)
        ended = run(["--version"], tmp_path, project_root, stdout=writer)
        os.close(writer)
    assert ended.returncode == 1
    assert len(ended.stderr.splitlines()) == 1 and ended.stderr.startswith("Error: stdout ")


def test_a_closed_stderr_changes_nothing(tmp_path: Path, project_root: Path) -> None:
    ended = run(["--version"], tmp_path, project_root, stdout=-1, preexec_fn=lambda: os.close(2))
    assert ended.returncode == 0 and "version" in ended.stdout


SECRET = "S3cr3tCanary"
SOURCES = (
    f"http:/user:{SECRET}@host/x", f"rtsp:user:{SECRET}@host", f"rtsp:/h/x;auth={SECRET}", f"h.mp4?sig={SECRET}",
    f"rtsp://user:{SECRET} x@host/a", f"ftp://u:{SECRET}@h/a", f"rtsp://h:x/?{SECRET}", f"http:h/?token={SECRET}",
)  # fmt: skip


def test_one_secret_is_in_no_output(tmp_path: Path, project_root: Path) -> None:
    """Of sources that cannot be opened: neither on the streams, nor in names of files, nor in their content."""
    ended = run(
        ["detect", *SOURCES, "-o", "out/", "--json", "out/", "--events", "out/{name}.x"], tmp_path, project_root
    )
    for arguments in (["detect", each] for each in SOURCES):
        assert SECRET not in _in_process(arguments, tmp_path)
    assert ended.returncode in (1, 2)
    found = [*tmp_path.rglob("*")]
    assert not [path for path in found if SECRET in path.name]
    assert not [path for path in found if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert SECRET not in ended.stderr and "Traceback" not in ended.stderr


def _in_process(arguments: list[str], folder: Path) -> str:
    """What a command says, without the seconds that a new process takes."""
    from click.testing import CliRunner

    from yowo_deploy.cli import cli

    with CliRunner().isolated_filesystem(folder):
        ended = CliRunner().invoke(cli, arguments)
    return f"{ended.output}{ended.exception}"


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_tidies_away_and_has_its_exit_code(kind: signal.Signals, tmp_path: Path, project_root: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from yowo_deploy.cli import terminal\n"
        "from yowo_deploy.files import atomic_write\n"
        "signal.signal(int(sys.argv[1]), signal.SIG_DFL)\n"  # nohup leaves one that is ignored, and that stays so
        "def command():\n"
        "    with atomic_write('a.txt'):\n"
        "        os.kill(os.getpid(), int(sys.argv[1]))\n"
        "        os.kill(os.getpid(), int(sys.argv[1]))\n"
        "with terminal.ended_by_signals(), terminal.clean_streams():\n"
        "    sys.exit(terminal.run(command))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(project_root)}
    ended = subprocess.run([sys.executable, "-c", code, str(int(kind))], cwd=tmp_path, env=environment)
    assert ended.returncode == 128 + kind and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "instead", ["raise RuntimeError('release unlocked lock')", "raise InputError('unfit')", "pass"]
)
def test_a_signal_in_whose_place_a_library_raises_or_does_nothing_has_its_exit_code(
    instead: str, project_root: Path
) -> None:
    code = (
        "import os, signal, sys\n"
        "from yowo_deploy.cli import terminal\n"
        "from yowo_deploy.errors import InputError\n"
        "def command():\n"
        "    try:\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "    except SystemExit:\n"
        f"        {instead}\n"
        "with terminal.ended_by_signals(), terminal.clean_streams():\n"
        "    sys.exit(terminal.run(command))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(project_root)}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert ended.returncode == 128 + signal.SIGTERM and "Traceback" not in ended.stderr


def test_a_signal_in_a_destructor_where_python_drops_exceptions_ends_the_command_all_the_same(
    tmp_path: Path, project_root: Path
) -> None:
    code = (
        "import os, signal, sys\n"
        "from yowo_deploy.cli import terminal\n"
        "from yowo_deploy.files import atomic_write\n"
        "class Ends:\n"
        "    def __del__(self):\n"
        "        os.kill(os.getpid(), signal.SIGTERM)\n"
        "def command():\n"
        "    with atomic_write('a.txt'):\n"
        "        Ends()\n"
        "        sys.stdin.read()\n"
        "with terminal.ended_by_signals(), terminal.clean_streams():\n"
        "    sys.exit(terminal.run(command))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(project_root)}
    options: dict[str, Any] = {"cwd": tmp_path, "env": environment, "stdin": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-c", code], **options) as process:
        assert process.wait() == 128 + signal.SIGTERM
        assert process.stderr is not None and process.stderr.read() == b"" and not list(tmp_path.iterdir())


def _raises(error: BaseException) -> Callable[[], object]:
    def command() -> None:
        raise error

    return command


@pytest.mark.parametrize(
    ("error", "code", "line"),
    [
        (InputError("no \x1b[31m file"), 1, "Error: no \\u001b[31m file"),
        (OSError(5, "Input/output error", "a.txt"), 1, "Error: a.txt: Input/output error"),
        (MemoryError(), 1, NO_MEMORY),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried"), 1, NO_MEMORY),
        (KeyboardInterrupt(), 130, "interrupted"),
        (click.Abort(), 130, "interrupted"),
        (click.UsageError("http://u:x@h"), 2, "Error: http://...@h"),
    ],
)
def test_every_end_has_its_line_and_code(
    error: BaseException, code: int, line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert terminal.run(_raises(error)) == code
    assert capsys.readouterr().err == f"{line}\n"
    assert terminal.run(lambda: 7) == 7 and terminal.run(lambda: None) == 0
    with pytest.raises(ZeroDivisionError):  # a bug shows its traceback
        terminal.run(_raises(ZeroDivisionError()))


def test_what_others_write_commands_no_terminal(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with (tmp_path / "out").open("w", encoding="ascii") as stream, monkeypatch.context() as patch:
        patch.setattr(sys, "stdout", stream)
        with terminal.clean_streams():
            print("a\x1b[2J\x9b\udcff\u202eb\té", '{"x": "rtsp://u:canary@h"}')
    assert (tmp_path / "out").read_text() == (
        'a\\u001b[2J\\u009b\\udcff\\u202eb\t\\xe9 {"x": "rtsp://...@h"}\n'
    )  # fmt: skip
