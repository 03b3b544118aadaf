"""Fix the number of clips that a network takes in a call."""

from __future__ import annotations

import math
import os
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from yowo_deploy.backends.ort import open_file
from yowo_deploy.errors import InputError, ParityError
from yowo_deploy.files import atomic_write
from yowo_deploy.model_files.onnx_reader import read_onnx_file
from yowo_deploy.spec import MAX_CLIP, ModelSpec
from yowo_export.graph.onnx_file import write_onnx
from yowo_export.graph.uint8_input import LIMITS

MOST_CLIPS = 1024  # a call


def refuse_batch(count: int | None, spec: ModelSpec) -> None:
    """Raise an InputError for more clips a call than can be compared: `MOST_CLIPS`, or 4 GiB of float32."""
    most = min(MOST_CLIPS, 4 * MAX_CLIP // math.prod(spec.clip_shape))
    if count is not None and not 1 <= count <= most:
        raise InputError(f"a batch of {count} clips, expected 1 to {most} for clips of {spec.clip_length} frames")


def export_fixed_batch(source: Path, output: str | os.PathLike[str], count: int) -> float:
    """Write a file of clips again for `count` of them in a call, every shape in it known; compared on ONNX Runtime.

    Returns:
        The largest difference of its answers, relative to the largest.

    Raises:
        InputError: the file takes another number alone, is a streaming file, or is in bfloat16; or see `refuse_batch`.
        ParityError: it differs by more than `LIMITS`; nothing is written.
        OutputError: the file cannot be written.
    """
    file = read_onnx_file(source)
    spec, fixed = file.spec, file.batch
    refuse_batch(count, spec)
    if spec.streaming or spec.precision not in LIMITS or fixed not in (None, count):
        kind = "frames" if spec.streaming else f"{fixed or 'any number of'} clips"
        raise InputError(
            f"{source} takes {kind} in {spec.precision}: a batch of {count} cannot be fixed in such a file"
        )
    model = onnx.load_model_from_string(file.file_bytes())
    del model.graph.value_info[:]
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = count
    with atomic_write(output) as temporary:
        write_onnx(ir.from_proto(onnx.shape_inference.infer_shapes(model, strict_mode=True)), temporary)
        onnx.checker.check_model(str(temporary), full_check=True)
        rng = np.random.default_rng(0)
        clips = rng.integers(0, 256, (count, *spec.clip_shape), np.uint8)
        given = clips if spec.input_type == "uint8" else clips.astype(np.float32) / 255
        with open_file(source) as first, open_file(temporary) as second:
            expected, found = first.infer(given), second.infer(given)
        difference = float(np.abs(found - expected).max() / max(1.0, np.abs(expected).max()))
        if not difference <= LIMITS[spec.precision]:
            raise ParityError(f"with a batch of {count} it differs by {difference:.1e}: not written")
    return difference
