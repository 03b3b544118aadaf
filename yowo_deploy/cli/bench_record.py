"""What `bench` measures, as one record of plain values. Knows which engine needs which matrix product."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.backends.base import Backend
from yowo_deploy.backends.loader import is_checkpoint, open_model
from yowo_deploy.benchmark.compare import FORMAT
from yowo_deploy.benchmark.peak_model import MACS, write_gemm
from yowo_deploy.benchmark.stages import OpenLoop, bench_stages, held_frames, make_video, open_loop
from yowo_deploy.benchmark.timing import (
    PERCENTILES,
    Timing,
    bench_calls,
    bench_models,
    median_interval,
    model_call,
    ratio_interval,
)
from yowo_deploy.cli.console import progress_bar, talk
from yowo_deploy.diagnostics.system_info import describe_machine, gpu_memory_bytes, peak_memory_bytes
from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.files import sha256_of
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import read_onnx_file, read_spec, recorded_cost
from yowo_deploy.model_files.plan_record import is_plan, read_plan
from yowo_deploy.video.reader import open_video

HEADERS = tuple(f"p{percent} ms" if percent < 100 else "max ms" for percent in PERCENTILES)
KEYS = tuple(header.replace(" ", "_") for header in HEADERS)


def measure(paths: Sequence[str], versus: bool, options: dict[str, Any]) -> dict[str, Any]:
    """Open the files, measure all that `options` of the command ask for, and say it in plain values.

    Args:
        versus: the second file is what the first is compared with, and `options` may have it opened otherwise.
    """
    asked = {name: options.pop(name) for name in ("seconds", "warmup", "batch", "video", "fps", "stages", "peak")}
    other = {name: options.pop(f"versus_{name}") or options[name] for name in ("backend", "precision")}
    chosen = [options | (other if versus and place else {}) for place in range(len(paths))]
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        video = _video(asked, folder)
        models = [stack.enter_context(open_model(path, **each)) for path, each in zip(paths, chosen, strict=True)]
        update = stack.enter_context(progress_bar("measuring", total=1.0, thread=False))
        timings = bench_models(models, asked["seconds"], asked["warmup"], asked["batch"], update)
        memory, on_gpu = peak_memory_bytes(), gpu_memory_bytes()
        stages, live = _frames(models[0], video, asked)
        machine = describe_machine()
        facts = [
            _model_facts(path, each, model, timing)
            | _arithmetic(path, each, model, timing, folder, asked["seconds"] / 4 if asked["peak"] else None)
            for path, each, model, timing in zip(paths, chosen, models, timings, strict=True)
        ]
    against = _versus(timings) if versus else None
    settings = {name: asked[name] for name in ("seconds", "warmup", "fps")}
    settings |= {name: options[name] for name in ("device", "threads")}
    record = {"format": FORMAT, "settings": settings, "machine": machine, "batch": asked["batch"], "models": facts}
    record |= {"versus": against, "stages": [_stage_facts(each) for each in stages]}
    record |= {"open_loop": _open_facts(live), "peak_memory_bytes": memory, "gpu_memory_bytes": on_gpu}
    return record


def _versus(timings: list[Timing]) -> dict[str, float]:
    """How many times as fast the first is."""
    return dict(zip(("ratio", "low", "high"), ratio_interval(timings[1], timings[0]), strict=True))


def _video(asked: dict[str, Any], folder: Path) -> Path:
    """What the user gave, opened once before anything is measured, or a made-up one."""
    if asked["fps"] and asked["fps"] * asked["seconds"] < 1:
        raise InputError(f"no frame comes in {asked['seconds']:g} s at {asked['fps']:g} frames/s: give more --seconds")
    made_up = folder / "made-up.webm"
    if asked["video"]:
        with open_video(asked["video"]):
            return Path(asked["video"])
    if asked["stages"] or asked["fps"]:
        make_video(made_up)
    return made_up


def _frames(model: Backend, video: Path, asked: dict[str, Any]) -> tuple[list[Timing], OpenLoop | None]:
    """What is measured frame by frame, as far as it was asked for, and as the model takes one clip a call."""
    try:
        stages = bench_stages(model, video, asked["seconds"] / 2) if asked["stages"] else []
        live = open_loop(model, held_frames(video), asked["fps"], asked["seconds"]) if asked["fps"] else None
    except InputError as error:
        if asked["batch"] == 1:
            raise
        talk.print(f"nothing is measured frame by frame: {error}")  # a plan may be for its batch alone
        return [], None
    return stages, live


def _model_facts(path: str, options: dict[str, Any], model: Backend, timing: Timing) -> dict[str, Any]:
    precision = options["precision"] or model.spec.precision
    return {
        "name": f"{Path(path).name}, {model.name}" + (f" {options['precision']}" if options["precision"] else ""),
        "sha256": sha256_of(model_path(path)),
        "engine": model.name,
        "precision": precision,
        "clip_length": model.spec.clip_length,
        "calls": len(timing.seconds),
        "clips_per_s": timing.clips_per_s,
        **_percentiles(timing.seconds),
        "batch": timing.batch,
        "seconds": [round(float(value), 7) for value in timing.seconds],
    }


def _arithmetic(
    path: str, options: dict[str, Any], model: Backend, timing: Timing, folder: Path, seconds: float | None
) -> dict[str, Any]:
    """Multiply-adds a second, and what share that is of the peak: matrix products on the same engine, in turn.

    The peak is of the precision that the file is in, device and threads as for the model. Layers that a lowered file
    keeps in float32 pull its share down, and an engine that saves multiplications (Winograd) may pass 100 %.
    """
    macs = _macs(Path(model_path(path)), options["clip"])
    done = None if macs is None else macs * timing.batch / float(np.median(timing.seconds)) / 1e9
    facts: dict[str, Any] = {"gmac": None if macs is None else macs / 1e9, "gmac_per_s": done}
    gemm = _gemm(model, options, folder) if seconds and macs else None
    if gemm is None or macs is None or seconds is None:
        return facts | {"peak_gmac_per_s": None, "percent_of_peak": None}
    with gemm:
        table = bench_calls([model_call(model, timing.batch), model_call(gemm)], seconds, warmup=2)
    share = [100 * timing.batch * macs / MACS * value for value in median_interval(table[:, 1] / table[:, 0])]
    return facts | {"peak_gmac_per_s": MACS / float(np.median(table[:, 1])) / 1e9, "percent_of_peak": share}


def _macs(path: Path, clip: int | None) -> int | None:
    """Of one clip; None for files of other exporters, for plans made of them, and where frames are answered."""
    if is_checkpoint(path):
        from yowo_training.checkpoints.checkpoint import load_checkpoint
        from yowo_training.models.flops import cost

        loaded = load_checkpoint(path, clip)
        return cost(loaded.model, loaded.spec.clip_shape)["total"].macs
    if is_plan(path):
        return read_plan(path).macs or None
    if read_spec(path).streaming:
        return None
    return recorded_cost(read_onnx_file(path).metadata).get("total", {}).get("macs")


def _gemm(model: Backend, options: dict[str, Any], folder: Path) -> Backend | None:
    """Matrix products in the model's place: same engine, device, precision and threads; None where it has none."""
    precision = options["precision"] or model.spec.precision
    if model.name == "pytorch":
        from yowo_training.torch_backend import TorchGemm

        return TorchGemm(options["device"] or "cpu", precision, options["threads"])
    if model.name == "onnxruntime" and precision == "bf16":
        return None
    path = folder / f"gemm-{model.name}-{model.spec.precision}.onnx"
    write_gemm(path, model.spec.precision)
    try:
        return open_model(path, model.name, options["device"], options["precision"], options["threads"])
    except ModelFileError as error:
        talk.print(f"no peak: {error}")
        return None


def _percentiles(seconds: Any) -> dict[str, float]:
    return {key: float(np.percentile(seconds, p) * 1000) for key, p in zip(KEYS, PERCENTILES, strict=True)}


def _stage_facts(stage: Timing) -> dict[str, Any]:
    return {
        "name": stage.name,
        "frames": len(stage.seconds),
        "sum_s": stage.seconds.sum(),
        **_percentiles(stage.seconds),
    }


def _open_facts(live: OpenLoop | None) -> dict[str, Any] | None:
    if live is None:
        return None
    facts = {"fps": live.fps, "offered": live.offered, "dropped": live.dropped, **_percentiles(live.latency)}
    return facts | {"seconds": [round(float(value), 7) for value in live.latency]}
