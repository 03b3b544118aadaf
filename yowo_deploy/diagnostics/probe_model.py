"""A model of one convolution with a known answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from yowo_deploy.arrays import Float
from yowo_deploy.model_files.onnx_writer import model, node, numbers, tensor
from yowo_deploy.spec import ModelSpec

SPEC = ModelSpec(
    labels=("anything",), anchors=((1.0, 1.0),), clip_length=2, input_size=(4, 4), stride=2, name="one-layer"
)
STRIDES = (SPEC.clip_length, SPEC.stride, SPEC.stride)


def clip_kernel_answer() -> tuple[Float, Float, Float]:
    """(1, 3, 2, 4, 4) clip, (6, 3, 2, 2, 2) kernel and the (1, 6, 2, 2) raw output.

    Whole numbers so small that every backend must be exact, in any precision and in whatever order it adds.
    """
    random = np.random.default_rng(0)
    clip = random.integers(0, 3, (1, *SPEC.clip_shape)).astype(np.float32)
    kernel = random.integers(-1, 2, (SPEC.output_channels, 3, *STRIDES)).astype(np.float32)
    (columns, rows), side = SPEC.grid_size, SPEC.stride
    tiles = clip.reshape(1, 3, SPEC.clip_length, rows, side, columns, side)
    return clip, kernel, np.asarray(np.einsum("bktrycx,oktyx->borc", tiles, kernel), np.float32)


def write_one_layer(path: Path) -> None:
    """Write the model with its spec, as any file of ours: a convolution over the whole clip, its time axis dropped."""
    _, kernel, answer = clip_kernel_answer()
    nodes = (
        node("Conv", ("clip", "kernel"), "with_time", numbers("strides", STRIDES)),
        node("Squeeze", ("with_time", "time"), "raw"),
    )
    tensors = (tensor("kernel", kernel), tensor("time", np.array([2])))
    path.write_bytes(model(nodes, tensors, answer.shape, SPEC))
