"""OpenVINO, the fastest engine on a CPU."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.arrays import Float, Planes
from yowo_deploy.backends.base import Backend, Shape
from yowo_deploy.backends.onnx_session import Call, ClipEngine, FrameEngine
from yowo_deploy.backends.streaming import Maps, Memory
from yowo_deploy.errors import InputError, ModelFileError, foreign
from yowo_deploy.files import writable_folder
from yowo_deploy.model_files.onnx_graph import INT8
from yowo_deploy.model_files.onnx_reader import FRAMES, RAW, OnnxFile, read_onnx_file
from yowo_deploy.model_files.streaming_form import VideosAtOnce, in_streaming_form
from yowo_deploy.spec import Precision

# As if the package for usage statistics were not installed, which OpenVINO provides for: importing it would fork a
# process that reports the import over the network, and write into the user's home.
_STATISTICS = "openvino_telemetry"
_hidden = sys.modules.setdefault(_STATISTICS, None) is None  # type: ignore[arg-type]
import openvino as ov  # noqa: E402

if _hidden:
    del sys.modules[_STATISTICS]

# OpenVINO would pick bf16 by itself where the CPU has it, with errors of 5e-2 on the raw output
# (DEPLOYMENT_FACTS, "CPU engines"): precision is always said. A hint of f16 would give bf16 as well, so half files are
# computed in single precision; quantized layers are computed in int8 whatever the hint. Both measured, 2026.4.
_HINTS = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}


class _Session:
    """An ONNX file as OpenVINO read it, and how it is to be compiled.

    Args:
        path: of an ONNX file with a spec.
        device: "cpu".
        precision: the file's own by default. An fp16 file is computed in fp32 from its half weights, which is also what
            "fp32" means for it; an int8 file in int8 where it is quantized and fp32 elsewhere. "bf16" on CPUs that
            have it, for any file: bf16 where nothing is quantized.
        threads: of the CPU; OpenVINO's choice by default.
        parallel: see `open_model`. 1 asks for the shortest time to an answer, more for throughput.
        cache: see `open_model`. Files of other models, or of other versions of OpenVINO, may lie in it.
        streaming: see `open_model`.
        sha256: see `open_pinned`.

    Raises:
        InputError: the device or the precision is none of these, or the file is INT8 for TensorRT.
        ModelFileError: OpenVINO cannot load the file.
        OutputError: the cache cannot be written.
    """

    name = "openvino"

    def __init__(
        self,
        path: Path,
        device: str = "cpu",
        precision: Precision | None = None,
        threads: int | None = None,
        parallel: int = 1,
        cache: str | os.PathLike[str] | None = None,
        streaming: VideosAtOnce | None = None,
        sha256: str | None = None,
    ) -> None:
        file = read_onnx_file(path, sha256)
        file, parallel = in_streaming_form(file, parallel, streaming) if streaming else (file, parallel)
        self.parallel = parallel
        self.spec = file.spec
        if device != "cpu":
            raise InputError(f"openvino runs on the cpu here, not on {device!r}")
        if _has_signed_activations(file):
            raise InputError(
                f"{path} is INT8 for TensorRT, with signed activations, whose sums overflow in openvino on processors "
                "without VNNI: export it with --int8 --target openvino, or give --backend onnxruntime"
            )
        own = self.spec.precision
        allowed = {own, "bf16"} if own == "int8" else {own, "fp32", "bf16"}
        if precision not in (None, *allowed):
            raise InputError(f"openvino runs {path} in {' or '.join(sorted(allowed))}, not in {precision}")
        chosen = precision or own
        config = {"INFERENCE_PRECISION_HINT": _HINTS[chosen]}
        config |= {"PERFORMANCE_HINT": "LATENCY"} if parallel == 1 else {"NUM_STREAMS": str(parallel)}
        if threads:
            config["INFERENCE_NUM_THREADS"] = str(threads)
        if cache is not None:
            config["CACHE_DIR"] = str(writable_folder(cache))  # OpenVINO goes without a word if it cannot be written
        core = ov.Core()
        if chosen == "bf16" and "BF16" not in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES"):
            others = " or ".join(sorted(allowed - {"bf16"}))
            raise InputError(f"this CPU has no bf16, the precision chosen for {path}: give --precision {others}")
        self._core, self._path, self._config = core, path, config
        with self._door():
            self._model = core.read_model(model=file.model_bytes())
        self.inputs, self.outputs = _shapes(self._model.inputs), _shapes(self._model.outputs)
        self._open_batch = not self.spec.streaming and self._model.inputs[0].partial_shape.is_dynamic

    @cached_property
    def compiled(self) -> ov.CompiledModel:
        """Of clips: for one, where the file leaves open how many there are.

        OpenVINO optimises less for an open number: the default model took 1.13 times as long in float32, 1.5 times in
        bf16, and four clips in one call longer than one after the other (benchmarks/PEERS.md).
        """
        if self._open_batch:
            self._model.reshape({self._model.inputs[0].any_name: [1, *self.spec.clip_shape]})
        return self._compile(self._model)

    @cached_property
    def _maps(self) -> ov.CompiledModel:
        """The part of a streaming file that makes the maps alone."""
        maps = [each.get_node().input_value(0) for each in self._model.outputs if RAW not in each.names]
        return self._compile(ov.Model(maps, self._model.get_parameters()))

    def _compile(self, model: ov.Model) -> ov.CompiledModel:
        with self._door():
            return self._core.compile_model(model, "CPU", self._config)

    def _door(self) -> AbstractContextManager[None]:
        return foreign(f"openvino cannot load {self._path}", ModelFileError)

    def make_call(self) -> Call:
        """See `Session.make_call`."""
        request = self.compiled.create_infer_request()

        def run(clips: Planes) -> Float:
            return np.array(request.infer([ov.Tensor(clips, shared_memory=True)])[0], np.float32)

        return lambda clips: np.concatenate([run(each) for each in self._each(clips)])

    def _each(self, clips: Planes) -> list[Planes]:
        """As many of these clips at once as `compiled` takes."""
        return [clips[place : place + 1] for place in range(len(clips))] if self._open_batch else [clips]

    def make_step(self) -> _Step:
        """See `Session.make_step`."""
        return _Step({True: self.compiled, False: self._maps})

    def values(self, clips: Planes, names: Sequence[str]) -> dict[str, Float]:
        """See `Session.values`."""
        compiled = self.compiled
        wanted = {name: output for output in compiled.outputs for name in output.names if name in set(names)}
        request, found = compiled.create_infer_request(), []
        for each in self._each(clips):
            request.infer([each])
            found.append({name: np.array(request.get_tensor(port).data, np.float32) for name, port in wanted.items()})
        if len(found) == 1:  # of one clip there may be values without a batch
            return found[0]
        return {name: np.concatenate([each[name] for each in found]) for name in wanted}


class _Step:
    """See `Step`; a map is a tensor of OpenVINO."""

    def __init__(self, parts: Mapping[bool, ov.CompiledModel]) -> None:
        self._requests = {whole: part.create_infer_request() for whole, part in parts.items()}
        self._inputs = {whole: _by_name(part.inputs) for whole, part in parts.items()}
        self._outputs = {whole: _by_name(part.outputs) for whole, part in parts.items()}

    def memory(self, output: str) -> Memory:
        """See `Step.memory`."""
        port = self._outputs[True][output]
        return ov.Tensor(port.element_type, port.shape)

    def __call__(self, frames: Planes, reads: Maps, writes: Maps, whole: bool) -> Float | None:
        """See `Step`."""
        request, inputs, outputs = self._requests[whole], self._inputs[whole], self._outputs[whole]
        for name, tensor in {FRAMES: ov.Tensor(frames, shared_memory=True), **reads}.items():
            request.set_tensor(inputs[name], tensor)
        for name, tensor in writes.items():
            request.set_tensor(outputs[name], tensor)
        request.infer()
        return np.array(request.get_tensor(outputs[RAW]).data[0], np.float32) if whole else None


def open_file(path: Path, parallel: int = 1, **options: Any) -> Backend:
    """A file in the engine that it is for: of clips or of frames; arguments and errors are those of `_Session`."""
    session = _Session(path, parallel=parallel, **options)
    return (FrameEngine if session.spec.streaming else ClipEngine)(session, path)


def _by_name(ports: Sequence[Any]) -> dict[str, Any]:
    """Under each of its names: a value that a node hands on has two."""
    return {name: port for port in ports for name in port.names}


def _has_signed_activations(file: OnnxFile) -> bool:
    """Whether values are rounded to int8. With weights of up to 127 OpenVINO 2026.4 was wrong by 0.3 to 0.4 of the
    largest sum of a convolution then (AVX2), and by 4e-7 with uint8."""
    points = {node.inputs[2] for node in file.graph.nodes if node.operator == "QuantizeLinear" and node.inputs[2:]}
    return any(each.dtype == INT8 and each.name in points for each in file.graph.tensors)


def _shapes(ports: list[Any]) -> dict[str, Shape]:
    """By name; -1 for a side that is not fixed."""
    shapes = {port.any_name: port.partial_shape for port in ports}
    return {
        name: tuple(side.get_length() if side.is_static else -1 for side in shape) if shape.rank.is_static else ()
        for name, shape in shapes.items()
    }
