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
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time
from typing import Any

import numpy as np

from benchmarks.forms import rows
from benchmarks.model_cost import LENGTHS, PAPER
from benchmarks.results import write_report
from yowo_deploy.artifacts import write_text
from yowo_deploy.backends.base import open_model
from yowo_deploy.bench import bench_calls, median_interval, model_call
from yowo_deploy.default_model import model_path
from yowo_deploy.machine import describe_machine
from yowo_deploy.onnx_file import read_onnx_file, read_spec, recorded_cost
from yowo_export.calibration import made_up_clips
from yowo_export.onnx_export import store_anew
from yowo_export.precision import Wish, lower_model
from yowo_training.build import build
from yowo_training.checkpoint import save_checkpoint
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


def pareto(work: Path, seconds: float) -> dict[str, Any]:
    """Speed of the default model in every precision; INT8 ranges from made-up clips, which costs no time to a call."""
    with TemporaryDirectory() as name:
        single = Path(name) / "fp32.onnx"
        store_anew(model_path("default"), single, half_weights=False)
        clips = made_up_clips(read_spec(single), 4)
        models = {}
        for engine in ("openvino", "onnxruntime"):
            low = Path(name) / f"{engine}.onnx"
            lower_model(single, low, clips, Wish("int8", engine), judged=1)
            models[f"fp32, {engine}"] = open_model(single, engine, threads=1)
            models[f"int8, {engine}"] = open_model(low, engine, threads=1)
        half = Path(name) / "half.onnx"
        lower_model(single, half, clips, Wish("fp16"), judged=1)
        models["fp16, openvino"] = open_model(half, "openvino", threads=1)
        models["bf16, openvino"] = open_model(single, "openvino", precision="bf16", threads=1)
        macs = recorded_cost(read_onnx_file(single).metadata)["total"]["macs"]
        return {"gmac": macs / 1e9, "rows": rows({name: model_call(model) for name, model in models.items()}, seconds)}


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
            "first detection, OpenVINO, --engine-cache": opening.format(kept) + pushing,
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


def accuracy() -> dict[str, float]:
    """Frame-mAP@0.5 of the default model by "precision, engine", from the README's table of all test frames."""
    text = (HERE.parent / "README.md").read_text(encoding="utf-8")
    found = {}
    for form, engine, value in re.findall(r"^\| (fp32|FP16|INT8, everything) \| (\w[\w ]*) \| ([\d.]+) \|", text, re.M):
        precision = form.removesuffix(", everything").lower()
        found[f"{precision}, {engine.replace(' ', '').lower()}"] = float(value)
    return found


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
    write_report(work, given.output, accuracy())


if __name__ == "__main__":
    main()
