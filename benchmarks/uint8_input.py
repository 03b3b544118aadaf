"""CPU time of a model that takes bytes beside the same one that takes float32: around the engine, and in it.

    yowo-deploy export default -o float32.onnx
    yowo-deploy export default --uint8-input -o uint8.onnx
    python -m benchmarks.uint8_input float32.onnx uint8.onnx

Both are called in turn in one run, on a frame of 320x240 again and again; what counts is the time of all threads
(`time.process_time`), so that load on the machine matters little.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import numpy as np

from yowo_deploy.backends.loader import ONNX_ENGINES, open_model
from yowo_deploy.benchmark.timing import bench_calls, median_interval, model_call
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.preprocess.frames import preprocess
from yowo_deploy.spec import ModelSpec


def around(spec: ModelSpec) -> Callable[[], Any]:
    """What a frame costs before the engine gets its clip."""
    frame, buffer = np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8), ClipBuffer(spec)
    return lambda: buffer.push(preprocess(frame, spec))


def compare(what: str, calls: list[Callable[[], Any]], seconds: float) -> str:
    """One line: milliseconds of both, and the ratio with its 95 % interval."""
    table = bench_calls(calls, seconds, clock=time.process_time)
    one, other = 1000 * np.median(table, axis=0)
    ratio, low, high = median_interval(table[:, 0] / table[:, 1])
    return f"{what:28} {one:7.2f} ms  {other:7.2f} ms  {ratio:.2f} [{low:.2f}, {high:.2f}]"


@click.command()
@click.argument("first", type=click.Path(path_type=Path))
@click.argument("second", type=click.Path(path_type=Path))
@click.option("--seconds", default=20.0, help="For each line.")
def main(first: Path, second: Path, seconds: float) -> None:
    """CPU milliseconds of FIRST and SECOND, and how many times less SECOND takes."""
    specs = read_spec(first), read_spec(second)
    click.echo(compare("around the engine, a frame", [around(spec) for spec in specs], seconds))
    for engine in ONNX_ENGINES:
        for form, streaming in (("clip", None), ("frame", "one")):
            with (
                open_model(first, engine, threads=1, streaming=streaming) as one,  # type: ignore[arg-type]
                open_model(second, engine, threads=1, streaming=streaming) as other,  # type: ignore[arg-type]
            ):
                click.echo(compare(f"{engine}, a {form}", [model_call(one), model_call(other)], seconds))


if __name__ == "__main__":
    main()
