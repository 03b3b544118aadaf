"""16 bits where they are wanted, float32 where they are not, and a rehearsal that rounds as 16 bits do."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from tests.yowo_export.conftest import small_checkpoint
from yowo_export.exporter import trace
from yowo_export.graph.builder import numbers_of
from yowo_export.graph.module_names import block_of
from yowo_export.precision import fp16
from yowo_export.precision.fp16 import lower, overflowing, rehearse

FLOAT, FLOAT16, BFLOAT16 = ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16


def no_node(node: ir.Node) -> bool:
    return False


def run(model: ir.Model, clips: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    content = ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: clips})[0])


@pytest.fixture
def clips(single: Path) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((2, 3, 8, 64, 96), np.float32)


def relative(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize(("dtype", "digits"), [(FLOAT16, 11), (BFLOAT16, 8)])
def test_a_rehearsal_is_off_by_the_digits_that_the_type_lacks(
    single: Path, clips: np.ndarray, dtype: ir.DataType, digits: int
) -> None:
    expected, model = run(ir.load(single), clips), ir.load(single)
    rehearse(model, dtype, no_node)
    # A value is rounded by up to 2^-digits; about 15 layers deep, and nothing of that is exact by chance.
    assert 2.0**-digits / 8 < relative(run(model, clips), expected) < 16 * 2.0**-digits


def test_half_precision_runs_takes_and_gives_float32(single: Path, clips: np.ndarray) -> None:
    expected, model = run(ir.load(single), clips), ir.load(single)
    assert lower(model, FLOAT16, no_node) > 20
    found = run(model, clips)
    assert found.dtype == np.float32 and relative(found, expected) < 1e-2  # the figure
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


@pytest.mark.parametrize("dtype", [FLOAT16, BFLOAT16])
def test_weights_are_stored_once_and_in_two_bytes(single: Path, dtype: ir.DataType) -> None:
    model = ir.load(single)
    lower(model, dtype, no_node)
    kinds = {value.const_value.dtype for value in model.graph.initializers.values() if value.const_value is not None}
    assert dtype in kinds and FLOAT not in kinds
    assert len(ir.to_proto(model).SerializeToString()) < 0.6 * single.stat().st_size
    onnx.checker.check_model(ir.to_proto(model), full_check=True)


@pytest.mark.parametrize("change", [lower, rehearse])
def test_the_gram_matrix_and_what_is_kept_stay_in_float32(single: Path, change: Callable[..., object]) -> None:
    model = ir.load(single)
    change(model, FLOAT16, lambda node: block_of(node) == "cfam.conv_bn_relu1")
    for node in model.graph:
        if node.op_type in fp16.GRAM or (node.op_type == "Conv" and block_of(node) == "cfam.conv_bn_relu1"):
            names = [str(value.name) for value in node.inputs if value is not None]
            assert {value.dtype for value in node.inputs if value is not None} == {FLOAT}
            assert not [name for name in names if name.endswith("_rounded")]


def enlarged(model: ir.Model) -> ir.Model:
    """Features four hundred times as large: the few channels of this model overflow later than a real one's."""
    for node in model.graph:
        if node.op_type == "Conv" and block_of(node) == "cfam.conv_bn_relu2":
            for value in node.inputs[1:]:
                assert value is not None and value.const_value is not None
                value.const_value = ir.tensor(np.float32(400) * value.const_value.numpy(), name=value.name)
    return model


def test_an_attention_that_half_precision_would_overflow_does_not(
    clips: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = enlarged(trace(small_checkpoint("paper"), "plain"))
    expected, content = run(source, clips), ir.to_proto(source)
    careful, naive = ir.from_proto(content), ir.from_proto(content)
    rehearse(careful, FLOAT16, no_node)
    found = run(careful, clips)
    assert np.isfinite(found).all() and relative(found, expected) < 1e-2
    monkeypatch.setattr(fp16, "GRAM", frozenset())
    rehearse(naive, FLOAT16, no_node)
    assert not np.isfinite(run(naive, clips)).all()  # so the overflow is provoked


def adding(number: float) -> ir.Model:
    """x + number - number."""
    nodes = [helper.make_node("Add", ["x", "k"], ["a"]), helper.make_node("Sub", ["a", "k"], ["y"])]
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xy")
    a = helper.make_tensor_value_info("a", TensorProto.FLOAT, [4])
    weights = [numpy_helper.from_array(np.array(number, np.float32), "k")]
    graph = helper.make_graph(nodes, "g", [x], [y], weights, value_info=[a])
    return ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10))


def test_a_rehearsal_rounds_between_nodes() -> None:
    model, x = adding(2048), np.array([0.3, 1.2, 0.7, 3.3], np.float32)
    rehearse(model, FLOAT16, no_node)
    expected = x.astype(np.float16) + np.float16(2048) - np.float16(2048)
    np.testing.assert_array_equal(run(model, x), expected.astype(np.float32))


def test_numbers_too_large_for_half_stay_in_float32() -> None:
    model = adding(1e5)
    assert lower(model, FLOAT16, no_node) == 0 and "Cast" not in {node.op_type for node in model.graph}
    assert lower(adding(1e5), BFLOAT16, no_node) == 2


@pytest.mark.parametrize(
    ("scale", "dtype", "expected"), [(7e-5, "FLOAT16", 3), (5e-5, "FLOAT16", 1), (5e-5, "BFLOAT16", 3)]
)
def test_a_scale_below_the_normal_numbers_of_half_keeps_its_digits(scale: float, dtype: str, expected: int) -> None:
    """x through Q/DQ and a ReLU; 2^-14 = 6.1e-5 is the smallest number that half precision holds with 11 digits."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "zero"], ["q"], name="down"),
        helper.make_node("DequantizeLinear", ["q", "s", "zero"], ["r"], name="up"),
        helper.make_node("Relu", ["r"], ["y"], name="relu"),
    ]
    x, r, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in "xry")
    q = helper.make_tensor_value_info("q", TensorProto.INT8, [4])
    numbers = {"s": np.array(scale, np.float32), "zero": np.array(0, np.int8)}
    weights = [numpy_helper.from_array(value, name) for name, value in numbers.items()]
    graph = helper.make_graph(nodes, "g", [x], [y], weights, value_info=[q, r])
    model = ir.from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    assert lower(model, ir.DataType[dtype], no_node) == expected
    [up] = [node for node in model.graph if node.op_type == "DequantizeLinear"]
    stored = numbers_of(up.inputs[1])  # off by half a step at most: 2^-11 with 11 digits, 2^-8 with 8
    assert stored is not None and abs(float(stored) / scale - 1) <= 2.0 ** (-8 if dtype == "BFLOAT16" else -11)


@pytest.mark.parametrize(("far", "expected"), [(0.49, set()), (0.51, {"add", "sub"}), (np.nan, {"add", "sub"})])
def test_half_precision_keeps_a_headroom_of_two(far: float, expected: set[str]) -> None:
    """65504 is the largest number that half precision holds; values of other clips may be twice those seen."""
    model = adding(1.0)
    for node, name in zip(model.graph, ("add", "sub"), strict=True):
        node.name = name
    assert overflowing(model, {"x": 1.0, "a": far * 65504.0, "y": 1.0}) == expected
