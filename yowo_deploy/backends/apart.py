"""An engine in a process of its own: if it crashes, it alone ends. Knows processes; the engine is `open_model`'s."""

from __future__ import annotations

import contextlib
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

from yowo_deploy.backends.base import Engine, open_model
from yowo_deploy.boxes import Float
from yowo_deploy.errors import EngineError, YowoError

_PATIENCE_S = 10.0  # for a process that was asked to end


class Apart(Engine):
    """A backend like the one `open_model` would give, in a process of its own.

    Args:
        path, options: as for `open_model`.

    Raises:
        EngineError: the process died, here or in any call; the message says of what.
        YowoError: what `open_model` raises.
    """

    def __init__(self, path: str | os.PathLike[str], **options: Any) -> None:
        self._path, self._turn = str(path), Lock()
        here, there = Pipe()
        self._connection = here
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115  # closed by `close`
        # What can be imported here can be imported there.
        environment = (
            os.environ
            | {"PYTHONSAFEPATH": "1"}
            | {"PYTHONPATH": os.pathsep.join(os.path.abspath(entry) for entry in sys.path if entry)}
        )
        code = f"from yowo_deploy.backends.apart import serve; serve({there.fileno()})"
        self._process = subprocess.Popen(
            [sys.executable, "-c", code],
            pass_fds=[there.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._complaints,
            env=environment,
        )
        there.close()
        try:
            self.name, self.spec, self.streams = self._ask(self._path, options)
        except BaseException:
            self.close()
            raise

    def infer(self, clips: NDArray[np.float32]) -> Float:
        """See `Backend.infer`."""
        answer: Float = self._ask("infer", clips)["raw"]
        return answer

    def outputs(self, clips: NDArray[np.float32], names: Sequence[str]) -> dict[str, Float]:
        """See `Layered.outputs`."""
        answers: dict[str, Float] = self._ask("outputs", clips, list(names))
        return answers

    def close(self) -> None:
        """See `Backend.close`."""
        self._connection.close()
        try:
            self._process.wait(_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._complaints.close()

    def _ask(self, *request: Any) -> Any:
        try:
            with self._turn:
                self._connection.send(request)
                kind, content = self._connection.recv()
                if kind == "arrays":
                    return {name: _receive(self._connection, shape) for name, shape in content}
        except (OSError, EOFError) as error:
            raise EngineError(f"the process that ran {self._path} died: {self._last_words()}") from error
        if kind == "error":
            raise content
        return content

    def _last_words(self) -> str:
        code = self._process.wait()
        if code < 0:
            return signal.strsignal(-code) or f"signal {-code}"
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        return next((line.strip() for line in reversed(lines) if line.strip()), f"exit code {code}")


def serve(descriptor: int) -> None:
    """The other end: open what is asked for, then answer calls until the connection closes."""
    connection = Connection(descriptor)
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        path, options = connection.recv()
        try:
            engine = open_model(path, **options)
        except YowoError as error:
            connection.send(("error", error))
            return
        connection.send(("value", (engine.name, engine.spec, engine.streams)))
        with engine:
            while True:
                _serve_one(engine, connection, *connection.recv())


def _serve_one(engine: Any, connection: Connection, method: str, *arguments: Any) -> None:
    try:
        answer = getattr(engine, method)(*arguments)
    except YowoError as error:
        connection.send(("error", error))
        return
    arrays = {"raw": answer} if method == "infer" else answer
    connection.send(("arrays", [(name, array.shape) for name, array in arrays.items()]))
    for name in list(arrays):
        array = np.ascontiguousarray(arrays.pop(name), np.float32)
        if array.size:
            connection.send_bytes(array.data.cast("B"))


def _receive(connection: Connection, shape: tuple[int, ...]) -> Float:
    """One array, straight into its memory."""
    array = np.empty(shape, np.float32)
    if array.size:
        connection.recv_bytes_into(array.data.cast("B"))
    return array
