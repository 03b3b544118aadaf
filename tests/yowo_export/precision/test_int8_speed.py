"""What INT8 gains is said as it was measured, with a warning where it is slower."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yowo_deploy.benchmark.timing import Timing
from yowo_deploy.errors import InputError
from yowo_deploy.model_files.default import model_path
from yowo_export.pipeline import export
from yowo_export.precision import int8_speed
from yowo_export.precision.int8_speed import expected_gain, measured_gain


@pytest.mark.parametrize(("seconds", "slower"), [(0.5, False), (1.0, False), (1.5, True)])
def test_a_file_that_is_slower_is_warned_of(seconds: float, slower: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).uniform(0.97, 1.03, 20)
    timings = [Timing("float32", noise, 1), Timing("int8", seconds * noise[::-1], 1)]
    monkeypatch.setattr(int8_speed, "bench_models", lambda models, *_, **__: timings)
    said = measured_gain(model_path("default"), model_path("default"), "onnxruntime")
    assert f"{1 / seconds:.2f} [" in said and "onnxruntime" in said and ("slower" in said) == slower


@pytest.mark.parametrize(
    ("there", "warned"), [(["AVX2"], True), (["AVX2", "AVX-512"], True), (["AVX2", "VNNI"], False), (["AMX"], False)]
)
def test_processors_without_dot_products_of_bytes_are_warned_of(
    there: list[str], warned: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(int8_speed, "instructions", lambda: there)
    assert ("may lose" in expected_gain()) == warned and "--tune measures" in expected_gain()


def test_tune_is_for_int8(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--tune measures --int8"):
        export("default", tmp_path / "m.onnx", tune=True)
