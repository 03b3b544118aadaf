"""Run commands in which the N-th system call that writes below a folder fails, or that a signal ends at some moment.

One process imports the product once and forks for each command, which takes milliseconds where a new process takes
seconds. `serve` is its end; `Commands` is the caller's. `failing_calls.c` makes calls fail.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import gc
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from yowo_deploy.files import remove_left

SOURCE = Path(__file__).with_suffix(".c")
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EDQUOT": errno.EDQUOT}
LONGEST = 500  # characters of a line
_NEVER = 1 << 30  # a call that no command comes to


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        code: exit code, or the signal as a negative number.
        failed: whether a call was made to fail; false where the command makes fewer calls.
        said: its stderr.
        calls: that write, which it made; 0 where a signal ended it.
        process: its number.
    """

    code: int
    failed: bool
    said: str
    calls: int = 0
    process: int = 0

    def faults(self, folder: Path) -> list[str]:
        """What must not be: a traceback, a signal, success in spite of failure, long lines, stray files."""
        found = ["traceback"] * ("Traceback" in self.said or "exception was never" in self.said)
        found += [f"signal {-self.code}"] * (self.code < 0)
        found += ["no line on stderr"] * (self.code > 0 and not self.said.strip())
        found += ["a long line"] * any(len(line) > LONGEST for line in self.said.splitlines())
        return found + self.strays(folder)

    def strays(self, folder: Path, whose: str = r"\d+") -> list[str]:
        """Temporary files below a folder, of any command of ours or of one process."""
        return [f"left {path.name}" for path in folder.rglob("*") if re.search(rf"yowo-{whose}-", path.name)]


def build(folder: Path) -> Path | None:
    """The library to preload; None without a C compiler."""
    compiler, library = shutil.which("cc"), folder / "failing_calls.so"
    if compiler is None or sys.platform != "linux":
        return None
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, SOURCE, "-ldl"], check=True)
    return library


class Commands:
    """A process that runs commands, each in a fork of its own."""

    def __init__(self, library: Path, *modules: str) -> None:
        environment = {**os.environ, "LD_PRELOAD": str(library), "OMP_NUM_THREADS": "1"}
        code = [sys.executable, "-m", "tests.hostile.failing_calls", *modules]
        self._process = subprocess.Popen(code, env=environment, stdin=-1, stdout=-1, text=True)

    def run(self, arguments: Sequence[object], folder: Path, number: int = -1, error: int = 0) -> Ended:
        """A command in a folder, whose N-th call there fails, from 0; a negative number: none.

        Args:
            error: of the call; a negative number is a signal that comes in its place.
        """
        return self._ended(arguments, folder, number, error, None)

    def end(self, arguments: Sequence[object], folder: Path, number: int, seconds: float) -> Ended:
        """A command in a folder, to which a signal is sent after some time, if it still runs."""
        return self._ended(arguments, folder, -1, -number, seconds)

    def warm(self, arguments: Sequence[object], folder: Path) -> Ended:
        """A command in the process itself: what it imports late, the forks find."""
        return self._ended(arguments, folder, -1, 0, -1.0)

    def _ended(self, arguments: Sequence[object], folder: Path, *more: object) -> Ended:
        assert self._process.stdin is not None and self._process.stdout is not None
        request = [list(map(str, arguments)), str(folder.resolve()), *more]
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve(modules: Sequence[str]) -> None:
    """Answer requests until stdin ends. A module that begins with a hyphen is one that is not installed, there."""
    for name in (each[1:] for each in modules if each.startswith("-")):
        sys.modules[name] = None  # type: ignore[assignment]
    modules = [each for each in modules if not each.startswith("-")]
    for name in ("yowo_deploy.cli", "yowo_deploy.cli.detect", "yowo_deploy.cli.data", *modules):
        __import__(name)
    for line in sys.stdin:
        arguments, folder, number, error, seconds = json.loads(line)
        warms = seconds is not None and seconds < 0
        ended = _here(arguments, folder) if warms else _forked(arguments, folder, number, error, seconds)
        print(json.dumps(ended), flush=True)


def _here(arguments: list[str], folder: str) -> Ended:
    before = Path.cwd()
    os.chdir(folder)
    with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing):
        code = _called(arguments)
    os.chdir(before)
    return Ended(code, False, "")


def _called(arguments: list[str]) -> int:
    from yowo_deploy.cli import main

    sys.argv = ["yowo-deploy", *arguments]
    try:
        main()
    except SystemExit as ended:
        return ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
        return 1
    return 0


def _forked(arguments: list[str], folder: str, number: int, error: int, seconds: float | None) -> Ended:
    said, (ours, theirs) = Path(f"{folder}.stderr"), os.pipe()
    child = os.fork()
    if child == 0:
        _run(arguments, folder, number, error, said, theirs)
    os.close(theirs)
    if seconds is not None and not select.select([ours], [], [], seconds)[0]:
        os.kill(child, -error)
    result = os.read(ours, 64)
    os.close(ours)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = said.read_text(encoding="utf-8", errors="replace") if said.exists() else ""
    said.unlink(missing_ok=True)
    failed, calls = json.loads(result or b"[false, 0]")
    return Ended(code, failed, text, calls, child)


def _run(arguments: list[str], folder: str, number: int, error: int, said: Path, result: int) -> None:
    """In the fork: the command, with its own streams and folder for temporary files; never returns."""
    shim = ctypes.CDLL(None)
    os.chdir(folder)
    os.environ["TMPDIR"], tempfile.tempdir = folder, None
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    counted = number if number >= 0 else _NEVER
    shim.fail_call(os.fsencode(folder), counted, error)
    code = _called(arguments)
    gc.collect()  # as at the end of Python, and
    remove_left()
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    os.write(result, json.dumps([bool(shim.calls_failed()), shim.calls_made()]).encode())
    sys.stderr.flush()
    os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1:])
