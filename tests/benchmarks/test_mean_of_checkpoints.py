"""The mean of networks is that of each weight."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from benchmarks.mean_of_checkpoints import mean_of
from yowo_deploy.errors import InputError
from yowo_deploy.spec import ModelSpec
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.models.yowo import Yowo, YowoConfig

SPEC = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=4, input_size=(64, 64))


def network(seed: int, width: int = 8) -> Checkpoint:
    torch.manual_seed(seed)
    return Checkpoint(Yowo(YowoConfig("tiny2d", "tiny3d_s16", SPEC.output_channels, width, shrink_3d=2)).eval(), SPEC)


def test_each_weight_is_the_mean_of_all() -> None:
    runs = [network(seed) for seed in range(3)]
    mean = mean_of(runs).model.state_dict()
    for name, value in mean.items():
        if value.is_floating_point():
            expected = torch.stack([run.model.state_dict()[name] for run in runs]).mean(dim=0)
            torch.testing.assert_close(value, expected)
    assert not torch.equal(mean["conv_final.weight"], runs[0].model.state_dict()["conv_final.weight"])


def test_other_networks_and_labels_are_refused() -> None:
    one, wider = network(0), network(1, width=16)
    relabelled = Checkpoint(network(1).model, replace(SPEC, labels=("run", "jump")))
    for other in (wider, relabelled):
        with pytest.raises(InputError, match="different networks"):
            mean_of([one, other])
