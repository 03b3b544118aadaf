"""What a machine with an NVIDIA GPU shows in eight minutes: `python -m benchmarks.gpu [--output benchmarks/GPU.md]`.

Needs torch with CUDA, pytest and, for the copies, cuda-python; no TensorRT. Runs the tests marked `gpu`, every 3-D
backbone in PyTorch (eager float32, TF32, half; one compiled) with its share of the card's peak, a minute of training
under torchrun, and the CUDA code of the TensorRT backend by itself. A part that fails is a line in the report, and the
others run. `--device cpu --backbones tiny3d --frames 8 --minutes 0.1` rehearses all but what needs CUDA.
"""

from __future__ import annotations

import argparse
import datetime
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from benchmarks.forms import make_checkpoint
from yowo_deploy.backends.dlpack import device_array
from yowo_deploy.datasets.synthetic.generator import make_synthetic
from yowo_deploy.errors import InputError, YowoError
from yowo_deploy.files import write_text
from yowo_training.models.backbones import BACKBONES_3D
from yowo_training.models.flops import cost

ROOT = Path(__file__).parent.parent
BUDGET_S = 480.0
SIDE = 8192  # of the product that measures the peak
TESTS_S, TRAINING_SLACK_S = 150, 60
COMPILED = "resnext101"


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, default=ROOT / "benchmarks" / "GPU.md")
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--backbones", default=",".join(BACKBONES_3D))
    parser.add_argument("--frames", default="8,16")
    parser.add_argument("--minutes", type=float, default=1.0, help="of training")
    given = parser.parse_args()
    device, end = torch.device(given.device), perf_counter() + BUDGET_S
    frames = [int(each) for each in given.frames.split(",")]
    parts: dict[str, Callable[[], Iterator[str]]] = {
        "CUDA code": partial(cuda_code, device),
        "Tests marked gpu": partial(marked_tests, device),
        "Training": partial(training, given.device, given.minutes),
        "PyTorch": partial(networks, device, given.backbones.split(","), frames, end),
    }
    lines = [f"# {card(device)}", "", f"`python -m benchmarks.gpu`, {datetime.date.today()}, {versions(device)}."]
    for title, part in parts.items():
        print(title, flush=True)
        lines += ["", f"## {title}", ""]
        try:
            for line in part():
                print(f"  {line}", flush=True)
                lines.append(line)
        except (YowoError, RuntimeError, OSError, subprocess.SubprocessError, ImportError) as error:
            lines.append(f"Failed: {type(error).__name__}: {' '.join(str(error).split())[:300]}")
            print(f"  {lines[-1]}", flush=True)
        write_text(given.output, "\n".join(lines) + "\n")  # what there is, whatever comes


def card(device: torch.device) -> str:
    """Its name."""
    return torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.processor()} (rehearsal)"


def versions(device: torch.device) -> str:
    """Of what computes."""
    return f"torch {torch.__version__}, CUDA {torch.version.cuda or 'none'}, {device}"


def marked_tests(device: torch.device) -> Iterator[str]:
    """The tests that need a GPU; without one they skip."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", "gpu", "-p", "no:cacheprovider", "tests"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=TESTS_S)
    yield from (line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR")))
    yield (done.stdout.strip().splitlines() or [done.stderr.strip()[-200:]])[-1]


def networks(device: torch.device, backbones: Sequence[str], frames: Sequence[int], end: float) -> Iterator[str]:
    """Milliseconds a clip in the median, and the share of the peak that a product of two matrices reached."""
    # A rehearsal on a CPU takes float32 alone: without bf16 instructions the rest takes minutes.
    arithmetics, side = (("float32",), 512) if device.type == "cpu" else (("float32", "tf32", "half"), SIDE)
    peaks = {name: peak(device, name, side) for name in arithmetics}
    yield "Peak of a product of matrices, T multiply-adds/s: " + ", ".join(
        f"{k} {v / 1e12:.2f}" for k, v in peaks.items()
    )
    yield ""
    yield "| backbone | T | G multiply-adds | float32 ms (share) | TF32 | half | compiled, half |"
    yield "|---|---:|---:|---:|---:|---:|---:|"
    for backbone in backbones:
        for count in frames:
            if perf_counter() > end:
                yield f"| {backbone} | {count} | out of time | | | | |"
                continue
            yield row(device, backbone, count, peaks)


def row(device: torch.device, backbone: str, frames: int, peaks: dict[str, float]) -> str:
    """One line of the table."""
    checkpoint = make_checkpoint(backbone, frames)
    macs = cost(checkpoint.model, checkpoint.spec.clip_shape)["total"].macs
    model = checkpoint.model.to(device).eval()
    clip = torch.randn(1, *checkpoint.spec.clip_shape, device=device)
    cells = []
    for name in peaks:
        seconds = median_seconds(partial(forward, model, clip, name), device)
        cells.append(f"{1000 * seconds:.2f} ({100 * macs / seconds / peaks[name]:.0f} %)")
    if backbone == COMPILED and device.type == "cuda":
        seconds = median_seconds(partial(forward, torch.compile(model), clip, "half"), device)
        cells.append(f"{1000 * seconds:.2f} ({100 * macs / seconds / peaks['half']:.0f} %)")
    return f"| {backbone} | {frames} | {macs / 1e9:.1f} | {' | '.join([*cells, '', '', ''][:4])} |"


def forward(model: Any, clip: torch.Tensor, arithmetic: str) -> None:
    """One clip in an arithmetic."""
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = arithmetic == "tf32"
    half = torch.float16 if clip.device.type == "cuda" else torch.bfloat16
    with torch.inference_mode(), torch.autocast(clip.device.type, half, enabled=arithmetic == "half"):
        model(clip)


def peak(device: torch.device, arithmetic: str, side: int) -> float:
    """Multiply-adds a second of a product of two square matrices."""
    left = torch.randn(side, side, device=device)
    return side**3 / median_seconds(partial(forward, partial(torch.mm, left), left, arithmetic), device)


def median_seconds(call: Callable[[], None], device: torch.device, rounds: int = 15) -> float:
    """Of a call with everything it puts into the stream."""
    wait: Callable[[], None] = torch.cuda.synchronize if device.type == "cuda" else lambda: None
    taken = []
    for number in range(rounds + 3):
        wait()
        start = perf_counter()
        call()
        wait()
        taken += [perf_counter() - start] if number >= 3 else []
    return float(np.median(taken))


def training(device: str, minutes: float) -> Iterator[str]:
    """Steps of the tiny recipe under torchrun, one process."""
    with tempfile.TemporaryDirectory() as folder:
        make_synthetic(Path(folder) / "data", 24, 6)
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "1", "-m", "yowo_training"]
        command += ["synthetic", "--data", f"{folder}/data", "--minutes", f"{minutes}", "--device", device]
        command += ["--output", f"{folder}/run"]
        start = perf_counter()
        done = subprocess.run(
            command, cwd=ROOT, capture_output=True, text=True, timeout=60 * minutes + TRAINING_SLACK_S
        )
        last = (done.stderr + done.stdout).strip().splitlines()[-3:]
        yield f"exit code {done.returncode} after {perf_counter() - start:.0f} s"
        yield from last if done.returncode else []
        yield from Path(folder, "run", "results.csv").read_text().splitlines()[-1:]


def cuda_code(device: torch.device) -> Iterator[str]:
    """Copies, a recorded graph, and tensors read in place, by the code of the TensorRT backend."""
    if device.type != "cuda":
        raise InputError("needs a GPU")
    from yowo_deploy.backends.cuda import open_cuda

    cuda = open_cuda(device=device.index or 0)
    yield f"compute capability {cuda.compute_capability}"
    with cuda.current():
        shape = (8, 3, 16, 224, 224)
        here, back = cuda.pinned(shape), cuda.pinned(shape)
        there = cuda.device_memory(here.nbytes)
        here[:] = np.random.default_rng(0).standard_normal(shape, np.float32)

        def both_ways() -> None:
            cuda.upload(there, here)
            cuda.download(back, there)

        both_ways()
        cuda.synchronize()
        yield f"copied there and back: {'the same' if np.array_equal(here, back) else 'DIFFERENT'}"
        launch = cuda.capture(both_ways)
        back[:] = 0
        if launch is None:
            yield "a graph could not be recorded"
        else:
            launch()
            cuda.synchronize()
            yield f"recorded and launched: {'the same' if np.array_equal(here, back) else 'DIFFERENT'}"
        start = perf_counter()
        for _ in range(20):
            cuda.upload(there, here)
        cuda.synchronize()
        pinned = 20 * here.nbytes / (perf_counter() - start)
        tensor = torch.from_numpy(here.copy())
        torch.cuda.synchronize()
        start = perf_counter()
        for _ in range(20):
            moved = tensor.to(device)
        torch.cuda.synchronize()
        pageable = 20 * here.nbytes / (perf_counter() - start)
        yield f"upload GB/s: {pinned / 1e9:.1f} pinned, {pageable / 1e9:.1f} pageable"
        found = device_array(moved, cuda.device, cuda.stream, cuda.device_of)
        same = found is not None and found.address == moved.data_ptr() and cuda.device_of(found.address) == cuda.device
        yield f"a tensor is read where it lies: {'yes' if same else 'NO'}"
    cuda.close()


if __name__ == "__main__":
    main()
