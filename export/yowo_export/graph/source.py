"""Graphs of ONNX files, to be rewritten."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnx_ir as ir

from yowo_deploy.model_files.onnx_reader import read_onnx_file


def load_graph(path: Path) -> ir.Model:
    """The graph of an ONNX file of ours, with the shapes of its values.

    Parsers are given bytes that are written anew from what the gate walked, never the file.

    Raises:
        ModelFileError: see `read_onnx_file`.
    """
    return ir.from_proto(onnx.shape_inference.infer_shapes(onnx.load_from_string(read_onnx_file(path).file_bytes())))
