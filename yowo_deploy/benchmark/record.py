"""Benchmark model files; the result is one record of plain values, ready for JSON."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from yowo_deploy.backends.base import Backend, Streaming
from yowo_deploy.backends.loader import open_model
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
from yowo_deploy.detector import DetectorOptions, refuse_clips
from yowo_deploy.diagnostics.nvidia_smi import gpu_memory_bytes
from yowo_deploy.diagnostics.system_info import describe_machine, peak_memory_bytes
from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.files import sha256_of, work_folder
from yowo_deploy.keywords import checked_keywords_with
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import read_onnx_file, recorded_cost
from yowo_deploy.model_files.plan_record import is_plan, read_plan
from yowo_deploy.reporter import Reporter
from yowo_deploy.spec import Precision
from yowo_deploy.video.reader import open_video

BUSY = 0.5  # of the cores, taken by other work before the first call
HEADERS = tuple(f"p{percent} ms" if percent < 100 else "max ms" for percent in PERCENTILES)
KEYS = tuple(header.replace(" ", "_") for header in HEADERS)


@runtime_checkable
class PeakMeasured(Protocol):
    """A backend that counts its own multiply-adds and brings the model that measures its peak."""

    @property
    def macs(self) -> int:
        """Multiply-adds of one clip."""
        ...

    def peak_model(self) -> Backend:
        """The matrix products of `peak_model` on the same device, in the same precision."""
        ...


@dataclass(frozen=True)
class _Settings:
    """What to measure, see `bench`."""

    seconds: float
    warmup: int
    batch: int
    video: str | os.PathLike[str] | None
    fps: float | None
    stages: bool
    peak: bool


@checked_keywords_with(open_model, "streaming")  # `clips` says it
def bench(
    models: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    versus: str | os.PathLike[str] | None = None,
    *,
    versus_backend: str | None = None,
    versus_precision: Precision | None = None,
    seconds: float = 10.0,
    warmup: int = 3,
    batch: int = 1,
    video: str | os.PathLike[str] | None = None,
    fps: float | None = None,
    stages: bool = True,
    peak: bool = True,
    clips: bool = False,
    reporter: Reporter | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Measure latency and throughput of model files, in turn in one run: `yowo-deploy bench` as one call.

        bench("yowo.onnx", versus="reference.onnx")["versus"]["ratio"]

    Args:
        models: one or more model files.
        versus: a file to compare the only model with, call by call.
        versus_backend, versus_precision: of that file; by default those of the model.
        seconds: to measure for, without warm-up; stages and peak take about as long again.
        warmup: calls of each model that do not count.
        batch: clips per call; of several, whole clips are measured.
        video: frames for the stages and for `fps`; synthetic ones by default.
        fps: also offer frames at this fixed rate and measure how late the answers are (open loop).
        stages: measure what surrounds the model: decoding, preprocessing, copies, NMS, linking.
        peak: measure a matrix product on the same backend, to compare the arithmetic rate with.
        clips: measure whole clips of a file that contains a streaming form, not that form, which `detect` runs.
        reporter: receives messages and progress; by default they are logged.
        options: of `open_model`: backend, device, precision, threads, clip, cache, trust.

    Returns:
        The record: plain values, ready for JSON and for `compare_records`.

    Raises:
        InputError: nothing to measure, or several models beside `versus`; or the video cannot be read; or `clips` of
            streaming files alone.
        YowoError: a model cannot be opened.
    """
    given = [models] if isinstance(models, (str, os.PathLike)) else list(models)
    if not given or (versus and len(given) > 1):
        expected = "one, beside --versus" if versus else "one or more"
        raise InputError(f"{len(given)} files given with --engine, expected {expected}")
    paths = [os.fspath(path) for path in (*given, *([versus] if versus else []))]
    asked, reporter = _Settings(seconds, warmup, batch, video, fps, stages, peak), reporter or Reporter()
    options = {"backend": None, "device": None, "precision": None, "threads": None, "clip": None} | options
    options["streaming"] = DetectorOptions().streams(clips or batch > 1)
    other = {
        "backend": versus_backend or options["backend"],
        "precision": versus_precision or options["precision"],
    }
    chosen = [options | (other if versus and place else {}) for place in range(len(paths))]
    if warning := busy(os.getloadavg()[0], os.cpu_count() or 1):
        reporter.message(warning)
    with ExitStack() as stack:
        folder = stack.enter_context(work_folder())
        frames = _video(asked, folder)
        opened = [stack.enter_context(open_model(path, **each)) for path, each in zip(paths, chosen, strict=True)]
        refuse_clips(opened[0], clips and all(model.spec.streaming for model in opened))
        update = stack.enter_context(reporter.progress("measuring", 1.0))
        timings = bench_models(opened, seconds, warmup, batch, update)
        memory, on_gpu = peak_memory_bytes(), gpu_memory_bytes()
        timed, live = _frames(opened[0], frames, asked, reporter)
        machine = describe_machine()
        peaks = _Peaks(folder, seconds / 4 if peak else None, reporter)
        facts = [
            _model_facts(path, each, model, timing) | peaks.arithmetic(path, each, model, timing)
            for path, each, model, timing in zip(paths, chosen, opened, timings, strict=True)
        ]
    settings = {"seconds": seconds, "warmup": warmup, "fps": fps}
    settings |= {name: options[name] for name in ("device", "threads")}
    record = {"format": FORMAT, "settings": settings, "machine": machine, "batch": batch, "models": facts}
    record |= {"versus": _versus(timings) if versus else None, "stages": [_stage_facts(each) for each in timed]}
    record |= {"open_loop": _open_facts(live), "peak_memory_bytes": memory, "gpu_memory_bytes": on_gpu}
    return record


def _versus(timings: list[Timing]) -> dict[str, float]:
    """How many times as fast the first is."""
    return dict(zip(("ratio", "low", "high"), ratio_interval(timings[1], timings[0]), strict=True))


def _video(asked: _Settings, folder: Path) -> Path:
    """The given video, opened once before anything is measured, or a synthetic one."""
    if asked.fps and asked.fps * asked.seconds < 1:
        raise InputError(f"no frame is due within {asked.seconds:g} s at {asked.fps:g} frames/s: give more --seconds")
    synthetic = folder / "synthetic.webm"
    if asked.video:
        with open_video(asked.video):
            return Path(asked.video)
    if asked.stages or asked.fps:
        make_video(synthetic)
    return synthetic


def _frames(model: Backend, video: Path, asked: _Settings, reporter: Reporter) -> tuple[list[Timing], OpenLoop | None]:
    """Stages and open loop as far as they were asked for; nothing for a model that does not take one clip a call."""
    try:
        stages = bench_stages(model, video, asked.seconds / 2) if asked.stages else []
        live = open_loop(model, held_frames(video), asked.fps, asked.seconds) if asked.fps else None
    except InputError as error:
        if asked.batch == 1:
            raise
        reporter.message(f"stages and --fps are not measured: {error}")  # a plan may be for its batch alone
        return [], None
    return stages, live


def _model_facts(path: str, options: dict[str, Any], model: Backend, timing: Timing) -> dict[str, Any]:
    precision = options["precision"] or model.spec.precision
    by_frame = isinstance(model, Streaming) and timing.batch == 1  # as `model_call` uses it
    name = f"{Path(path).name}, {model.name}" + (f" {options['precision']}" if options["precision"] else "")
    return {
        "name": name + ", frame by frame" * by_frame,
        "streaming": by_frame,
        "sha256": sha256_of(model_path(path)),
        "backend": model.name,
        "precision": precision,
        "clip_length": model.spec.clip_length,
        "calls": len(timing.seconds),
        "clips_per_s": timing.clips_per_s,
        **_percentiles(timing.seconds),
        "batch": timing.batch,
        "seconds": [round(float(value), 7) for value in timing.seconds],
    }


class _Peaks:
    """Peak rates of arithmetic, measured with matrix products in the models' place."""

    def __init__(self, folder: Path, seconds: float | None, reporter: Reporter) -> None:
        self._folder, self._seconds, self._reporter = folder, seconds, reporter

    def arithmetic(self, path: str, options: dict[str, Any], model: Backend, timing: Timing) -> dict[str, Any]:
        """Multiply-adds a second, and their share of the peak: matrix products on the same backend, in turn.

        The peak is of the precision that the file is in, device and threads as for the model. Layers that a file in
        lower precision keeps in float32 reduce the share, and a backend that saves multiplications (Winograd) may pass
        100 %.
        """
        macs = _macs(Path(model_path(path)), model)
        done = None if macs is None else macs * timing.batch / float(np.median(timing.seconds)) / 1e9
        facts: dict[str, Any] = {"gmac": None if macs is None else macs / 1e9, "gmac_per_s": done}
        gemm = self._gemm(model, options) if self._seconds and macs else None
        if gemm is None or macs is None or self._seconds is None:
            return facts | {"peak_gmac_per_s": None, "percent_of_peak": None}
        with gemm:
            table = bench_calls([model_call(model, timing.batch), model_call(gemm)], self._seconds, warmup=2)
        share = [100 * timing.batch * macs / MACS * value for value in median_interval(table[:, 1] / table[:, 0])]
        return facts | {"peak_gmac_per_s": MACS / float(np.median(table[:, 1])) / 1e9, "percent_of_peak": share}

    def _gemm(self, model: Backend, options: dict[str, Any]) -> Backend | None:
        """Matrix products with the backend, device, precision and threads of a model; None where it has none."""
        if isinstance(model, PeakMeasured):
            return model.peak_model()
        precision = options["precision"] or model.spec.precision
        if model.name == "onnxruntime" and precision == "bf16":
            return None
        path = self._folder / f"gemm-{model.name}-{model.spec.precision}.onnx"
        write_gemm(path, model.spec.precision)
        try:
            return open_model(path, model.name, options["device"], options["precision"], options["threads"])
        except ModelFileError as error:
            self._reporter.message(f"no peak: {error}")
            return None


def _macs(path: Path, model: Backend) -> int | None:
    """Of one clip; None for files of other exporters, for plans made of them, and for streaming files."""
    if isinstance(model, PeakMeasured):
        return model.macs
    if is_plan(path):
        return read_plan(path).macs or None
    if model.spec.streaming:
        return None
    return recorded_cost(read_onnx_file(path).metadata).get("total", {}).get("macs")


def _percentiles(seconds: Any) -> dict[str, float | None]:
    """In ms; None for a percentile that fewer calls cannot have: the 99th of less than a hundred."""
    enough = {
        key: p for key, p in zip(KEYS, PERCENTILES, strict=True) if p in (50, 100) or len(seconds) * (100 - p) >= 100
    }
    return {key: float(np.percentile(seconds, enough[key]) * 1000) if key in enough else None for key in KEYS}


def busy(load: float, cores: int) -> str:
    """The warning that other work runs beside the measurement; "" on a quiet machine."""
    if load < cores * BUSY:
        return ""
    return f"the machine is busy (load average {load:g} on {cores} cores): trust ratios (--versus), not milliseconds"


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
