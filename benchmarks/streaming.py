"""What frame by frame gains over whole clips: `python -m benchmarks.streaming FOLDER [backbone] [frames] [seconds]`.

Weights are random, the 2-D branch is Darknet-19. Every pair of files runs turn by turn in one run, streaming against
whole clips on the same engine in the same precision; and a frame's way from BGR to tubes, in every form, against that
of a plain `torch.onnx.export` on ONNX Runtime. What is in FOLDER already is not made again.
"""

from __future__ import annotations

import argparse
import shutil
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np

from benchmarks.available import why_not
from benchmarks.forms import make_checkpoint
from benchmarks.precision import PLAIN, PlainExport, plain_export
from yowo_deploy.backends.base import Backend, Streaming
from yowo_deploy.backends.loader import open_model
from yowo_deploy.benchmark.timing import bench_calls, median_interval
from yowo_deploy.postprocess.decode import detect
from yowo_deploy.postprocess.tubes import OnlineLinker
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.preprocess.frames import preprocess
from yowo_export.conv3d_tuning import conv3d_as_2d_if_faster
from yowo_export.exporter import export_onnx
from yowo_export.precision.convert import Wish, lower_model
from yowo_export.sample_clips import made_up_clips
from yowo_export.streaming.rewrite import export_streaming

SECONDS = 60.0
PAIRS = (("openvino", "fp32"), ("onnxruntime", "fp32"), ("openvino", "int8"))
Call = Callable[[], Any]


def prepare(folder: Path, backbone: str, frames: int) -> None:
    """Write every file."""
    checkpoint = make_checkpoint(backbone, frames)
    plain, (single, apart, low) = folder / PLAIN, (file_of(folder, *pair) for pair in PAIRS)
    if not plain.exists():
        plain_export(checkpoint, plain)
    if not single.exists():
        export_onnx(checkpoint, single)
    if not apart.exists():  # as `export --target onnxruntime` makes it
        shutil.copy(single, apart)
        conv3d_as_2d_if_faster(apart, streaming=True)
    if not low.exists():
        lower_model(single, low, made_up_clips(checkpoint.spec, 4), Wish("int8", streaming=True), judged=1)
    for path in (single, apart, low):
        if not streaming_of(path).exists():
            export_streaming(path, streaming_of(path))


def file_of(folder: Path, engine: str, precision: str) -> Path:
    """The file of clips that is made for an engine."""
    return folder / f"{precision}-{engine}.onnx"


def streaming_of(path: Path) -> Path:
    """The streaming file beside a file of clips."""
    return path.with_suffix(".streaming.onnx")


class Way:
    """A frame's way from BGR to tubes.

    Attributes:
        outside: of each frame, the share of its time that was spent outside of the engine.
    """

    def __init__(self, model: Backend) -> None:
        self._model, self._linker = model, OnlineLinker()
        self._buffer = ClipBuffer(model.spec)
        self._stream = model.open_stream() if isinstance(model, Streaming) else None
        self._frames = np.random.default_rng(0).integers(0, 256, (8, 240, 320, 3), np.uint8)
        self.outside: list[float] = []

    def __call__(self) -> None:
        start = perf_counter()
        frame = self._frames[len(self.outside) % len(self._frames)]
        planes = preprocess(frame, self._model.spec)
        clip = None if self._stream else self._buffer.push(planes)[None].copy()
        asked = perf_counter()
        raw = self._model.infer(clip)[0] if clip is not None else self._stream.push(planes)  # type: ignore[union-attr]
        answered = perf_counter()
        self._linker.push(detect(raw, self._model.spec, (frame.shape[1], frame.shape[0])))
        self._linker.finished()
        self.outside.append(1 - (answered - asked) / (perf_counter() - start))


def engine_call(model: Backend) -> Call:
    """A frame, or a clip, through the engine alone."""
    rng = np.random.default_rng(0)
    if isinstance(model, Streaming):
        stream, planes = model.open_stream(), rng.random((3, *model.spec.clip_shape[2:]), np.float32)
        return lambda: stream.push(planes)
    clip = rng.random((1, *model.spec.clip_shape), np.float32)
    return lambda: model.infer(clip)


def measure(folder: Path, seconds: float) -> None:
    """Print the two tables."""
    print("| engine | clips, ms | frames, ms | times as fast, 95 % | rounds |\n|---|---:|---:|---:|---:|")
    for engine, precision in PAIRS:
        path = file_of(folder, engine, precision)
        with open_model(path, engine) as clips, open_model(streaming_of(path), engine) as frames:
            table = bench_calls([engine_call(clips), engine_call(frames)], seconds, warmup=2)
        _row(f"{engine} {precision}", table)
    print("\n| BGR to tubes | plain export, ms | ours, ms | times as fast, 95 % | rounds | outside of the engine |")
    print("|---|---:|---:|---:|---:|---:|")
    bf16 = () if why_not("openvino", "bf16") else (("openvino", "fp32", "bf16"), ("openvino", "int8", "bf16"))
    forms = [(*form, where) for form in (*((*pair, None) for pair in PAIRS), *bf16) for where in (Path, streaming_of)]
    with ExitStack() as stack:
        ways = [Way(stack.enter_context(PlainExport(folder / PLAIN, "onnxruntime")))]
        for engine, precision, rest, where in forms:
            file = where(file_of(folder, engine, precision))
            ways.append(Way(stack.enter_context(open_model(file, engine, precision=rest))))
        table = bench_calls(ways, len(ways) * seconds / 2, warmup=2)
    for place, (engine, precision, rest, where) in enumerate(forms, 1):
        outside = f" {100 * float(np.median(ways[place].outside[2:])):.1f} % |"
        name = f"{engine} {precision}{', the rest in bf16' * bool(rest)}, {'clips' if where is Path else 'frames'}"
        _row(name, table[:, [0, place]], outside)


def _row(name: str, table: np.ndarray[Any, np.dtype[np.float64]], more: str = "") -> None:
    first, second = 1000 * np.median(table, axis=0)
    ratio, low, high = median_interval(table[:, 0] / table[:, 1])
    times = f"{ratio:.2f} [{low:.2f}, {high:.2f}]"
    print(f"| {name} | {first:.0f} | {second:.0f} | {times} | {len(table)} |{more}", flush=True)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("backbone", nargs="?", default="resnext101")
    parser.add_argument("frames", type=int, nargs="?", default=16)
    parser.add_argument("seconds", type=float, nargs="?", default=SECONDS)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    prepare(given.folder, given.backbone, given.frames)
    measure(given.folder, given.seconds)


if __name__ == "__main__":
    main()
