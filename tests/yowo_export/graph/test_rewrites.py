"""Each rewrite does what its contract says, and leaves alone what it does not know."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from yowo_export.graph.rewrites import (
    ATTENTION_OPSET,
    PLAIN_OPSET,
    fuse_attention,
    key_frame_as_slice,
    reorg_as_space_to_depth,
    split_attention,
    store_half,
    store_single,
)

Nodes = list[onnx.NodeProto]


def graph(nodes: Nodes, outputs: list[str]) -> ir.Model:
    """A model over F (2, 6, 10), opset 23, whose outputs are the named values."""
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs]
    source = helper.make_tensor_value_info("F", TensorProto.FLOAT, [2, 6, 10])
    weights = [numpy_helper.from_array(np.ones(10, np.float32), "ones")]
    made = helper.make_graph(nodes, "g", [source], values, weights)
    opset = helper.make_opsetid("", ATTENTION_OPSET)
    return ir.serde.deserialize_model(helper.make_model(made, opset_imports=[opset], ir_version=10))


def gram(sign: str, **changes: list[int]) -> Nodes:
    query = [helper.make_node("Neg", ["F"], ["Q"])] if sign == "release" else []
    return [
        *query,
        helper.make_node("Transpose", ["F"], ["T"], perm=changes.get("perm", [0, 2, 1])),
        helper.make_node("MatMul", ["Q" if query else "F", "T"], ["G"]),
        helper.make_node("Softmax", ["G"], ["M"], axis=-1),
        helper.make_node("MatMul", ["M", "F"], ["Y"]),
    ]


def run(model: ir.Model, features: np.ndarray) -> list[np.ndarray]:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, {"F": features}))


@pytest.mark.parametrize("sign", ["paper", "release"])
def test_the_gram_attention_becomes_one_node_with_the_same_answer(sign: str) -> None:
    features = np.random.default_rng(0).standard_normal((2, 6, 10), np.float32)
    model = graph(gram(sign), ["Y"])
    before = run(model, features)
    assert fuse_attention(model)
    assert {node.op_type for node in model.graph} <= {"Attention", "Neg"}
    # Two float32 products and a softmax over logits up to about 20.
    np.testing.assert_allclose(run(model, features)[0], before[0], atol=2e-5)


def test_a_second_pass_changes_nothing() -> None:
    model = graph(gram("release"), ["Y"])
    assert fuse_attention(model) and not fuse_attention(model)


LEFT_ALONE = [
    ("the weights are read elsewhere too", gram("paper"), ["Y", "M"]),
    ("no softmax", [helper.make_node("MatMul", ["F", "ones"], ["Y"])], ["Y"]),
    ("a product with something else", [*gram("paper")[:-1], helper.make_node("MatMul", ["M", "H"], ["Y"])], ["Y"]),
]
LEFT_ALONE[2][1].insert(0, helper.make_node("Relu", ["F"], ["H"]))


@pytest.mark.parametrize(("why", "nodes", "outputs"), LEFT_ALONE, ids=[row[0] for row in LEFT_ALONE])
def test_what_is_not_the_pattern_is_left_alone(why: str, nodes: Nodes, outputs: list[str]) -> None:
    features = np.random.default_rng(0).standard_normal((2, 6, 10), np.float32)
    model = graph(nodes, outputs)
    before = run(model, features)
    assert not fuse_attention(model)
    for found, expected in zip(run(model, features), before, strict=True):
        np.testing.assert_array_equal(found, expected)


def with_weights(weights: np.ndarray) -> ir.Model:
    """F times a matrix, and plus one."""
    nodes = [helper.make_node("MatMul", ["F", "W"], ["P"]), helper.make_node("Add", ["P", "one"], ["Y"])]
    values = [numpy_helper.from_array(weights, "W"), numpy_helper.from_array(np.ones(1, np.float32), "one")]
    source = helper.make_tensor_value_info("F", TensorProto.FLOAT, [2, 6, 10])
    made = helper.make_graph(
        nodes, "g", [source], [helper.make_tensor_value_info("Y", TensorProto.FLOAT, None)], values
    )
    return ir.serde.deserialize_model(
        helper.make_model(made, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    )


def stored(model: ir.Model) -> dict[str, str]:
    return {
        str(name): str(value.const_value.dtype)
        for name, value in model.graph.initializers.items()
        if value.const_value is not None
    }


def test_large_weights_are_kept_in_half_and_come_back_as_rounded() -> None:
    rng = np.random.default_rng(0)
    features, weights = rng.standard_normal((2, 6, 10), np.float32), rng.standard_normal((10, 200), np.float32)
    model, rounded = with_weights(weights), with_weights(weights.astype(np.float16).astype(np.float32))
    assert store_half(model)
    assert stored(model) == {"W_half": "FLOAT16", "one": "FLOAT"}
    expected = run(rounded, features)[0]
    np.testing.assert_array_equal(run(model, features)[0], expected)
    assert store_single(model)
    assert stored(model) == {"W": "FLOAT", "one": "FLOAT"} and "Cast" not in {node.op_type for node in model.graph}
    np.testing.assert_array_equal(run(model, features)[0], expected)
    assert not store_single(model)


@pytest.mark.parametrize("weights", [np.ones((10, 3), np.float32), np.full((10, 200), 1e5, np.float32)])
def test_weights_that_are_few_or_too_large_for_half_stay(weights: np.ndarray) -> None:
    model = with_weights(weights)
    assert not store_half(model) and stored(model)["W"] == "FLOAT"


@pytest.mark.parametrize("sign", ["paper", "release"])
def test_the_attention_comes_apart_again(sign: str) -> None:
    features = np.random.default_rng(0).standard_normal((2, 6, 10), np.float32)
    model = graph(gram(sign), ["Y"])
    expected = run(model, features)[0]
    assert not split_attention(model) and fuse_attention(model) and split_attention(model)
    assert model.graph.opset_imports[""] == PLAIN_OPSET and "Attention" not in {node.op_type for node in model.graph}
    np.testing.assert_array_equal(run(model, features)[0], expected)


def gather(index: list[int] | int) -> Nodes:
    constant = helper.make_node("Constant", [], ["i"], value=numpy_helper.from_array(np.array(index, np.int64)))
    return [constant, helper.make_node("Gather", ["F", "i"], ["Y"], axis=2)]


@pytest.mark.parametrize(("index", "changed"), [(-1, True), (3, True), (-2, True), ([3], False), ([1, 2], False)])
def test_one_frame_is_sliced_and_several_are_left_alone(index: list[int] | int, changed: bool) -> None:
    features = np.random.default_rng(0).standard_normal((2, 6, 10), np.float32)
    model = graph(gather(index), ["Y"])
    assert key_frame_as_slice(model) == changed
    assert ("Gather" in {node.op_type for node in model.graph}) == (not changed)
    np.testing.assert_array_equal(run(model, features)[0], features[:, :, index])


@pytest.mark.parametrize(("order", "changed"), [([0, 3, 5, 1, 2, 4], True), ([0, 1, 3, 5, 2, 4], False)])
def test_reorg_is_one_node_and_pixel_unshuffle_is_left_alone(order: list[int], changed: bool) -> None:
    shapes = {"four": [2, 6, 2, 5], "six": [2, 6, 1, 2, 1, 2], "out": [2, 24, 1, 1]}
    make, cut = helper.make_node, helper.make_node("Slice", ["F", "zero", "four_", "two"], ["cut"])
    whole = {
        "zero": [0],
        "four_": [4],
        "two": [2],
        "shape4": [2, 6, 2, 2],
        "shape6": shapes["six"],
        "last": shapes["out"],
    }
    constants = [
        make("Constant", [], [name], value=numpy_helper.from_array(np.array(value, np.int64)))
        for name, value in whole.items()
    ]
    nodes = [
        *constants,
        cut,
        make("Reshape", ["cut", "shape4"], ["frame"]),
        make("Reshape", ["frame", "shape6"], ["blocks"]),
        make("Transpose", ["blocks"], ["turned"], perm=order),
        make("Reshape", ["turned", "last"], ["Y"]),
    ]
    features = np.random.default_rng(0).standard_normal((2, 6, 10), np.float32)
    model = graph(nodes, ["Y"])
    expected = run(model, features)[0]
    assert reorg_as_space_to_depth(model) == changed
    assert ("SpaceToDepth" in {node.op_type for node in model.graph}) == changed
    np.testing.assert_array_equal(run(model, features)[0], expected)
