"""A rewrite is kept when it was measured to be faster, and only then."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest

from yowo_deploy.benchmark.timing import Timing
from yowo_deploy.model_files.default import model_path
from yowo_export import conv3d_tuning
from yowo_export.conv3d_tuning import conv3d_as_2d_if_faster


@pytest.mark.parametrize(("seconds", "replaced"), [(0.5, True), (1.0, False), (2.0, False)])
def test_the_file_is_replaced_if_the_other_form_is_faster(
    seconds: float, replaced: bool, single: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measured(models: list[object], *_: object, **__: object) -> list[Timing]:
        assert len(models) == 2
        return [Timing(name, np.full(9, time), 1) for name, time in (("together", 1.0), ("apart", seconds))]

    monkeypatch.setattr(conv3d_tuning, "bench_models", measured)
    path = tmp_path / "m.onnx"
    shutil.copy(single, path)
    assert conv3d_as_2d_if_faster(path) == 1 / seconds
    assert (path.read_bytes() != single.read_bytes()) == replaced
    kernels = [len(tensor.dims) for tensor in onnx.load(path).graph.initializer]
    assert (5 in kernels) == (not replaced)


def test_without_3_d_convolutions_nothing_is_measured(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    shutil.copy(model_path("default"), path)
    assert conv3d_as_2d_if_faster(path) is None
