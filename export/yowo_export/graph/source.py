"""Graphs of ONNX files, to be rewritten."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from yowo_deploy.model_files.onnx_reader import OnnxFile, read_onnx_file

_SMALL = 1024  # bytes of a weight that may decide on a shape


def load_graph(path: Path) -> ir.Model:
    """The graph of an ONNX file of ours, with the shapes of its values.

    Raises:
        ModelFileError: see `read_onnx_file`.
    """
    return graph_of(read_onnx_file(path))


def graph_of(file: OnnxFile) -> ir.Model:
    """As `load_graph`: parsers are given bytes that are written anew from what the gate walked, never the file."""
    model = onnx.load_from_string(file.file_bytes())
    add_shapes(model)
    return ir.from_proto(model)


def add_shapes(model: onnx.ModelProto) -> None:
    """Give the values of a model their types and shapes, in place.

    onnx writes and reads the whole model twice for that; large weights, which decide on no shape, stay out of it.
    """
    large = {each.name: each.raw_data for each in model.graph.initializer if len(each.raw_data) >= _SMALL}
    for tensor in model.graph.initializer:
        if tensor.name in large:
            tensor.ClearField("raw_data")
    model.CopyFrom(onnx.shape_inference.infer_shapes(model))
    for tensor in model.graph.initializer:
        if tensor.name in large:
            tensor.raw_data = large[tensor.name]
