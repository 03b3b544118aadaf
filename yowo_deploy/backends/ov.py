"""OpenVINO, the fast engine on a CPU. Knows how to compile a file and nothing of what the numbers mean."""

from __future__ import annotations

from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from yowo_deploy.backends.base import Engine, Shape, check_clips, check_shapes
from yowo_deploy.boxes import Float
from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.onnx_file import read_spec
from yowo_deploy.spec import Precision

# OpenVINO would pick bf16 by itself where the CPU has it, with errors of 5e-2 on the raw output
# (DEPLOYMENT_FACTS, "CPU engines"): precision is always said.
_HINTS = {"fp32": "f32", "bf16": "bf16"}


class OpenVinoBackend(Engine):
    """An ONNX file on OpenVINO.

    Args:
        path: of an ONNX file with a spec.
        device: "cpu".
        precision: "fp32", or "bf16" on CPUs that have it.
        threads: of the CPU; OpenVINO's choice by default.
        streams: see `open_model`.
    """

    name = "openvino"

    def __init__(
        self,
        path: Path,
        device: str = "cpu",
        precision: Precision = "fp32",
        threads: int | None = None,
        streams: int = 1,
    ) -> None:
        self.spec = read_spec(path)
        if device != "cpu":
            raise InputError(f"openvino runs on the cpu here, not on {device!r}")
        if precision not in _HINTS:
            raise InputError(f"openvino runs {', '.join(_HINTS)} here, not {precision}")
        config = {"INFERENCE_PRECISION_HINT": _HINTS[precision]}
        config |= {"PERFORMANCE_HINT": "LATENCY"} if streams == 1 else {"NUM_STREAMS": str(streams)}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        core = ov.Core()
        if precision == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            raise InputError("this CPU has no bf16: leave --precision at fp32")
        try:
            self._compiled = core.compile_model(core.read_model(path), "CPU", config)
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]  # the lines before say where in OpenVINO
            raise ModelFileError(f"openvino cannot load {path}: {reason}") from error
        check_shapes(_shapes(self._compiled.inputs), _shapes(self._compiled.outputs), self.spec, path)
        self.streams = streams
        self._idle: SimpleQueue[ov.InferRequest] = SimpleQueue()
        for _ in range(streams):
            self._idle.put(self._compiled.create_infer_request())

    def infer(self, clips: NDArray[np.float32]) -> Float:
        """See `Backend.infer`."""
        checked = check_clips(clips, self.spec)
        request = self._idle.get()
        try:
            return np.array(request.infer([ov.Tensor(checked, shared_memory=True)])[0], np.float32)
        finally:
            self._idle.put(request)


def _shapes(tensors: list[Any]) -> list[Shape]:
    shapes = [tensor.partial_shape for tensor in tensors]
    return [
        tuple(side.get_length() if side.is_static else -1 for side in shape) if shape.rank.is_static else ()
        for shape in shapes
    ]
