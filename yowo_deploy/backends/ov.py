"""OpenVINO, the fast engine on a CPU. Knows how to compile a file and nothing of what the numbers mean."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import Engine, Shape, batch_of, check_clips, check_shapes
from yowo_deploy.backends.streaming import FRAMES, RAW, Keeping, Maps, Memory, StreamingEngine
from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.files import writable_folder
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_deploy.spec import Precision

# OpenVINO would pick bf16 by itself where the CPU has it, with errors of 5e-2 on the raw output
# (DEPLOYMENT_FACTS, "CPU engines"): precision is always said. A hint of f16 would give bf16 as well, so half files are
# computed in single precision; quantized layers are computed in int8 whatever the hint. Both measured, 2026.4.
_HINTS = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}


class _Loaded:
    """An ONNX file as OpenVINO read it, and how it is to be compiled.

    Args:
        path: of an ONNX file with a spec.
        device: "cpu".
        precision: the file's own by default. An fp16 file is computed in fp32 from its half weights, which is also what
            "fp32" means for it; an int8 file in int8 where it is quantized and fp32 elsewhere. "bf16" on CPUs that
            have it, for any file: bf16 where nothing is quantized.
        threads: of the CPU; OpenVINO's choice by default.
        streams: see `open_model`. One stream asks for the shortest time to an answer, more for throughput.
        cache: see `open_model`. Files of other models, or of other versions of OpenVINO, may lie in it.
    """

    def __init__(
        self,
        path: Path,
        device: str = "cpu",
        precision: Precision | None = None,
        threads: int | None = None,
        streams: int = 1,
        cache: str | os.PathLike[str] | None = None,
    ) -> None:
        self.spec = read_spec(path)
        if device != "cpu":
            raise InputError(f"openvino runs on the cpu here, not on {device!r}")
        own = self.spec.precision
        allowed = {own, "bf16"} if own == "int8" else {own, "fp32", "bf16"}
        if precision not in (None, *allowed):
            raise InputError(f"openvino runs {path} in {' or '.join(sorted(allowed))}, not in {precision}")
        chosen = precision or own
        config = {"INFERENCE_PRECISION_HINT": _HINTS[chosen]}
        config |= {"PERFORMANCE_HINT": "LATENCY"} if streams == 1 else {"NUM_STREAMS": str(streams)}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        if cache is not None:
            config["CACHE_DIR"] = str(writable_folder(cache))  # OpenVINO goes without a word if it cannot be written
        core = ov.Core()
        if chosen == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            others = " or ".join(sorted(allowed - {"bf16"}))
            raise InputError(f"this CPU has no bf16, in which {path} was to run: give --precision {others}")
        self._core, self._path, self._config = core, path, config
        with self._saying_why():
            self.model = core.read_model(path)

    def compile(self, model: ov.Model) -> ov.CompiledModel:
        """The model, or a part of it, ready to run."""
        with self._saying_why():
            return self._core.compile_model(model, "CPU", self._config)

    @contextmanager
    def _saying_why(self) -> Iterator[None]:
        try:
            yield
        except RuntimeError as error:
            reason = str(error).strip().splitlines()[-1]  # the lines before say where in OpenVINO
            raise ModelFileError(f"openvino cannot load {self._path}: {reason}") from error


class OpenVinoBackend(Engine):
    """An ONNX file on OpenVINO.

    Args:
        path: of an ONNX file with a spec.
        options: see `_Loaded`.

    Raises:
        InputError: the device or the precision is none of these.
        ModelFileError: OpenVINO cannot load the file.
        OutputError: the cache cannot be written.
    """

    name = "openvino"

    def __init__(self, path: Path, streams: int = 1, **options: Any) -> None:
        loaded = _Loaded(path, streams=streams, **options)
        self.spec = loaded.spec
        self._compiled = loaded.compile(loaded.model)
        inputs = _shapes(self._compiled.inputs)
        check_shapes(inputs, _shapes(self._compiled.outputs), self.spec, path)
        self.batch = batch_of(inputs[0])
        self.streams = streams
        self._idle: SimpleQueue[ov.InferRequest] = SimpleQueue()
        for _ in range(streams):
            self._idle.put(self._compiled.create_infer_request())

    def infer(self, clips: NDArray[np.float32]) -> Float:
        """See `Backend.infer`."""
        checked = check_clips(clips, self.spec, self.batch[1])
        request = self._idle.get()
        try:
            return np.array(request.infer([ov.Tensor(checked, shared_memory=True)])[0], np.float32)
        finally:
            self._idle.put(request)

    def outputs(self, clips: NDArray[np.float32], names: Sequence[str]) -> dict[str, Float]:
        """See `Layered.outputs`."""
        wanted = {name: output for output in self._compiled.outputs for name in output.names if name in set(names)}
        request = self._compiled.create_infer_request()
        request.infer([check_clips(clips, self.spec, self.batch[1])])
        return {name: np.array(request.get_tensor(output).data, np.float32) for name, output in wanted.items()}


class OpenVinoStreaming(StreamingEngine):
    """A streaming ONNX file on OpenVINO; else as `OpenVinoBackend`. Maps are written and read where they lie."""

    name = "openvino"

    def __init__(self, path: Path, streams: int = 1, **options: Any) -> None:
        loaded = _Loaded(path, streams=streams, **options)
        model, outputs = loaded.model, loaded.model.outputs
        keeping = Keeping.of(_named(model.inputs), _named(outputs), loaded.spec, path)
        maps = [each.get_node().input_value(0) for each in outputs if RAW not in each.names]
        parts = {True: loaded.compile(model), False: loaded.compile(ov.Model(maps, model.get_parameters()))}
        super().__init__(loaded.spec, keeping, lambda: _Step(parts), streams)


class _Step:
    """See `Step`; a map is a tensor of OpenVINO."""

    def __init__(self, parts: Mapping[bool, ov.CompiledModel]) -> None:
        self._requests = {whole: part.create_infer_request() for whole, part in parts.items()}
        self._inputs = {whole: {each.any_name: each for each in part.inputs} for whole, part in parts.items()}
        self._outputs = {whole: {each.any_name: each for each in part.outputs} for whole, part in parts.items()}

    def memory(self, output: str) -> Memory:
        """See `Step.memory`."""
        port = self._outputs[True][output]
        return ov.Tensor(port.element_type, port.shape)

    def __call__(self, frames: Float, reads: Maps, writes: Maps, whole: bool) -> Float | None:
        """See `Step`."""
        request, outputs = self._requests[whole], self._outputs[whole]
        tensors = {FRAMES: ov.Tensor(frames, shared_memory=True), **reads}
        for name, port in self._inputs[whole].items():
            request.set_tensor(port, tensors[name])
        for name, tensor in writes.items():
            request.set_tensor(outputs[name], tensor)
        request.infer()
        return np.array(request.get_tensor(outputs[RAW]).data[0], np.float32) if whole else None


def open_file(path: Path, **options: Any) -> Engine:
    """A file in the engine that it is for: of clips or of frames."""
    return (OpenVinoStreaming if read_spec(path).streaming else OpenVinoBackend)(path, **options)


def _named(ports: list[Any]) -> dict[str, Shape]:
    return {port.any_name: shape for port, shape in zip(ports, _shapes(ports), strict=True)}


def _shapes(tensors: list[Any]) -> list[Shape]:
    shapes = [tensor.partial_shape for tensor in tensors]
    return [
        tuple(side.get_length() if side.is_static else -1 for side in shape) if shape.rank.is_static else ()
        for shape in shapes
    ]
