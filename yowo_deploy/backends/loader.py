"""Open a model file in the backend that can run it."""

from __future__ import annotations

import importlib
import os
from importlib.metadata import entry_points
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from yowo_deploy.backends.accepted import accept_hash, is_accepted
from yowo_deploy.backends.base import Backend
from yowo_deploy.backends.cuda import CudaLibrary
from yowo_deploy.errors import EngineError, InputError, MissingExtraError, ModelFileError
from yowo_deploy.files import existing_file, sha256_of
from yowo_deploy.keywords import checked_keywords
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_deploy.model_files.plan_record import is_plan
from yowo_deploy.model_files.streaming_form import VideosAtOnce
from yowo_deploy.spec import Precision

# name: (module and class, library, extra). In order of preference on a CPU (DEPLOYMENT_FACTS, "CPU engines").
ONNX_ENGINES = {
    "openvino": ("yowo_deploy.backends.ov:open_file", "openvino", "openvino"),
    "onnxruntime": ("yowo_deploy.backends.ort:open_file", "onnxruntime", "onnxruntime"),
}
SAFETENSORS = ".safetensors"
TRIAL_S, TRIAL_BYTES = 300.0, 4 << 30  # of a file that is not known; memory grows with the file
MOST_THREADS = 1024  # more than any processor has; engines fail by these with errors of their own, or without memory
BACKENDS = (*ONNX_ENGINES, "tensorrt", "pytorch")


@checked_keywords
def open_model(
    path: str | os.PathLike[str],
    backend: str | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    clip: int | None = None,
    parallel: int = 1,
    cache: str | os.PathLike[str] | None = None,
    trust: bool | None = None,
    cuda: CudaLibrary = "cuda-python",
    streams: int | None = None,
    streaming: VideosAtOnce | None = None,
) -> Backend:
    """Load a model file into an engine, chosen by the content of the file, not by its name.

    Args:
        path: an ONNX file, a TensorRT plan or a checkpoint, or "default" for the model of the package.
        backend: "openvino", "onnxruntime", "tensorrt" or "pytorch"; by default the first installed one that takes the
            file.
        device: "cpu", or "cuda", "cuda:1" or "1" where the engine has it; by default "cuda" for a plan and "cpu" for
            all others; "auto" is the GPU where one works with an installed engine. ONNX Runtime also knows "tensorrt"
            and "tensorrt-rtx", which are TensorRT behind it.
        precision: of the arithmetic; by default the file's own, `spec.precision`. No engine silently uses another:
            OpenVINO runs any file but an int8 one in "fp32", and any file in "bf16" on CPUs that have it.
        threads: of the CPU; the engine's own choice by default.
        parallel: calls of `infer` that the backend works on at once, its threads divided among them: 1 for the lowest
            latency, 2 for more throughput. PyTorch has one always.
        clip: clip length for a checkpoint, which can be run at any; an ONNX file and a plan have their own.
        cache: folder where OpenVINO, or TensorRT behind ONNX Runtime, keeps what it compiled, for a quicker next start.
            A folder of your own: what lies there is run.
        trust: False: a file that this user has neither run nor made is tried first, see `admit`. True: it is not, and
            a plan is loaded without its recorded hash. By default no file is tried, and a plan needs its hash.
        cuda: what a plan reaches the GPU with: "cuda-python", or "pycuda" in an application that uses it already.
        streams: alias of `parallel`.
        streaming: for videos frame by frame: the streaming form of an ONNX file, where it carries one (`export` puts it
            in where it gives the same answers for less). "one": for a video after the other, one call at once then;
            ONNX Runtime takes the form only where `parallel` is 1, or the file is for several clips a call. "many": for
            videos at once, `parallel` calls at a time. Every other file is opened as it is.

    Raises:
        InputError: no such file, an unknown backend, one that cannot take this kind of file or one of the options, or
            no GPU for a plan.
        ModelFileError: the file is no model, is damaged, or carries no spec.
        MissingExtraError: the engine is not installed.
    """
    chosen: dict[str, Any] = {"backend": backend, "device": device, "precision": precision, "threads": threads}
    chosen |= {"clip": clip, "cache": cache, "trust": trust, "cuda": cuda, "streaming": streaming}
    return open_pinned(path, None, **chosen, parallel=parallel if streams is None else streams)


def _refuse_counts(**counts: int | None) -> None:
    for name, count in counts.items():
        if count is not None and not 1 <= count <= MOST_THREADS:
            raise InputError(f"{name} is {count}, expected 1 to {MOST_THREADS}")


def open_pinned(
    path: str | os.PathLike[str],
    sha256: str | None,
    *,
    backend: str | None = None,
    device: str | None = None,
    precision: Precision | None = None,
    threads: int | None = None,
    clip: int | None = None,
    parallel: int = 1,
    cache: str | os.PathLike[str] | None = None,
    trust: bool | None = None,
    cuda: CudaLibrary = "cuda-python",
    streaming: VideosAtOnce | None = None,
) -> Backend:
    """As `open_model`, but what is loaded has this hash, or is an error: a name may lead to another file by now.

    Raises:
        ModelFileError: the file has another hash.
    """
    file = existing_file(model_path(path), "model")
    if backend is not None and backend not in BACKENDS:
        raise InputError(f"backend {backend!r} is not known, expected one of {', '.join(BACKENDS)}")
    if device == "":
        raise InputError("the device is an empty text: leave it out for the engine's own choice")
    device = None if device is None else full_device(device)
    if streaming not in (None, "one", "many"):
        raise InputError(f"streaming is {streaming!r}, expected 'one' or 'many' videos at once, or None for clips")
    _refuse_counts(parallel=parallel, threads=threads)
    if trust is False:
        options = {"backend": backend, "device": device, "precision": precision, "threads": threads, "clip": clip}
        sha256 = admit(file, **options, parallel=parallel, cache=cache, cuda=cuda)
    if is_checkpoint(file):
        if backend not in (None, "pytorch"):
            raise InputError(f"{backend} cannot run the checkpoint {file}: export it to ONNX first")
        if cache is not None:
            raise InputError(f"pytorch has no compiled model to cache: leave out the cache {cache}")
        return _pytorch()(file, device or "cpu", precision or "fp32", threads, clip, sha256)  # type: ignore[no-any-return]
    opened: Backend
    if is_plan(file):
        if backend not in (None, "tensorrt"):
            raise InputError(
                f"{backend} cannot run the plan {file}: give it the ONNX file that the plan was built from"
            )
        if cache is not None:
            raise InputError(f"a plan is already compiled and needs no cache: leave out the cache {cache}")
        plans = importlib.import_module("yowo_deploy.backends.trt")
        device = None if device == "auto" else device
        plan = {"precision": precision, "threads": threads, "parallel": parallel, "trust": bool(trust), "cuda": cuda}
        opened = plans.open_file(file, device=device or "cuda", sha256=sha256, **plan)
    else:
        if device == "auto":
            plain = precision is None and threads is None and cache is None and backend in (None, "onnxruntime")
            device = "cuda" if plain and _runs_on_gpu(file) else None
        engine = _onnx(file, backend, device or "cpu")
        given = {"precision": precision, "threads": threads, "parallel": parallel, "cache": cache}
        opened = engine(file, device=device or "cpu", streaming=streaming, sha256=sha256, **given)
    if clip not in (None, opened.spec.clip_length):
        opened.close()
        raise InputError(
            f"{file} takes clips of {opened.spec.clip_length} frames, not {clip}: export it with --clip {clip}"
        )
    return opened


def admit(path: str | os.PathLike[str], **options: Any) -> str | None:
    """Try a file that this user has neither run nor made: it is opened and answers once in a process of its own.

    Time and memory of that process are limited; an engine that it crashes is not this one. What went well is known from
    then on.

    Args:
        path, options: as for `open_model`.

    Returns:
        The hash of what is known now, for `open_pinned`: until the file is loaded its name may lead to another one.
        None for the model of the package.

    Raises:
        ModelFileError: it crashes its engine, or takes too long.
        YowoError: what `open_model` raises.
    """
    file = existing_file(model_path(path), "model")
    if os.path.realpath(file) == os.path.realpath(model_path(DEFAULT)):
        return None
    sha256 = sha256_of(file)
    if is_accepted(sha256):
        return sha256
    from yowo_deploy.backends.isolated import LIMIT_S, Isolated  # most files are known

    memory = TRIAL_BYTES + 8 * file.stat().st_size
    on_cpu = options.get("device") in (None, "cpu") or not Path("/dev/nvidiactl").exists()  # "auto" among others
    limit_s = TRIAL_S if on_cpu else LIMIT_S
    options.pop("streaming", None)  # `try_out` runs both forms
    try:
        with Isolated(file, sha256, limit_s=limit_s, memory=memory, **options) as engine:
            engine.try_out()
    except EngineError as error:
        raise ModelFileError(
            f"{file} is not known and failed when it was tried in a process of its own: {error}; open it with --trust "
            "only if you know who made it"
        ) from error
    accept_hash(sha256)
    return sha256


def on_cpu(device: str | None) -> bool:
    """Whether a `device` of `open_model` is this machine's processor; "auto" where there is no GPU's driver."""
    return device in (None, "cpu") or (device == "auto" and not Path("/dev/nvidiactl").exists())


def full_device(name: str) -> str:
    """ "cuda:1" for "1"; any other name as it is."""
    return f"cuda:{name}" if name.isdecimal() else name


def is_checkpoint(path: Path) -> bool:
    """Whether a file is what `torch.save` writes, a zip archive or the older bare pickle; or of safetensors."""
    with path.open("rb") as stream:
        head = stream.read(4)
    return (
        is_safetensors(path)
        or head == b"PK\x03\x04"
        or head[:2] in (b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")
    )


def is_safetensors(path: Path) -> bool:
    """Whether a file begins as those of safetensors: the length of a JSON object, and the object."""
    with path.open("rb") as stream:
        head = stream.read(9)
    return head[4:] == b"\0\0\0\0{"


def _onnx(file: Path, backend: str | None, device: str) -> Any:
    """The engine for an ONNX file: the one asked for, or the first installed one."""
    if backend == "pytorch":
        raise InputError(f"pytorch runs only checkpoints, and {file} is not one: choose openvino or onnxruntime")
    if backend == "tensorrt":
        raise InputError(f"tensorrt runs only plans, and {file} is not one: write one with `yowo-deploy build {file}`")
    where, library, extra = ONNX_ENGINES[backend or _installed_engine(device)]
    if find_spec(library) is None:
        raise MissingExtraError(library, "cuda" if library == "onnxruntime" and device != "cpu" else extra)
    module, engine = where.split(":")
    return getattr(importlib.import_module(module), engine)


def _runs_on_gpu(file: Path) -> bool:
    """Whether ONNX Runtime starts this file on a GPU that is there. Without one nothing is loaded to find out."""
    if find_spec("onnxruntime") is None or not Path("/dev/nvidiactl").exists():
        return False
    if read_spec(file).precision not in ("fp32", "fp16"):
        return False
    engine = importlib.import_module("yowo_deploy.backends.ort")
    if "CUDAExecutionProvider" not in engine.ort.get_available_providers():
        return False
    try:
        engine.open_file(file, device="cuda", precision=None, threads=None, parallel=1, cache=None).close()
    except (InputError, ModelFileError):
        return False
    return True


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
