"""ShuffleNet V2 in 3-D, width 2 (Köpüklü et al., "Resource Efficient 3D CNNs")."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yowo_training.models.backbones.base import Backbone

_STEM = 24
_WIDTHS = (224, 488, 976)
_REPEATS = (4, 8, 4)


class ShuffleNetV2(Backbone):
    """(B, 3, T, H, W) to (B, 2048, T/16, H/32, W/32), T rounded up at every halving."""

    out_channels = 2048

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = _conv_bn_relu(3, _STEM, 3, stride=(1, 2, 2))
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        blocks: list[nn.Module] = []
        channels = _STEM
        for width, count in zip(_WIDTHS, _REPEATS, strict=True):
            blocks.append(Downsample(channels, width, stride=(2, 2, 2)))
            blocks.extend(Shuffle(width) for _ in range(count - 1))
            channels = width
        self.features = nn.Sequential(*blocks)
        self.conv_last = _conv_bn_relu(channels, self.out_channels, 1)

    def forward(self, clips: Tensor) -> Tensor:
        return self.conv_last(self.features(self.maxpool(self.conv1(clips))))  # type: ignore[no-any-return]


class Shuffle(nn.Module):
    """Half of the channels pass by, half are worked on; then the halves are interleaved."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.branch2 = _branch(width // 2, width // 2, stride=(1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        passed, worked = x.chunk(2, dim=1)
        return interleave(passed, self.branch2(worked))


class Downsample(nn.Module):
    """Both halves of the output come from the whole input, strided."""

    def __init__(self, channels: int, width: int, stride: tuple[int, int, int]) -> None:
        super().__init__()
        half = width // 2
        self.branch1 = nn.Sequential(
            nn.Conv3d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False),
            nn.BatchNorm3d(channels),
            nn.Conv3d(channels, half, 1, bias=False),
            nn.BatchNorm3d(half),
            nn.ReLU(inplace=True),
        )
        self.branch2 = _branch(channels, half, stride)

    def forward(self, x: Tensor) -> Tensor:
        return interleave(self.branch1(x), self.branch2(x))


def interleave(first: Tensor, second: Tensor) -> Tensor:
    """Channels of two equal tensors taken in turn: f0, s0, f1, s1, ..."""
    return torch.stack([first, second], dim=2).flatten(1, 2)


def _branch(channels: int, width: int, stride: tuple[int, int, int]) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(channels, width, 1, bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
        nn.Conv3d(width, width, 3, stride=stride, padding=1, groups=width, bias=False),
        nn.BatchNorm3d(width),
        nn.Conv3d(width, width, 1, bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    )


def _conv_bn_relu(channels: int, width: int, kernel: int, stride: tuple[int, int, int] = (1, 1, 1)) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv3d(channels, width, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm3d(width),
        nn.ReLU(inplace=True),
    )
