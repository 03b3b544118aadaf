"""A frame that every runtime can make, and what preprocessing should make of it. Knows numpy and the spec.

A model file carries what it was when the file was made, so that a wrong colour order or resize filter is told apart
from a wrong network: by another version of this package, by the C++ runtime, or by somebody's own.
"""

from __future__ import annotations

import json

import numpy as np

from yowo_deploy.boxes import Float
from yowo_deploy.errors import ModelFileError
from yowo_deploy.preprocess import Frame, preprocess
from yowo_deploy.spec import ModelSpec

GOLDEN_KEY = "yowo_golden"  # in ONNX metadata_props and in plans
SIZE_WH = (97, 61)  # of no common factor with any input, so that every filter has to work
SAMPLES = 64
GREY_LEVELS = 2  # that two machines' sums may differ by: `preprocess.resize` rounds twice
_STEP = 2654435761  # Knuth's multiplier: neighbouring pixels have nothing in common


def golden_frame() -> Frame:
    """(61, 97, 3) uint8: byte number i is the highest of i * 2654435761 modulo 2^32."""
    width, height = SIZE_WH
    numbers = np.arange(height * width * 3, dtype=np.uint64) * np.uint64(_STEP)
    return ((numbers >> np.uint64(24)) & np.uint64(255)).astype(np.uint8).reshape(height, width, 3)


def golden_record(spec: ModelSpec) -> str:
    """What the frame becomes under a spec: JSON of `SAMPLES` values spread evenly over its planes."""
    return json.dumps([round(float(value), 4) for value in _samples(spec)])


def check_golden(spec: ModelSpec, recorded: str, whose: str) -> None:
    """See that preprocessing makes here of the golden frame what it made where a file was written.

    Args:
        recorded: of `golden_record`, as the file carries it.
        whose: the file, for the message.

    Raises:
        ModelFileError: it does not; the message names the colour order or the filter by which it would.
    """
    try:
        expected = np.array(json.loads(recorded), np.float32)
        if expected.shape != (SAMPLES,) or not np.isfinite(expected).all():
            raise ValueError(f"shape {expected.shape}")
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise ModelFileError(f"the golden frame of {whose} cannot be read: export its checkpoint again") from error
    if _agree(_samples(spec), expected, spec):
        return
    for name, other in _mistakes(spec).items():
        if _agree(_samples(other), expected, other):
            raise ModelFileError(
                f"{whose} was made with {name}, its spec says {_said(spec, name)}: export its checkpoint again"
            )
    raise ModelFileError(
        f"preprocessing makes another picture of the golden frame here than where {whose} was written: "
        "export its checkpoint again, or install the version of yowo-deploy that wrote it"
    )


def _samples(spec: ModelSpec) -> Float:
    planes = preprocess(golden_frame(), spec).reshape(-1)
    return planes[np.linspace(0, len(planes) - 1, SAMPLES).astype(np.int64)]


def _agree(found: Float, expected: Float, spec: ModelSpec) -> bool:
    limit = GREY_LEVELS / (255 * min(spec.std)) + 1e-4  # the record is rounded
    return float(np.abs(found - expected).max()) <= limit


def _mistakes(spec: ModelSpec) -> dict[str, ModelSpec]:
    """Specs that differ from one in what is easily mistaken."""
    filters = {
        f"resize_filter {name!r}": spec.replace(resize_filter=name) for name in ("nearest", "bilinear", "bicubic")
    }
    colours = {f"colour {name!r}": spec.replace(colour=name) for name in ("rgb", "bgr")}
    return colours | filters


def _said(spec: ModelSpec, name: str) -> str:
    return repr(getattr(spec, name.split()[0]))
