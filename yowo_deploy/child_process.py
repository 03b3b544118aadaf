"""A Python process that calls a function of this project, a connection to it, and why it died."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from multiprocessing.connection import Pipe

from yowo_deploy.closing import Closing

_PATIENCE_S = 10.0  # for a process that was asked to end


class ChildProcess(Closing):
    """A process that runs `function(descriptor, *arguments)`, and ends when the connection closes.

    What can be imported here can be imported there. Its stdout is discarded.

    Args:
        module, function: what it calls.
        arguments: texts and numbers.

    Attributes:
        connection: to the `Connection` over that descriptor.
        process: for its number, and to kill it.
    """

    def __init__(self, module: str, function: str, *arguments: str | int) -> None:
        here, there = Pipe()
        self.connection = here
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        environment = (
            os.environ
            | {"PYTHONSAFEPATH": "1"}
            | {"PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)}
        )
        given = ", ".join(map(repr, (there.fileno(), *arguments)))
        self.process = subprocess.Popen(
            [sys.executable, "-c", f"from {module} import {function}; {function}({given})"],
            pass_fds=[there.fileno()],
            stdin=subprocess.PIPE,  # it ends when this process does
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
            env=environment,
        )
        there.close()

    def end(self) -> int:
        """Close the connection and wait for the process, not for ever; its exit code."""
        self.connection.close()
        assert self.process.stdin is not None
        self.process.stdin.close()
        try:
            return self.process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()

    def last_words(self) -> str:
        """Why the process died: the name of a signal, or what it wrote last."""
        code = self.end()
        if code < 0:
            return signal.strsignal(-code) or f"signal {-code}"
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")

    def close(self) -> None:
        """See `end`; safe to call twice."""
        self.end()
        self._complaints.close()
