"""What `parity --bisect` takes of the largest network: memory within its bound, time within thrice a plain run's."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from time import perf_counter, sleep

import pytest
import torch

from yowo_deploy.spec import ModelSpec
from yowo_export.exporter import export_onnx
from yowo_training.checkpoints.checkpoint import Checkpoint, save_checkpoint
from yowo_training.models.yowo import Yowo, YowoConfig

pytestmark = pytest.mark.slow

MEMORY = 256 << 20
SLACK = 64 << 20  # what allocators and onnx-ir hold beside values


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """ResNeXt-101 on sixteen frames, smaller ones than the paper's; beside the small 2-D branch."""
    folder = tmp_path_factory.mktemp("resnext101")
    spec = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=16, input_size=(96, 96))
    torch.manual_seed(0)
    model = Yowo(YowoConfig("tiny2d", "resnext101", spec.output_channels)).eval()
    save_checkpoint(folder / "m.pt", model, spec, {})
    export_onnx(Checkpoint(model, spec), folder / "m.onnx")
    return folder / "m.pt", folder / "m.onnx"


def test_bisect_stays_within_its_memory_and_its_time(files: tuple[Path, Path]) -> None:
    plain_s, plain_bytes = run(*files)
    bisect_s, bisect_bytes = run(*files, "--bisect", "--memory", f"{MEMORY >> 20}MiB")
    assert bisect_s <= 3 * plain_s + 60
    assert bisect_bytes - plain_bytes <= MEMORY + SLACK


def run(reference: Path, candidate: Path, *options: str) -> tuple[float, int]:
    """Seconds of `parity` and the most bytes that its processes held at once, shared ones counted once."""
    command = [sys.executable, "-m", "yowo_deploy", "parity", str(reference), str(candidate), "--clips", "1"]
    start, peak = perf_counter(), 0
    with subprocess.Popen([*command, "--backend", "onnxruntime", *options], stdout=subprocess.PIPE) as process:
        while process.poll() is None:
            peak = max(peak, sum(held(pid) for pid in family(process.pid)))
            sleep(0.05)
        assert process.stdout is not None and process.stdout.read().startswith(b"PASSED")
    return perf_counter() - start, peak


def family(pid: int) -> list[int]:
    """A process and its children."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    return [pid, *(each for child in children for each in family(int(child)))]


def held(pid: int) -> int:
    """Its share of the memory of all."""
    try:
        found = re.search(r"^Pss:\s+(\d+) kB", Path(f"/proc/{pid}/smaps_rollup").read_text(), re.M)
    except OSError:
        return 0
    return 1024 * int(found[1]) if found else 0
