"""The default model beside other tools on the same weights, in turn in one run: `python -m benchmarks.peers VIDEO...`.

A plain `torch.onnx.export` on ONNX Runtime is 1. Beside it: PyTorch, OpenVINO's own converter on the plain export,
NNCF's INT8 of it, our files, and FFmpeg's decode (by PyAV) beside our reader. NNCF is installed into an environment of
its own in FOLDER, calibrated on the same clips as our INT8. CPU time on one thread, as in `benchmarks.forms`: other
work on the machine does not count. Ratios alone count. Last, what Polygraphy's comparator says of six files beside the
float32 one, with its own settings, and what `parity` says.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from time import process_time
from typing import Any

import av
import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import openvino as ov
import torch
from numpy.typing import NDArray

from benchmarks.forms import compiled
from benchmarks.precision import plain_export
from yowo_deploy.arrays import Float
from yowo_deploy.backends.loader import open_model
from yowo_deploy.benchmark.timing import bench_calls, median_interval, model_call
from yowo_deploy.diagnostics.system_info import describe_machine, in_words, instructions
from yowo_deploy.model_files.default import model_path
from yowo_deploy.spec import METADATA_KEY, ModelSpec
from yowo_deploy.video.reader import open_video
from yowo_export.graph.onnx_file import write_onnx
from yowo_export.graph.rewrites import split_attention
from yowo_export.precision.convert import Wish, lower_model, store_anew
from yowo_export.sample_clips import Clips, take_clips
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.checkpoints.onnx_weights import load_network
from yowo_training.torch_backend import TorchBackend

PLAIN = "plain export, ONNX Runtime"
NNCF = """
import sys
import numpy as np, openvino as ov, nncf
model = ov.Core().read_model(sys.argv[1])
model.reshape(list(np.load(sys.argv[2], mmap_mode="r")[:1].shape))
clips = nncf.Dataset([clip[None] for clip in np.load(sys.argv[2])])
ov.save_model(nncf.quantize(model, clips, subset_size=len(np.load(sys.argv[2], mmap_mode="r"))), sys.argv[3])
"""
POLYGRAPHY = ("polygraphy==0.53.6", "onnx", "onnxruntime", "numpy")
INPUT_RANGE = "[-2,2]"  # of Polygraphy's random clips; normalised frames lie there
THREADS = 1
Call = Callable[[], Any]


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("videos", nargs="+", type=Path)
    parser.add_argument("--folder", type=Path, default=Path("build/peers"))
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--clips", type=int, default=32)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(THREADS)
    checkpoint = load_network("default")
    clips = take_clips(given.videos, checkpoint.spec, given.clips)
    prepare(checkpoint, clips, given.folder)
    calls = inference_calls(checkpoint, given.folder)
    print(in_words(describe_machine()))
    show(calls, given.seconds)
    for name, difference in differences(given.folder, clips).items():
        print(
            f"{name}: raw outputs differ from float32 by {difference:.2e} of the largest on {min(8, len(clips))} clips"
        )
    show(decode_calls(given.videos[0]), given.seconds / 4)
    compare(given.folder, given.videos)


def prepare(checkpoint: Checkpoint, clips: Clips, folder: Path) -> None:
    """Write the files that are not there yet; NNCF's by an environment of its own."""
    if not (folder / "plain.onnx").exists():
        plain_export(checkpoint, folder / "plain.onnx")
    if not (folder / "fp32.onnx").exists():
        store_anew(model_path("default"), folder / "fp32.onnx", half_weights=False)
    if not (folder / "int8.onnx").exists():
        lower_model(folder / "fp32.onnx", folder / "int8.onnx", clips, Wish("int8", "openvino"), judged=8)
    if not (folder / "nncf.xml").exists():
        python = environment(folder / "nncf", "nncf", f"openvino=={ov.__version__.partition('-')[0]}")
        np.save(folder / "clips.npy", np.stack([clip for clip, _ in clips]))
        subprocess.run(
            [python, "-c", NNCF, folder / "plain.onnx", folder / "clips.npy", folder / "nncf.xml"], check=True
        )


def environment(folder: Path, *wheels: str) -> str:
    """The Python of an environment with these wheels, made where it is not there."""
    python = folder / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        subprocess.run([python, "-m", "pip", "install", "-q", *wheels], check=True)
    return str(python)


def inference_calls(checkpoint: Checkpoint, folder: Path) -> dict[str, Call]:
    """A call a clip, or a frame of a stream; the plain export comes first."""
    opened = partial(open_model, threads=THREADS)
    streamed = partial(opened, "default", "openvino", streaming="one")
    in_bf16: dict[str, Call] = {}
    if "bf16" in instructions():
        in_bf16 = {
            "ours, OpenVINO in bf16": model_call(opened(folder / "fp32.onnx", "openvino", precision="bf16")),
            "ours, INT8 and bf16 on OpenVINO": model_call(opened(folder / "int8.onnx", "openvino", precision="bf16")),
            "ours, frame by frame on OpenVINO in bf16": model_call(streamed(precision="bf16")),
        }
    return {
        PLAIN: by_onnxruntime(folder / "plain.onnx", checkpoint.spec.clip_shape),
        "PyTorch, eager": model_call(TorchBackend.of(checkpoint)),
        "PyTorch, torch.compile": compiled(checkpoint),
        "plain export, OpenVINO's converter": converted(folder / "plain.onnx", checkpoint.spec.clip_shape),
        "plain export, OpenVINO's converter, float32": converted(
            folder / "plain.onnx", checkpoint.spec.clip_shape, INFERENCE_PRECISION_HINT="f32"
        ),
        "plain export, NNCF INT8 on OpenVINO": converted(folder / "nncf.xml", checkpoint.spec.clip_shape),
        "ours, ONNX Runtime": model_call(opened(folder / "fp32.onnx", "onnxruntime")),
        "ours, OpenVINO": model_call(opened(folder / "fp32.onnx", "openvino")),
        "ours, INT8 on OpenVINO": model_call(opened(folder / "int8.onnx", "openvino")),
        "ours, frame by frame on OpenVINO": model_call(streamed()),
        **in_bf16,
    }


def by_onnxruntime(path: Path, shape: tuple[int, ...]) -> Call:
    """As its users do it; our gate refuses operators that our exporter does not write."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = THREADS
    session = ort.InferenceSession(path, options)
    clip = np.random.default_rng(0).standard_normal((1, *shape), np.float32)
    return partial(session.run, None, {session.get_inputs()[0].name: clip})


def converted(path: Path, shape: tuple[int, ...], **settings: str) -> Call:
    """As OpenVINO's users do it; without settings it takes bf16 by itself where the CPU has it."""
    model = ov.convert_model(path) if path.suffix == ".onnx" else ov.Core().read_model(path)
    request = ov.compile_model(model, "CPU", {"INFERENCE_NUM_THREADS": THREADS, **settings}).create_infer_request()
    clip = np.random.default_rng(0).standard_normal((1, *shape), np.float32)
    return partial(request.infer, [clip])


def differences(folder: Path, clips: Clips) -> dict[str, float]:
    """Mean difference of each INT8 file's raw outputs from float32's, relative to their largest."""
    shown = np.stack([clip for clip, _ in clips.some(8)])
    with open_model(folder / "fp32.onnx", "openvino") as exact, open_model(folder / "int8.onnx", "openvino") as ours:
        expected, found = exact.infer(shown), ours.infer(shown)
    other = ov.compile_model(ov.Core().read_model(folder / "nncf.xml"), "CPU")
    theirs = np.concatenate([other([clip[None]])[0] for clip in shown])
    return {"ours": _difference(found, expected), "NNCF": _difference(theirs, expected)}


def _difference(found: NDArray[Any], expected: Float) -> float:
    return float(np.abs(found - expected).mean() / np.abs(expected).max())


def decode_calls(video: Path) -> dict[str, Call]:
    """Every frame of a video as BGR."""

    def by_ffmpeg() -> int:
        with av.open(str(video)) as container:
            return sum(len(frame.to_ndarray(format="bgr24")) for frame in container.decode(video=0))

    def by_reader() -> int:
        with open_video(video) as frames:
            return sum(len(frame) for frame in frames)

    return {"FFmpeg's decode, by PyAV": by_ffmpeg, "our reader": by_reader}


def compare(folder: Path, videos: Sequence[Path]) -> None:
    """A table of what two comparators say of the same files, and of their CPU time."""
    single = folder / "fp32.onnx"
    polygraphy = Path(environment(folder / "polygraphy", *POLYGRAPHY)).with_name("polygraphy")
    files = {"the same file": single, "INT8": folder / "int8.onnx", **variants(single, folder)}
    print("| float32 beside | Polygraphy | CPU s | `parity` | CPU s |\n|---|---|---:|---|---:|")
    for name, path in files.items():
        common = ["--onnxrt", "--val-range", INPUT_RANGE, "--seed", "0"]
        first = [polygraphy, "run", single, *common, "--save-outputs", folder / "outputs.json"]
        second = [polygraphy, "run", path, *common, "--load-outputs", folder / "outputs.json"]
        engines = ["--backend", "onnxruntime", "--reference-backend", "onnxruntime"]
        ours = [sys.executable, "-m", "yowo_deploy", "parity", single, path, "--data", videos[0], "--trust", *engines]
        cells = [
            f"{'passes' if passed else 'fails'} | {spent:.1f}" for passed, spent in (ran(first, second), ran(ours))
        ]
        print(f"| {name} | {' | '.join(cells)} |", flush=True)


def variants(single: Path, folder: Path) -> dict[str, Path]:
    """The float32 file written otherwise, and with three faults: two of the graph, one of how frames are fed."""
    made = {}
    for name in (
        "attention as four nodes",
        "one weight is 0.1 off",
        "one layer is 1 % larger",
        "colours are in the other order",
    ):
        model, path = ir.load(single), folder / f"{name.replace(' ', '-')}.onnx"
        weights = [value for value in model.graph.initializers.values() if len(value.shape or ()) == 4]
        middle = weights[len(weights) // 2]
        assert middle.const_value is not None
        values = middle.const_value.numpy().copy()
        if "attention" in name:
            split_attention(model)
        elif "weight" in name:
            values.flat[0] += 0.1
        elif "layer" in name:
            values *= np.float32(1.01)
        else:
            spec = ModelSpec.from_json(model.metadata_props[METADATA_KEY])
            model.metadata_props[METADATA_KEY] = spec.replace(colour="bgr").to_json()
        middle.const_value = ir.tensor(values, name=middle.name)
        write_onnx(model, path)
        made[name] = path
    return made


def ran(*commands: Sequence[str | Path]) -> tuple[bool, float]:
    """Whether all of the commands exit with 0, and the CPU seconds that they took."""
    before = os.times()
    passed = all(subprocess.run(command, capture_output=True, check=False).returncode == 0 for command in commands)
    after = os.times()
    return passed, sum(after[2:4]) - sum(before[2:4])


def show(calls: Mapping[str, Call], seconds: float) -> None:
    """A row each: milliseconds in the median, and how many times as fast as the first."""
    table = bench_calls(list(calls.values()), seconds, warmup=2, clock=process_time)
    print("| | CPU ms | times, 95 % |\n|---|---:|---:|")
    for name, column in zip(calls, table.T, strict=True):
        ratio, low, high = median_interval(table[:, 0] / column)
        print(f"| {name} | {1000 * np.median(column):.1f} | {ratio:.2f} [{low:.2f}, {high:.2f}] |")


if __name__ == "__main__":
    main()
