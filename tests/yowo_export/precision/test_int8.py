"""Which convolutions go to INT8 for whom, and that moving a rounding before a pool moves no answer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from yowo_deploy.errors import InputError
from yowo_deploy.model_files.onnx_reader import checked_file, read_spec
from yowo_export.graph.conv3d_as_2d import conv3d_as_2d
from yowo_export.graph.onnx_file import onnx_bytes
from yowo_export.plan_builder import PlanOptions, build_plan, refuse_zero_points
from yowo_export.precision.int8 import RANGED, Target, has_grouped_3d, quantizable, quantize, quantize_before_pooling
from yowo_export.precision.ranges import tensor_ranges
from yowo_export.sample_clips import made_up_clips


def network() -> ir.Model:
    """Stem, pool, grouped 3-D, dense 3-D, 2-D."""
    rng = np.random.default_rng(0)
    shapes = {"stem": (8, 3, 3, 3, 3), "grouped": (8, 4, 3, 3, 3), "dense": (8, 8, 1, 1, 1), "flat": (4, 8, 3, 3)}
    weights = {name: (rng.standard_normal(shape) / 5).astype(np.float32) for name, shape in shapes.items()}
    node = helper.make_node
    nodes = [
        node("Conv", ["clips", "stem"], ["a"], name="stem", pads=[1] * 6),
        node("Relu", ["a"], ["b"], name="relu"),
        node("MaxPool", ["b"], ["c"], name="pool", kernel_shape=[1, 2, 2], strides=[1, 2, 2]),
        node("Conv", ["c", "grouped"], ["d"], name="grouped", pads=[1] * 6, group=2),
        node("Conv", ["d", "dense"], ["e"], name="dense"),
        node("ReduceMean", ["e", "axis"], ["f"], name="mean", keepdims=0),
        node("Conv", ["f", "flat"], ["raw"], name="flat", pads=[1] * 4),
    ]
    inner = {
        "a": [1, 8, 4, 8, 8],
        "b": [1, 8, 4, 8, 8],
        "c": [1, 8, 4, 4, 4],
        "d": [1, 8, 4, 4, 4],
        "e": [1, 8, 4, 4, 4],
    }
    values = {"clips": [1, 3, 4, 8, 8], **inner, "f": [1, 8, 4, 4], "raw": [1, 4, 4, 4]}
    infos = {k: helper.make_tensor_value_info(k, TensorProto.FLOAT, shape) for k, shape in values.items()}
    initializers = [numpy_helper.from_array(value, name) for name, value in weights.items()]
    initializers.append(numpy_helper.from_array(np.array([2], np.int64), "axis"))
    graph = helper.make_graph(
        nodes, "g", [infos.pop("clips")], [infos.pop("raw")], initializers, value_info=list(infos.values())
    )
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def run(model: ir.Model, clips: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL  # as the graph says
    content = ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"clips": clips})[0])


@pytest.mark.parametrize(
    ("target", "expected"),
    [
        ("openvino", {"stem", "grouped", "dense", "flat"}),
        ("onnxruntime", {"dense", "flat"}),
        ("tensorrt", {"dense", "flat"}),
    ],
)
def test_each_target_has_its_policy(target: Target, expected: set[str]) -> None:
    assert {node.name for node in quantizable(network(), target)} == expected


def test_parts_of_a_sum_are_never_rounded() -> None:
    model = network()
    assert has_grouped_3d(model) and conv3d_as_2d(model)
    found = [str(node.name) for node in quantizable(model, "onnxruntime")]
    assert len(found) == 4 + 1  # the dense one in each of four frames, and the 2-D one
    assert all(name.startswith(("dense", "flat")) for name in found) and not has_grouped_3d(model)


@pytest.fixture(params=["openvino", "onnxruntime"])
def quantized(request: pytest.FixtureRequest, single: Path) -> tuple[onnx.ModelProto, onnx.ModelProto]:
    """The small model in float32 and INT8."""
    clips, proto = made_up_clips(read_spec(single), 2), onnx.load(single)
    names = [str(node.name) for node in quantizable(ir.load(single), request.param)]
    ranges = tensor_ranges(single, clips, "minmax", RANGED)
    return proto, quantize(proto, ranges, names, request.param)


def test_int8_for_another_backend_is_refused_before_tensorrt_is_loaded(
    single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its parser takes zero points of 0 only: "Non-zero zero point is not supported"."""
    proto, targets = onnx.load(single), ("openvino", "onnxruntime", "tensorrt")
    ranges = tensor_ranges(single, made_up_clips(read_spec(single), 2), "minmax", RANGED)
    refused = []
    for target in targets:
        names = [str(node.name) for node in quantizable(ir.load(single), target)]
        model = ir.from_proto(quantize(proto, ranges, names, target))
        model.graph.sort()  # the quantizer puts its nodes at the end, which the gate refuses
        try:
            refuse_zero_points(checked_file(onnx_bytes(model), single))
        except InputError as error:
            assert "--int8 --target tensorrt" in str(error)
            refused.append(target)
    assert refused == ["openvino", "onnxruntime"]
    checked: list[Path] = []
    monkeypatch.setattr("yowo_export.plan_builder.refuse_zero_points", lambda file: checked.append(file.path))
    monkeypatch.setattr("yowo_export.plan_builder.library", lambda flavour: pytest.fail(f"{flavour}: {checked}"))
    with pytest.raises(pytest.fail.Exception, match="single"):
        build_plan(single, tmp_path / "a.plan", PlanOptions("tensorrt"))


def test_weights_are_stored_in_one_byte_and_answers_stay_close(
    quantized: tuple[onnx.ModelProto, onnx.ModelProto], single: Path
) -> None:
    proto, made = quantized
    kinds = {tensor.data_type for tensor in made.graph.initializer if len(tensor.dims) > 3}
    assert TensorProto.INT8 in kinds
    zeros = [numpy_helper.to_array(t) for t in made.graph.initializer if "zero_point" in t.name]
    assert not any(zero.any() for zero in zeros if zero.dtype == np.int8)  # weights are symmetric
    clip = next(iter(made_up_clips(read_spec(single), 1)))[0][None]
    expected, found = run(ir.from_proto(proto), clip), run(ir.from_proto(made), clip)
    difference = np.abs(found - expected).max() / np.abs(expected).max()
    # A value is rounded to one of 255 steps of its largest: 0.4 % a layer, and some ten layers.
    assert 1e-4 < difference < 0.2


def test_a_rounding_before_a_pool_gives_the_very_same_answers(single: Path) -> None:
    model = network()
    content = ir.to_proto(model)
    clips = np.random.default_rng(1).standard_normal((1, 3, 4, 8, 8), np.float32)
    path = single.parent / "network.onnx"
    ir.save(model, path)

    class Clips:
        def __iter__(self):  # type: ignore[no-untyped-def]
            yield clips[0], (8, 8)

    ranges = tensor_ranges(path, Clips(), "minmax", RANGED)  # type: ignore[arg-type]
    made = ir.from_proto(quantize(content, ranges, ["grouped", "dense"], "openvino"))
    made.graph.sort()
    expected = run(made, clips)
    assert quantize_before_pooling(made)
    [pool] = [node for node in made.graph if node.op_type == "MaxPool"]
    producer = pool.inputs[0].producer() if pool.inputs[0] else None
    assert producer is not None and producer.op_type == "DequantizeLinear"
    np.testing.assert_array_equal(run(made, clips), expected)
    assert not quantize_before_pooling(made)


@pytest.mark.parametrize(("target", "rounded"), [("openvino", True), ("tensorrt", False)])
def test_the_earlier_of_two_convolutions_that_are_added_is_rounded_too(
    tmp_path: Path, target: Target, rounded: bool
) -> None:
    """A block of a residual network whose shortcut has a convolution: the sum reads that one in INT8."""
    rng, path = np.random.default_rng(2), tmp_path / "block.onnx"
    shapes = {"one": (8, 3, 1, 1), "aside": (8, 8, 1, 1), "two": (8, 8, 3, 3), "three": (8, 8, 1, 1)}
    nodes = [
        helper.make_node("Conv", ["clips", "one"], ["a"], name="one"),
        helper.make_node("Conv", ["a", "aside"], ["b"], name="aside"),
        helper.make_node("Conv", ["a", "two"], ["c"], name="two", pads=[1] * 4),
        helper.make_node("Conv", ["c", "three"], ["d"], name="three"),
        helper.make_node("Add", ["d", "b"], ["raw"], name="sum"),
    ]
    place = helper.make_tensor_value_info
    graph = helper.make_graph(
        nodes,
        "g",
        [place("clips", TensorProto.FLOAT, [1, 3, 8, 8])],
        [place("raw", TensorProto.FLOAT, [1, 8, 8, 8])],
        [numpy_helper.from_array(rng.standard_normal(s).astype(np.float32) / 3, n) for n, s in shapes.items()],
    )
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.save(proto, path)
    clips = rng.random((4, 3, 8, 8), np.float32)
    ranges = tensor_ranges(path, [(clip, (8, 8)) for clip in clips], "minmax", RANGED)  # type: ignore[arg-type]
    made = ir.from_proto(quantize(proto, ranges, ["aside", "two", "three"], target))
    made.graph.sort()
    [total] = [node for node in made.graph if node.op_type == "Add"]
    producers = [str(value.producer().op_type) for value in total.inputs]  # type: ignore[union-attr]
    assert producers == ["Conv", "DequantizeLinear" if rounded else "Conv"]
    expected = run(ir.from_proto(proto), clips[:1])
    assert np.abs(run(made, clips[:1]) - expected).max() < 0.05 * np.abs(expected).max()


def test_no_node_asked_for_is_the_same_model(single: Path) -> None:
    proto = onnx.load(single)
    ranges = tensor_ranges(single, made_up_clips(read_spec(single), 1), "minmax", RANGED)
    assert quantize(proto, ranges, [], "openvino").SerializeToString() == proto.SerializeToString()
