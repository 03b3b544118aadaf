"""Put normalisation into a network, so that it takes planes of bytes: a quarter of what float32 ones take."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from yowo_deploy.backends.ort import open_file
from yowo_deploy.errors import InputError, ParityError
from yowo_deploy.files import atomic_write, work_folder
from yowo_deploy.model_files.onnx_reader import read_onnx_file, read_spec
from yowo_deploy.model_files.streaming_form import FORM_KEY, pack_form, streaming_form
from yowo_deploy.preprocess.golden_frame import GOLDEN_KEY, golden_record
from yowo_deploy.spec import METADATA_KEY, ModelSpec
from yowo_export.graph.builder import NodeBuilder
from yowo_export.graph.onnx_file import write_onnx
from yowo_export.graph.source import load_graph

# Normalised bytes differ by their last bit from the table that preprocessing looks them up in, 2^-24 of them: behind a
# hundred layers by what `exporter.LIMIT` says. Half precision and INT8 may round to either side of a step then.
LIMITS = {"fp32": 2e-4, "fp16": 1e-2, "int8": 5e-2}


def export_uint8(source: Path, output: str | os.PathLike[str]) -> float:
    """Write a file again whose network takes bytes, with its streaming form; compared before on ONNX Runtime.

    Returns:
        The largest difference of its answers, relative to the largest.

    Raises:
        InputError: the file takes bytes already, or is in bfloat16, which cannot be compared here.
        ParityError: it differs by more than `LIMITS`; nothing is written.
        OutputError: the file cannot be written.
    """
    spec = read_spec(source)
    if spec.input_type == "uint8" or spec.precision not in LIMITS:
        raise InputError(
            f"{source} takes {spec.input_type} in {spec.precision}: --uint8-input needs a file with "
            "float32 input, not in bf16"
        )
    with atomic_write(output) as temporary:
        model = load_graph(source)
        take_bytes(model)
        model.metadata_props[GOLDEN_KEY] = golden_record(spec.replace(input_type="uint8"))
        held = model.metadata_props.pop(FORM_KEY, None)
        write_onnx(model, temporary)
        if held is not None:
            model.metadata_props[FORM_KEY] = _form(source, temporary)
            write_onnx(model, temporary)
        onnx.checker.check_model(str(temporary), full_check=True)
        difference = _difference(source, temporary, spec)
        if not difference <= LIMITS[spec.precision]:
            raise ParityError(f"with bytes as input it differs by {difference:.1e}: not written")
    return difference


def take_bytes(model: ir.Model) -> None:
    """Let a network take (B, 3, T, H, W) or, of a streaming file, (1, 3 * K, H, W) uint8, in place of float32.

    Before: the first input holds normalised planes. After: it has its name, holds bytes, and Cast, Sub and Mul stand
    behind it: (byte - 255 * mean) / (255 * std). Planes and not frames as they come: to turn a clip of frames into
    planes takes an engine longer than all that the host saves by it, at every call and for frames it has seen before.
    """
    graph, spec = model.graph, ModelSpec.from_json(model.metadata_props[METADATA_KEY])
    old = graph.inputs[0]
    assert old.shape is not None and isinstance(old.shape[1], int)
    given = ir.Value(name="bytes", type=ir.TensorType(ir.DataType.UINT8), shape=old.shape)  # what follows is named so
    graph.inputs[0] = given
    new = NodeBuilder(graph, dtype=ir.DataType.FLOAT)
    new.behind(given)
    shape = (1, old.shape[1], *(1 for _ in old.shape[2:]))
    mean, std = (255 * np.resize(np.array(each), shape) for each in (spec.mean, spec.std))  # of each frame the same
    value = new.cast(given, ir.DataType.FLOAT)
    value = new.node("Sub", [value, new.constant(mean.astype(np.float32))])
    value = new.node("Mul", [value, new.constant((1 / std).astype(np.float32))])
    old.replace_all_uses_with(value)
    given.name, old.name = old.name, None
    model.metadata_props[METADATA_KEY] = spec.replace(input_type="uint8").to_json()


def _form(source: Path, clips: Path) -> str:
    """The streaming form of the source for the file of clips that takes bytes."""
    form = streaming_form(read_onnx_file(source))
    assert form is not None
    with work_folder() as folder:
        floats, made = Path(folder) / "floats.onnx", Path(folder) / "bytes.onnx"
        floats.write_bytes(form.file_bytes())
        model = load_graph(floats)
        take_bytes(model)
        write_onnx(model, made)
        return pack_form(read_onnx_file(made), read_onnx_file(clips))


def _difference(source: Path, made: Path, spec: ModelSpec) -> float:
    """On a clip of noise, in both forms where there are two."""
    clip = np.random.default_rng(0).integers(0, 256, (1, *spec.clip_shape), np.uint8)
    mean, std = (np.reshape(each, (3, 1, 1, 1)) for each in (spec.mean, spec.std))
    planes = ((clip / 255 - mean) / std).astype(np.float32)
    worst = 0.0
    for streaming in (None, "one"):
        with open_file(source, streaming=streaming) as first, open_file(made, streaming=streaming) as second:
            count = first.batch[0]
            expected = first.infer(np.repeat(planes, count, axis=0))
            found = second.infer(np.repeat(clip, count, axis=0))
        worst = max(worst, float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max())))
    return worst
