"""A graph traced with some clips becomes one of any number, or stays as it is where that cannot be known."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from tests.yowo_export.conftest import small_checkpoint
from yowo_export import exporter
from yowo_export.exporter import trace
from yowo_export.graph.builder import numbers_of
from yowo_export.graph.free_batch import free_batch
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.models.yowo import Yowo, YowoConfig

CLIPS = 5


def graph(nodes: str, constants: str = "") -> ir.Model:
    """From F (5, 6, 8) to Y, every shape known."""
    text = f'<ir_version: 10, opset_import: ["" : 20]> g (float[{CLIPS}, 6, 8] F) => (Y) <{constants}> {{ {nodes} }}'
    model = onnx.shape_inference.infer_shapes(onnx.parser.parse_model(text), strict_mode=True, data_prop=True)
    return ir.from_proto(model)


def text_of(model: ir.Model) -> str:
    return onnx.printer.to_text(ir.to_proto(model))


def answers(model: ir.Model, features: np.ndarray) -> np.ndarray:
    session = ort.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"F": features})[0])


def test_each_clip_is_answered_as_before_however_many_there_are() -> None:
    constants = "int64[4] s = {5, 2, 3, 8}, int64[3] t = {5, 6, 8}, float[1] c = {0.5}"
    nodes = "A = Reshape(F, s) B = Transpose<perm = [0, 2, 1, 3]>(A) C = Reshape(B, t) Y = Mul(C, c)"
    before, after = graph(nodes, constants), graph(nodes, constants)
    assert free_batch(after, CLIPS)
    features = np.random.default_rng(0).standard_normal((CLIPS, 6, 8), np.float32)
    expected = answers(before, features)
    for count in (1, 2, CLIPS):
        np.testing.assert_array_equal(answers(after, features[:count]), expected[:count])
    onnx.checker.check_model(ir.to_proto(after), full_check=True)
    assert [str(value.shape) for node in after.graph for value in node.outputs] == [
        "[batch,2,3,8]",
        "[batch,3,2,8]",
        "[batch,6,8]",
        "[batch,6,8]",
    ]


@pytest.mark.parametrize(
    ("nodes", "constants"),
    [
        ("Y = Reshape(F, s)", "int64[2] s = {30, 8}"),
        ("Y = Reshape(F, s)", "int64[4] s = {5, -1, 2, 8}"),
        ("Y = Transpose<perm = [1, 0, 2]>(F)", ""),
        ("A = Transpose<perm = [1, 0, 2]>(F) B = Relu(A) Y = Transpose<perm = [1, 0, 2]>(B)", ""),
        ("Y = Expand(F, s)", "int64[4] s = {1, 5, 6, 8}"),
        ("A = Unsqueeze(F, a) Y = Expand(A, s)", "int64[1] a = {1}, int64[4] s = {5, 3, 6, 8}"),
        ("Y = Resize<mode = \"nearest\">(F, , , s)", "int64[3] s = {5, 12, 16}"),
        ("Y = Add(F, r)", "float[5, 1, 1] r = {1, 2, 3, 4, 5}"),
        ("Y = ReduceSum(F, a)", "int64[1] a = {0}"),
    ],
)  # fmt: skip
def test_a_graph_whose_clips_may_be_elsewhere_is_left_as_it_is(nodes: str, constants: str) -> None:
    model = graph(nodes, constants)
    before = text_of(model)
    assert not free_batch(model, CLIPS)
    assert text_of(model) == before


def test_a_graph_without_shapes_is_left_as_it_is() -> None:
    model = graph("A = Relu(F) Y = Relu(A)")
    for node in model.graph:
        node.outputs[0].shape = None
    assert not free_batch(model, CLIPS)


def described(model: ir.Model) -> list[tuple[object, ...]]:
    """Every node but for the names of values, which the exporter numbers by what it computed with the symbol."""
    return [
        (
            node.op_type,
            node.name,
            dict(node.metadata_props),
            {name: str(attribute) for name, attribute in node.attributes.items()},
            [str(value.shape) for value in node.outputs],
            [
                numbers_of(value).tolist() if value.const_value.size < 9 else value.name  # type: ignore[union-attr]
                for value in node.inputs
                if value is not None and value.const_value is not None
            ],
        )
        for node in model.graph
    ]


def test_a_graph_of_three_branches_is_the_one_traced_with_a_symbol(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = small_checkpoint().spec
    config = YowoConfig(
        "tiny2d", "tiny3d_s16", spec.output_channels, width=24, shrink_3d=2, backbone_extra="tiny3d_s16"
    )
    checkpoint = Checkpoint(Yowo(config).eval(), spec)
    once = described(trace(checkpoint, "fused"))
    freed = []
    monkeypatch.setattr(exporter, "free_batch", lambda graph, count: freed.append(count))
    again = described(trace(checkpoint, "fused"))
    assert freed == [exporter.CLIPS_TRACED]
    assert once == again


def test_a_network_with_weights_that_may_be_of_clips_is_traced_with_a_symbol(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = []
    original = exporter._traced
    monkeypatch.setattr(exporter, "_traced", lambda *given: calls.append(given[3:]) or original(*given))
    monkeypatch.setattr(exporter, "CLIPS_TRACED", checkpoint.spec.output_channels)
    found = trace(checkpoint, "plain").graph
    assert [bool(symbol) for symbol in calls] == [False, True]
    assert str(found.inputs[0].shape) == "[batch,3,8,64,96]"
    assert str(found.outputs[0].shape) == f"[batch,{checkpoint.spec.output_channels},2,3]"
