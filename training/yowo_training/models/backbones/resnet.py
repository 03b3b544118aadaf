"""3-D residual networks: ResNet-18, 50, 101 and ResNeXt-101 (Hara et al.), with the official key names."""

from __future__ import annotations

from functools import partial

from torch import Tensor, nn
from torch.nn import functional as F

from yowo_training.models.backbones.base import Backbone

_WIDTHS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3x3 convolutions around a shortcut of type A: a strided slice, padded with zero channels."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, width, 3, stride=stride, padding=1, bias=False)
        self.bn1 = nn.BatchNorm3d(width)
        self.conv2 = nn.Conv3d(width, width, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)
        self._stride, self._padding = stride, width - channels

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        # A slice and a pad, because the exporter fails on the official pooling with kernel 1 (DEPLOYMENT_FACTS).
        step = self._stride
        shortcut = F.pad(x[:, :, ::step, ::step, ::step], (0, 0) * 3 + (0, self._padding))
        return self.relu(y + shortcut)  # type: ignore[no-any-return]


class Bottleneck(nn.Module):
    """1x1x1, 3x3x3 with the stride, 1x1x1, around a shortcut of type B: a 1x1x1 convolution where shapes change."""

    def __init__(self, channels: int, width: int, stride: int, expansion: int = 4, groups: int = 1) -> None:
        super().__init__()
        out = width * expansion
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


class ResNet3d(Backbone):
    """(B, 3, T, H, W) to (B, C, T/16, H/32, W/32), T rounded up at every halving.

    Args:
        block: builds one block from channels in, width and stride.
        counts: blocks in each of the four layers.
        widths: of the blocks of each layer.
        expansion: channels out = width * expansion.
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck] | partial[Bottleneck],
        counts: tuple[int, ...],
        widths: tuple[int, ...] = _WIDTHS,
        expansion: int = 4,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(3, 64, 7, stride=(1, 2, 2), padding=3, bias=False)
        self.bn1 = nn.BatchNorm3d(64)
        self.relu = nn.ReLU(inplace=True)
        self.maxpool = nn.MaxPool3d(3, stride=2, padding=1)
        channels = 64
        layers = []
        for number, (count, width) in enumerate(zip(counts, widths, strict=True)):
            blocks: list[nn.Module] = []
            for index in range(count):
                blocks.append(block(channels, width, 2 if index == 0 and number > 0 else 1))
                channels = width * expansion
            layers.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = layers
        self.out_channels = channels

    def forward(self, clips: Tensor) -> Tensor:
        x = self.maxpool(self.relu(self.bn1(self.conv1(clips))))
        return self.layer4(self.layer3(self.layer2(self.layer1(x))))  # type: ignore[no-any-return]


def resnet18() -> ResNet3d:
    """512 channels out, 33.0M parameters, 32.8 G multiply-adds at T = 16."""
    return ResNet3d(BasicBlock, (2, 2, 2, 2), expansion=1)


def resnet50() -> ResNet3d:
    """2048 channels out, 46.2M parameters, 39.9 G multiply-adds at T = 16."""
    return ResNet3d(Bottleneck, (3, 4, 6, 3))


def resnet101() -> ResNet3d:
    """2048 channels out, 85.2M parameters, 55.1 G multiply-adds at T = 16."""
    return ResNet3d(Bottleneck, (3, 4, 23, 3))


def resnext101() -> ResNet3d:
    """The paper's best: cardinality 32, 2048 channels out, 47.5M parameters, 38.0 G multiply-adds at T = 16."""
    block = partial(Bottleneck, expansion=2, groups=32)
    return ResNet3d(block, (3, 4, 23, 3), widths=(128, 256, 512, 1024), expansion=2)
