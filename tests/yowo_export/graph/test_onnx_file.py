"""A file that is written in pieces holds what protobuf writes."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from yowo_export.graph.onnx_file import onnx_bytes

# By name: values on both sides of what is written by itself, of every width, whole and packed.
WEIGHTS: dict[str, ir.TensorProtocol] = {
    "large": ir.tensor(np.arange(1 << 15, dtype=np.float32).reshape(8, -1)),
    "half": ir.tensor(np.arange(1 << 16, dtype=np.float16)),
    "bytes": ir.tensor(np.arange(1 << 17, dtype=np.uint8)),
    "small": ir.tensor(np.float32([1, 2, 3])),
    "empty": ir.tensor(np.empty((0, 3), np.float32)),
    "nibbles": ir.tensor(np.arange(1 << 18, dtype=np.int8) % 8, ir.DataType.INT4),
    "from a file": ir.from_proto(onnx.numpy_helper.from_array(np.arange(1 << 16, dtype=np.int64))),
}


def model(names: list[str]) -> ir.Model:
    weights = [ir.Value(name=name, const_value=WEIGHTS[name]) for name in names]
    clips = ir.Value(name="clips", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["batch", 3]))
    node = ir.node("Identity", [clips], name="node")
    graph = ir.Graph([clips], list(node.outputs), nodes=[node], initializers=weights, opset_imports={"": 20}, name="g")
    return ir.Model(graph, ir_version=10, metadata_props={"key": "é"})


@pytest.mark.parametrize("names", [[], ["small"], ["large"], list(WEIGHTS), list(reversed(WEIGHTS))], ids=", ".join)
def test_pieces_are_what_protobuf_writes(names: list[str]) -> None:
    made = model(names)
    written = onnx_bytes(made)
    assert written == onnx_bytes(made)
    assert onnx.load_from_string(written) == ir.to_proto(made)
    assert len(written) == len(ir.to_proto(made).SerializeToString())


def test_the_graph_keeps_its_weights() -> None:
    made = model(list(WEIGHTS))
    onnx_bytes(made)
    assert {name: value.const_value for name, value in made.graph.initializers.items()} == WEIGHTS
