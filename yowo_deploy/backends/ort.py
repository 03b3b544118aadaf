"""ONNX Runtime and its providers."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from yowo_deploy.arrays import Float, Planes
from yowo_deploy.backends.base import Backend, Shape
from yowo_deploy.backends.onnx_session import Call, ClipEngine, FrameEngine
from yowo_deploy.backends.streaming import Maps, Memory
from yowo_deploy.errors import InputError, ModelFileError, foreign
from yowo_deploy.files import writable_folder
from yowo_deploy.model_files.onnx_reader import FRAMES, RAW, OnnxFile, read_onnx_file
from yowo_deploy.model_files.streaming_form import VideosAtOnce, in_streaming_form
from yowo_deploy.spec import ModelSpec, Precision

# Before the import, which would begin to report models and devices over the network and to write into the user's home.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime as ort

_RTX = "NvTensorRTRTXExecutionProvider"
_PROVIDERS = {
    "cpu": "CPUExecutionProvider",
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "tensorrt-rtx": _RTX,
}
# The GPU wheel overwrites the files of the plain one; the RTX provider is a plugin of either.
_GPU_WHEEL = "pip uninstall -y onnxruntime && pip install 'yowo-deploy[cuda]'"
_INSTALL = {"cuda": _GPU_WHEEL, "tensorrt": _GPU_WHEEL, "tensorrt-rtx": "pip install 'yowo-deploy[onnxruntime-rtx]'"}
_PLUGIN = "onnxruntime_ep_nv_tensorrt_rtx"


# Of maps, by ONNX Runtime's names. numpy has no bfloat16.
_TYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
}


class _Session:
    """An ONNX file in a session.

    Args:
        path: of an ONNX file with a spec.
        device: "cpu", "cuda", "tensorrt" or "tensorrt-rtx", the last three of them with a number as in "cuda:1". A
            provider that is not there or does not start is an error, never another one in silence. (Single nodes
            that a provider does not take are the CPU's by ONNX Runtime's own rules; for "tensorrt" they are CUDA's.)
        precision: the file's own: ONNX Runtime computes in what the graph says, on CUDA without TF32. For "tensorrt"
            that is by NVIDIA_TF32_OVERRIDE=0 for the whole process, unless it is set already.
        threads: of the CPU; ONNX Runtime's choice by default.
        parallel: see `open_model`.
        cache: see `open_model`; for "tensorrt" and "tensorrt-rtx".
        streaming: see `open_model`.
        sha256: see `open_pinned`.

    Raises:
        InputError: the provider is not there, or an option is not for it.
        ModelFileError: ONNX Runtime cannot load the file.
        OutputError: the cache cannot be written.
    """

    name = "onnxruntime"

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
        # Of one video, two clips at once are faster than the default model's frames in turn: 1.38. A file for several
        # clips a call has frames alone for a video.
        if streaming == "many" or (streaming and (parallel == 1 or (file.batch or 1) > 1)):
            file, parallel = in_streaming_form(file, parallel, streaming)
        self.parallel = parallel
        self.spec = file.spec
        kind, index = _parsed(device)
        if precision not in (None, self.spec.precision):
            raise InputError(
                f"onnxruntime takes its precision from the graph, and {path} is {self.spec.precision}: "
                f"leave --precision {precision} out"
            )
        options = ort.SessionOptions()
        options.log_severity_level = 3
        if parallel > 1:
            threads = max(1, (threads or os.cpu_count() or 1) // parallel)  # a session's calls each run in their thread
        options.intra_op_num_threads = threads or 0
        providers = _providers(kind, index, cache, options)
        remedy = " in bf16, try --backend openvino" if self.spec.precision == "bf16" else ""
        with foreign(f"onnxruntime cannot load {path} on {device}{remedy}", ModelFileError):
            # With its fallback ONNX Runtime would print to stdout and go on without the provider.
            model = _given(file, kind, options)
            self._session = ort.InferenceSession(model, options, providers=providers, enable_fallback=0)
        if self._session.get_providers()[0] != _PROVIDERS[kind]:
            raise InputError(
                f"onnxruntime could not start {_PROVIDERS[kind]} and would run on the CPU; the reason is above on "
                "stderr, and `yowo-deploy doctor` shows what is missing"
            )
        self._index = index
        self.inputs, self.outputs = _shapes(self._session.get_inputs()), _shapes(self._session.get_outputs())
        # Not for the RTX plugin: beside it stands the plain wheel, which cannot allocate on a GPU.
        self.binds = kind in ("cuda", "tensorrt")

    def make_call(self) -> Call:
        """See `Session.make_call`."""
        if self.binds:
            return DeviceMemory(self._session, self.spec, "cuda", self._index)
        [name] = self.inputs
        return lambda clips: np.asarray(self._session.run(None, {name: clips})[0], np.float32)

    def make_step(self) -> _Step:
        """See `Session.make_step`."""
        return _Step(self._session, ("cuda", self._index) if self.binds else ("cpu", 0))

    def values(self, clips: Planes, names: Sequence[str]) -> dict[str, Float]:
        """See `Session.values`."""
        [name], found = self.inputs, [each for each in names if each in self.outputs]
        answers = self._session.run(found, {name: clips}) if found else []
        return {each: np.asarray(answer, np.float32) for each, answer in zip(found, answers, strict=True)}


class OnnxRuntimeBackend(ClipEngine):
    """A file of clips on ONNX Runtime."""

    _session: _Session

    def infer_in_stages(self, clips: Planes) -> tuple[Float, dict[str, float]]:
        """See `Staged`."""
        if not self._session.binds:
            start = perf_counter()
            return self.infer(clips), {"infer": perf_counter() - start}
        with self._calls.lent() as call:
            staged: DeviceMemory = call  # type: ignore[assignment]  # what a session that binds makes
            return staged.infer_in_stages(self._checked(clips))


class DeviceMemory:
    """Input and output of a session on its device, bound once: while batches stay of one size nothing is allocated.

    For one thread at a time.

    Args:
        session: of a network with one input and one output.
        spec: of the network.
        kind, index: of the device, as ONNX Runtime names it: "cuda", 1.
    """

    def __init__(self, session: Any, spec: ModelSpec, kind: str, index: int) -> None:
        self._session, self._device = session, (kind, index)
        self._answer = (spec.output_channels, *spec.grid_size[::-1])
        self._batch = 0

    def __call__(self, clips: Planes) -> Float:
        """Contiguous (B, 3, T, H, W) to (B, A * (5 + C), rows, columns), a copy."""
        return self.infer_in_stages(clips)[0]

    def infer_in_stages(self, clips: Planes) -> tuple[Float, dict[str, float]]:
        """The answer, and the seconds of its stages."""
        if len(clips) != self._batch:
            allocate = ort.OrtValue.ortvalue_from_shape_and_type
            self._clips = allocate(list(clips.shape), clips.dtype.type, *self._device)
            self._raw = allocate([len(clips), *self._answer], np.float32, *self._device)
            self._binding = self._session.io_binding()
            self._binding.bind_ortvalue_input(self._session.get_inputs()[0].name, self._clips)
            self._binding.bind_ortvalue_output(self._session.get_outputs()[0].name, self._raw)
            self._batch = len(clips)
        start = perf_counter()
        self._clips.update_inplace(clips)
        copied = perf_counter()
        self._session.run_with_iobinding(self._binding)  # waits for the device
        inferred = perf_counter()
        raw = np.array(self._raw.numpy(), np.float32)
        spent = {"copy in": copied - start, "infer": inferred - copied, "copy out": perf_counter() - inferred}
        return raw, spent


class _Step:
    """See `Step`; a map is a value of ONNX Runtime."""

    def __init__(self, session: Any, device: tuple[str, int]) -> None:
        self._session, self._device = session, device
        self._outputs = {each.name: each for each in session.get_outputs()}
        self._frames: Any = None

    def memory(self, output: str) -> Memory:
        """See `Step.memory`."""
        found = self._outputs[output]
        if found.type not in _TYPES:
            raise ModelFileError(f"onnxruntime cannot keep state of type {found.type}: run this file on another engine")
        return ort.OrtValue.ortvalue_from_numpy(np.zeros(found.shape, _TYPES[found.type]), *self._device)

    def __call__(self, frames: Planes, reads: Maps, writes: Maps, whole: bool) -> Float | None:
        """See `Step`."""
        binding = self._session.io_binding()
        if self._device[0] == "cpu":
            binding.bind_cpu_input(FRAMES, frames)
        else:
            if self._frames is None:
                self._frames = ort.OrtValue.ortvalue_from_numpy(frames, *self._device)
            self._frames.update_inplace(frames)
            binding.bind_ortvalue_input(FRAMES, self._frames)
        for name, value in reads.items():
            binding.bind_ortvalue_input(name, value)
        for name, value in writes.items():
            binding.bind_ortvalue_output(name, value)
        if whole:
            binding.bind_output(RAW)
        # It computes all of the graph whatever is bound: only_execute_path_to_fetches was tried, and took as long.
        self._session.run_with_iobinding(binding)
        return np.array(binding.get_outputs()[-1].numpy()[0], np.float32) if whole else None


def open_file(path: Path, parallel: int = 1, **options: Any) -> Backend:
    """A file in the engine that it is for: of clips or of frames; arguments and errors are those of `_Session`."""
    session = _Session(path, parallel=parallel, **options)
    return (FrameEngine if session.spec.streaming else OnnxRuntimeBackend)(session, path)


def _given(file: OnnxFile, kind: str, options: Any) -> bytes:
    """The model for a session; where ONNX Runtime can take weights from memory, they go into its `options`.

    They must stay where they are until the session is made. Other providers than the CPU's hand models on to parsers of
    their own, which look for such weights on the disk.
    """
    if kind != "cpu" or not hasattr(options, "add_external_initializers_from_files_in_memory"):  # an older one
        return file.model_bytes()
    model, weights = file.model_and_weights()
    if weights:
        sizes = [len(each) for each in weights.values()]
        options.add_external_initializers_from_files_in_memory(list(weights), list(weights.values()), sizes)
    return model


def _parsed(device: str) -> tuple[str, int]:
    """ "cuda:1" to ("cuda", 1); refuses what is not of the grammar."""
    found = re.fullmatch(r"(cpu)|(cuda|tensorrt|tensorrt-rtx)(?::(\d{1,3}))?", device)
    if not found:
        raise InputError(
            f"onnxruntime has no device {device!r}, expected cpu, cuda, tensorrt or tensorrt-rtx, or one with a number "
            "as in cuda:1"
        )
    return found[1] or found[2], int(found[3] or 0)


def _providers(kind: str, index: int, cache: str | os.PathLike[str] | None, options: Any) -> list[Any]:
    """What `InferenceSession` takes as providers; a plugin goes into the session's `options` instead."""
    if cache is not None and kind not in ("tensorrt", "tensorrt-rtx"):
        raise InputError(f"onnxruntime has no compiled model to cache on {kind}: leave out the cache {cache}")
    folder = "" if cache is None else str(writable_folder(cache))
    available = ort.get_available_providers()
    if kind == "tensorrt-rtx" and _RTX not in available and find_spec(_PLUGIN):
        options.add_provider_for_devices([_plugin_device(index)], {"nv_runtime_cache_path": folder} if cache else {})
        return []
    if _PROVIDERS[kind] not in available:
        raise InputError(
            f"this onnxruntime has no {_PROVIDERS[kind]}; it has {', '.join(available)}: run `{_INSTALL[kind]}`"
        )
    if kind == "cpu":
        return [_PROVIDERS[kind]]
    with contextlib.redirect_stdout(sys.stderr):
        ort.preload_dlls()  # CUDA and cuDNN from wheels, where they are; prints what it misses
    if kind == "tensorrt-rtx":
        return [(_RTX, {"device_id": index} | ({"nv_runtime_cache_path": folder} if cache else {}))]
    # TF32 keeps ten bits, and a file that says fp32 means 23.
    cuda = (_PROVIDERS["cuda"], {"device_id": index, "use_tf32": 0})
    if kind == "tensorrt":
        # TensorRT behind ONNX Runtime has no option for that, and reads this once in a process.
        os.environ.setdefault("NVIDIA_TF32_OVERRIDE", "0")
    # As text: 1 would arrive as "1", where its reader of options takes "True" or "False" alone.
    kept = {"trt_engine_cache_enable": "True", "trt_engine_cache_path": folder} if cache else {}
    return [cuda] if kind == "cuda" else [(_PROVIDERS[kind], {"device_id": index} | kept), cuda]


def _plugin_device(index: int) -> Any:
    """Registers the plugin, whose wheel carries all of TensorRT-RTX, and gives the GPU of this number."""
    import onnxruntime_ep_nv_tensorrt_rtx as plugin

    try:
        with foreign(f"onnxruntime cannot start {_RTX}"):
            ort.register_execution_provider_library(_RTX, plugin.get_library_path())
    except InputError as error:
        if "already registered" not in str(error).lower():
            raise
    devices = [device for device in ort.get_ep_devices() if device.ep_name == _RTX]
    if index >= len(devices):
        raise InputError(f"{_RTX} has {len(devices)} devices, expected a number below that, found {index}")
    return devices[index]


def _shapes(tensors: list[Any]) -> dict[str, Shape]:
    """By name. Sides that are not fixed have a name there, or none at all."""
    return {each.name: tuple(side if isinstance(side, int) else -1 for side in each.shape or ()) for each in tensors}
