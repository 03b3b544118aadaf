"""The process of an isolated backend."""

from __future__ import annotations

import contextlib
import sys
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.backends.base import Backend
from yowo_deploy.backends.loader import is_checkpoint, open_pinned
from yowo_deploy.errors import YowoError
from yowo_deploy.model_files.onnx_reader import read_onnx_file
from yowo_deploy.model_files.plan_record import is_plan
from yowo_deploy.model_files.streaming_form import FORM_KEY


def serve(descriptor: int, memory: int) -> None:
    """Open what is asked for, then answer calls until the connection closes.

    Args:
        descriptor: of the connection.
        memory: bytes that may be allocated; 0 for any number.
    """
    connection = Connection(descriptor)
    if memory and sys.platform == "linux":
        import resource

        # Not RLIMIT_AS: CUDA and PyTorch reserve far more than they use.
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with contextlib.suppress(EOFError, BrokenPipeError, ConnectionResetError):
        path, sha256, options = connection.recv()
        try:
            engine = open_pinned(path, sha256, **options)
        except YowoError as error:
            connection.send(("error", error))
            return
        connection.send(("value", (engine.name, engine.spec, engine.parallel, engine.batch)))
        with engine:
            while True:
                request = connection.recv()
                if request[0] == "try_out":
                    _serve_one(_Trial(engine, path, sha256, options), connection, "run")
                else:
                    _serve_one(engine, connection, *request)


class _Trial:
    """First calls of a model, in both of its forms if it carries one for streams."""

    def __init__(self, engine: Backend, path: str, sha256: str | None, options: dict[str, Any]) -> None:
        self._engine, self._path, self._sha256, self._options = engine, path, sha256, options

    def run(self) -> str:
        """Let each answer to clips of zeros; nothing is told."""
        self._answer(self._engine)
        file = Path(self._path)
        of_onnx = not is_checkpoint(file) and not is_plan(file)
        if of_onnx and FORM_KEY in read_onnx_file(file, self._sha256).metadata:
            with open_pinned(file, self._sha256, **self._options | {"streaming": "many"}) as streaming:
                self._answer(streaming)
        return ""

    @staticmethod
    def _answer(engine: Backend) -> None:
        engine.infer(np.zeros((engine.batch[0], *engine.spec.clip_shape), engine.spec.input_type))


def _serve_one(engine: Any, connection: Connection, method: str, *arguments: Any) -> None:
    try:
        answer = getattr(engine, method)(*arguments)
    except YowoError as error:
        connection.send(("error", error))
        return
    if isinstance(answer, str):
        connection.send(("value", answer))
        return
    arrays = {"raw": answer} if method == "infer" else answer
    connection.send(("arrays", [(name, array.shape) for name, array in arrays.items()]))
    for name in list(arrays):
        array = np.ascontiguousarray(arrays.pop(name), np.float32)
        if array.size:
            connection.send_bytes(array.data.cast("B"))
