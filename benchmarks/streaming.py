"""What frame by frame gains over whole clips: `python -m benchmarks.streaming FOLDER [backbone] [frames] [seconds]`.

Weights are random, the 2-D branch is Darknet-19. Every pair of files runs turn by turn in one run, streaming against
whole clips on the same engine in the same precision; and a frame's way from BGR to tubes against that of a plain
`torch.onnx.export` on ONNX Runtime. What is in FOLDER already is not made again.
"""

from __future__ import annotations

import argparse
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
    plain, single, low = (folder / f"{name}.onnx" for name in ("plain", "fp32", "int8"))
    if not plain.exists():
        plain_export(checkpoint, plain)
    if not single.exists():
        export_onnx(checkpoint, single)
    if not low.exists():
        lower_model(single, low, made_up_clips(checkpoint.spec, 4), Wish("int8", streaming=True), judged=1)
    for path in (single, low):
        if not streaming_of(path).exists():
            export_streaming(path, streaming_of(path))


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
        path = folder / f"{precision}.onnx"
        with open_model(path, engine) as clips, open_model(streaming_of(path), engine) as frames:
            table = bench_calls([engine_call(clips), engine_call(frames)], seconds, warmup=2)
        _row(f"{engine} {precision}", table)
    print("\n| BGR to tubes | plain, ms | ours, ms | times as fast, 95 % | rounds | outside of the engine |")
    print("|---|---:|---:|---:|---:|---:|")
    with ExitStack() as stack:
        low, in_bf16 = streaming_of(folder / "int8.onnx"), () if why_not("openvino", "bf16") else ("bf16",)
        plain = Way(stack.enter_context(PlainExport(folder / PLAIN, "onnxruntime")))
        ours = [Way(stack.enter_context(open_model(low, "openvino", precision=p))) for p in (None, *in_bf16)]
        table = bench_calls([plain, *ours], seconds, warmup=2)
    for place, (way, rest) in enumerate(zip(ours, ("", ", the rest in bf16"), strict=False), 1):
        outside = f" {100 * float(np.median(way.outside[2:])):.1f} % |"
        _row(f"plain export on onnxruntime, ours on openvino int8{rest}", table[:, [0, place]], outside)


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
