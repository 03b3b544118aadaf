"""Ranges of activations on sample clips, by ONNX Runtime's calibrators."""

from __future__ import annotations

import contextlib
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from onnxruntime.quantization.calibrate import (
    CalibrationDataReader,
    CalibrationMethod,
    TensorsData,
    create_calibrator,
)

from yowo_deploy.arrays import Float
from yowo_deploy.errors import ModelFileError, foreign
from yowo_deploy.files import work_folder
from yowo_export.sample_clips import Clips

Method = Literal["minmax", "entropy", "percentile"]

METHODS = {
    "minmax": CalibrationMethod.MinMax,
    "entropy": CalibrationMethod.Entropy,
    "percentile": CalibrationMethod.Percentile,
}


def tensor_ranges(
    model: Path,
    clips: Clips,
    method: Method,
    operators: Sequence[str] | None = None,
    on_clip: Callable[[int], None] = lambda done: None,
) -> TensorsData:
    """The range, on the clips, of each value that the operators read or write.

    Args:
        model: a float32 ONNX file.
        operators: by type; all by default.
        on_clip: called with the number of clips that are done.

    Raises:
        ModelFileError: values are not finite, as of weights that are NaN.
    """
    with work_folder() as folder:
        augmented = str(Path(folder) / "augmented.onnx")
        calibrator = create_calibrator(model, operators, augmented, METHODS[method], extra_options={"symmetric": False})
        with contextlib.redirect_stdout(io.StringIO()):  # the calibrators print progress
            for done, (clip, _) in enumerate(clips, 1):  # one at a time: a clip's values are hundreds of megabytes
                with foreign(f"no ranges can be taken of {model}: are its weights damaged?", ModelFileError):
                    calibrator.collect_data(_One({"clips": clip[None]}))
                on_clip(done)
            with foreign(f"{model} has values that are not finite: its weights are damaged", ModelFileError):
                data: TensorsData = calibrator.compute_data()
                if odd := [name for name, most in reach(data).items() if not math.isfinite(most)]:
                    raise ValueError(f"{odd[0]} among them")
        return data


def reach(ranges: TensorsData) -> dict[str, float]:
    """The largest absolute value of each tensor, sorted by name: ONNX Runtime's order changes with the process."""
    found = {name: np.asarray(data.range_value, np.float64) for name, data in sorted(ranges.items())}
    return {name: float(np.abs(each).max()) for name, each in found.items()}


class _One(CalibrationDataReader):  # type: ignore[misc]  # untyped base
    """Reader of a single set of inputs."""

    def __init__(self, inputs: dict[str, Float]) -> None:
        self._inputs: dict[str, Float] | None = inputs

    def get_next(self) -> dict[str, Float] | None:
        inputs, self._inputs = self._inputs, None
        return inputs
