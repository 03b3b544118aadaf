"""Every measurement there is, and one report of them: `python -m benchmarks.all [--only SECTION] [--work FOLDER]`.

What lies in the work folder is not measured again, so a run that was stopped goes on, and sections can be made on
different days; remove a file there to have it measured anew. The report, `benchmarks/RESULTS.md` with its pictures, is
written from what is there, and says what is not. A whole run takes hours on two cores: 24 networks are exported and
lowered twice.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import numpy as np

from benchmarks.model_cost import LENGTHS, PAPER
from benchmarks.pareto import pareto
from benchmarks.results import write_report
from yowo_deploy.backends.loader import open_model
from yowo_deploy.benchmark.timing import bench_calls, median_interval, model_call
from yowo_deploy.diagnostics.system_info import describe_machine
from yowo_deploy.files import write_text
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_training.checkpoints.checkpoint import save_checkpoint
from yowo_training.model_init import build
from yowo_training.recipes import find_recipe

HERE = Path(__file__).parent
BATCHES = (1, 2, 4, 8)
STARTS = 5
# Compiling takes minutes a network, and was seen to be slower than eager on one thread where it fuses little.
COMPILED_LENGTH = 16


def backbones(work: Path, seconds: float) -> None:
    """Every backbone at every clip length, in every form, each in a process of its own."""
    for frames in sorted(LENGTHS, key=lambda length: length != COMPILED_LENGTH):
        for backbone in PAPER:
            folder = work / "backbones" / f"{backbone}-{frames}"
            if (folder / "figures.json").exists():
                continue
            print(f"{backbone}, {frames} frames", file=sys.stderr)
            forms = [sys.executable, "-m", "benchmarks.forms"]
            environment = os.environ | {"TORCHINDUCTOR_CACHE_DIR": str(work / "inductor")}
            for step in ("prepare", "measure"):
                compiling = [] if frames == COMPILED_LENGTH else ["--no-compile"]
                command = [*forms, step, backbone, str(frames), str(folder), str(seconds), *compiling]
                subprocess.run(command, check=True, cwd=HERE.parent, env=environment)
            for file in folder.glob("*.onnx"):
                file.unlink()


def scaling(work: Path, seconds: float) -> dict[str, Any]:
    """The default model's cost by clips a call, and by threads."""
    found: dict[str, Any] = {"batches": {}, "threads": {}}
    cores = len(os.sched_getaffinity(0))
    for engine in ("openvino", "onnxruntime"):
        with open_model("default", engine, threads=1) as model:
            table = bench_calls([model_call(model, batch) for batch in BATCHES], seconds, clock=process_time)
        found["batches"][engine] = {
            batch: [1000 * float(np.median(column)) / batch, *median_interval(table[:, 0] * batch / column)]
            for batch, column in zip(BATCHES, table.T, strict=True)
        }
        models = [open_model("default", engine, threads=count) for count in range(1, cores + 1)]
        table = bench_calls([model_call(model) for model in models], seconds)
        found["threads"][engine] = {
            count: [1000 * float(np.median(column)), *median_interval(table[:, 0] / column)]
            for count, column in enumerate(table.T, 1)
        }
    return found


def postprocess(work: Path, seconds: float) -> dict[str, Any]:
    """What `benchmarks.postprocess` prints."""
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.postprocess"], check=True, cwd=HERE.parent, capture_output=True, text=True
    )
    return {"lines": done.stdout.splitlines()}


def start(work: Path, seconds: float) -> dict[str, Any]:
    """From `python` to the package, and to the first detection, in fresh processes by turns."""
    with TemporaryDirectory() as name:
        checkpoint, cache = Path(name) / "lite.pt", str(Path(name) / "cache")
        spec = read_spec(Path(model_path("default")))
        save_checkpoint(checkpoint, build(find_recipe("yowo-lite"), spec), spec, {})
        kept = f"backend='openvino', cache={cache!r}"
        opening = "import numpy as np; from yowo_deploy import Detector; d = Detector.open({}); "
        pushing = "d.push(np.zeros((240, 320, 3), np.uint8))"
        codes = {
            "python alone": "pass",
            "import yowo_deploy": "import yowo_deploy",
            "import torch": "import torch",
            "first detection, ONNX Runtime": opening.format("backend='onnxruntime'") + pushing,
            "first detection, OpenVINO": opening.format("backend='openvino'") + pushing,
            "first detection, OpenVINO, --cache": opening.format(kept) + pushing,
            "first detection, PyTorch": opening.format(repr(str(checkpoint))) + pushing,
        }
        times: dict[str, list[tuple[float, float]]] = {what: [] for what in codes}
        for turn in range(STARTS + 1):
            for what, code in codes.items():
                took = _process(code)
                if turn:  # the first fills the caches of the disk, and the engine's
                    times[what].append(took)
    return {what: np.median(each, axis=0).tolist() for what, each in times.items()}


def _process(code: str) -> tuple[float, float]:
    """Seconds by the clock, and of CPU."""
    before, begun = resource.getrusage(resource.RUSAGE_CHILDREN), perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, cwd=HERE.parent)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return perf_counter() - begun, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


SECTIONS: dict[str, Callable[[Path, float], dict[str, Any] | None]] = {
    "backbones": backbones,
    "scaling": scaling,
    "pareto": pareto,
    "postprocess": postprocess,
    "start": start,
}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=[*SECTIONS, "report"], action="append", help="Section; may be repeated.")
    parser.add_argument("--work", type=Path, default=Path("runs/benchmarks"), help="Folder for figures.")
    parser.add_argument("--output", type=Path, default=HERE, help="Folder for RESULTS.md and its pictures.")
    parser.add_argument("--seconds", type=float, default=20.0, help="For each set of models measured in turn.")
    given = parser.parse_args()
    work = given.work.resolve()  # its processes run in the project's folder
    work.mkdir(parents=True, exist_ok=True)
    for name, section in SECTIONS.items():
        file = work / f"{name}.json"
        if file.exists() or (given.only and name not in given.only):
            continue
        print(name, file=sys.stderr)
        load = os.getloadavg()[0]
        figures = section(work, given.seconds)
        if figures is not None:
            loads = [round(load, 1), round(os.getloadavg()[0], 1)]
            write_text(file, json.dumps({"figures": figures, "load": loads, "machine": describe_machine()}, indent=1))
    write_report(work, given.output)


if __name__ == "__main__":
    main()
