"""A part of a network, run from stored values, gives what the whole network gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_deploy.spec import ModelSpec
from yowo_export.graph.source import add_shapes
from yowo_export.precision import partial_runs
from yowo_export.precision.fp16 import rehearse
from yowo_export.precision.partial_runs import PartialRuns, answers
from yowo_export.sample_clips import Clips, made_up_clips


@pytest.fixture(scope="module")
def clips(single: Path) -> Clips:
    return made_up_clips(read_spec(single), 3)


def with_shapes(path: Path) -> onnx.ModelProto:
    model = onnx.load(path)
    add_shapes(model)
    return model


@pytest.mark.parametrize("room", [partial_runs.STORED_BYTES, 0], ids=["stored", "computed again"])
def test_a_part_gives_what_the_whole_gives(
    room: int, single: Path, clips: Clips, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial_runs, "STORED_BYTES", room)
    network = with_shapes(single)
    changes = {node.name: [node.name] for node in network.graph.node if node.op_type == "Conv"}
    runs, expected = PartialRuns(network, changes, clips), list(answers(ir.load(single), clips))
    runs.store(ir.from_proto(network))
    sizes = []
    for change in changes:
        part = runs.part(change)
        sizes.append(len(part.graph.node))
        for found, whole in zip(runs.answers(ir.from_proto(part)), expected, strict=True):
            np.testing.assert_allclose(found, whole, atol=1e-5 * np.abs(whole).max())  # nodes are fused otherwise
    assert (min(sizes) == 1) == bool(room) and max(sizes) <= len(network.graph.node)


def test_only_every_nth_clip_is_run(single: Path, clips: Clips) -> None:
    network = with_shapes(single)
    last = network.graph.node[-1].name
    runs = PartialRuns(network, {"last": [last]}, clips, 2)
    runs.store(ir.from_proto(network))
    assert len(list(runs.answers(ir.from_proto(runs.part("last"))))) == 2


def test_a_rounded_network_is_continued_from_rounded_values(single: Path, clips: Clips) -> None:
    """Where the rest of a network is in half precision, a part that is not begins with what that rest gives."""
    network = with_shapes(single)
    # It reads a sum; what a Relu gives of rounded numbers needs no rounding.
    kept = [node.name for node in network.graph.node if node.op_type == "Conv"][-2]

    def rehearsed(proto: onnx.ModelProto) -> ir.Model:
        model = ir.from_proto(proto)
        rehearse(model, ir.DataType.FLOAT16, lambda node: node.name == kept)
        return model

    runs = PartialRuns(network, {"it": [kept]}, clips)
    runs.store(rehearsed(network))
    found, whole = list(runs.answers(rehearsed(runs.part("it")))), list(answers(rehearsed(network), clips))
    exact = list(answers(ir.load(single), clips))
    for one, other, single_ in zip(found, whole, exact, strict=True):
        scale = np.abs(other).max()
        np.testing.assert_allclose(one, other, atol=1e-6 * scale)  # half precision is off by 5e-4
        assert np.abs(one - single_).max() > 1e-5 * scale


def test_another_reader_of_a_value_is_part_of_the_change() -> None:
    """The quantizer rounds a value for all of its readers, so that those beside the change differ too."""
    weights = [numpy_helper.from_array(np.ones((3, 3, 1, 1, 1), np.float32), name) for name in ("w", "v")]
    nodes = [
        helper.make_node("Relu", ["clips"], ["x"], name="before"),
        helper.make_node("Conv", ["x", "w"], ["a"], name="changed"),
        helper.make_node("Conv", ["x", "v"], ["b"], name="beside"),
        helper.make_node("Add", ["a", "b"], ["raw"], name="sum"),
    ]
    shape = ["batch", 3, 2, 32, 32]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, shape) for name in ("clips", "raw")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    network = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    add_shapes(network)
    spec = ModelSpec(labels=("run",), anchors=((1.0, 2.0),), clip_length=2, input_size=(32, 32))
    runs = PartialRuns(network, {"it": ["changed"]}, made_up_clips(spec, 1))
    runs.store(ir.from_proto(network))
    part = runs.part("it")
    assert [node.name for node in part.graph.node] == ["changed", "beside", "sum"]
    assert [value.name for value in part.graph.input] == ["x"]


def test_shapes_are_those_that_onnx_infers(single: Path) -> None:
    model = onnx.load(single)
    expected = onnx.shape_inference.infer_shapes(model)
    add_shapes(model)
    assert model == expected and len(model.graph.value_info) > 20
