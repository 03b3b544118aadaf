"""Inferred shapes are those that onnx infers."""

from __future__ import annotations

from pathlib import Path

import pytest

from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import read_onnx_file


def test_shapes_and_types_of_the_model_of_the_package_are_those_of_onnx() -> None:
    onnx = pytest.importorskip("onnx")
    found = read_onnx_file(Path(model_path("default")))
    model = onnx.load_from_string(found.model_bytes())
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    model.graph.output[0].type.tensor_type.shape.dim[0].dim_value = 1
    known = {
        each.name: (each.type.tensor_type.elem_type, tuple(side.dim_value for side in each.type.tensor_type.shape.dim))
        for each in onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True).graph.value_info
    }
    made = {name for node in found.graph.nodes for name in node.outputs} - {each.name for each in found.graph.outputs}
    assert made == known.keys()
    assert {name: found.values[name] for name in made} == known
