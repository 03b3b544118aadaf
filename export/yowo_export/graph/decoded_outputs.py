"""Decode the output inside a network too: boxes and scores, for programs that run the file without this runtime."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray

from yowo_deploy.backends.base import Layered
from yowo_deploy.backends.ort import open_file
from yowo_deploy.boxes import cxcywh_to_xyxy
from yowo_deploy.errors import InputError, ParityError
from yowo_deploy.files import atomic_write
from yowo_deploy.model_files.onnx_reader import OnnxFile, read_onnx_file
from yowo_deploy.postprocess.decode import decode
from yowo_deploy.spec import METADATA_KEY, ModelSpec
from yowo_export.graph.builder import NodeBuilder
from yowo_export.graph.onnx_file import write_onnx
from yowo_export.graph.source import load_graph

DECODED = ("boxes", "objectness", "scores")
LIMIT = 1e-5  # of shares of a frame, relative where above 1, and of probabilities: what single precision makes of them
LARGEST = 20.0  # of the logarithm of a side; see `postprocess.decode`


def has_decoded_outputs(file: OnnxFile) -> bool:
    """Whether a file decodes its output itself."""
    return set(DECODED) <= {value.name for value in file.graph.outputs}


def export_decoded(source: Path, output: str | os.PathLike[str]) -> float:
    """Write a file of clips again with `DECODED` behind its output "raw", compared on ONNX Runtime with `decode`.

    Returns:
        The largest difference, of shares of the frame and probabilities.

    Raises:
        InputError: it is a streaming file, decodes already, or is in bfloat16, which cannot be compared here.
        ParityError: the difference exceeds `LIMIT`; nothing is written.
        OutputError: the file cannot be written.
    """
    file = read_onnx_file(source)
    if file.spec.streaming or file.spec.precision == "bf16" or has_decoded_outputs(file):
        raise InputError(f"{source} is a streaming file, in bf16, or decodes already: --decode needs another file")
    with atomic_write(output) as temporary:
        model = load_graph(source)
        add_decoded_outputs(model)
        write_onnx(model, temporary)
        onnx.checker.check_model(str(temporary), full_check=True)
        difference = _difference(temporary)
        if not difference <= LIMIT:
            raise ParityError(f"boxes and scores of the graph differ by {difference:.1e}: not written")
    return difference


def add_decoded_outputs(model: ir.Model) -> None:
    """Add three outputs behind "raw", for N = A * rows * columns predictions in the order anchor, row, column.

    "boxes" (B, N, 4) float32, x1, y1, x2, y2 in shares of the frame, which they may reach beyond; "objectness" (B, N);
    "scores" (B, N, C), objectness times class probability. The equations are those of `postprocess.decode`, in single
    precision. What is left to do is what `detect` does: threshold, suppression by objectness, then clipping.
    """
    graph, spec = model.graph, ModelSpec.from_json(model.metadata_props[METADATA_KEY])
    raw, (columns, rows), anchors = graph.outputs[0], spec.grid_size, np.asarray(spec.anchors)
    count, width = len(anchors) * rows * columns, 5 + spec.classes
    new = NodeBuilder(graph, "decode", ir.DataType.FLOAT)
    value = new.node("Reshape", [raw, new.constant(np.array([0, len(anchors), width, rows * columns]))])
    value = new.node("Transpose", [value], {"perm": [0, 1, 3, 2]})
    value = new.node("Reshape", [value, new.constant(np.array([0, count, width]))])
    exclusive = spec.classes if spec.class_activation == "softmax" else spec.softmax_classes
    parts = [2, 2, 1, *(size for size in (exclusive, spec.classes - exclusive) if size)]
    split = new.nodes("Split", [value, new.constant(np.array(parts))], {"axis": 2}, len(parts))
    centre, side, confidence, *classes = split

    def numbers(array: NDArray[Any]) -> ir.Value:
        return new.constant(array.astype(np.float32))

    cells = np.stack([np.tile(np.arange(columns), rows), np.repeat(np.arange(rows), columns)], axis=1)
    grid = numbers(np.array([columns, rows]))
    corner = numbers(np.tile(cells, (len(anchors), 1)))
    sizes = numbers(np.repeat(anchors / [columns, rows] / 2, rows * columns, axis=0))
    middle = new.node("Div", [new.node("Add", [new.node("Sigmoid", [centre]), corner]), grid])
    bounded = new.node("Clip", [side, None, numbers(np.array(LARGEST))])
    half = new.node("Mul", [new.node("Exp", [bounded]), sizes])
    boxes = new.node("Concat", [new.node("Sub", [middle, half]), new.node("Add", [middle, half])], {"axis": 2})
    sure = new.node("Sigmoid", [confidence])
    shares = [new.node("Softmax", [classes[0]], {"axis": 2})] if exclusive else []
    shares += [new.node("Sigmoid", [each]) for each in classes[len(shares) :]]
    of_class = shares[0] if len(shares) == 1 else new.node("Concat", shares, {"axis": 2})
    flat = new.node("Reshape", [sure, new.constant(np.array([0, count]))])
    batch = raw.shape[0] if raw.shape is not None else None
    made = (boxes, (4,)), (flat, ()), (new.node("Mul", [sure, of_class]), (spec.classes,))
    for name, (each, last) in zip(DECODED, made, strict=True):
        each.name, each.shape = name, ir.Shape((batch, count, *last))
        graph.outputs.append(each)


def decoded_difference(found: Mapping[str, NDArray[Any]], spec: ModelSpec) -> float:
    """The largest difference of `DECODED` from what Python decodes of "raw", of the same call; of `LIMIT`'s kind."""
    worst = 0.0
    for raw, *answers in zip(found["raw"], *(found[name] for name in DECODED), strict=True):
        boxes, objectness, probabilities = decode(raw, spec)
        expected = cxcywh_to_xyxy(boxes), objectness, objectness[:, None] * probabilities
        for answer, values in zip(answers, expected, strict=True):
            worst = np.maximum(worst, (np.abs(answer - values) / np.maximum(np.abs(values), 1)).max())  # NaN stays
    return float(worst)


def _difference(made: Path) -> float:
    """Of a file, on clips of noise."""
    with open_file(made) as model:
        spec = model.spec
        clips = np.random.default_rng(0).integers(0, 256, (model.batch[0], *spec.clip_shape), np.uint8)
        given = clips if spec.input_type == "uint8" else clips.astype(np.float32) / 255
        return decoded_difference(cast(Layered, model).outputs(given, ("raw", *DECODED)), spec)
