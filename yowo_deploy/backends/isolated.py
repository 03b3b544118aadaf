"""A backend in a process of its own, whose crash is an error."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from multiprocessing.connection import Connection, Pipe
from threading import Lock
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import Engine
from yowo_deploy.closing import closed_on_error
from yowo_deploy.errors import EngineError

_PATIENCE_S = 10.0  # for a process that was asked to end
LIMIT_S = 3600.0  # for one answer: TensorRT behind ONNX Runtime may compile for half an hour


class Isolated(Engine):
    """A backend like the one `open_model` would give, in a process of its own.

    Args:
        path, options: as for `open_model`.
        limit_s: seconds that it may take for one answer.
        memory: bytes that it may allocate, where the system can limit that (Linux); 0 for any number.

    Raises:
        EngineError: the process died, here or in any call, or took longer; the message says of what. A call that was
            interrupted, by Ctrl-C or so, ends the process too.
        YowoError: what `open_model` raises.
    """

    def __init__(
        self, path: str | os.PathLike[str], *, limit_s: float = LIMIT_S, memory: int = 0, **options: Any
    ) -> None:
        options.pop("streaming", None)  # streams are not passed on from here, and clips are faster than one each
        self._path, self._turn, self._limit_s = str(path), Lock(), limit_s
        here, there = Pipe()
        self._connection = here
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        # What can be imported here can be imported there.
        environment = (
            os.environ
            | {"PYTHONSAFEPATH": "1"}
            | {"PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)}
        )
        code = f"from yowo_deploy.backends.isolated_server import serve; serve({there.fileno()}, {memory})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
            env=environment,
        )
        there.close()
        with closed_on_error(self):
            self.name, self.spec, self.streams, self.batch = self._ask(self._path, options)

    def infer(self, clips: NDArray[np.float32]) -> Float:
        """See `Backend.infer`."""
        answer: Float = self._ask("infer", clips)["raw"]
        return answer

    def outputs(self, clips: NDArray[np.float32], names: Sequence[str]) -> dict[str, Float]:
        """See `Layered.outputs`."""
        answers: dict[str, Float] = self._ask("outputs", clips, list(names))
        return answers

    def try_out(self) -> None:
        """Let it answer once, to clips of zeros."""
        self._ask("try_out")

    def first_odd(self, clips: NDArray[np.float32]) -> str:
        """See `TorchBackend.first_odd`, for a checkpoint."""
        name: str = self._ask("first_odd", clips)
        return name

    def close(self) -> None:
        """See `Backend.close`."""
        self._connection.close()
        self._end()
        self._complaints.close()

    def _end(self) -> int:
        """Wait for the process, not for ever; its exit code."""
        try:
            return self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            return self._process.wait()

    def _ask(self, *request: Any) -> Any:
        with self._turn:
            if self._connection.closed:
                raise EngineError(f"{self._path} is closed, or its process has died: open it again")
            try:
                self._connection.send(request)
                if not self._connection.poll(self._limit_s):
                    self._process.kill()
                    raise EngineError(f"the process that ran {self._path} gave no answer in {self._limit_s:g} s")
                kind, content = self._connection.recv()
                if kind == "arrays":
                    content = {name: _receive(self._connection, shape) for name, shape in content}
            except (OSError, EOFError) as error:
                self._connection.close()
                raise EngineError(f"the process that ran {self._path} died: {self._last_words()}") from error
            except BaseException:
                self._connection.close()  # half an answer may be in it, which the next call would take for its own
                raise
        if kind == "error":
            raise content
        return content

    def _last_words(self) -> str:
        code = self._end()
        if code < 0:
            return signal.strsignal(-code) or f"signal {-code}"
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")


def _receive(connection: Connection, shape: tuple[int, ...]) -> Float:
    """One array, straight into its memory."""
    array = np.empty(shape, np.float32)
    if array.size:
        connection.recv_bytes_into(array.data.cast("B"))
    return array
