"""Ranges are those of the values that the clips bring about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from yowo_deploy.errors import ModelFileError
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_export.precision.ranges import reach, tensor_ranges
from yowo_export.sample_clips import made_up_clips


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_ranges_are_those_of_the_values_seen(method: str, single: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clips = made_up_clips(read_spec(single), 2)
    found = reach(tensor_ranges(single, clips, method, ["Conv"]))  # type: ignore[arg-type]
    largest = max(float(np.abs(clip).max()) for clip, _ in clips)
    assert len(found) > 20
    # min-max is exact; the others leave out what is rare, and histograms have steps.
    assert found["clips"] == pytest.approx(largest, rel=1e-6) if method == "minmax" else found["clips"] <= 1.1 * largest
    assert capsys.readouterr().out == ""  # a command's stdout is for its result


@pytest.mark.parametrize("method", ["minmax", "entropy", "percentile"])
def test_a_weight_that_is_no_number_is_one_error(method: str, single: Path, tmp_path: Path) -> None:
    model = onnx.load(single)
    weights = max(model.graph.initializer, key=lambda each: len(each.raw_data))
    values = onnx.numpy_helper.to_array(weights).copy()
    values.flat[0] = np.nan
    weights.CopyFrom(onnx.numpy_helper.from_array(values, weights.name))
    onnx.save(model, tmp_path / "nan.onnx")
    with pytest.raises(ModelFileError, match="damaged"):
        tensor_ranges(tmp_path / "nan.onnx", made_up_clips(read_spec(single), 2), method)  # type: ignore[arg-type]
