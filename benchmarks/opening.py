"""What the gate costs at start: `python -m benchmarks.opening [--rounds 15] [--model FILE]`.

CPU time of opening a model as `open_model` does and as the engine alone does with the same file and options, each in a
new process that has imported the engine, in turn. Page faults are counted as well: a new process pays for each.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path

import numpy as np

from yowo_deploy.backends.loader import open_model
from yowo_deploy.model_files.default import DEFAULT, model_path

ENGINES = ("onnxruntime", "openvino")
WAYS = ("plain", "gate")


def openers(engine: str, path: Path) -> dict[str, Callable[[], object]]:
    """The two ways by name, with the engine imported: on one thread, as `open_model` asks the engine for it."""
    gate = partial(open_model, path, engine, threads=1)
    if engine == "onnxruntime":
        ort = import_module("yowo_deploy.backends.ort").ort
        options = ort.SessionOptions()
        options.log_severity_level, options.intra_op_num_threads = 3, 1
        return {"gate": gate, "plain": lambda: ort.InferenceSession(path, options, providers=["CPUExecutionProvider"])}
    ov = import_module("yowo_deploy.backends.ov").ov
    config = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": "1"}
    return {"gate": gate, "plain": lambda: ov.Core().compile_model(path, "CPU", config).create_infer_request()}


def measured(engine: str, way: str, path: Path) -> tuple[float, int]:
    """Milliseconds of the processor and page faults of one opening, in this process."""
    opened = openers(engine, path)[way]
    before = resource.getrusage(resource.RUSAGE_SELF)
    keep = opened()
    after = resource.getrusage(resource.RUSAGE_SELF)
    del keep
    spent = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return 1000 * spent, after.ru_minflt - before.ru_minflt


def main() -> None:
    """Print least and median of each way, and the median of what the gate adds in each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--model", type=model_path, default=model_path(DEFAULT))
    parser.add_argument("--one", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        engine, way = given.one
        print(*measured(engine, way, given.model))
        return
    print("| | plain: least, median | gate: least, median | median of the differences | page faults |")
    print("|---|---:|---:|---:|---:|")
    for engine in ENGINES:
        found = np.array([[_new_process(engine, way, given.model) for way in WAYS] for _ in range(given.rounds)])
        (plain, gate), faults = found[..., 0].T, np.median(found[..., 1], axis=0)
        times = (plain.min(), np.median(plain), gate.min(), np.median(gate), np.median(gate - plain))
        row = "| {} | {:.0f}, {:.0f} ms | {:.0f}, {:.0f} ms | {:.0f} ms | {:.0f}, {:.0f} |"
        print(row.format(engine, *times, *faults), flush=True)


def _new_process(engine: str, way: str, path: Path) -> tuple[float, float]:
    command = [sys.executable, "-m", "benchmarks.opening", "--model", str(path), "--one", engine, way]
    milliseconds, faults = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(milliseconds), float(faults)


if __name__ == "__main__":
    main()
