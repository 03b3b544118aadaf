"""Accuracy against speed: the default model in every form that was evaluated, beside PyTorch and a plain export.

A section of `benchmarks.all`; `python -m benchmarks.precision accuracy WORK/accuracy JHMDB21 [every]` evaluates first.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from benchmarks.available import why_not
from benchmarks.forms import EAGER, Call, rows
from benchmarks.peers import PLAIN, by_onnxruntime
from benchmarks.precision import ENGINES, figures_file, form_file, plain_export
from benchmarks.streaming import streaming_of
from yowo_deploy.backends.loader import open_model
from yowo_deploy.benchmark.timing import model_call
from yowo_deploy.model_files.onnx_reader import read_onnx_file, recorded_cost
from yowo_export.streaming.rewrite import export_streaming
from yowo_training.checkpoints.onnx_weights import load_network
from yowo_training.torch_backend import TorchBackend

FRAME = ", frame by frame"  # behind a form's name: a call takes one frame, its answer is that of the clip


def pareto(work: Path, seconds: float) -> dict[str, Any] | None:
    """CPU milliseconds a clip, or a frame, and frame-mAP of each form; nothing where none was evaluated."""
    folder = work / "accuracy"
    single = form_file(folder, "fp32")
    judged = sorted(folder.glob("fp32.openvino.*.json"), key=lambda file: int(file.suffixes[-2][1:]))
    if not judged:
        print(f"no accuracy: `python -m benchmarks.precision accuracy {folder} JHMDB21` first", file=sys.stderr)
        return None
    every = int(judged[0].suffixes[-2][1:])  # of the annotated frames, each N-th was judged
    network, plain = load_network("default"), folder / "plain.onnx"
    if not plain.exists():
        plain_export(network, plain)
    exact = json.loads(figures_file(single, "onnxruntime", every).read_text())[0]
    calls: dict[str, Call] = {
        PLAIN: by_onnxruntime(plain, network.spec.clip_shape),
        EAGER: model_call(TorchBackend.of(network)),
    }
    scores: dict[str, float | None] = {PLAIN: exact, EAGER: exact}  # the same numbers, in the same arithmetic
    for engine in ENGINES:
        for form in ("fp32", "fp16", f"int8 for {engine}"):
            name, file = f"{form.split()[0]}, {engine}", form_file(folder, form)
            scores[name] = scores[name + FRAME] = json.loads(figures_file(file, engine, every).read_text())[0]
            if not streaming_of(file).exists():
                export_streaming(file, streaming_of(file))
            calls[name] = model_call(open_model(file, engine, threads=1))
            calls[name + FRAME] = model_call(open_model(streaming_of(file), engine, threads=1))
    absent = {}
    if reason := why_not("openvino", "bf16"):
        absent = {f"bf16, openvino{form}": reason for form in ("", FRAME)}
    for name, file in zip(("bf16, openvino", f"bf16, openvino{FRAME}"), (single, streaming_of(single)), strict=True):
        if name not in absent:
            figures = figures_file(form_file(folder, "bf16"), "openvino", every)
            scores[name] = json.loads(figures.read_text())[0] if figures.exists() else None
            calls[name] = model_call(open_model(file, "openvino", precision="bf16", threads=1))
    found = [row | {"frame_map": scores.get(row["name"])} for row in rows(calls, seconds)]
    macs = recorded_cost(read_onnx_file(single).metadata)["total"]["macs"]
    return {"gmac": macs / 1e9, "every": every, "rows": found, "absent": absent}
