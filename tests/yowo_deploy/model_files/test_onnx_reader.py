"""The gate before any parser: a plain network passes, and whatever else a file holds is refused with a reason."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_deploy.errors import ModelFileError, SpecError, YowoError
from yowo_deploy.model_files import onnx_graph, onnx_reader
from yowo_deploy.model_files.onnx_reader import OnnxFile, read_onnx_file, read_spec, show_values
from yowo_deploy.spec import ModelSpec

onnx = pytest.importorskip("onnx")
helper = onnx.helper
Model = Any  # onnx.ModelProto, made by protobuf when onnx is imported


@pytest.fixture(scope="session")
def content(onnx_model: Callable[..., Model], spec: ModelSpec) -> bytes:
    """The bytes of a good file."""
    return bytes(onnx_model(spec).SerializeToString())


@pytest.fixture(scope="session")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A path to write to, the same for every example that is generated."""
    return tmp_path_factory.mktemp("gate") / "model.onnx"


def read_or_refuse(file: Path, content: bytes) -> OnnxFile | None:
    """What the gate says; any error but our own fails the test."""
    file.write_bytes(content)
    try:
        return read_onnx_file(file)
    except YowoError:
        return None


def test_a_plain_network_passes_with_what_it_says_about_itself(
    onnx_model: Callable[..., Model], spec: ModelSpec, file: Path
) -> None:
    model = onnx_model(spec)
    helper.set_model_props(model, {**{entry.key: entry.value for entry in model.metadata_props}, "name": "señal 歩"})
    file.write_bytes(model.SerializeToString())
    found = read_onnx_file(file)
    assert found.opset == model.opset_import[0].version == 17
    assert found.operators == {"Conv": 1, "Squeeze": 1}
    assert found.metadata == {entry.key: entry.value for entry in model.metadata_props}
    assert found.metadata["name"] == "señal 歩"
    assert read_spec(file) == spec


def test_the_opset_is_that_of_the_standard_operators(
    onnx_model: Callable[..., Model], spec: ModelSpec, file: Path
) -> None:
    model = onnx_model(spec)
    model.opset_import.extend([helper.make_opsetid("com.microsoft", 1)])
    file.write_bytes(model.SerializeToString())
    assert read_onnx_file(file).opset == 17


@pytest.mark.parametrize("said", ["", "{}", '{"labels": ["walk"]}', "not JSON"])
def test_a_spec_that_is_none_is_a_spec_error(
    said: str, onnx_model: Callable[..., Model], spec: ModelSpec, file: Path
) -> None:
    file.write_bytes(onnx_model(spec, said=said).SerializeToString())
    assert read_onnx_file(file).operators
    with pytest.raises(SpecError):
        read_spec(file)


def test_a_file_without_a_spec_is_told_how_to_get_one(
    onnx_model: Callable[..., Model], spec: ModelSpec, file: Path
) -> None:
    model = onnx_model(spec)
    del model.metadata_props[:]
    file.write_bytes(model.SerializeToString())
    with pytest.raises(SpecError, match=r"carries no spec.*yowo-deploy export"):
        read_spec(file)


def external_weights(model: Model) -> None:
    tensor = model.graph.initializer[0]
    onnx.external_data_helper.set_external_data(tensor, location="../../etc/passwd")
    tensor.ClearField("raw_data")


def external_location_alone(model: Model) -> None:
    model.graph.initializer[0].data_location = onnx.TensorProto.EXTERNAL


def external_constant(model: Model) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "outside")
    tensor.external_data.add(key="location", value="weights.bin")
    model.graph.node.append(helper.make_node("Constant", [], ["outside"], value=tensor))


def sparse_weights(model: Model) -> None:
    model.graph.sparse_initializer.add().dims.append(3)


def sparse_constant(model: Model) -> None:
    values = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "values")
    values.external_data.add(key="location", value="weights.bin")
    indices = onnx.numpy_helper.from_array(np.zeros(1, np.int64), "indices")
    sparse = helper.make_sparse_tensor(values, indices, [3])
    model.graph.node.append(helper.make_node("Constant", [], ["sparse"], sparse_value=sparse))


def list_of_tensors(model: Model) -> None:
    tensor = onnx.numpy_helper.from_array(np.zeros(1, np.float32), "outside")
    tensor.external_data.add(key="location", value="weights.bin")
    model.graph.node[0].attribute.append(helper.make_attribute("tensors", [tensor]))


def subgraph(model: Model) -> None:
    branch = helper.make_graph([helper.make_node("Identity", ["clip"], ["same"])], "branch", [], [])
    model.graph.node.append(helper.make_node("If", ["yes"], ["either"], then_branch=branch, else_branch=branch))


def subgraph_of_a_known_operator(model: Model) -> None:
    branch = helper.make_graph([helper.make_node("Identity", ["clip"], ["same"])], "branch", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("body", branch))


def list_of_subgraphs(model: Model) -> None:
    branch = helper.make_graph([helper.make_node("Identity", ["clip"], ["same"])], "branch", [], [])
    model.graph.node[0].attribute.append(helper.make_attribute("bodies", [branch]))


def function(model: Model) -> None:
    node = helper.make_node("Identity", ["x"], ["y"])
    model.functions.append(helper.make_function("ours", "f", ["x"], ["y"], [node], [helper.make_opsetid("", 17)]))


def unknown_operator(model: Model) -> None:
    model.graph.node.append(helper.make_node("NonZero", ["raw"], ["places"]))


def operator_of_another_domain(model: Model) -> None:
    model.graph.node[0].domain = "com.microsoft"


def no_operator(model: Model) -> None:
    model.graph.node[0].op_type = ""


def no_graph(model: Model) -> None:
    model.ClearField("graph")


def no_opset(model: Model) -> None:
    del model.opset_import[:]


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (external_weights, "keeps weights in other files"),
        (external_location_alone, "keeps weights in other files"),
        (external_constant, "holds a tensor in an attribute"),
        (sparse_weights, "sparse weights"),
        (sparse_constant, "sparse weights"),
        (list_of_tensors, "holds tensors in an attribute"),
        (subgraph, "nests graphs"),
        (subgraph_of_a_known_operator, "nests graphs"),
        (list_of_subgraphs, "nests graphs"),
        (function, "functions of its own"),
        (unknown_operator, "uses the operator 'NonZero'"),
        (operator_of_another_domain, "an operator of the domain 'com.microsoft'"),
        (no_operator, "uses the operator ''"),
        (no_graph, "holds no graph"),
        (no_opset, "holds no graph"),
    ],
)
def test_what_no_yowo_graph_has_is_refused(
    spoil: Callable[[Model], None], expected: str, onnx_model: Callable[..., Model], spec: ModelSpec, file: Path
) -> None:
    model = onnx_model(spec)
    spoil(model)
    file.write_bytes(model.SerializeToString())
    with pytest.raises(ModelFileError, match=expected):
        read_onnx_file(file)


def field(number: int, kind: int, content: bytes) -> bytes:
    """A protobuf field by hand; all numbers here fit in one byte, all lengths in two."""
    length = bytes([len(content) & 0x7F | 0x80, len(content) >> 7]) if kind == 2 else b""
    return bytes([number << 3 | kind]) + length + content


def test_an_operator_cannot_hide_behind_a_field_that_parsers_skip(
    onnx_model: Callable[..., Model], spec: ModelSpec, file: Path
) -> None:
    # op_type as a fixed32: protobuf takes it for an unknown field, and the node stays what it was.
    node = helper.make_node("NonZero", ["clip"], ["raw"]).SerializeToString() + field(4, 5, b"Conv")
    model = onnx_model(spec)
    model.ClearField("graph")
    disguised = model.SerializeToString() + field(7, 2, field(1, 2, node))
    assert onnx.load_from_string(disguised).graph.node[0].op_type == "NonZero"
    file.write_bytes(disguised)
    with pytest.raises(ModelFileError):
        read_onnx_file(file)


def test_too_many_nodes_are_refused(
    onnx_model: Callable[..., Model], spec: ModelSpec, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file.write_bytes(onnx_model(spec).SerializeToString())
    monkeypatch.setattr(onnx_graph, "MAX_NODES", 2)
    assert read_onnx_file(file).operators.total() == 2
    monkeypatch.setattr(onnx_graph, "MAX_NODES", 1)
    with pytest.raises(ModelFileError, match="more than 1 nodes"):
        read_onnx_file(file)


def test_a_file_larger_than_any_is_refused_before_it_is_read(tmp_path: Path) -> None:
    large = tmp_path / "large.onnx"
    large.touch()
    os.truncate(large, onnx_reader.MAX_BYTES + 1)  # takes no room on the disk
    with pytest.raises(ModelFileError, match="larger than 2 GiB"):
        read_onnx_file(large)


def test_every_beginning_of_a_file_is_read_or_refused(content: bytes, spec: ModelSpec, file: Path) -> None:
    whole = read_or_refuse(file, content)
    assert whole is not None
    for length in range(len(content)):
        found = read_or_refuse(file, content[:length])
        # Only what follows a whole field can be missed: never a part of the graph or of an entry.
        assert found is None or (found.operators == whole.operators and found.metadata in ({}, whole.metadata))


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_flipped_bytes_are_read_or_refused(data: st.DataObject, content: bytes, file: Path) -> None:
    spoiled = bytearray(content)
    kernel = content.index(b"kernel", content.index(b"small"))  # what is not weights is short and breaks more often
    places = st.integers(0, len(content) - 1) | st.integers(0, 200) | st.integers(kernel - 20, kernel + 20)
    flips = data.draw(st.lists(st.tuples(places, st.integers(1, 255)), min_size=1, max_size=4))
    for place, flip in flips:
        spoiled[place] ^= flip
    read_or_refuse(file, bytes(spoiled))


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(file: Path, noise: bytes) -> None:
    assert read_or_refuse(file, noise) is None  # no noise this short holds an operator of ours


@pytest.mark.parametrize("text", ["hello, I am a model\n" * 20, '{"model": "yowo"}', "PK\x03\x04"])
def test_a_text_is_no_onnx_file(text: str, file: Path) -> None:
    file.write_text(text)
    with pytest.raises(ModelFileError, match="is not an ONNX file"):
        read_onnx_file(file)


def test_values_are_shown_behind_the_outputs_and_nothing_else_changes(content: bytes, file: Path) -> None:
    file.write_bytes(content)
    before = onnx.load(file)
    inner, last = before.graph.node[0].output[0], before.graph.output[0].name
    show_values(file, [inner, last], file.with_name("shown.onnx"))
    after = onnx.load(file.with_name("shown.onnx"))
    assert [output.name for output in after.graph.output] == [last, inner]
    assert list(after.graph.node) == list(before.graph.node)
    assert list(after.graph.initializer) == list(before.graph.initializer)
    assert [each.name for each in after.graph.input] == [each.name for each in before.graph.input]
    assert read_spec(file.with_name("shown.onnx")) == read_spec(file)
