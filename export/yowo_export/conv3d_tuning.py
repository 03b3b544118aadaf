"""Replace 3-D convolutions by 2-D ones in a file if that is measured to be faster."""

from __future__ import annotations

from pathlib import Path

from yowo_deploy.backends.loader import open_model
from yowo_deploy.benchmark.timing import bench_models, ratio_interval
from yowo_deploy.files import work_folder
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_export.graph.conv3d_as_2d import conv3d_as_2d
from yowo_export.graph.onnx_file import write_onnx
from yowo_export.graph.source import load_graph
from yowo_export.streaming.cut import shared_nodes

SECONDS = 8.0


def conv3d_as_2d_if_faster(path: Path, engine: str = "onnxruntime", streaming: bool = False) -> float | None:
    """Replace an ONNX file by its form with 2-D convolutions, if that is faster on this machine and engine.

    Both run in turn for `SECONDS`; the lower end of the 95 % interval of the speed ratio decides.

    Args:
        streaming: leave the nodes that `streamed` would rewrite.

    Returns:
        How many times as fast the other form is; the file was replaced if above 1. None without 3-D convolutions.
    """
    model = load_graph(path)
    leave = shared_nodes(model, read_spec(path)) if streaming else ()
    if not conv3d_as_2d(model, leave):
        return None
    with work_folder() as folder:
        other = Path(folder) / "conv2d.onnx"
        write_onnx(model, other)
        with open_model(path, engine) as first, open_model(other, engine) as second:
            original, rewritten = bench_models([first, second], SECONDS, warmup=2)
        ratio, low, _ = ratio_interval(original, rewritten)
        if low > 1:
            path.write_bytes(other.read_bytes())
    return ratio if low > 1 else min(ratio, 1.0)
