"""What a network can name from optical flow alone: `python -m benchmarks.flow_inputs JHMDB21 [--minutes N]`.

EfficientNet-Lite0 on the maps of the flow branch, one network for each kind of flow, trained together on the same clips
of J-HMDB-21's training recordings; a fifth of these recordings is held out. Each network sees what moves in the box of
the annotated person and names the action. The last lines are the share of actions named rightly in held-out clips.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from time import monotonic

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yowo_deploy.arrays import Float
from yowo_deploy.datasets import AnnotatedVideo, open_dataset
from yowo_deploy.spec import ModelSpec
from yowo_training.data.clip_sampler import FrameCache, batches, sample
from yowo_training.data.held_out import hold_out
from yowo_training.models.backbones.efficientnet import EfficientNetLite0
from yowo_training.models.backbones.motion import ALL_PAIRS, MAPS, PAIRS, lucas_kanade, motion
from yowo_training.recipes import find_recipe

SHRINK = 2  # of frames, as in yowo-lite
GRID = 7  # cells of the features
LEVELS, STEPS, FARTHEST = (8, 4, 2, 1), 2, 1.5  # coarse to fine: scales, steps at each, pixels a step
RATE, CACHE = 1e-3, 5 << 30
CLIPS = 3  # of each held-out video


def coarse_to_fine(clips: Tensor) -> Tensor:
    """(B, 3, T, H, W) to (B, 8 * 3, H, W): change of brightness and flow of eight pairs, found from coarse to fine.

    Each step warps the later frame by the flow so far, so that a limb which moves by many pixels is followed.
    """
    grey = clips.mean(dim=1)
    before, after = grey[:, : 2 * PAIRS : 2], grey[:, 1 : 2 * PAIRS : 2]
    flow: Tensor | None = None
    for scale in LEVELS:
        first, second = F.avg_pool2d(before, scale), F.avg_pool2d(after, scale)
        size = first.shape[2:]
        flow = (
            first.new_zeros(len(first), 2 * PAIRS, *size)
            if flow is None
            else 2 * F.interpolate(flow, size, mode="bilinear")
        )
        for _ in range(STEPS):
            flow = flow + lucas_kanade(first, _warped(second, flow)).clamp(-FARTHEST, FARTHEST)
    assert flow is not None
    return torch.cat([after - before, flow - flow.mean(dim=(-2, -1), keepdim=True)], dim=1)


def _warped(frames: Tensor, flow: Tensor) -> Tensor:
    """(B, N, H, W), each pixel from where the flow, (B, 2N, H, W), says that it has gone."""
    count, pairs, height, width = frames.shape
    right, down = flow[:, :pairs] + torch.arange(width), flow[:, pairs:] + torch.arange(height)[:, None]
    grid = torch.stack([2 * (right + 0.5) / width - 1, 2 * (down + 0.5) / height - 1], dim=-1).flatten(0, 1)
    moved = F.grid_sample(frames.reshape(-1, 1, height, width), grid, padding_mode="border", align_corners=False)
    return moved.reshape(count, pairs, height, width)


KINDS: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "8 pairs, two scales": (PAIRS * MAPS, motion),
    "15 pairs, two scales": (ALL_PAIRS * MAPS, lambda clips: motion(clips, ALL_PAIRS)),
    "8 pairs, coarse to fine": (PAIRS * 3, coarse_to_fine),
}


class Namer(nn.Module):
    """(B, C, H, W) maps and (B, 1, rows, columns) shares of cells to (B, classes) logits."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.norm, self.network = nn.BatchNorm2d(channels), EfficientNetLite0(channels, last_stride=1)
        self.network.load_imagenet()
        self.out = nn.Linear(EfficientNetLite0.out_channels, classes)

    def forward(self, maps: Tensor, shares: Tensor) -> Tensor:
        inside = (self.network(self.norm(maps)) * shares).sum(dim=(-2, -1))
        return self.out(inside / shares.sum(dim=(-2, -1)))  # type: ignore[no-any-return]


def inputs(clips: Tensor, targets: Sequence[Tensor]) -> tuple[dict[str, Tensor], Tensor, Tensor] | None:
    """Of the clips with a person whose action is known: maps by kind, shares of cells, classes; None without any."""
    known = [(index, rows[rows[:, 0] >= 0][0]) for index, rows in enumerate(targets) if (rows[:, 0] >= 0).any()]
    if not known:
        return None
    chosen, middle = [index for index, _ in known], (torch.arange(GRID) + 0.5) / GRID
    box = torch.stack([row for _, row in known])
    across, down = ((middle - box[:, at, None]).abs() <= box[:, at + 2, None] / 2 + 0.5 / GRID for at in (1, 2))
    shares = (down[:, :, None] & across[:, None, :]).float() + 1e-3
    with torch.no_grad():
        small = F.avg_pool3d(clips[chosen], (1, SHRINK, SHRINK))
        return {name: kind(small) for name, (_, kind) in KINDS.items()}, shares[:, None], box[:, 0].long()


def train(videos: Sequence[AnnotatedVideo], spec: ModelSpec, cache: FrameCache, minutes: float) -> dict[str, Namer]:
    """A network for each kind of flow, after so many minutes on the same clips."""
    networks = {}
    for name, (channels, _) in KINDS.items():
        torch.manual_seed(0)
        networks[name] = Namer(channels, spec.classes)
    weights = [parameter for network in networks.values() for parameter in network.parameters()]
    optimizer = torch.optim.AdamW(weights, lr=RATE, weight_decay=0.05)
    start, recipe = monotonic(), find_recipe("yowo-lite")
    for number, batch in enumerate(batches(videos, spec, recipe, 0, cache=cache)):
        done = (monotonic() - start) / (60 * minutes)
        if done >= 1:
            break
        if (given := inputs(batch.clips, batch.targets)) is None:
            continue
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1, done / 0.05 + 0.01) * (0.5 + 0.5 * math.cos(math.pi * done))
        maps, shares, classes = given
        losses = [
            F.cross_entropy(network(maps[name], shares), classes, label_smoothing=0.1)
            for name, network in networks.items()
        ]
        optimizer.zero_grad()
        torch.autograd.backward(torch.stack(losses).sum())
        optimizer.step()
        if number % 25 == 0:
            print(
                f"step {number}: "
                + ", ".join(f"{name} {loss.item():.2f}" for name, loss in zip(networks, losses, strict=True))
            )
    return networks


@torch.no_grad()
def named_rightly(
    networks: dict[str, Namer], videos: Sequence[AnnotatedVideo], spec: ModelSpec, cache: FrameCache
) -> dict[str, Float]:
    """Of each kind whether the action of each held-out clip is named rightly."""
    hits: dict[str, list[Float]] = {name: [] for name in networks}
    plain = replace(find_recipe("yowo-lite"), jitter=0.0, colour=0.0)
    for video in videos:
        drawn = [sample(video, spec, plain, np.random.default_rng(number), cache) for number in range(CLIPS)]
        clips, targets = (
            torch.from_numpy(np.stack([each[0] for each in drawn])),
            [torch.from_numpy(each[1]) for each in drawn],
        )
        if (given := inputs(clips, targets)) is not None:
            for name, network in networks.items():
                hits[name].append((network.eval()(given[0][name], given[1]).argmax(dim=1) == given[2]).float().numpy())
    return {name: np.concatenate(found) for name, found in hits.items()}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", help="folder of J-HMDB-21")
    parser.add_argument("--minutes", type=float, default=20.0)
    given = parser.parse_args()
    dataset = open_dataset("jhmdb21", given.data)
    spec, cache = find_recipe("yowo-lite").spec(dataset), FrameCache(CACHE)
    training, held_out = hold_out([video for video in dataset.videos("train") if video.tubes], 0.2)
    networks = train(training, spec, cache, given.minutes)
    for name, hits in named_rightly(networks, held_out, spec, cache).items():
        print(f"{name}: {100 * hits.mean():.1f} % of {len(hits)} clips of {len(held_out)} held-out videos")


if __name__ == "__main__":
    main()
