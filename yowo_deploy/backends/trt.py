"""TensorRT and TensorRT-RTX: load a plan and run it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from math import prod
from pathlib import Path
from threading import Lock
from time import perf_counter
from typing import Any

import numpy as np

from yowo_deploy.arrays import Float, Planes
from yowo_deploy.backends.base import Engine, Shape, check_clips, check_shapes
from yowo_deploy.backends.cuda import CudaLibrary, open_cuda
from yowo_deploy.backends.dlpack import device_array, processor_array
from yowo_deploy.backends.streaming import Keeping, KeptStream, Maps, Memory
from yowo_deploy.closing import closed_on_error
from yowo_deploy.errors import InputError, MissingExtraError, ModelFileError, YowoError, foreign
from yowo_deploy.model_files.onnx_reader import FRAMES, RAW
from yowo_deploy.model_files.plan_record import (
    FLAVOURS,
    Flavour,
    Machine,
    PlanFile,
    check_plan,
    read_plan,
    read_verified,
)
from yowo_deploy.spec import Precision


def library(flavour: Flavour) -> Any:
    """The module `tensorrt` or `tensorrt_rtx`, whose names are the same.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        if flavour == "tensorrt":
            import tensorrt as module
        else:
            import tensorrt_rtx as module
    except (ImportError, OSError) as error:  # OSError: the bindings are there, the libraries are not
        raise MissingExtraError(flavour, flavour) from error
    return module


def installed_flavours() -> list[Flavour]:
    """Those whose library is there, TensorRT before TensorRT-RTX."""
    return [flavour for flavour in FLAVOURS if find_spec(flavour.replace("-", "_")) is not None]


def listen(trt: Any) -> tuple[Any, list[str]]:
    """A logger for TensorRT, silent, and the list that its errors go to."""
    errors: list[str] = []

    class Listener(trt.ILogger):  # type: ignore[misc]  # a class of a library without types
        def __init__(self) -> None:
            trt.ILogger.__init__(self)

        def log(self, severity: Any, message: str) -> None:
            if severity in (trt.ILogger.ERROR, trt.ILogger.INTERNAL_ERROR):
                errors.append(message.strip() or "no reason given")

    return Listener(), errors


class TensorRtBackend(Engine):
    """A plan on the GPU.

    Clips come from pinned memory, or from where they lie on the GPU already: `infer` also takes arrays with DLPack or
    `__cuda_array_interface__`, which are read in place. Where the plan has one batch size, copies and kernels are
    recorded once as a CUDA graph.

    Args:
        path: of a plan that `yowo-deploy build` wrote.
        device: "cuda", or "cuda:1" for the second GPU.
        precision: None, or the plan's own; a plan computes in what its graph said.
        threads: None; a plan does not run on the CPU.
        parallel: 1 is what there is; calls from several threads take turns.
        trust: load the plan without its recorded hash, see `plan_file`.
        cuda: "cuda-python", or "pycuda" for applications that use it already: in the context that is current.
        sha256: see `open_pinned`.

    Raises:
        InputError: no GPU, or an option that a plan has not.
        ModelFileError: the plan is damaged, is not ours, or is for another machine.
        MissingExtraError: its library is not installed.
    """

    name = "tensorrt"

    def __init__(
        self,
        path: Path,
        device: str = "cuda",
        precision: Precision | None = None,
        threads: int | None = None,
        parallel: int = 1,
        trust: bool = False,
        cuda: CudaLibrary = "cuda-python",
        sha256: str | None = None,
    ) -> None:
        plan = read_plan(path)
        self.spec, self.name, self._path = plan.spec, plan.flavour, path
        kind, _, number = device.partition(":")
        if kind != "cuda" or not (number or "0").isdecimal():
            raise InputError(f"a plan runs on cuda or cuda:N, not on {device!r}")
        if precision not in (None, plan.spec.precision) or threads:
            raise InputError(
                f"{path} computes in {plan.spec.precision} on the GPU: leave --precision and --threads out"
            )
        content = read_verified(path, trust, sha256)
        installed = installed_flavours()
        flavour = plan.flavour if plan.flavour in installed or not installed else installed[0]
        self._trt = library(flavour)
        self._cuda = open_cuda(cuda, int(number or 0))
        self._lock, self._closed = Lock(), False
        self._door = partial(foreign, f"{plan.flavour} cannot run {path}", ModelFileError)
        with closed_on_error(self), self._door(), self._cuda.current():
            check_plan(path, plan, Machine(flavour, self._trt.__version__, self._cuda.compute_capability))
            self._load(plan, content)

    def _load(self, plan: PlanFile, content: bytes) -> None:
        trt = self._trt
        self._logger, self._errors = listen(trt)
        self._runtime = trt.Runtime(self._logger)
        if plan.version_compatible:
            self._runtime.engine_host_code_allowed = True  # such a plan brings a runtime; its hash was verified
        self._engine = self._runtime.deserialize_cuda_engine(content)
        if self._engine is None:
            raise ModelFileError(f"{plan.flavour} cannot load {self._path}: {self._reason()}")
        names = [self._engine.get_tensor_name(index) for index in range(self._engine.num_io_tensors)]
        inputs = [name for name in names if self._engine.get_tensor_mode(name) == trt.TensorIOMode.INPUT]
        outputs = [name for name in names if name not in inputs]
        shapes = {name: tuple(self._engine.get_tensor_shape(name)) for name in names}
        self._context = self._engine.create_execution_context()
        if self._context is None:
            raise ModelFileError(f"{plan.flavour} cannot run {self._path}: {self._reason()}")
        self._bind(plan, shapes, inputs, outputs)

    def _bind(self, plan: PlanFile, shapes: dict[str, Shape], inputs: list[str], outputs: list[str]) -> None:
        """Check the network's inputs and outputs, and allocate for them."""
        check_shapes([shapes[n] for n in inputs], [shapes[n] for n in outputs], plan.spec, self._path)
        self._check_types(inputs, outputs)
        self._input, self._output = inputs[0], outputs[0]
        self._least = self._most = shapes[self._input][0]
        if self._least == -1:
            profile = self._engine.get_tensor_profile_shape(self._input, 0)
            self._least, self._most = profile[0][0], profile[2][0]
        self.batch = self._least, self._most
        self._allocate(self._most, {name: (self._most, *shapes[name][1:]) for name in outputs})

    def _check_types(self, inputs: list[str], outputs: list[str]) -> None:
        taken, kind = self.spec.input_type, self._engine.get_tensor_dtype
        wanted = dict.fromkeys(outputs, self._trt.float32) | dict.fromkeys(inputs, getattr(self._trt, taken))
        if any(kind(name) != each for name, each in wanted.items()):
            raise ModelFileError(
                f"{self._path} has inputs other than {taken}, or outputs other than float32: build it again"
            )

    def _allocate(self, batch: int, answers: dict[str, tuple[int, ...]]) -> None:
        self._clips = self._cuda.pinned((batch, *self.spec.clip_shape), self.spec.input_type)
        self._answers = {name: self._cuda.pinned(shape) for name, shape in answers.items()}
        self._raw = self._answers[self._output]
        self._clips_there = self._cuda.device_memory(self._clips.nbytes)
        self._there = {name: self._cuda.device_memory(array.nbytes) for name, array in self._answers.items()}
        self._launch = None
        if self._least == self._most:
            self._clips[:] = 0
            self._put_in_stream(batch)  # the first run sets things up that a graph must not record
            self._cuda.synchronize()
            capturable = getattr(self._context, "is_stream_capturable", None)  # TensorRT-RTX has it
            if capturable is None or capturable(self._cuda.stream):
                self._launch = self._cuda.capture(lambda: self._put_in_stream(batch))

    def infer(self, clips: Any) -> Float:
        """See `Backend.infer`; `clips` may also lie on the GPU.

        Raises:
            InputError: of another shape or, on a GPU, type; or more or fewer clips than the plan was built for.
            YowoError: CUDA or TensorRT failed.
        """
        with self._turn():
            return self._infer(clips)

    @contextmanager
    def _turn(self) -> Iterator[None]:
        """The GPU for one call, whole: no other thread comes between its parts."""
        with self._lock:
            self._refuse_closed()
            self._errors.clear()  # of calls before, some of which went well all the same
            with self._door(), self._cuda.current():
                yield

    def _infer(self, clips: Any) -> Float:
        there = device_array(clips, self._cuda.device, self._cuda.stream, self._cuda.device_of, self.spec.input_type)
        count = self._count(clips if there is None else there)
        if there is not None:
            if there.stream is not None:
                self._cuda.synchronize(there.stream)
            self._put_in_stream(count, there.address)
        else:
            self._clips[:count] = check_clips(processor_array(clips), self.spec)
            if self._launch is not None:
                self._launch()
            else:
                self._put_in_stream(count)
        self._cuda.synchronize()
        return self._raw[:count].copy()

    def outputs(self, clips: Planes, names: Sequence[str]) -> dict[str, Float]:
        """See `Layered.outputs`; of a plan built to show its layers."""
        with self._turn():
            self._infer(clips)
            found = [name for name in names if name in self._answers]
            for name in found:
                self._cuda.download(self._answers[name][: len(clips)], self._there[name])
            self._cuda.synchronize()
            return {name: self._answers[name][: len(clips)].copy() for name in found}

    def infer_in_stages(self, clips: Any) -> tuple[Float, dict[str, float]]:
        """See `Staged`; clips in the memory of the processor alone, and no CUDA graph."""
        with self._turn():
            start = perf_counter()
            count = self._count(clips)
            self._clips[:count] = check_clips(processor_array(clips), self.spec)
            self._cuda.upload(self._clips_there, self._clips[:count])
            self._cuda.synchronize()
            copied = perf_counter()
            self._execute(count, self._clips_there)
            self._cuda.synchronize()
            inferred = perf_counter()
            self._cuda.download(self._raw[:count], self._there[self._output])
            self._cuda.synchronize()
            raw = self._raw[:count].copy()
        spent = {"copy in": copied - start, "infer": inferred - copied, "copy out": perf_counter() - inferred}
        return raw, spent

    def _count(self, clips: Any) -> int:
        """Clips in a batch of the right shape."""
        shape = tuple(clips.shape) if hasattr(clips, "shape") else np.shape(clips)
        if len(shape) != 5 or shape[1:] != self.spec.clip_shape:
            expected = ", ".join(map(str, self.spec.clip_shape))
            raise InputError(f"clips have shape {shape}, expected (batch, {expected})")
        if not self._least <= shape[0] <= self._most:
            takes = f"{self._least} to {self._most}" if self._least != self._most else f"exactly {self._most}"
            raise InputError(f"{self._path} takes {takes} clips a call, not {shape[0]}: `build --batch` sets them")
        return int(shape[0])

    def _put_in_stream(self, count: int, address: int | None = None) -> None:
        """Upload, unless the clips lie at `address` already; run; download."""
        if address is None:
            self._cuda.upload(self._clips_there, self._clips[:count])
        self._execute(count, self._clips_there if address is None else address)
        self._cuda.download(self._raw[:count], self._there[self._output])

    def _execute(self, count: int, address: int) -> None:
        """Run on the clips that lie at `address`."""
        ready = self._context.set_input_shape(self._input, (count, *self.spec.clip_shape))
        ready &= self._context.set_tensor_address(self._input, address)
        for name, there in self._there.items():
            ready &= self._context.set_tensor_address(name, there)
        if not ready or not self._context.execute_async_v3(self._cuda.stream):
            raise YowoError(f"{self.name} failed on {self._path}: {self._reason()}")

    def _refuse_closed(self) -> None:
        if self._closed:
            raise InputError(f"{self._path} is closed: open it again")

    def _reason(self) -> str:
        return self._errors[0].splitlines()[0] if self._errors else "it gives no reason"

    def close(self) -> None:
        """See `Backend.close`."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            # The order matters: a context needs its engine, an engine its runtime, all of them the GPU.
            with self._cuda.current():
                self._launch = self._context = self._engine = self._runtime = None
            self._cuda.close()


class _Memory:
    """Memory of a map on the GPU; once no stream holds it, it is there for the next map of that size.

    The engine frees all of it when it closes. What still runs on it is in the same CUDA stream as what comes.
    """

    def __init__(self, address: int, spare: list[int]) -> None:
        self.address, self._spare = address, spare

    def __del__(self) -> None:
        self._spare.append(self.address)


class TensorRtFrames(TensorRtBackend):
    """A plan of a streaming file: maps stay on the GPU, bound as inputs and outputs in turn. See `Streaming`."""

    def _bind(self, plan: PlanFile, shapes: dict[str, Shape], inputs: list[str], outputs: list[str]) -> None:
        found = {name: shapes[name] for name in inputs}, {name: shapes[name] for name in outputs}
        self._keeping = Keeping.of(*found, plan.spec, self._path)
        self._check_types([FRAMES], [RAW])
        self._bytes = {
            name: prod(shapes[name]) * int(self._engine.get_tensor_dtype(name).itemsize) for name in self._keeping.ages
        }
        self._frames = self._cuda.pinned(shapes[FRAMES], self.spec.input_type)
        self._raw = self._cuda.pinned(shapes[RAW])
        self._frames_there = self._cuda.device_memory(self._frames.nbytes)
        self._raw_there = self._cuda.device_memory(self._raw.nbytes)
        self._spare: dict[int, list[int]] = {nbytes: [] for nbytes in self._bytes.values()}

    def open_stream(self) -> KeptStream:
        """See `Streaming.open_stream`."""
        return KeptStream(self, self._keeping, self.spec, self.spec.frame_stride)

    def infer(self, clips: Any) -> Float:
        """See `Backend.infer`. For what looks at clips: each is a video of its own, so nothing is saved."""
        checked = check_clips(processor_array(clips), self.spec)
        return np.stack([KeptStream(self, self._keeping, self.spec, 1).last_of(clip) for clip in checked])

    def infer_in_stages(self, clips: Any) -> tuple[Float, dict[str, float]]:
        """See `Staged`."""
        start = perf_counter()
        return self.infer(clips), {"infer": perf_counter() - start}

    def outputs(self, clips: Planes, names: Sequence[str]) -> dict[str, Float]:
        """See `Layered.outputs`: none, as a streaming file has no layers of clips."""
        return {}

    def memory(self, output: str) -> Memory:
        """See `Step.memory`."""
        nbytes = self._bytes[output]
        with self._turn():
            spare = self._spare[nbytes]
            return _Memory(spare.pop() if spare else self._cuda.device_memory(nbytes), spare)

    def __call__(self, frames: Planes, reads: Maps, writes: Maps, whole: bool) -> Float | None:
        """See `Step`. A plan has one context, in which streams take turns; all of it runs whatever is wanted."""
        with self._turn():
            self._frames[:] = frames
            self._cuda.upload(self._frames_there, self._frames)
            bound = {name: each.address for maps in (reads, writes) for name, each in maps.items()}
            bound |= {FRAMES: self._frames_there, RAW: self._raw_there}
            ready = all(self._context.set_tensor_address(name, address) for name, address in bound.items())
            if not ready or not self._context.execute_async_v3(self._cuda.stream):
                raise YowoError(f"{self.name} failed on {self._path}: {self._reason()}")
            if whole:
                self._cuda.download(self._raw, self._raw_there)
            self._cuda.synchronize()
            return self._raw[0].copy() if whole else None


def open_file(path: Path, **options: Any) -> TensorRtBackend:
    """A plan of clips or of frames; arguments and errors are those of `TensorRtBackend`."""
    return (TensorRtFrames if read_plan(path).spec.streaming else TensorRtBackend)(path, **options)
