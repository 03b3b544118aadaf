"""What lower precision costs and gains.

`python -m benchmarks.precision speed FOLDER [backbone] [frames]`: one model with random weights, every form of it turn
by turn in one run, against what a user gets from a plain `torch.onnx.export` on ONNX Runtime.

`python -m benchmarks.precision accuracy FOLDER JHMDB21 [every]`: the default model on the test split in every
precision on both engines; INT8 is calibrated on training videos. What is in FOLDER already is not made again.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import openvino as ov
import torch

from benchmarks.available import why_not
from benchmarks.forms import make_checkpoint
from yowo_deploy.arrays import Float, Planes
from yowo_deploy.backends.base import Backend, Engine
from yowo_deploy.backends.loader import open_model
from yowo_deploy.benchmark.timing import bench_models, ratio_interval
from yowo_deploy.datasets import open_dataset
from yowo_deploy.evaluation import evaluate_videos
from yowo_deploy.files import write_text
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_deploy.spec import METADATA_KEY, ModelSpec, Precision
from yowo_export.conv3d_tuning import conv3d_as_2d_if_faster
from yowo_export.exporter import export_onnx
from yowo_export.precision.convert import Wish, lower_model, store_anew
from yowo_export.sample_clips import made_up_clips, take_clips
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.torch_backend import TorchBackend

SECONDS = 200.0
ENGINES = ("openvino", "onnxruntime")
WISHES = {
    "fp16": Wish("fp16"),
    "int8 for openvino": Wish("int8", "openvino", max_drop=0.2),
    "int8 for onnxruntime": Wish("int8", "onnxruntime", max_drop=0.2),
}


PLAIN = "plain.onnx"
# Name -> file, engine and precision; the first is what the others are compared with.
ROWS: dict[str, tuple[str, str, Precision | None]] = {
    "plain export, onnxruntime fp32": (PLAIN, "onnxruntime", None),
    "PyTorch eager": ("", "pytorch", None),
    "ours for onnxruntime, fp32": ("apart.onnx", "onnxruntime", None),
    "ours for onnxruntime, int8": ("int8_ort.onnx", "onnxruntime", None),
    "plain export, openvino fp32": (PLAIN, "openvino", None),
    "ours, openvino fp32": ("fp32.onnx", "openvino", None),
    "ours, openvino bf16": ("fp32.onnx", "openvino", "bf16"),
    "ours, openvino int8": ("int8_ov.onnx", "openvino", None),
}


def speed(folder: Path, backbone: str = "resnext101", frames: int = 16) -> None:
    """Print milliseconds, ratio to the plain export on ONNX Runtime and megabytes of every form."""
    absent = {name: why for name, (file, *where) in ROWS.items() if file and (why := why_not(*where))}
    checkpoint = make_checkpoint(backbone, frames)
    plain, ours, apart = (folder / f"{name}.onnx" for name in ("plain", "fp32", "apart"))
    plain_export(checkpoint, plain)
    export_onnx(checkpoint, ours)
    export_onnx(checkpoint, apart)
    print(f"frames apart, alone: {conv3d_as_2d_if_faster(apart)} times as fast", file=sys.stderr)
    clips = made_up_clips(checkpoint.spec, 4)
    for name, target in (("int8_ov", "openvino"), ("int8_ort", "onnxruntime")):
        wish = replace(WISHES[f"int8 for {target}"], max_drop=None)  # random weights detect nothing that could be lost
        lower_model(ours, folder / f"{name}.onnx", clips, wish, judged=1)
    models = {
        name: _opened(folder / file, engine, precision) if file else TorchBackend.of(checkpoint)
        for name, (file, engine, precision) in ROWS.items()
        if name not in absent
    }
    _measure(models, absent)
    for path in sorted(folder.glob("*.onnx")):
        print(f"{path.name}: {path.stat().st_size / 1e6:.0f} MB")


def _opened(file: Path, engine: str, precision: Precision | None) -> Backend:
    return PlainExport(file, engine) if file.name == PLAIN else open_model(file, engine, precision=precision)


def _measure(models: Mapping[str, Backend], absent: Mapping[str, str]) -> None:
    with ExitStack() as stack:
        timings = bench_models([stack.enter_context(model) for model in models.values()], SECONDS, warmup=2)
    measured = dict(zip(models, timings, strict=True))
    print("| | p50 ms | times the plain export, 95 % |\n|---|---:|---:|")
    for name in ROWS:
        if name in absent:
            print(f"| {name} | - | {absent[name]} |")
            continue
        ratio, low, high = ratio_interval(timings[0], measured[name])
        print(f"| {name} | {measured[name].percentile_ms(50):.0f} | {ratio:.2f} [{low:.2f}, {high:.2f}] |")


def plain_export(checkpoint: Checkpoint, path: Path) -> None:
    """What a user would write, and the spec for `PlainExport`."""
    example = (torch.zeros(1, *checkpoint.spec.clip_shape),)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            checkpoint.model, example, path, input_names=["clips"], external_data=False, dynamo=True, verbose=False
        )
    model = onnx.load(path)
    model.metadata_props.add(key=METADATA_KEY, value=checkpoint.spec.to_json())
    onnx.save(model, path)


class PlainExport(Engine):
    """A plain export on an engine alone, as its users run it: our reader takes what our exporter writes and no more."""

    def __init__(self, path: Path, engine: str) -> None:
        noted = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
        self.name, self.spec = engine, ModelSpec.from_json(noted[METADATA_KEY])
        self._run: Callable[[Planes], Any]
        if engine == "onnxruntime":
            session = ort.InferenceSession(path)
            self._run = lambda clips: session.run(None, {session.get_inputs()[0].name: clips})
        else:
            exact = {"INFERENCE_PRECISION_HINT": "f32"}  # without it OpenVINO takes bf16 where the processor has it
            request = ov.Core().compile_model(path, "CPU", exact).create_infer_request()
            self._run = lambda clips: request.infer([clips])

    def infer(self, clips: Planes) -> Float:
        """See `Backend`."""
        return np.array(self._run(clips)[0])


def accuracy(folder: Path, data: Path, every: int = 1) -> None:
    """Print frame-mAP, recall and accuracy of every form, and what they lose against float32."""
    dataset = open_dataset("jhmdb21", data)
    single = folder / "fp32.onnx"
    store_anew(model_path("default"), single, half_weights=False)
    clips = None
    for name, wish in WISHES.items():
        path = form_file(folder, name)
        if not path.exists():
            clips = clips or take_clips([video.path for video in dataset.videos("train")], read_spec(single), 128)
            found = lower_model(single, path, clips, wish, judged=64)
            print(f"{name}: {found.damage}, kept {list(found.kept)}", file=sys.stderr)
    print("| | engine | MB | frame-mAP@0.5 | change | recall | accuracy |\n|---|---|---:|---:|---:|---:|---:|")
    for engine in ENGINES:
        first = None
        for name in ("fp32", "fp16", f"int8 for {engine}", *(["bf16"] if has_bf16(engine) else [])):
            path = form_file(folder, "fp32" if name == "bf16" else name)
            figures = figures_file(form_file(folder, name), engine, every)
            if not figures.exists():
                with open_model(path, engine, parallel=2, precision="bf16" if name == "bf16" else None) as backend:
                    found_map = evaluate_videos(backend, dataset.videos("test"), every)
                values = (found_map.frame_map.mean, found_map.recall, found_map.accuracy)
                write_text(figures, json.dumps([100 * value for value in values]))
            frame_map, recall, right = json.loads(figures.read_text())
            first = frame_map if first is None else first
            size = path.stat().st_size / 1e6
            print(
                f"| {name} | {engine} | {size:.1f} | {frame_map:.2f} | {frame_map - first:+.2f} | {recall:.2f} "
                f"| {right:.2f} |",
                flush=True,
            )


def has_bf16(engine: str) -> bool:
    """Whether the engine computes float32 files in bf16 here: OpenVINO, on processors that have it."""
    return engine == "openvino" and not why_not(engine, "bf16")


def form_file(folder: Path, form: str) -> Path:
    """Where `accuracy` puts a form, as in `WISHES`; of "bf16", whose file is that of float32, its figures alone."""
    return folder / f"{form.replace(' ', '_')}.onnx"


def figures_file(file: Path, engine: str, every: int = 1) -> Path:
    """Where it puts frame-mAP, recall and class accuracy of a form's file, in points."""
    return file.with_suffix(f".{engine}.{every}.json")


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    steps = parser.add_subparsers(dest="step", required=True)
    timed, judged = steps.add_parser("speed"), steps.add_parser("accuracy")
    for each in (timed, judged):
        each.add_argument("folder", type=Path)
    timed.add_argument("backbone", nargs="?", default="resnext101")
    timed.add_argument("frames", type=int, nargs="?", default=16)
    judged.add_argument("data", type=Path, help="folder of J-HMDB-21")
    judged.add_argument("every", type=int, nargs="?", default=1, help="judge each N-th annotated frame")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    if given.step == "speed":
        speed(given.folder, given.backbone, given.frames)
    else:
        accuracy(given.folder, given.data, given.every)


if __name__ == "__main__":
    main()
