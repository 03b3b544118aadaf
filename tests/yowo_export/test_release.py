"""The issue's yardstick: a release checkpoint, exported, answers on every engine as the release itself did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner

from yowo_deploy.backends import open_model
from yowo_deploy.cli import cli

if TYPE_CHECKING:
    from tests.conftest import Release

pytestmark = pytest.mark.slow

LIMIT = 2e-4  # the issue's


@pytest.fixture(scope="module")
def exported(release: Release, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("release") / "yowo.onnx"
    result = CliRunner().invoke(cli, ["export", str(release.file), "--clip", str(release.length), "-o", str(path)])
    assert result.exit_code == 0, result.output
    return path


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_engines_answer_as_the_release_did(exported: Path, release: Release, engine: str) -> None:
    with open_model(exported, engine) as backend:
        assert backend.spec.attention_sign == "release" and backend.spec.clip_length == release.length
        found = backend.infer(release.clips)
    np.testing.assert_allclose(found, release.expected["out"], atol=LIMIT)


def test_the_branches_inside_the_file_see_what_the_releases_saw(exported: Path, release: Release) -> None:
    """What CFAM concatenates, 3-D first, made outputs of the graph."""
    graph = onnx.load(exported)
    fused = [node for node in graph.graph.node if node.op_type == "Concat"][-1]
    assert len(fused.input) == 2
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in fused.input)
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    features_3d, features_2d = session.run(list(fused.input), {"clips": release.clips})
    np.testing.assert_allclose(features_3d[:, :, None], release.expected["feat3d"], atol=LIMIT)
    np.testing.assert_allclose(features_2d, release.expected["feat2d"], atol=LIMIT)
