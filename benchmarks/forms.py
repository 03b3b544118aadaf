"""One model in every form that this toolkit knows, turn by turn in one run.

`python -m benchmarks.forms prepare|measure BACKBONE FRAMES FOLDER [SECONDS]`: weights are random, the 2-D branch is
Darknet-19, 24 classes. `prepare` writes the files and fills the cache of torch.compile, at low priority; `measure` does
nothing else. FP16 files are left out: on CPUs both engines compute them in float32.
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, get_args

import numpy as np
import torch

from benchmarks.available import why_not
from yowo_deploy.backends.base import Backend
from yowo_deploy.backends.loader import open_model
from yowo_deploy.benchmark.timing import bench_calls, median_interval, model_call
from yowo_deploy.diagnostics.system_info import describe_machine
from yowo_deploy.files import write_text
from yowo_deploy.spec import ModelSpec
from yowo_export.exporter import export_onnx
from yowo_export.precision.convert import Wish, lower_model
from yowo_export.precision.int8 import Target
from yowo_export.sample_clips import made_up_clips
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.models.flops import cost
from yowo_training.models.yowo import Yowo, YowoConfig
from yowo_training.torch_backend import TorchBackend

LABELS = tuple(f"action {number}" for number in range(24))
ANCHORS = ((0.7, 1.0), (1.1, 2.1), (1.6, 3.0), (2.2, 4.5), (4.0, 5.9))
EAGER, COMPILED, OV_BF16 = "PyTorch, eager", "PyTorch, torch.compile", "OpenVINO, bf16"
TORCH_BF16 = "PyTorch, bf16"  # 15 to 50 times as slow as float32 on a processor without bf16
ENGINES = ("openvino", "onnxruntime")
# One thread, and its CPU time, which on a core of its own is the latency: so other work on the machine counts neither
# as waiting for a core nor as threads that wait for each other. Beside it eager PyTorch took 20 times as long with
# two threads.
THREADS = 1
Call = Callable[[], Any]


def make_checkpoint(backbone: str, frames: int) -> Checkpoint:
    """The paper's architecture with random weights."""
    spec = ModelSpec(labels=LABELS, anchors=ANCHORS, clip_length=frames, attention_sign="release")
    torch.manual_seed(0)
    shrink = 2 if backbone.endswith("_s16") or backbone.startswith("motion_lite0") else 1  # those shrink by 16, not 32
    config = YowoConfig("darknet19", backbone, spec.output_channels, attention_sign="release", shrink_3d=shrink)
    return Checkpoint(Yowo(config).eval(), spec)


def prepare(checkpoint: Checkpoint, folder: Path, compiling: bool) -> None:
    """Write every file, and compile."""
    single, clips = folder / "fp32.onnx", made_up_clips(checkpoint.spec, 4)
    if not single.exists():
        export_onnx(checkpoint, single)
    for target in get_args(Target):
        if target in ENGINES and not (folder / f"{target}.onnx").exists():
            lower_model(single, folder / f"{target}.onnx", clips, Wish("int8", target), judged=1)
    if not compiling:
        return
    start = perf_counter()
    try:
        compiled(checkpoint)()
        write_text(folder / "compile.json", json.dumps({"seconds": perf_counter() - start}))
    except RuntimeError as error:  # what torch.compile raises when the compiler it starts fails
        write_text(folder / "compile.json", json.dumps({"failed": str(error).splitlines()[0]}))


def make_calls(checkpoint: Checkpoint, folder: Path, threads: int, absent: Mapping[str, str]) -> dict[str, Call]:
    """Calls by name, PyTorch as it comes first; without those that are absent."""
    single = folder / "fp32.onnx"
    models: dict[str, Backend] = {
        EAGER: TorchBackend.of(checkpoint),
        "ONNX Runtime, fp32": open_model(single, "onnxruntime", threads=threads),
        "ONNX Runtime, int8": open_model(folder / "onnxruntime.onnx", "onnxruntime", threads=threads),
        "OpenVINO, fp32": open_model(single, "openvino", threads=threads),
        "OpenVINO, int8": open_model(folder / "openvino.onnx", "openvino", threads=threads),
    }
    if TORCH_BF16 not in absent:
        half = TorchBackend.of(checkpoint)
        half._dtype = torch.bfloat16
        models[TORCH_BF16] = half
    if OV_BF16 not in absent:
        models[OV_BF16] = open_model(single, "openvino", precision="bf16", threads=threads)
    calls = {name: model_call(model) for name, model in models.items()}
    told = folder / "compile.json"
    if told.exists() and "seconds" in json.loads(told.read_text()):
        calls[COMPILED] = compiled(checkpoint)
    return calls


def compiled(checkpoint: Checkpoint) -> Call:
    """The model through torch.compile."""
    model = torch.compile(checkpoint.model)
    batch = torch.from_numpy(np.random.default_rng(0).standard_normal((1, *checkpoint.spec.clip_shape), np.float32))

    def call() -> Any:
        with torch.inference_mode():
            return model(batch).numpy()

    return call


def rows(calls: Mapping[str, Call], seconds: float) -> list[dict[str, Any]]:
    """CPU time of each in the median, how many times as fast as the first with its interval, and rounds."""
    load = os.getloadavg()[0]
    table = bench_calls(list(calls.values()), seconds, warmup=2, clock=process_time)
    loads = [round(load, 1), round(os.getloadavg()[0], 1)]
    return [
        {
            "name": name,
            "cpu_ms": 1000 * float(np.median(column)),
            "times": median_interval(table[:, 0] / column),
            "rounds": len(column),
            "load": loads,
        }
        for name, column in zip(calls, table.T, strict=True)
    ]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=["prepare", "measure"])
    parser.add_argument("backbone")
    parser.add_argument("frames", type=int)
    parser.add_argument("folder", type=Path)
    parser.add_argument("seconds", type=float, nargs="?", default=60.0, help="of measuring")
    parser.add_argument("--no-compile", action="store_true", help="leave torch.compile out")
    given = parser.parse_args()
    folder: Path = given.folder
    folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(THREADS)  # torch.compile builds it in
    checkpoint = make_checkpoint(given.backbone, given.frames)
    if given.step == "prepare":
        os.nice(10)
        prepare(checkpoint, folder, not given.no_compile)
        return
    macs = cost(checkpoint.model, checkpoint.spec.clip_shape)["total"].macs
    absent = dict.fromkeys((OV_BF16, TORCH_BF16), reason) if (reason := why_not("openvino", "bf16")) else {}
    found = rows(make_calls(checkpoint, folder, THREADS, absent), given.seconds)
    told = folder / "compile.json"
    facts = {"backbone": given.backbone, "frames": given.frames, "gmac": macs / 1e9, "threads": THREADS, "rows": found}
    facts |= {"compile": json.loads(told.read_text()) if told.exists() else None}
    facts |= {"absent": absent, "machine": describe_machine()}
    write_text(folder / "figures.json", json.dumps(facts, indent=1))


if __name__ == "__main__":
    main()
