"""Nodes go where they were asked for, under names of their own, and take the place of others completely."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from yowo_deploy.errors import ModelFileError
from yowo_export.graph.builder import (
    NodeBuilder,
    kernel_axes,
    numbers_of,
    only_reader,
    remove_unread_weights,
    replace_output,
    spatial,
)
from yowo_export.graph.module_names import BLOCK_KEY, OUTPUT_KEY

X = np.array([-2.0, 1.0, 3.0], np.float32)


def model() -> ir.Model:
    """y = relu(x + 1)."""
    nodes = [
        helper.make_node("Add", ["x", "one"], ["a"], name="add"),
        helper.make_node("Relu", ["a"], ["y"], name="act"),
    ]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [3]) for name in "xy")
    graph = helper.make_graph(nodes, "g", [x], [y], [numpy_helper.from_array(np.ones(1, np.float32), "one")])
    made = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))
    made.graph[1].metadata_props.update({BLOCK_KEY: "head", OUTPUT_KEY: "head.act"})
    return made


def run(model: ir.Model) -> np.ndarray:
    content = ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    assert [each.name for each in session.get_outputs()] == ["y"]
    return np.asarray(session.run(["y"], {"x": X})[0])


def test_a_replacement_takes_over_output_name_block_and_module() -> None:
    made = model()
    new, act = NodeBuilder(made.graph, dtype=ir.DataType.FLOAT), made.graph[1]
    new.before(act)
    negative = new.node("Neg", [new.node("Neg", [act.inputs[0]])])
    inner, last = list(made.graph)[1:3]
    assert len({node.name for node in made.graph}) == 4 and inner.metadata_props == {BLOCK_KEY: "head"}
    new.replace([act], negative)
    assert last.metadata_props == {BLOCK_KEY: "head", OUTPUT_KEY: "head.act"} and act not in made.graph
    np.testing.assert_array_equal(run(made), X + 1)


@pytest.mark.parametrize("value", ["x", "a"])
def test_nodes_behind_an_input_and_behind_a_node_stand_before_their_readers(value: str) -> None:
    made = model()
    source = made.graph.inputs[0] if value == "x" else made.graph[0].outputs[0]
    reader, new = only_reader(source), NodeBuilder(made.graph)
    assert reader is not None
    new.behind(source)
    reader.replace_input_with(0, new.cast(new.cast(source, ir.DataType.FLOAT16), ir.DataType.FLOAT))
    assert [node.op_type for node in made.graph].index("Cast") == (0 if value == "x" else 1)
    np.testing.assert_array_equal(run(made), np.maximum(X + 1, 0))  # whole numbers: half precision holds them


def test_another_value_becomes_the_output_under_its_name() -> None:
    made = model()
    replace_output(made.graph, made.graph.outputs[0], made.graph[0].outputs[0])
    np.testing.assert_array_equal(run(made), X + 1)


def test_constants_are_found_changed_and_removed_when_no_node_reads_them() -> None:
    made = model()
    one, new = made.graph[0].inputs[1], NodeBuilder(made.graph, "new")
    assert numbers_of(one) is not None and numbers_of(made.graph.inputs[0]) is None
    made.graph[0].replace_input_with(1, new.changed(one, lambda stored: stored * 2))
    np.testing.assert_array_equal(run(made), np.maximum(X + 2, 0))
    remove_unread_weights(made.graph)
    assert list(made.graph.initializers) == ["new_constant"]
    with pytest.raises(ModelFileError, match="the weights x are not constants"):
        new.changed(made.graph.inputs[0], lambda stored: stored)


def test_a_value_read_twice_or_put_out_has_no_only_reader() -> None:
    made = model()
    added = made.graph[0].outputs[0]
    assert only_reader(added) is made.graph[1] and only_reader(made.graph.outputs[0]) is None
    NodeBuilder(made.graph, "new").node("Neg", [added])
    assert only_reader(added) is None


def test_attributes_of_one_frame_are_those_of_the_clip_without_time() -> None:
    weight = ir.Value(name="w", shape=ir.Shape([4, 2, 3, 5, 7]))
    attributes = {"kernel_shape": [3, 5, 7], "strides": [2, 1, 3], "pads": [1, 2, 3, 4, 5, 6], "group": 2}
    node = ir.node("Conv", [ir.Value(name="x"), weight], attributes=attributes)
    found = spatial(node)
    assert (found["kernel_shape"], found["strides"], found["pads"]) == ([5, 7], [1, 3], [2, 3, 5, 6])
    assert found["group"].as_int() == 2 and "dilations" not in found
    assert kernel_axes(node) == 3 and kernel_axes(ir.node("MaxPool", [ir.Value(name="x")])) == 0
