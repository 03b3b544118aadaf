"""A small model with random weights and a live attention, for everything that exports."""

from __future__ import annotations

import pytest
import torch

from yowo_deploy.spec import ModelSpec
from yowo_training.checkpoint import Checkpoint, weights_hash
from yowo_training.model import Yowo, YowoConfig


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
