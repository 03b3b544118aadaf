"""Every backbone: its shapes, its contract, and where the release has it, the release's parameters."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from yowo_training.checkpoints.release_format import our_names
from yowo_training.models.backbones import BACKBONES_2D, BACKBONES_3D
from yowo_training.models.backbones.darknet import Darknet19, reorg
from yowo_training.models.backbones.efficientnet import MEAN, STD, EfficientNetLite0

# What an input of 64 x 64 and 16 frames becomes: half the stride where the last one is 1.
GRID = {"motion_lite0": 4, "motion_lite0_p15": 4, "tiny3d_s16": 4}
RELEASED = [name for name in BACKBONES_3D if not name.startswith(("motion_lite0", "tiny3d"))]


@pytest.mark.parametrize("name", BACKBONES_2D)
@torch.no_grad()
def test_frames_become_a_grid_of_32_pixel_cells(name: str) -> None:
    backbone = BACKBONES_2D[name]().eval()
    assert backbone(torch.randn(1, 3, 64, 96)).shape == (1, backbone.out_channels, 2, 3)


@pytest.mark.parametrize("name", BACKBONES_3D)
@torch.no_grad()
def test_clips_become_a_grid_with_little_time_left(name: str) -> None:
    backbone = BACKBONES_3D[name]().eval()
    side = GRID.get(name, 2)
    features = backbone(torch.randn(1, 3, 16, 64, 64))
    assert features.shape[:2] == (1, backbone.out_channels) and features.shape[3:] == (side, side)
    assert features.shape[2] <= 2


@pytest.mark.parametrize("name", BACKBONES_3D)
@torch.no_grad()
def test_a_clip_is_seen_alone_and_in_its_order(name: str) -> None:
    torch.manual_seed(0)
    backbone = BACKBONES_3D[name]().eval()
    clips = torch.randn(2, 3, 8, 64, 64)
    both = backbone(clips)
    size = both.abs().max().item()
    torch.testing.assert_close(both, torch.cat([backbone(clip[None]) for clip in clips]), atol=1e-5 * size, rtol=0)
    assert (backbone(clips.flip(2)) - both).abs().max() > 0.01 * size


@pytest.mark.parametrize(("name", "branch"), [*((name, "3d") for name in RELEASED), ("resnext101", "2d")])
def test_keys_and_shapes_are_the_releases(reference_dir: Path, name: str, branch: str) -> None:
    lines = (reference_dir / "official" / f"{name}.keys.txt").read_text().splitlines()
    released = {}
    for line in lines:
        key, shape = line.split(" ", 1)
        if f".backbone_{branch}." in key:
            sizes = tuple(map(int, re.findall(r"\d+", shape.rsplit(")", 1)[0])))
            released[key] = torch.empty(sizes, device="meta")
    with torch.device("meta"):
        ours = (BACKBONES_3D[name]() if branch == "3d" else Darknet19()).state_dict()
    wanted = {key.partition(f"backbone_{branch}.")[2]: value.shape for key, value in our_names(released).items()}
    assert {key: value.shape for key, value in ours.items()} == wanted


def test_reorg_is_space_to_depth() -> None:
    """ONNX: output channel = (offset_y * 2 + offset_x) * C + channel."""
    x = torch.arange(2 * 3 * 4 * 6).reshape(2, 3, 4, 6)
    parts = [x[:, :, dy::2, dx::2] for dy in (0, 1) for dx in (0, 1)]
    assert torch.equal(reorg(x), torch.cat(parts, dim=1))
    assert not torch.equal(reorg(x), nn.functional.pixel_unshuffle(x, 2))


def test_imagenet_weights_fill_every_tensor_and_fit_their_own_statistics() -> None:
    """Real weights on a smooth picture keep activations near the means that their norms recorded."""
    backbone = EfficientNetLite0().eval()
    fresh = {key: value.clone() for key, value in backbone.state_dict().items()}
    backbone.load_imagenet()
    changed = [key for key, value in backbone.state_dict().items() if not torch.equal(value, fresh[key])]
    left = set(fresh) - set(changed)
    assert all(key.endswith("num_batches_tracked") for key in left)
    y, x = np.mgrid[0:224, 0:224] / 224
    picture = np.stack([0.5 + 0.3 * np.sin(9 * x), 0.5 + 0.3 * np.cos(7 * y), x * y])
    normalised = (picture - np.array(MEAN)[:, None, None]) / np.array(STD)[:, None, None]
    with torch.no_grad():
        features = backbone(torch.from_numpy(normalised[None]).float())
    assert features.isfinite().all() and 0.01 < features.mean() < 1.5  # ReLU6 keeps the random ones' mean near 0 or 6
