"""What every engine offers, and which engine a file needs. Knows no engine until a file asks for one."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Sequence
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float
from yowo_deploy.backends.cuda import CudaLibrary
from yowo_deploy.errors import InputError, MissingExtraError, ModelFileError
from yowo_deploy.files import existing_file
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.plan_record import is_plan
from yowo_deploy.spec import ModelSpec, Precision

Shape = tuple[int, ...]


class Backend(Protocol):
    """A loaded model. A context manager; an engine may keep device memory until it is closed.

    Attributes:
        streams: calls of `infer` that it works on at once.
        batch: the fewest clips that a call must have, and the most; None where there is no limit.
    """

    name: str
    spec: ModelSpec
    streams: int
    batch: tuple[int, int | None]

    def infer(self, clips: NDArray[np.float32]) -> Float:
        """(B, 3, T, H, W) float32 clips to (B, A * (5 + C), rows, columns) float32 raw outputs.

        The answer is the caller's: no later call changes it. Threads may call it at once; more than `streams` of them
        gain nothing by that.
        """
        ...

    def close(self) -> None:
        """Free what the engine holds; safe to call twice."""
        ...

    def __enter__(self) -> Backend: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


class Layered(Backend, Protocol):
    """An engine that also shows what lies between input and output."""

    def outputs(self, clips: NDArray[np.float32], names: Sequence[str]) -> dict[str, Float]:
        """What the named values are for (B, 3, T, H, W) clips, in float32.

        Args:
            names: of an ONNX file's or a plan's outputs; of a checkpoint's modules, as "backbone_3d.layer3.4.conv2",
                with "#2" behind it for what a module returns when it is called a second time.

        Returns:
            By name; what is not there is left out.
        """
        ...


@runtime_checkable
class Staged(Protocol):
    """An engine that can take a call apart, more slowly than `Backend.infer`: it waits after each stage."""

    def infer_in_stages(self, clips: NDArray[np.float32]) -> tuple[Float, dict[str, float]]:
        """As `infer`, and the seconds of "copy in", "infer", "copy out"; of "infer" alone where nothing is copied."""
        ...


class FrameStream(Protocol):
    """One video on its way through an engine that keeps what neighbouring clips share."""

    def push(self, planes: Float) -> Float:
        """The next frame, (3, H, W) float32 as `preprocess` gives, to the (A * (5 + C), rows, columns) raw output of
        the clip that ends with it: what `Backend.infer` says of that clip. What lies before the first frame is filled
        by the spec's start rule.
        """
        ...

    def reset(self) -> None:
        """Forget every frame: the next push is the first of a new video."""
        ...


@runtime_checkable
class Skipping(Protocol):
    """A `FrameStream` that can take a frame without an answer, which costs less."""

    def skip(self, planes: Float) -> None:
        """As `push`, for a frame that is no key frame."""
        ...


@runtime_checkable
class Streaming(Protocol):
    """An engine that can take a video frame by frame, which costs less than clip by clip."""

    def open_stream(self) -> FrameStream:
        """A stream at its start; streams of one engine know nothing of each other."""
        ...


E = TypeVar("E", bound="Engine")


class Engine:
    """What all engines share: they are context managers, and most have nothing to close and take one call at a time."""

    streams = 1
    batch: tuple[int, int | None] = (1, None)

    def close(self) -> None:
        """Nothing is held that the garbage collector does not free."""

    def __enter__(self: E) -> E:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# From a clip, (1, 3, T, H, W), and the number of its key frame in the video to the raw output: what takes the place of
# `Backend.infer` where a clip alone does not say it all.
Look = Callable[[Float, int], Float]

# name: (module and class, library, extra). In order of preference on a CPU (DEPLOYMENT_FACTS, "CPU engines").
ONNX_ENGINES = {
    "openvino": ("yowo_deploy.backends.ov:open_file", "openvino", "openvino"),
    "onnxruntime": ("yowo_deploy.backends.ort:open_file", "onnxruntime", "onnxruntime"),
}
BACKENDS = (*ONNX_ENGINES, "tensorrt", "pytorch")


def open_model(
    path: str | os.PathLike[str],
    backend: str | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    clip: int | None = None,
    streams: int = 1,
    cache: str | os.PathLike[str] | None = None,
    trust: bool = False,
    cuda: CudaLibrary = "cuda-python",
) -> Backend:
    """Load a model file into an engine. What the file is decides, not its name.

    Args:
        path: an ONNX file, a TensorRT plan or a checkpoint, or "default" for the model of the package.
        backend: "openvino", "onnxruntime", "tensorrt" or "pytorch"; by default the first installed one that takes the
            file.
        device: "cpu", or "cuda" or "cuda:1" where the engine has it; by default "cuda" for a plan and "cpu" for all
            others. ONNX Runtime also knows "tensorrt" and "tensorrt-rtx", which are TensorRT behind it.
        precision: of the arithmetic; by default the file's own, `spec.precision`. No engine takes another in silence:
            OpenVINO runs any file but an int8 one in "fp32", and any file in "bf16" on CPUs that have it.
        threads: of the CPU; the engine's own choice by default.
        streams: calls of `infer` that the engine works on at once, its threads divided among them: 1 for the shortest
            time to one answer, 2 for more answers a second. PyTorch has one always.
        clip: clip length for a checkpoint, which can be run at any; an ONNX file and a plan have their own.
        cache: folder where OpenVINO, or TensorRT behind ONNX Runtime, keeps what it compiled, for a quicker next start.
            A folder of your own: what lies there is run.
        trust: load a plan without its recorded hash, see `plan_file`.
        cuda: what a plan reaches the GPU with: "cuda-python", or "pycuda" in an application that uses it already.

    Raises:
        InputError: no such file, an unknown backend, one that cannot take this kind of file or one of the options, or
            no GPU for a plan.
        ModelFileError: the file is no model, is damaged, or carries no spec.
        MissingExtraError: the engine is not installed.
    """
    file = existing_file(model_path(path), "model")
    if backend is not None and backend not in BACKENDS:
        raise InputError(f"backend {backend!r} is not known, expected one of {', '.join(BACKENDS)}")
    if device == "":
        raise InputError("the device is an empty text: leave it out for the engine's own choice")
    if streams < 1:
        raise InputError(f"streams is {streams}, expected 1 or more")
    if is_checkpoint(file):
        if backend not in (None, "pytorch"):
            raise InputError(f"{backend} cannot run the checkpoint {file}: export it to ONNX first")
        if cache is not None:
            raise InputError(f"pytorch compiles nothing that a cache could keep: leave out the cache {cache}")
        return _pytorch()(file, device=device or "cpu", precision=precision or "fp32", threads=threads, clip=clip)  # type: ignore[no-any-return]
    opened: Backend
    if is_plan(file):
        if backend not in (None, "tensorrt"):
            raise InputError(
                f"{backend} cannot run the plan {file}: give it the ONNX file that the plan was built from"
            )
        if cache is not None:
            raise InputError(f"a plan is compiled already, nothing is left to cache: leave out the cache {cache}")
        plans = importlib.import_module("yowo_deploy.backends.trt")
        opened = plans.TensorRtBackend(file, device or "cuda", precision, threads, streams, trust, cuda)
    else:
        opened = _onnx(file, backend, device or "cpu")(
            file, device=device or "cpu", precision=precision, threads=threads, streams=streams, cache=cache
        )
    if clip not in (None, opened.spec.clip_length):
        opened.close()
        raise InputError(
            f"{file} takes clips of {opened.spec.clip_length} frames, not {clip}: export it with --clip {clip}"
        )
    return opened


def is_checkpoint(path: Path) -> bool:
    """Whether a file is what `torch.save` writes: a zip archive, or the older bare pickle."""
    with path.open("rb") as stream:
        head = stream.read(4)
    return head == b"PK\x03\x04" or head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")


def check_clips(clips: NDArray[Any], spec: ModelSpec, batch: int | None = None) -> NDArray[np.float32]:
    """`clips` as a contiguous float32 array.

    Args:
        batch: how many there must be; None for any number.

    Raises:
        InputError: the shape is not (B, 3, T, H, W) of the spec.
    """
    if clips.ndim != 5 or clips.shape[1:] != spec.clip_shape or batch not in (None, len(clips)):
        sides = ", ".join(map(str, spec.clip_shape))
        raise InputError(f"clips have shape {clips.shape}, expected ({batch or 'batch'}, {sides})")
    return np.ascontiguousarray(clips, np.float32)


def batch_of(shape: Shape) -> tuple[int, int | None]:
    """`Backend.batch` of a network that takes this shape, -1 for a side that is not fixed."""
    return (shape[0], shape[0]) if shape[0] > 0 else (1, None)


def check_shapes(inputs: Sequence[Shape], outputs: Sequence[Shape], spec: ModelSpec, path: Path) -> None:
    """The network must take and put out what the spec announces.

    Args:
        inputs, outputs: shapes with the batch first; -1 for a side that is not fixed.

    Raises:
        ModelFileError: it does not, so the file and its spec do not belong together.
    """
    columns, rows = spec.grid_size
    answer = (spec.output_channels, rows, columns)
    # Outputs behind the first are what somebody marked to look at.
    for does, shapes, expected in (("takes", inputs, spec.clip_shape), ("puts out", outputs[:1], answer)):
        found = [tuple(shape[1:]) for shape in shapes]
        if found != [expected]:
            said = " and ".join(map(str, found)) or "nothing"
            raise ModelFileError(f"{path} {does} {said}, its spec says {expected}: export it again")


def _onnx(file: Path, backend: str | None, device: str) -> Any:
    """The engine for an ONNX file: the one asked for, or the first installed one."""
    if backend == "pytorch":
        raise InputError(f"pytorch runs checkpoints, and {file} is none; choose openvino or onnxruntime")
    if backend == "tensorrt":
        raise InputError(f"tensorrt runs plans, and {file} is none: write one with `yowo-deploy build {file}`")
    where, library, extra = ONNX_ENGINES[backend or _installed_engine(device)]
    if find_spec(library) is None:
        raise MissingExtraError(library, "cuda" if library == "onnxruntime" and device != "cpu" else extra)
    module, engine = where.split(":")
    return getattr(importlib.import_module(module), engine)


def _installed_engine(device: str) -> str:
    if device != "cpu":
        return "onnxruntime"  # OpenVINO runs on CPUs alone here
    for name, (_, library, _) in ONNX_ENGINES.items():
        if find_spec(library) is not None:
            return name
    raise MissingExtraError("an engine for ONNX files", "openvino")


def _pytorch() -> Any:
    """The engine of floor 5, found through the package's entry point so that nothing here imports upwards."""
    for point in entry_points(group="yowo_deploy.backends", name="pytorch"):
        if find_spec("torch") is None:
            break
        return point.load()
    raise MissingExtraError("PyTorch, which runs checkpoints,", "train")
