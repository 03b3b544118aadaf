"""Installed packages, working backends, and what is missing.

A backend works when it has run a model. With a broken driver it may also hang or crash, so each is tried in a process
of its own, on a model of one layer whose answer is known.
"""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from time import perf_counter
from typing import Literal

import numpy as np

from yowo_deploy.backends.loader import open_model
from yowo_deploy.diagnostics.nvidia_smi import find_gpus, last_line
from yowo_deploy.diagnostics.probe_model import clip_kernel_answer, write_one_layer
from yowo_deploy.diagnostics.system_info import MODULES, processor_in_words, wheels_by_module
from yowo_deploy.errors import ModelFileError, VideoError
from yowo_deploy.files import work_folder
from yowo_deploy.video.reader import VideoReader
from yowo_deploy.video.writer import VideoWriter

TIMEOUT_S = 60.0  # for one trial; PyTorch takes 10 s to load from a cold, slow disk

# Modules that several wheels carry, each over the other's files, and which wheel to keep: the first that is there.
ONE_WHEEL = {
    "cv2": (("opencv-python-headless", "opencv-python-headless"),),
    "onnxruntime": (("onnxruntime-gpu", "'yowo-deploy[cuda]'"), ("onnxruntime", "'yowo-deploy[onnxruntime]'")),
}

Kind = Literal["backend", "builder", "preprocessing", "video"]
State = Literal["works", "fails", "missing", "no gpu"]


@dataclass(frozen=True)
class Trial:
    """One thing to try.

    Attributes:
        name: for people.
        kind: backends run models; builders make plans.
        library: module that it cannot do without.
        extra: of the package, which brings that.
        code: Python, raises where it does not work.
        arguments: `sys.argv` of the code after the file of the one-layer model.
        needs_gpu: not tried without one.
    """

    name: str
    kind: Kind
    library: str
    extra: str
    code: str
    arguments: tuple[str, ...] = ()
    needs_gpu: bool = False


_RUN = "import sys; from yowo_deploy.diagnostics.doctor import run_one_layer; run_one_layer(*sys.argv[1:])"
_WRITE = "import sys; from yowo_deploy.diagnostics.doctor import write_video; write_video(sys.argv[2])"
_TORCH = """
import sys, torch
from yowo_deploy.diagnostics.nvidia_smi import find_gpus, last_line
from yowo_deploy.diagnostics.probe_model import STRIDES, clip_kernel_answer
clip, kernel, answer = (torch.from_numpy(array).to(sys.argv[2]) for array in clip_kernel_answer())
if not torch.equal(torch.nn.functional.conv3d(clip, kernel, stride=STRIDES).squeeze(2), answer):
    raise SystemExit("the output is wrong")
"""
_GOLDEN = """
from yowo_deploy.model_files.default import model_path
from yowo_deploy.preprocess.golden_frame import GOLDEN_KEY, check_golden
from yowo_deploy.model_files.onnx_reader import read_onnx_file, read_spec
path = model_path("default")
check_golden(read_spec(path), read_onnx_file(path).metadata[GOLDEN_KEY], str(path))
"""
_BUILD = """
import importlib, sys
trt = importlib.import_module(sys.argv[2])
logger = trt.Logger(trt.Logger.ERROR)
builder = trt.Builder(logger)
network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
if not trt.OnnxParser(network, logger).parse_from_file(sys.argv[1]):
    raise SystemExit("the ONNX file was refused")
if builder.build_serialized_network(network, builder.create_builder_config()) is None:
    raise SystemExit("no plan came out")
"""


def _backend(library: str, device: str, extra: str) -> Trial:
    return Trial(f"{library}, {device}", "backend", library, extra, _RUN, (library, device), device != "cpu")


TRIALS = (
    _backend("openvino", "cpu", "openvino"),
    _backend("onnxruntime", "cpu", "onnxruntime"),
    _backend("onnxruntime", "cuda", "cuda"),
    _backend("onnxruntime", "tensorrt", "cuda"),
    _backend("onnxruntime", "tensorrt-rtx", "cuda,onnxruntime-rtx"),
    Trial("pytorch, cpu", "backend", "torch", "train", _TORCH, ("cpu",)),
    Trial("pytorch, cuda", "backend", "torch", "train", _TORCH, ("cuda",), True),
    Trial("tensorrt, building a plan", "builder", "tensorrt", "tensorrt", _BUILD, ("tensorrt",), True),
    Trial("tensorrt-rtx, building a plan", "builder", "tensorrt_rtx", "tensorrt-rtx", _BUILD, ("tensorrt_rtx",)),
    Trial("the golden frame of the default model", "preprocessing", "cv2", "", _GOLDEN),
    Trial("VP8 in .webm", "video", "cv2", "", _WRITE, ("a.webm",)),
    Trial("H.264 in .mp4", "video", "av", "video", _WRITE, ("a.mp4",)),
)


@dataclass(frozen=True)
class Finding:
    """What came of a trial: a note in one line, and the command that installs what is missing, else ""."""

    name: str
    kind: Kind
    state: State
    note: str
    remedy: str = ""


@dataclass(frozen=True)
class Health:
    """Everything the doctor found.

    Attributes:
        python, system: versions.
        processor: its name, and what decides how fast a network runs on it.
        packages: for each of `MODULES` the wheels that carry it, as "onnxruntime 1.31.1"; "" where it is missing.
        gpus: name, driver, compute capability and memory of each, as nvidia-smi names them.
        gpu_note: CUDA's version by the driver, or why there is no GPU.
        findings: one for each trial.
        clashes: a sentence with its command for wheels that lie over each other.
    """

    python: str
    system: str
    processor: str
    packages: dict[str, str]
    gpus: tuple[dict[str, str], ...]
    gpu_note: str
    findings: tuple[Finding, ...]
    clashes: tuple[str, ...]

    @property
    def runs_models(self) -> bool:
        """At least one backend works."""
        return any(finding.kind == "backend" and finding.state == "works" for finding in self.findings)


def examine(on_trial: Callable[[int, str], None] = lambda done, name: None) -> Health:
    """Run every check; 5 s with all backends installed and warm. `on_trial` is called before each."""
    wheels = wheels_by_module()
    gpus, gpu_note = find_gpus()
    findings = []
    for done, trial in enumerate(TRIALS):
        on_trial(done, trial.name)
        findings.append(attempt(trial, bool(gpus)))
    return Health(
        platform.python_version(),
        platform.platform(),
        processor_in_words(),
        {module: _versions(wheels[module]) for module in MODULES},
        gpus,
        gpu_note,
        tuple(findings),
        tuple(filter(None, (clash(module, wheels[module]) for module in ONE_WHEEL))),
    )


def attempt(trial: Trial, has_gpu: bool) -> Finding:
    """Try one thing in a process of its own. Whatever happens there, this returns, after `TIMEOUT_S` at most."""
    if trial.needs_gpu and not has_gpu:
        return Finding(trial.name, trial.kind, "no gpu", "needs an NVIDIA GPU")
    if find_spec(trial.library) is None:
        return Finding(
            trial.name, trial.kind, "missing", f"{trial.library} is not installed", install(trial.extra, has_gpu)
        )
    with work_folder() as folder:
        model = folder / "one_layer.onnx"
        write_one_layer(model)
        start = perf_counter()
        # What can be imported here can be imported there, and nothing from the folder where the user stands.
        environment = os.environ | {"PYTHONPATH": os.pathsep.join(os.path.abspath(path) for path in sys.path if path)}
        command = [sys.executable, "-c", trial.code, str(model), *trial.arguments]
        failure = _failure(command, environment, str(folder))
    if failure:
        return Finding(trial.name, trial.kind, "fails", failure)
    return Finding(trial.name, trial.kind, "works", f"{perf_counter() - start:.1f} s with its start")


def run_one_layer(path: str, backend: str, device: str) -> None:
    """Open the one-layer model and compare its answer.

    Raises:
        YowoError: it cannot be opened, or its answer is wrong.
    """
    clip, _, answer = clip_kernel_answer()
    with open_model(path, backend, device) as opened:
        if not np.array_equal(opened.infer(clip), answer):
            raise ModelFileError("the output is wrong")


def write_video(path: str) -> None:
    """Write four frames and read them back.

    Raises:
        YowoError: they cannot be written, or do not come back.
    """
    with VideoWriter(path, 25.0, (64, 48)) as writer:
        for shade in (0, 80, 160, 240):
            writer.write(np.full((48, 64, 3), shade, np.uint8))
    with VideoReader(path) as reader:
        shades = [float(frame.mean()) for frame in reader]
    if not np.allclose(shades, (0, 80, 160, 240), atol=16):  # codecs lose some, and video's black is 16
        raise VideoError(f"four frames of 0, 80, 160 and 240 came back as {shades}")


def clash(module: str, wheels: Sequence[str]) -> str:
    """What to do about a module of `ONE_WHEEL` that several wheels carry; "" when one does, or none."""
    names = sorted(set(wheels))
    if len(names) < 2:
        return ""
    kept = next((target for wheel, target in ONE_WHEEL[module] if wheel in names), ONE_WHEEL[module][-1][1])
    return (
        f"{' and '.join(names)} lie over each other's files: "
        f"run `pip uninstall -y {' '.join(names)} && pip install {kept}`"
    )


def install(extra: str, has_gpu: bool) -> str:
    """The command that installs an extra of the package, "" for its base; never both wheels of ONNX Runtime."""
    if has_gpu:
        extra = {"onnxruntime": "cuda", "export": "export-cuda"}.get(extra, extra)
    return f"pip install 'yowo-deploy[{extra}]'" if extra else "pip install yowo-deploy"


def _failure(command: list[str], environment: dict[str, str], folder: str) -> str:
    """Why a command did not end well, in one line; "" when it did."""
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=TIMEOUT_S, env=environment, cwd=folder, text=True, errors="replace"
        )
    except subprocess.TimeoutExpired:
        return f"no answer in {TIMEOUT_S:.0f} s"
    if done.returncode < 0:
        return f"its process died: {signal.strsignal(-done.returncode) or -done.returncode}"
    if not done.returncode:
        return ""
    told = last_line(done.stderr, done.stdout)
    lacking = re.search(r"lib[\w.+-]+: cannot open shared object file", done.stderr)  # backends log it and go on
    return told if lacking is None or lacking[0] in told else f"{lacking[0]}; {told}"


def _versions(wheels: Sequence[str]) -> str:
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in sorted(set(wheels)))
