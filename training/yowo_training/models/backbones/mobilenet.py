"""MobileNet in 3-D, width 2, and MobileNet V2 in 3-D, width 1 (Köpüklü et al., "Resource Efficient 3D CNNs")."""

from __future__ import annotations

from torch import Tensor, nn

from yowo_training.models.backbones.base import Backbone

Stride = tuple[int, int, int]
_STEM_STRIDE: Stride = (1, 2, 2)

_V1_STEM = 64
_V1_STAGES = [(128, 1, 2), (256, 2, 2), (512, 2, 2), (1024, 6, 2), (2048, 2, 1)]  # (channels, blocks, stride)
_V2_STEM, _V2_LAST = 32, 1280
_V2_STAGES = [  # (expansion, channels, blocks, stride)
    (1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1),
]  # fmt: skip


class MobileNet(Backbone):
    """(B, 3, T, H, W) to (B, 2048, T/16, H/32, W/32), T rounded up at every halving; 12.9M parameters."""

    out_channels = _V1_STAGES[-1][0]

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_bn(3, _V1_STEM, 3, _STEM_STRIDE, activation=nn.ReLU)]
        channels = _V1_STEM
        for width, count, stride in _V1_STAGES:
            for index in range(count):
                layers.append(Separable(channels, width, stride if index == 0 else 1))
                channels = width
        self.features = nn.Sequential(*layers)

    def forward(self, clips: Tensor) -> Tensor:
        return self.features(clips)  # type: ignore[no-any-return]


class MobileNetV2(Backbone):
    """(B, 3, T, H, W) to (B, 1280, T/16, H/32, W/32), T rounded up at every halving; 2.4M parameters."""

    out_channels = _V2_LAST

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = [_conv_bn(3, _V2_STEM, 3, _STEM_STRIDE, activation=nn.ReLU6)]
        channels = _V2_STEM
        for expansion, width, count, stride in _V2_STAGES:
            for index in range(count):
                layers.append(InvertedResidual(channels, width, expansion, stride if index == 0 else 1))
                channels = width
        layers.append(_conv_bn(channels, _V2_LAST, 1, activation=nn.ReLU6))
        self.features = nn.Sequential(*layers)

    def forward(self, clips: Tensor) -> Tensor:
        return self.features(clips)  # type: ignore[no-any-return]


class Separable(nn.Module):
    """A 3x3x3 convolution of each channel with the stride, then 1x1x1 across channels."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv3d(channels, channels, 3, stride=stride, padding=1, groups=channels, bias=False)
        self.bn1 = nn.BatchNorm3d(channels)
        self.conv2 = nn.Conv3d(channels, width, 1, bias=False)
        self.bn2 = nn.BatchNorm3d(width)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))  # type: ignore[no-any-return]


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; with a shortcut where the shape allows."""

    def __init__(self, channels: int, width: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = channels * expansion
        widen = _conv_bn(channels, inner, 1, activation=nn.ReLU6) if expansion != 1 else nn.Sequential()
        filtered = _conv_bn(inner, inner, 3, (stride,) * 3, groups=inner, activation=nn.ReLU6)
        narrow = _conv_bn(inner, width, 1)
        self.conv = nn.Sequential(*widen, *filtered, *narrow)
        self.shortcut = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return x + y if self.shortcut else y


def _conv_bn(
    channels: int,
    width: int,
    kernel: int,
    stride: Stride = (1, 1, 1),
    groups: int = 1,
    activation: type[nn.ReLU] | type[nn.ReLU6] | None = None,
) -> nn.Sequential:
    conv = nn.Conv3d(channels, width, kernel, stride, padding=kernel // 2, groups=groups, bias=False)
    parts: list[nn.Module] = [conv, nn.BatchNorm3d(width)]
    return nn.Sequential(*parts, activation(inplace=True)) if activation else nn.Sequential(*parts)
