"""3-D residual networks (Hara et al.), with the key names of the release. So far: ResNeXt-101."""

from __future__ import annotations

from torch import Tensor, nn

from yowo_training.backbones.base import Backbone


class ResNet3d(Backbone):
    """(B, 3, T, H, W) to (B, C, T/16, H/32, W/32), T rounded up at every halving.

    Args:
        blocks: bottlenecks in each of the four layers.
        planes: channels inside the bottlenecks of each layer.
        expansion: channels out = planes * expansion.
        groups: of the 3x3x3 convolutions.
    """

    def __init__(self, blocks: tuple[int, ...], planes: tuple[int, ...], expansion: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        channels = 64
        for number, (count, width) in enumerate(zip(blocks, planes, strict=True), start=1):
            layer = []
            for index in range(count):
                stride = 2 if index == 0 and number > 1 else 1
                layer.append(Bottleneck(channels, width, width * expansion, stride, groups))
                channels = width * expansion
            self.add_module(f"layer{number}", nn.Sequential(*layer))
        self.layers = len(blocks)
        self.out_channels = channels

    def forward(self, clips: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(clips))))
        for number in range(1, self.layers + 1):
            x = getattr(self, f"layer{number}")(x)
        return x  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1x1, 3x3x3 with the stride, 1x1x1, each batch-normalised, around a shortcut of type B."""

    def __init__(self, channels: int, width: int, out: int, stride: int, groups: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, width, 1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, stride=stride, padding=1, groups=groups, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.conv3 = nn.Conv3d(width, out, 1, bias=False)
        self.bn3 = nn.BatchNorm3d(out)
        self.relu = nn.ReLU(inplace=True)
        self.downsample: nn.Module | None = None
        if stride != 1 or channels != out:
            self.downsample = nn.Sequential(nn.Conv3d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm3d(out))

    def forward(self, x: Tensor) -> Tensor:
        shortcut = x if self.downsample is None else self.downsample(x)
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.relu(self.bn2(self.conv2(y)))
        return self.relu(self.bn3(self.conv3(y)) + shortcut)  # type: ignore[no-any-return]


def resnext101() -> ResNet3d:
    """ResNeXt-101 of the paper: cardinality 32, 47.5M parameters, 38.0 G multiply-adds at T = 16."""
    return ResNet3d((3, 4, 23, 3), planes=(128, 256, 512, 1024), expansion=2, groups=32)
