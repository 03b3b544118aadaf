"""The issue's yardstick: a release checkpoint, exported, answers on every engine as the release itself did."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray

from yowo_deploy.backends import open_model
from yowo_deploy.cli import cli

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def exported(release_file: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("resnext101") / "yowo.onnx"
    result = CliRunner().invoke(cli, ["export", str(release_file), "--clip", "16", "-o", str(path)])
    assert result.exit_code == 0, result.output
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_engines_answer_as_the_release_did(
    exported: Path, release_clips: NDArray[np.float32], reference_dir: Path, engine: str
) -> None:
    expected = np.load(reference_dir / "official" / "resnext101_ucf24_16f.npz")["out"]
    with open_model(exported, engine) as backend:
        assert backend.spec.attention_sign == "release" and backend.spec.clip_length == 16
        found = backend.infer(release_clips)
    np.testing.assert_allclose(found, expected, atol=2e-4)  # the limit
