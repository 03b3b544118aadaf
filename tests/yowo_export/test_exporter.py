"""An exported file is the model: on both engines, at every batch, with its spec, or it is not there at all."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from yowo_deploy.backends import open_model
from yowo_deploy.errors import ParityError
from yowo_deploy.model_files.onnx_reader import read_onnx_file, read_spec
from yowo_deploy.spec import ModelSpec
from yowo_export import exporter
from yowo_export.exporter import LIMIT, export_onnx, fold_output_layers
from yowo_training.checkpoints.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from yowo_training.checkpoints.onnx_weights import checkpoint_from_onnx
from yowo_training.models.yowo import Yowo, YowoConfig
from yowo_training.torch_backend import TorchBackend


@pytest.fixture(scope="session", params=["fused", "plain"])
def exported(request: pytest.FixtureRequest, fused: Path, single: Path) -> Path:
    return fused if request.param == "fused" else single


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
@pytest.mark.parametrize("batch", [1, 3])
def test_every_engine_agrees_with_pytorch(exported: Path, checkpoint: Checkpoint, engine: str, batch: int) -> None:
    clips = np.random.default_rng(1).standard_normal((batch, *checkpoint.spec.clip_shape), np.float32)
    expected = TorchBackend.of(checkpoint).infer(clips)
    with open_model(exported, engine) as backend:
        found = backend.infer(clips)
    assert np.abs(expected).max() > 0.5  # there is something to compare
    np.testing.assert_allclose(found, expected, atol=LIMIT * max(1.0, float(np.abs(expected).max())))


def test_the_file_carries_the_spec_and_only_plain_operators(exported: Path, checkpoint: Checkpoint) -> None:
    assert read_spec(exported) == checkpoint.spec
    operators = read_onnx_file(exported).operators
    attention = {"Attention"} if exported.stem.startswith("fused") else {"MatMul", "Softmax", "Transpose"}
    assert attention <= set(operators)
    # Leftovers of the release's max-minus form, and of norms that were not folded (DEPLOYMENT_FACTS).
    assert not {"ReduceMax", "Expand", "Sub", "BatchNormalization", "Dropout"} & set(operators)
    assert operators["Conv"] == 8 + 5 + 4  # Tiny2d, Tiny3d, CFAM with its last two folded into one


def test_onnx_itself_accepts_the_file(exported: Path, tmp_path: Path) -> None:
    alone = Path(shutil.copy(exported, tmp_path))
    onnx.checker.check_model(str(alone), full_check=True)  # one file: no external data beside it


def test_folding_the_output_layers_changes_no_answer(checkpoint: Checkpoint) -> None:
    clips = torch.randn(1, *checkpoint.spec.clip_shape)
    with torch.no_grad():
        expected, found = checkpoint.model(clips), fold_output_layers(checkpoint.model)(clips)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)  # float32 rounding of a product of two layers


@pytest.mark.parametrize("factor", [1.01, math.nan])
def test_an_export_that_disagrees_is_not_written(
    factor: float, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoiled(model: torch.nn.Module) -> torch.nn.Module:
        folded = fold_output_layers(model)  # type: ignore[arg-type]
        folded.conv_final.weight.data[0] *= factor
        return folded

    monkeypatch.setattr(exporter, "fold_output_layers", spoiled)
    with pytest.raises(ParityError, match="not written"):
        export_onnx(checkpoint, tmp_path / "bad.onnx", "plain")
    assert not list(tmp_path.iterdir())


def test_a_flow_branch_is_fed_by_the_network_itself(tmp_path: Path) -> None:
    """The paper's "another modality is a backbone more": one input as ever; the spec records what each branch reads."""
    torch.manual_seed(0)
    spec = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=8, input_size=(64, 64))
    config = YowoConfig(
        "tiny2d", "tiny3d_s16", spec.output_channels, width=16, shrink_3d=2, backbone_extra="tiny3d_s16"
    )
    checkpoint = Checkpoint(Yowo(config).eval(), spec)
    written = save_checkpoint(tmp_path / "flow.pt", checkpoint.model, spec, {})
    checkpoint = load_checkpoint(tmp_path / "flow.pt")
    export_onnx(checkpoint, tmp_path / "flow.onnx")
    fed = (
        ("backbone_3d", "colour", "clip"),
        ("backbone_2d", "colour", "key frame"),
        ("backbone_extra", "flow", "clip"),
    )
    assert read_spec(tmp_path / "flow.onnx") == checkpoint.spec == written
    assert written == spec.replace(branches=fed, weights_sha256=written.weights_sha256)
    clips = np.random.default_rng(0).random((3, *spec.clip_shape), np.float32)
    expected = TorchBackend.of(checkpoint).infer(clips)
    limit = LIMIT * max(1.0, float(np.abs(expected).max()))
    for engine in ("onnxruntime", "openvino"):
        with open_model(tmp_path / "flow.onnx", engine) as backend:
            np.testing.assert_allclose(backend.infer(clips), expected, atol=limit)
    again = checkpoint_from_onnx(tmp_path / "flow.onnx")
    assert again.model.config == config
    np.testing.assert_allclose(TorchBackend.of(again).infer(clips), expected, atol=limit)
