"""Run commands in which the N-th system call that writes below a folder fails; `failing_calls.c` makes it fail.

One process imports the product once and forks for each command. `serve` is its end; `Commands` is the caller's.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

SOURCE = Path(__file__).with_suffix(".c")
ERRORS = {"ENOSPC": errno.ENOSPC, "EIO": errno.EIO, "EDQUOT": errno.EDQUOT}
LONGEST = 500  # characters of a line


class Ended(NamedTuple):
    """How a command ended.

    Attributes:
        code: exit code, or the signal as a negative number.
        failed: whether a call was made to fail; false where the command makes fewer calls.
        said: its stderr.
    """

    code: int
    failed: bool
    said: str

    def faults(self, folder: Path) -> list[str]:
        """What must not be: a traceback, a signal, success in spite of failure, long lines, stray files."""
        found = ["traceback"] * ("Traceback" in self.said or "exception was never" in self.said)
        found += [f"signal {-self.code}"] * (self.code < 0)
        found += ["no line on stderr"] * (self.code > 0 and not self.said.strip())
        found += ["a long line"] * any(len(line) > LONGEST for line in self.said.splitlines())
        stray = [path.name for path in folder.rglob("*") if re.search(r"yowo-\d+-", path.name)]
        return found + [f"left {name}" for name in stray]


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

    def run(self, arguments: Sequence[object], folder: Path, number: int, error: int) -> Ended:
        """A command in a folder, whose N-th call there fails, from 0; a negative number: none."""
        assert self._process.stdin is not None and self._process.stdout is not None
        request = [list(map(str, arguments)), str(folder.resolve()), number, error]
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        return Ended(*json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """End the process."""
        self._process.communicate()


def serve(modules: Sequence[str]) -> None:
    """Answer requests until stdin ends."""
    for name in ("yowo_deploy.cli", "yowo_deploy.cli.detect", "yowo_deploy.cli.data", *modules):
        __import__(name)
    for line in sys.stdin:
        print(json.dumps(_forked(*json.loads(line))), flush=True)


def _forked(arguments: list[str], folder: str, number: int, error: int) -> Ended:
    said, (ours, theirs) = Path(f"{folder}.stderr"), os.pipe()
    child = os.fork()
    if child == 0:
        _run(arguments, folder, number, error, said, theirs)
    os.close(theirs)
    failed = os.read(ours, 1) == b"1"
    os.close(ours)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    text = said.read_text(encoding="utf-8", errors="replace")
    said.unlink()
    return Ended(code, failed, text)


def _run(arguments: list[str], folder: str, number: int, error: int, said: Path, result: int) -> None:
    """In the fork: the command, with its own streams; never returns."""
    from yowo_deploy.cli import main

    shim, code = ctypes.CDLL(None), 1
    os.chdir(folder)
    os.dup2(os.open(os.devnull, os.O_RDWR), 0)
    os.dup2(0, 1)
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), 2)
    sys.argv = ["yowo-deploy", *arguments]
    shim.fail_call(os.fsencode(folder), number, error)
    try:
        main()
        code = 0
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        sys.excepthook(*sys.exc_info())  # type: ignore[arg-type]
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        os.write(result, b"01"[shim.calls_failed() :][:1])
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    serve(sys.argv[1:])
