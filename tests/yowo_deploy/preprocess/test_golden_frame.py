"""A wrong colour order, filter, mean or scale shows on the golden frame, and is told by its name."""

from __future__ import annotations

import itertools
import json

import numpy as np
import pytest

from yowo_deploy.arrays import Frame
from yowo_deploy.errors import ModelFileError
from yowo_deploy.preprocess import golden_frame as golden_module
from yowo_deploy.preprocess.golden_frame import SAMPLES, check_golden, golden_frame, golden_record
from yowo_deploy.spec import ModelSpec

SPECS = {
    (colour, name): ModelSpec(
        ("run",), ((1.0, 2.0),), 8, input_size=size, colour=colour, resize_filter=name, std=(0.2, 0.3, 0.4)
    )
    for colour, name, size in itertools.product(("rgb", "bgr"), ("nearest", "bilinear", "bicubic"), [(96, 64)])
}


def test_the_frame_is_what_the_formula_says() -> None:
    frame = golden_frame()
    for row, column, channel in ((0, 0, 0), (0, 1, 2), (60, 96, 1)):
        number = (row * 97 + column) * 3 + channel
        assert frame[row, column, channel] == (number * 2654435761 % 2**32) >> 24


@pytest.mark.parametrize("made", SPECS)
@pytest.mark.parametrize("read", SPECS)
def test_a_record_fits_its_own_spec_alone(made: tuple[str, str], read: tuple[str, str]) -> None:
    record = golden_record(SPECS[made])
    if made == read:
        check_golden(SPECS[read], record, "m.onnx")
        return
    with pytest.raises(ModelFileError) as raised:
        check_golden(SPECS[read], record, "m.onnx")
    different = [name for name, one, other in zip(("colour", "resize_filter"), made, read, strict=True) if one != other]
    if len(different) == 1:
        value = made[0] if different == ["colour"] else made[1]
        assert f"was made with {different[0]} {value!r}" in str(raised.value)


def test_a_runtime_that_normalises_otherwise_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    spec = SPECS["rgb", "bilinear"]
    record = golden_record(spec)
    real = golden_module.preprocess
    monkeypatch.setattr(golden_module, "preprocess", lambda frame, spec: real(frame, spec) - 0.1)
    with pytest.raises(ModelFileError, match="gives another result"):
        check_golden(spec, record, "m.onnx")


def old_record(spec: ModelSpec) -> str:
    """As files carry it that were written before preprocessing was defined to the bit."""
    return json.dumps(json.loads(golden_record(spec))[1])


@pytest.mark.parametrize("off", [-3, -2, -1, 1, 2, 3])
def test_grey_levels_that_rounding_cost_do_not_count_in_old_files_alone(
    off: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = SPECS["rgb", "bilinear"].replace(std=(1.0, 1.0, 1.0))
    old, record = old_record(spec), golden_record(spec)
    real = golden_module.preprocess

    def otherwise(frame: Frame, spec: ModelSpec) -> np.ndarray:
        return real(frame, spec) + np.float32(off / 255)

    monkeypatch.setattr(golden_module, "preprocess", otherwise)
    with pytest.raises(ModelFileError, match="gives another result"):
        check_golden(spec, record, "m.onnx")
    if abs(off) > 2:
        with pytest.raises(ModelFileError, match="gives another result"):
            check_golden(spec, old, "m.onnx")
    else:
        check_golden(spec, old, "m.onnx")


def test_a_record_of_a_newer_definition_says_so() -> None:
    spec = SPECS["rgb", "bilinear"]
    newer = json.dumps([3, json.loads(golden_record(spec))[1]])
    with pytest.raises(ModelFileError, match="newer than 2: upgrade yowo-deploy"):
        check_golden(spec, newer, "m.onnx")


@pytest.mark.parametrize(
    "record",
    [
        "",
        "{",
        "{}",
        "null",
        "[1, 2]",
        json.dumps([None] * SAMPLES),
        "[" + "NaN, " * 63 + "NaN]",
        json.dumps([2, [1]]),
        json.dumps(["2", [0] * SAMPLES]),
        json.dumps([0, [0] * SAMPLES]),
        json.dumps([[0] * SAMPLES]),
    ],
)
def test_a_record_that_is_none_is_refused(record: str) -> None:
    with pytest.raises(ModelFileError, match=r"golden frame of m\.onnx cannot be read"):
        check_golden(SPECS["rgb", "bilinear"], record, "m.onnx")
