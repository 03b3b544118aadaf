"""ONNX Runtime. Knows how to open a session and nothing of what the numbers mean."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from yowo_deploy.backends.base import Engine, Shape, check_clips, check_shapes
from yowo_deploy.boxes import Float
from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.onnx_file import read_spec
from yowo_deploy.spec import Precision

# onnxruntime's own exceptions share no base but Exception.
_OWN = vars(ort.capi.onnxruntime_pybind11_state).values()
_ERRORS: tuple[type[Exception], ...] = (
    RuntimeError,
    ValueError,
    *(each for each in _OWN if isinstance(each, type) and issubclass(each, Exception)),
)

_PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxRuntimeBackend(Engine):
    """An ONNX file on ONNX Runtime.

    Args:
        path: of an ONNX file with a spec.
        device: "cpu" or "cuda"; a device that is not there is an error, never another one in silence.
        precision: "fp32"; ONNX Runtime computes in what the graph says.
        threads: of the CPU; ONNX Runtime's choice by default.
        streams: see `open_model`.
    """

    name = "onnxruntime"

    def __init__(
        self,
        path: Path,
        device: str = "cpu",
        precision: Precision = "fp32",
        threads: int | None = None,
        streams: int = 1,
    ) -> None:
        self.spec = read_spec(path)
        provider = _PROVIDERS.get(device)
        if provider not in ort.get_available_providers():
            raise InputError(
                f"this onnxruntime has no device {device!r}; it has {', '.join(ort.get_available_providers())}"
            )
        if precision != "fp32":
            raise InputError(f"onnxruntime takes its precision from the graph: leave --precision {precision} out")
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if streams > 1:
            threads = max(1, (threads or os.cpu_count() or 1) // streams)  # a session's calls each run in their thread
        options.intra_op_num_threads = threads or 0
        try:
            self._session = ort.InferenceSession(str(path), options, providers=[provider])
        except _ERRORS as error:
            raise ModelFileError(f"onnxruntime cannot load {path}: {str(error).splitlines()[0]}") from error
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        check_shapes(_shapes(inputs), _shapes(outputs), self.spec, path)
        self._input = inputs[0].name
        self.streams = streams

    def infer(self, clips: NDArray[np.float32]) -> Float:
        """See `Backend.infer`."""
        return np.asarray(self._session.run(None, {self._input: check_clips(clips, self.spec)})[0], np.float32)


def _shapes(tensors: list[Any]) -> list[Shape]:
    """Sides that are not fixed have a name there, or none at all."""
    return [tuple(side if isinstance(side, int) else -1 for side in tensor.shape or ()) for tensor in tensors]
