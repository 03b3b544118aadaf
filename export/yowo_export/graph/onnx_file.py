"""Write a graph as an ONNX file that records its checksum."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from yowo_deploy.model_files.checksum import CHECKSUM_KEY, add_checksum


def write_onnx(model: ir.Model, path: Path) -> None:
    """Write it; a checksum from the file that the graph was read from is replaced."""
    model.metadata_props.pop(CHECKSUM_KEY, None)
    ir.save(model, path)
    add_checksum(path)
