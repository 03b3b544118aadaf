"""Write a graph as an ONNX file that records its checksum."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from yowo_deploy.model_files.checksum import CHECKSUM_KEY, with_checksum


def write_onnx(model: ir.Model, path: Path) -> None:
    """Write it; a checksum from the file that the graph was read from is replaced."""
    model.metadata_props.pop(CHECKSUM_KEY, None)
    path.write_bytes(with_checksum(onnx_bytes(model)))


def onnx_bytes(model: ir.Model) -> bytes:
    """A graph as the bytes of an ONNX file, for tools that need none on the disk."""
    content: bytes = ir.to_proto(model).SerializeToString()
    return content
