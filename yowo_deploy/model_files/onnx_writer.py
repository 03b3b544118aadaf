"""Write small ONNX files without the onnx package.

An installation that only runs models has no onnx package, and still makes small ones to try engines with.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.model_files.protobuf import field
from yowo_deploy.spec import METADATA_KEY, ModelSpec

_INT, _INTS = 2, 7  # of onnx.proto: the types of an attribute that is one whole number, or a list of them
_FLOAT = 1
_TYPES = {"float32": _FLOAT, "uint8": 2, "int8": 3, "int64": 7, "float16": 10}


def model(nodes: Sequence[bytes], tensors: Sequence[bytes], answer: tuple[int, ...], spec: ModelSpec) -> bytes:
    """A whole file that takes "clip" of the spec and puts out "raw" of the shape `answer`; opset 17."""
    graph = (
        b"".join(field(1, each) for each in nodes) + field(2, "graph") + b"".join(field(5, each) for each in tensors)
    )
    graph += field(11, _value("clip", (1, *spec.clip_shape))) + field(12, _value("raw", answer))
    metadata = field(1, METADATA_KEY) + field(2, spec.to_json())
    return field(1, 8) + field(7, graph) + field(8, field(2, 17)) + field(14, metadata)


def node(operator: str, inputs: Sequence[str], output: str, *attributes: bytes) -> bytes:
    """One operator; attributes as the two functions below give them."""
    named = b"".join(field(1, name) for name in inputs) + field(2, output) + field(4, operator)
    return named + b"".join(field(5, each) for each in attributes)


def whole_number(name: str, value: int) -> bytes:
    """An attribute that is one whole number."""
    return field(1, name) + field(3, value) + field(20, _INT)


def numbers(name: str, values: Sequence[int]) -> bytes:
    """An attribute that is a list of whole numbers."""
    return field(1, name) + b"".join(field(8, each) for each in values) + field(20, _INTS)


def tensor(name: str, array: NDArray[np.generic]) -> bytes:
    """A constant of the graph."""
    sides = b"".join(field(1, side) for side in array.shape)
    return sides + field(2, _TYPES[str(array.dtype)]) + field(8, name) + field(9, array.tobytes())


def _value(name: str, shape: tuple[int, ...]) -> bytes:
    sides = b"".join(field(1, field(1, side)) for side in shape)
    return field(1, name) + field(2, field(1, field(1, _FLOAT) + field(2, sides)))
