"""The flow branch: what it sees, and that any 3-D backbone reads it."""

from __future__ import annotations

import pytest
import torch

from yowo_deploy.errors import InputError
from yowo_training.models.backbones import BACKBONES_3D
from yowo_training.models.backbones.base import Backbone
from yowo_training.models.backbones.flow import CHANNELS, flow, of_flow

STILL = 1e-6


def patch_that_moves(right: float, down: float) -> torch.Tensor:
    """(1, 3, 5, 64, 96): a smooth blob on a black ground, one step a frame."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    frames = [torch.exp(-((x - 40 - t * right) ** 2 + (y - 30 - t * down) ** 2) / 60) for t in range(5)]
    return torch.stack(frames)[None, None].repeat(1, 3, 1, 1, 1)


@pytest.mark.parametrize(("right", "down"), [(1.0, 0.0), (0.0, 1.0), (-1.0, 0.0), (0.0, -1.0), (1.0, -1.0)])
def test_flow_is_the_step_of_what_moves_since_the_frame_before(right: float, down: float) -> None:
    """The blob covers a twentieth of the frame, so that little is taken away with the motion of the whole frame."""
    field = flow(patch_that_moves(right, down))
    assert field.shape == (1, CHANNELS, 5, 64, 96)
    assert field[:, :, 0].abs().max() < STILL  # before the first frame there is none
    for t in range(1, 5):
        y, x = round(30 + (t - 0.5) * down), round(40 + (t - 0.5) * right)
        found = field[0, :2, t, y - 2 : y + 3, x - 2 : x + 3].mean(dim=(1, 2))
        assert found.tolist() == pytest.approx([right, down], abs=0.35)  # a fifth off by smoothing, and the mean


def test_what_stands_still_has_no_flow_and_one_frame_neither() -> None:
    clip = torch.rand(2, 3, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    assert flow(clip.repeat(1, 1, 4, 1, 1)).abs().max() < STILL
    assert flow(clip).shape == (2, CHANNELS, 1, 32, 32)


@torch.no_grad()
@pytest.mark.parametrize("name", [name for name in BACKBONES_3D if not name.startswith("res")] + ["resnet18"])
def test_every_3d_backbone_reads_flow(name: str) -> None:
    """And nothing else: a clip that is brighter everywhere by the same has the same flow."""
    torch.manual_seed(0)
    branch = of_flow(BACKBONES_3D[name]()).eval()
    clips = torch.rand(1, 3, 16, 64, 64)
    found = branch(clips)
    assert branch.modality == "flow" and found.shape[:2] == (1, branch.out_channels)
    assert (found - branch(clips + 0.5)).abs().max() <= 1e-3 * found.abs().max()  # float32 of derivatives
    assert (found - branch(clips.flip(2))).abs().max() > 0.01 * found.abs().max()


def test_a_backbone_without_3d_convolutions_cannot_read_flow() -> None:
    class Flat(Backbone):
        out_channels = 1

    with pytest.raises(InputError, match="no 3-D convolution"):
        of_flow(Flat())
