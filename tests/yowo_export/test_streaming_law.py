"""Frame by frame is as near to the truth, which is PyTorch in float64, as whole clips are: for every backbone.

With every layer heard, float32 itself is up to 1e-3 off at random weights: two right ways to take a sum differ by more
than the 1e-4 that `export_streaming` lets pass, so they are not held against each other here.
"""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from yowo_deploy.backends.loader import open_model
from yowo_deploy.backends.onnx_session import FrameEngine
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.spec import ModelSpec
from yowo_export.exporter import export_onnx
from yowo_export.streaming import rewrite
from yowo_export.streaming.rewrite import export_streaming
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.models.backbones import BACKBONES_3D
from yowo_training.models.yowo import Yowo, YowoConfig

pytestmark = pytest.mark.slow

SPEC = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=8, input_size=(64, 64))


def live_model(backbone: str) -> Yowo:
    """Random weights of which every layer's are heard in the answer, normed by a batch; a strong attention."""
    torch.manual_seed(0)
    shrink = 2 if backbone == "motion_lite0" else 1
    model = Yowo(YowoConfig("tiny2d", backbone, SPEC.output_channels, width=16, shrink_3d=shrink))
    assert model.cfam is not None
    model.cfam.attention.gamma.data.fill_(0.5)
    for module in model.modules():
        if isinstance(module, (nn.Conv2d, nn.Conv3d)):
            nn.init.kaiming_normal_(module.weight)
        if isinstance(module, (nn.BatchNorm2d, nn.BatchNorm3d)):
            module.momentum = 1.0
    with torch.no_grad():
        model(torch.rand(6, *SPEC.clip_shape))
    return model.eval()


# Layers of ResNeXt-101 without groups; it was seen by hand that they pass, and takes a minute here.
_BY_HAND = ("resnet50", "resnet101")


@pytest.mark.parametrize("backbone", [n for n in BACKBONES_3D if not n.startswith("tiny3d") and n not in _BY_HAND])
def test_frame_by_frame_is_as_near_to_the_truth_as_whole_clips(
    backbone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = live_model(backbone)
    truth = copy.deepcopy(model).double()
    export_onnx(Checkpoint(model, SPEC), tmp_path / "clips.onnx")
    monkeypatch.setitem(rewrite.LIMITS, "fp32", 1e-2)
    export_streaming(tmp_path / "clips.onnx", tmp_path / "frames.onnx")
    frames = np.random.default_rng(0).random((SPEC.clip_length + 5, *SPEC.clip_shape[:1], 64, 64), np.float32)
    for engine in ("onnxruntime", "openvino"):
        with open_model(tmp_path / "clips.onnx", engine) as clips, open_model(tmp_path / "frames.onnx", engine) as made:
            assert isinstance(made, FrameEngine)
            stream, buffer = made.open_stream(), ClipBuffer(SPEC)
            errors, moved, before = [], 0.0, None
            for number, frame in enumerate(frames):
                if number == SPEC.clip_length + 1:
                    stream.reset()
                    buffer.reset()
                clip = buffer.push(frame)[None].copy()
                found = stream.push(frame)
                if number not in (0, 3, SPEC.clip_length, SPEC.clip_length + 2):
                    continue
                with torch.no_grad():
                    expected = truth(torch.from_numpy(clip).double())[0].numpy()
                    single = model(torch.from_numpy(clip))[0].numpy()
                errors.append([np.abs(one - expected).max() for one in (found, clips.infer(clip)[0], single)])
                moved = moved if before is None else max(moved, np.abs(expected - before).max())
                before = expected
            streamed, *others = np.max(errors, axis=0)
            assert moved > 0.1, "the answers say nothing of the frames"
            assert streamed <= 2 * max(others) < 0.02 * moved
