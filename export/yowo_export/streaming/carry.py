"""Put the streaming form of a network into its file of clips."""

from __future__ import annotations

from pathlib import Path

import onnx_ir as ir

from yowo_deploy.files import atomic_write, work_folder
from yowo_deploy.model_files.onnx_reader import read_onnx_file
from yowo_deploy.model_files.streaming_form import FORM_KEY, pack_form
from yowo_export.graph.onnx_file import write_onnx
from yowo_export.graph.source import graph_of
from yowo_export.streaming.cut import saved_share
from yowo_export.streaming.rewrite import largest_difference, streamed

EXACT = 1e-5  # largest difference from whole clips, relative to the largest output
WORTH = 0.3  # smallest share of a clip's work that is saved
ROOM = 0.05  # largest share of the file


def carry_streaming_form(path: Path) -> float | None:
    """Put the streaming form into a float32 file of clips, where it gives the same answers for less.

    Returns:
        The largest difference from whole clips, as `export_streaming`; None where the file was left as it is: it has
        no streaming form, one that saves less than `WORTH` or takes more than `ROOM`, or one that differs by more
        than `EXACT`.

    Raises:
        OutputError: the file cannot be written.
    """
    file = read_onnx_file(path)
    spec, model = file.spec, graph_of(file)
    if spec.streaming or spec.precision != "fp32" or saved_share(model, spec) < WORTH:
        return None
    with work_folder() as folder:
        made = Path(folder) / "streaming.onnx"
        write_onnx(streamed(model, spec), made)
        difference = largest_difference(path, made, spec)
        if not difference <= EXACT:
            return None
        packed = pack_form(read_onnx_file(made), read_onnx_file(path))
    if len(packed) > ROOM * path.stat().st_size:
        return None
    model = ir.load(path)
    model.metadata_props[FORM_KEY] = packed
    with atomic_write(path) as temporary:
        write_onnx(model, temporary)
    return difference
