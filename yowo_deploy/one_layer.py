"""A model of one convolution whose answer is known. Knows the bytes of an ONNX file; nothing of engines.

An installation that only runs models has no onnx package, so the file is written by hand: protobuf is a number and a
kind for each field, and what it holds.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.boxes import Float
from yowo_deploy.spec import METADATA_KEY, ModelSpec

SPEC = ModelSpec(
    labels=("anything",), anchors=((1.0, 1.0),), clip_length=2, input_size=(4, 4), stride=2, name="one-layer"
)
STRIDES = (SPEC.clip_length, SPEC.stride, SPEC.stride)
_FLOAT, _INT64, _LIST_OF_INTS = 1, 7, 7  # of onnx.proto: two types of tensors, one of attributes


def clip_kernel_answer() -> tuple[Float, Float, Float]:
    """(1, 3, 2, 4, 4) clip, (6, 3, 2, 2, 2) kernel and the (1, 6, 2, 2) raw output.

    Whole numbers so small that every engine must be exact, in any precision and in whatever order it adds.
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
    strides = _field(1, "strides") + b"".join(_field(8, side) for side in STRIDES) + _field(20, _LIST_OF_INTS)
    convolution = _node("Conv", ("clip", "kernel"), "with_time") + _field(5, strides)
    graph = _field(1, convolution) + _field(1, _node("Squeeze", ("with_time", "time"), "raw")) + _field(2, "one_layer")
    graph += _field(5, _tensor("kernel", kernel, _FLOAT)) + _field(5, _tensor("time", np.array([2]), _INT64))
    graph += _field(11, _value("clip", (1, *SPEC.clip_shape))) + _field(12, _value("raw", answer.shape))
    metadata = _field(1, METADATA_KEY) + _field(2, SPEC.to_json())
    path.write_bytes(_field(1, 8) + _field(7, graph) + _field(8, _field(2, 17)) + _field(14, metadata))


def _node(operator: str, inputs: tuple[str, ...], output: str) -> bytes:
    return b"".join(_field(1, name) for name in inputs) + _field(2, output) + _field(4, operator)


def _tensor(name: str, array: NDArray[np.generic], kind: int) -> bytes:
    sides = b"".join(_field(1, side) for side in array.shape)
    return sides + _field(2, kind) + _field(8, name) + _field(9, array.tobytes())


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    sides = b"".join(_field(1, _field(1, side)) for side in shape)
    return _field(1, name) + _field(2, _field(1, _field(1, _FLOAT) + _field(2, sides)))


def _field(number: int, content: int | str | bytes) -> bytes:
    """One field: its number and wire type, then a number (type 0), or length and bytes of anything else (type 2)."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    data = content.encode() if isinstance(content, str) else content
    return _varint(number << 3 | 2) + _varint(len(data)) + data


def _varint(value: int) -> bytes:
    low, rest = value & 0x7F, value >> 7
    return bytes([low | 0x80]) + _varint(rest) if rest else bytes([low])
