"""Every 3-D backbone exports, takes any batch, and agrees with PyTorch on both engines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from yowo_deploy.backends import open_model
from yowo_deploy.model_files.onnx_reader import read_onnx_file
from yowo_deploy.spec import ModelSpec
from yowo_export.exporter import LIMIT, export_onnx
from yowo_export.parity.compare import LIMITS, compare
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.models.backbones import BACKBONES_3D
from yowo_training.models.yowo import Yowo, YowoConfig
from yowo_training.torch_backend import TorchBackend

pytestmark = pytest.mark.slow

SPEC = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=8, input_size=(64, 64))


@pytest.mark.parametrize("name", [name for name in BACKBONES_3D if name != "tiny3d"])
def test_a_backbone_exports_and_agrees(name: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = Yowo(YowoConfig("tiny2d", name, SPEC.output_channels, width=16, attention_sign="release")).eval()
    if name.endswith("_s16") or name == "motion_lite0":  # it stands on frames of half size
        model = Yowo(YowoConfig("tiny2d", name, SPEC.output_channels, width=16, shrink_3d=2)).eval()
    assert model.cfam is not None
    model.cfam.attention.gamma.data.fill_(0.5)
    checkpoint = Checkpoint(model, SPEC)
    export_onnx(checkpoint, tmp_path / "m.onnx")
    read_onnx_file(tmp_path / "m.onnx")  # every operator it uses passes the gate
    clips = np.random.default_rng(0).standard_normal((3, *SPEC.clip_shape), np.float32)
    expected = TorchBackend.of(checkpoint).infer(clips)
    for engine in ("onnxruntime", "openvino"):
        with open_model(tmp_path / "m.onnx", engine) as backend:
            np.testing.assert_allclose(backend.infer(clips), expected, atol=LIMIT)
            pairs = [(clip, clip, (320, 240)) for clip in clips]
            assert LIMITS["fp32"].raw == LIMIT  # what `parity` says of it
            assert not compare(TorchBackend.of(checkpoint), backend, pairs, LIMITS["fp32"]).beyond(LIMITS["fp32"])
