"""A small model with random weights and a live attention, for everything that exports."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pytest
import torch

from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.writer import VideoWriter
from yowo_export.exporter import export_onnx
from yowo_training.checkpoints.checkpoint import Checkpoint, weights_hash
from yowo_training.models.yowo import Yowo, YowoConfig

if TYPE_CHECKING:
    from tests.conftest import MadeOnce


def small_checkpoint(sign: str = "release", seed: int = 0) -> Checkpoint:
    spec = ModelSpec(
        labels=("run", "sit", "wave"),
        anchors=((1.0, 2.0), (2.0, 3.0)),
        clip_length=8,
        input_size=(96, 64),
        attention_sign=sign,  # type: ignore[arg-type]
    )
    torch.manual_seed(seed)
    model = Yowo(YowoConfig("tiny2d", "tiny3d", spec.output_channels, width=24, attention_sign=spec.attention_sign))
    model.cfam.attention.gamma.data.fill_(0.8)
    for module in model.modules():  # statistics and sizes as after training, so that every layer is heard
        if isinstance(module, (torch.nn.Conv2d, torch.nn.Conv3d)):
            torch.nn.init.kaiming_normal_(module.weight)
        if isinstance(module, (torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)):
            module.running_mean.normal_(0, 0.2)  # type: ignore[union-attr]
            module.running_var.uniform_(0.5, 2)  # type: ignore[union-attr]
    model.conv_final.weight.data.mul_(2)
    return Checkpoint(model.eval(), spec.replace(weights_sha256=weights_hash(model.state_dict())))


@pytest.fixture(scope="session")
def checkpoint() -> Checkpoint:
    return small_checkpoint()


@pytest.fixture(scope="session")
def single(checkpoint: Checkpoint, made_once: MadeOnce) -> Path:
    """The small model as a float32 ONNX file, its attention plain."""
    return made_once("single", lambda folder: export_onnx(checkpoint, folder / "fp32.onnx", "plain")) / "fp32.onnx"


@pytest.fixture(scope="session")
def fused(checkpoint: Checkpoint, made_once: MadeOnce) -> Path:
    """The same with the attention fused into one operator."""
    return made_once("fused", lambda folder: export_onnx(checkpoint, folder / "fused.onnx", "fused")) / "fused.onnx"


@pytest.fixture(scope="session")
def videos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with three videos, of which the first stands still and the last moves most."""
    folder = tmp_path_factory.mktemp("videos")
    rng = np.random.default_rng(0)
    scene = cv2.resize(rng.integers(0, 256, (12, 60, 3), np.uint8), (600, 120), interpolation=cv2.INTER_CUBIC)
    for speed in range(3):
        with VideoWriter(folder / f"{speed}.webm", 25, (160, 120)) as writer:
            for frame in range(20):
                writer.write(np.ascontiguousarray(scene[:, 8 * speed * frame : 8 * speed * frame + 160]))
    return folder
