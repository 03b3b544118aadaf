"""Rewrites that pay on some machines and models and not on others: tried, measured, kept if faster."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx_ir as ir

from yowo_deploy.backends.loader import open_model
from yowo_deploy.benchmark.timing import bench_models, ratio_interval
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_export.graph.conv3d_as_2d import conv3d_as_2d
from yowo_export.streaming.rewrite import shared_nodes

SECONDS = 8.0


def conv3d_as_2d_if_faster(path: Path, engine: str = "onnxruntime", streaming: bool = False) -> float | None:
    """Replace an ONNX file by its form with frames apart, if that is faster here on the engine.

    Both are run turn by turn for `SECONDS`; the lower end of the 95 % interval of the ratio decides.

    Args:
        streaming: leave what `streamed` would take.

    Returns:
        How many times as fast the other form is; the file was replaced if that is above 1. None if there is none.
    """
    model = ir.load(path)
    leave = shared_nodes(model, read_spec(path)) if streaming else ()
    if not conv3d_as_2d(model, leave):
        return None
    with tempfile.TemporaryDirectory() as folder:
        other = Path(folder) / "apart.onnx"
        ir.save(model, other)
        with open_model(path, engine) as first, open_model(other, engine) as second:
            together, apart = bench_models([first, second], SECONDS, warmup=2)
        ratio, low, _ = ratio_interval(together, apart)
        if low > 1:
            path.write_bytes(other.read_bytes())
    return ratio if low > 1 else min(ratio, 1.0)
