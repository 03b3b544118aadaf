"""Frame by frame gives what the clip gives, and padding is not multiplied."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from yowo_export.graph.conv3d_as_2d import TAP_KEY, conv3d_as_2d


def run(model: ir.Model, x: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


def layer(length: int, kernel: int = 3, stride: int = 1, then: str = "Relu") -> ir.Model:
    """(B, 4, T, 6, 6) through one grouped convolution with bias and one other node."""
    rng = np.random.default_rng(0)
    pad, out = kernel // 2, (length - 1) // stride + 1
    weights = [rng.standard_normal((6, 2, kernel, 3, 3)).astype(np.float32), rng.standard_normal(6).astype(np.float32)]
    conv = {"pads": [pad, 1, 1, pad, 1, 1], "strides": [stride, 2, 2], "group": 2}
    nodes = [
        helper.make_node("Conv", ["x", "w", "b"], ["c"], **conv),
        helper.make_node(then, ["c"], ["y"], name="last"),
    ]
    values = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
        for name, shape in (("x", ["B", 4, length, 6, 6]), ("c", ["B", 6, out, 3, 3]), ("y", None))
    ]
    initializers = [numpy_helper.from_array(value, name) for value, name in zip(weights, "wb", strict=True)]
    made = helper.make_graph(nodes, "g", values[:1], values[2:], initializers, value_info=values[1:2])
    return ir.from_proto(helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


@pytest.mark.parametrize("then", ["Relu", "Flatten"])  # taken apart itself, and one that reads whole clips
@pytest.mark.parametrize(
    ("length", "kernel", "stride", "convolutions"), [(1, 3, 1, 1), (2, 3, 1, 4), (8, 3, 2, 11), (5, 1, 1, 5)]
)
def test_a_layer_gives_the_same_without_multiplying_padding(
    length: int, kernel: int, stride: int, convolutions: int, then: str
) -> None:
    x = np.random.default_rng(1).standard_normal((2, 4, length, 6, 6), np.float32)
    model = layer(length, kernel, stride, then)
    expected = run(model, x)
    assert conv3d_as_2d(model)
    made = [node for node in model.graph if node.op_type == "Conv"]
    assert len(made) == convolutions
    assert all((TAP_KEY in node.metadata_props) == (kernel > 1) for node in made)
    np.testing.assert_allclose(run(model, x), expected, atol=1e-5)  # 54 products of size 1


def test_a_graph_without_3_d_convolutions_is_left_alone() -> None:
    model = layer(4)
    assert conv3d_as_2d(model) and not conv3d_as_2d(model)
