"""A synthetic frame and what preprocessing should make of it.

A model file carries what it was when the file was made, so that a wrong colour order or resize filter is told apart
from a wrong network: by another version of this package, by the C++ runtime, or by another runtime.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from yowo_deploy.arrays import Float, Frame
from yowo_deploy.errors import ModelFileError, foreign
from yowo_deploy.preprocess.frames import preprocess
from yowo_deploy.spec import ModelSpec

GOLDEN_KEY = "yowo_golden"  # in ONNX metadata_props and in plans
SIZE_WH = (97, 61)  # of no common factor with any input, so that every filter has to work
SAMPLES = 64
_VERSION = 2  # of the definition of preprocessing
# Grey levels by which a record of version 1, a bare list, may differ: its sums depended on the processor, and
# `preprocess.resize` rounds twice. Since version 2 preprocessing is defined to the bit.
_OLD_GREY_LEVELS = 2
_STEP = 2654435761  # Knuth's multiplier: neighbouring pixels have nothing in common


def golden_frame() -> Frame:
    """(61, 97, 3) uint8: byte number i is the highest of i * 2654435761 modulo 2^32."""
    width, height = SIZE_WH
    numbers = np.arange(height * width * 3, dtype=np.uint64) * np.uint64(_STEP)
    return ((numbers >> np.uint64(24)) & np.uint64(255)).astype(np.uint8).reshape(height, width, 3)


def golden_record(spec: ModelSpec) -> str:
    """What the frame becomes under a spec: JSON of the version of preprocessing and `SAMPLES` values spread evenly over
    its planes, `[2, [0.1, ...]]`."""
    return json.dumps([_VERSION, [round(float(value), 4) for value in _samples(spec)]])


def check_golden(spec: ModelSpec, recorded: str, whose: str) -> None:
    """See that preprocessing makes here of the golden frame what it made where a file was written.

    Args:
        recorded: of `golden_record`, as the file carries it.
        whose: the file, for the message.

    Raises:
        ModelFileError: it does not; the message names the colour order or the filter by which it would.
    """
    with foreign(f"the golden frame of {whose} cannot be read, export its checkpoint again", ModelFileError):
        version, expected = _read(json.loads(recorded))
    if version > _VERSION:
        raise ModelFileError(
            f"{whose} was made with preprocessing {version}, newer than {_VERSION}: upgrade yowo-deploy"
        )
    if _agree(spec, expected, version):
        return
    for name, other in _mistakes(spec).items():
        if _agree(other, expected, version):
            raise ModelFileError(
                f"{whose} was made with {name}, its spec says {_said(spec, name)}: export its checkpoint again"
            )
    raise ModelFileError(
        f"preprocessing gives another result for the golden frame here than where {whose} was written: "
        "export its checkpoint again, or install the version of yowo-deploy that wrote it"
    )


def _samples(spec: ModelSpec) -> Float:
    planes = preprocess(golden_frame(), spec).reshape(-1)
    return planes[np.linspace(0, len(planes) - 1, SAMPLES).astype(np.int64)]


def _read(record: Any) -> tuple[int, Float]:
    """The version of preprocessing and the values of a record."""
    version, samples = record if len(record) == 2 else (1, record)
    values = np.array(samples, np.float32)
    if type(version) is not int or version < 1 or values.shape != (SAMPLES,) or not np.isfinite(values).all():
        raise ValueError(f"version {version!r}, shape {values.shape}")
    return version, values


def _agree(spec: ModelSpec, expected: Float, version: int) -> bool:
    rounded = 1e-4  # the record has four decimals; a grey level is 0.0039 / std
    limit = rounded + (_OLD_GREY_LEVELS / (255 * min(spec.std)) if version == 1 else 0)
    return float(np.abs(_samples(spec) - expected).max()) <= limit


def _mistakes(spec: ModelSpec) -> dict[str, ModelSpec]:
    """Specs that differ from one in what is easily mistaken."""
    filters = {
        f"resize_filter {name!r}": spec.replace(resize_filter=name) for name in ("nearest", "bilinear", "bicubic")
    }
    colours = {f"colour {name!r}": spec.replace(colour=name) for name in ("rgb", "bgr")}
    return colours | filters


def _said(spec: ModelSpec, name: str) -> str:
    return repr(getattr(spec, name.split()[0]))
