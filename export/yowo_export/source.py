"""ONNX files of ours that are to be written anew. Knows metadata; nothing of graphs."""

from __future__ import annotations

from pathlib import Path

from yowo_deploy.model_files.onnx_reader import read_onnx_file, read_spec
from yowo_deploy.preprocess.golden_frame import GOLDEN_KEY, check_golden
from yowo_deploy.spec import ModelSpec


def spec_of_source(source: Path) -> ModelSpec:
    """The spec of a file whose weights will go into another one, with a golden frame made here.

    Raises:
        ModelFileError: it is not such a file; or it says that it is fed otherwise than its spec is understood here, and
            the new file would hide that.
        SpecError: it carries no spec.
    """
    spec = read_spec(source)
    if recorded := read_onnx_file(source).metadata.get(GOLDEN_KEY):
        check_golden(spec, recorded, str(source))
    return spec
