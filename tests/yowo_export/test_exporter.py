"""An exported file is the model: on both engines, at every batch, with its spec, or it is not there at all."""

from __future__ import annotations

import math
import shutil
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from yowo_deploy.backends import open_model
from yowo_deploy.errors import ParityError
from yowo_deploy.model_files.onnx_reader import read_onnx_file, read_spec
from yowo_export import exporter
from yowo_export.exporter import LIMIT, export_onnx, fold_output_layers
from yowo_training.checkpoints.checkpoint import Checkpoint
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


def test_a_flow_branch_exports_as_a_second_input(tmp_path: Path) -> None:
    """The paper's "runtime comparison": another modality is a backbone and an input more."""
    torch.manual_seed(0)
    config = YowoConfig("tiny2d", "tiny3d", 14, width=16, backbone_extra="tiny3d", channels_extra=2)
    model = Yowo(config).eval()
    clips, flow = torch.randn(1, 3, 8, 64, 64), torch.randn(1, 2, 8, 64, 64)
    program = torch.onnx.export(model, (clips, flow), dynamo=True, input_names=["clips", "flow"], verbose=False)
    assert program is not None
    program.save(str(tmp_path / "flow.onnx"))
    session = ort.InferenceSession(str(tmp_path / "flow.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {"clips": clips.numpy(), "flow": flow.numpy()})[0]
    with torch.no_grad():
        np.testing.assert_allclose(found, model(clips, flow).numpy(), atol=LIMIT)
