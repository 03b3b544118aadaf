"""ShuffleNet in 3-D, width 2, three groups (Köpüklü et al., "Resource Efficient 3D CNNs")."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yowo_training.models.backbones.base import Backbone

_STEM = 48
_WIDTHS = (480, 960, 1920)
_REPEATS = (4, 8, 4)
_GROUPS = 3


class ShuffleNet(Backbone):
    """(B, 3, T, H, W) to (B, 1920, T/16, H/32, W/32), T rounded up at every halving; 3.6M parameters."""

    out_channels = _WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        conv = nn.Conv3d(3, _STEM, 3, stride=(1, 2, 2), padding=1, bias=False)
        self.conv1 = nn.Sequential(conv, nn.BatchNorm3d(_STEM), nn.ReLU(inplace=True))
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        channels = _STEM
        layers = []
        for width, count in zip(_WIDTHS, _REPEATS, strict=True):
            units = [Unit(channels, width, strided=True)]
            units += [Unit(width, width, strided=False) for _ in range(count - 1)]
            layers.append(nn.Sequential(*units))
            channels = width
        self.layer1, self.layer2, self.layer3 = layers

    def forward(self, clips: Tensor) -> Tensor:
        return self.layer3(self.layer2(self.layer1(self.maxpool(self.conv1(clips)))))  # type: ignore[no-any-return]


class Unit(nn.Module):
    """Grouped 1x1x1, shuffle, a 3x3x3 convolution of each channel, grouped 1x1x1; then added to its input.

    A strided unit halves space and time, and is concatenated with its pooled input instead.
    """

    def __init__(self, channels: int, width: int, strided: bool) -> None:
        super().__init__()
        inner, out = width // 4, width - channels if strided else width
        self.conv1 = nn.Conv3d(channels, inner, 1, groups=_GROUPS, bias=False)
        self.bn1 = nn.BatchNorm3d(inner)
        self.conv2 = nn.Conv3d(inner, inner, 3, stride=2 if strided else 1, padding=1, groups=inner, bias=False)
        self.bn2 = nn.BatchNorm3d(inner)
        self.conv3 = nn.Conv3d(inner, out, 1, groups=_GROUPS, bias=False)
        self.bn3 = nn.BatchNorm3d(out)
        self.relu = nn.ReLU(inplace=True)
        self.strided = strided

    def forward(self, x: Tensor) -> Tensor:
        y = shuffle(self.relu(self.bn1(self.conv1(x))), _GROUPS)
        y = self.bn3(self.conv3(self.bn2(self.conv2(y))))
        return self.relu(torch.cat([y, halved(x)], dim=1) if self.strided else y + x)  # type: ignore[no-any-return]


def shuffle(x: Tensor, groups: int) -> Tensor:
    """Channels dealt out: the first of each group, then the second of each, ..."""
    batch, channels, *sides = x.shape
    return x.reshape(batch, groups, channels // groups, *sides).transpose(1, 2).flatten(1, 2)


def halved(x: Tensor) -> Tensor:
    """Average pooling by two; an odd last time step stands for two, so that every clip length is taken.

    The official code drops an odd one, and fails at the last stage for T = 8.
    """
    if x.shape[2] % 2:
        x = torch.cat([x, x[:, :, -1:]], dim=2)
    return F.avg_pool3d(x, (2, 3, 3), stride=2, padding=(0, 1, 1))
