"""A backend in a process of its own, whose crash is an error."""

from __future__ import annotations

import os
from collections.abc import Sequence
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any

import numpy as np

from yowo_deploy.arrays import Float, Planes
from yowo_deploy.backends.base import Engine
from yowo_deploy.child_process import ChildProcess
from yowo_deploy.closing import closed_on_error
from yowo_deploy.errors import EngineError

LIMIT_S = 3600.0  # for one answer: TensorRT behind ONNX Runtime may compile for half an hour


class Isolated(Engine):
    """A backend like the one `open_model` would give, in a process of its own.

    Args:
        path, options: as for `open_model`; what is opened for videos frame by frame takes clips alone here.
        sha256: see `open_pinned`.
        limit_s: seconds that it may take for one answer.
        memory: bytes that it may allocate, where the system can limit that (Linux); 0 for any number.

    Raises:
        EngineError: the process died, here or in any call, or took longer; the message says of what. A call that was
            interrupted, by Ctrl-C or so, ends the process too.
        YowoError: what `open_model` raises.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        sha256: str | None = None,
        *,
        limit_s: float = LIMIT_S,
        memory: int = 0,
        **options: Any,
    ) -> None:
        self._path, self._turn, self._limit_s = str(path), Lock(), limit_s
        self._child = ChildProcess("yowo_deploy.backends.isolated_server", "serve", memory)
        with closed_on_error(self):
            self.name, self.spec, self.parallel, self.batch = self._ask(self._path, sha256, options)

    def infer(self, clips: Planes) -> Float:
        """See `Backend.infer`."""
        answer: Float = self._ask("infer", clips)["raw"]
        return answer

    def outputs(self, clips: Planes, names: Sequence[str]) -> dict[str, Float]:
        """See `Layered.outputs`."""
        answers: dict[str, Float] = self._ask("outputs", clips, list(names))
        return answers

    def try_out(self) -> None:
        """Let it answer once, to clips of zeros."""
        self._ask("try_out")

    def first_odd(self, clips: Planes) -> str:
        """See `TorchBackend.first_odd`, for a checkpoint."""
        name: str = self._ask("first_odd", clips)
        return name

    def close(self) -> None:
        """See `Backend.close`."""
        self._child.close()

    def _ask(self, *request: Any) -> Any:
        connection = self._child.connection
        with self._turn:
            if connection.closed:
                raise EngineError(f"{self._path} is closed, or its process has died: open it again")
            try:
                connection.send(request)
                if not connection.poll(self._limit_s):
                    self._child.process.kill()
                    raise EngineError(f"the process that ran {self._path} gave no answer in {self._limit_s:g} s")
                kind, content = connection.recv()
                if kind == "arrays":
                    content = {name: _receive(connection, shape) for name, shape in content}
            except (OSError, EOFError) as error:
                connection.close()
                raise EngineError(f"the process that ran {self._path} died: {self._child.last_words()}") from error
            except BaseException:
                connection.close()  # half an answer may be in it, which the next call would take for its own
                raise
        if kind == "error":
            raise content
        return content


def _receive(connection: Connection, shape: tuple[int, ...]) -> Float:
    """One array, straight into its memory."""
    array = np.empty(shape, np.float32)
    if array.size:
        connection.recv_bytes_into(array.data.cast("B"))
    return array
