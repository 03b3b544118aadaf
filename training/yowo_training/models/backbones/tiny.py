"""Two backbones small enough to train in a minute on a laptop: for the demo and for tests."""

from __future__ import annotations

from torch import Tensor, nn

from yowo_training.models.backbones.base import Backbone

_WIDTHS = (16, 24, 48, 96, 128)
_WIDTHS_3D = (8, 16, 32, 64, 128)


class Tiny2d(Backbone):
    """(B, 3, H, W) to (B, 128, H/32, W/32): five strided 3x3 convolutions, the later ones followed by another."""

    out_channels = _WIDTHS[-1]

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage, width in enumerate(_WIDTHS):
            layers.append(_conv2d(channels, width, stride=2))
            if stage >= 2:
                layers.append(_conv2d(width, width))
            channels = width
        self.features = nn.Sequential(*layers)

    def forward(self, frames: Tensor) -> Tensor:
        return self.features(frames)  # type: ignore[no-any-return]


class Tiny3d(Backbone):
    """(B, 3, T, H, W) to (B, 128, T/8, H/32, W/32): time is halved in the last three stages only.

    Args:
        last_stride: in space; 1 gives H/16, W/16, for frames of half size.
    """

    out_channels = _WIDTHS_3D[-1]

    def __init__(self, last_stride: int = 2) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 3
        for stage, width in enumerate(_WIDTHS_3D):
            side = 2 if stage < len(_WIDTHS_3D) - 1 else last_stride
            layers.append(_conv3d(channels, width, stride=(2 if stage >= 2 else 1, side, side)))
            channels = width
        self.features = nn.Sequential(*layers)

    def forward(self, clips: Tensor) -> Tensor:
        return self.features(clips)  # type: ignore[no-any-return]


def _conv2d(channels: int, width: int, stride: int = 1) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))


def _conv3d(channels: int, width: int, stride: tuple[int, int, int]) -> nn.Sequential:
    conv = nn.Conv3d(channels, width, 3, stride, padding=1, bias=False)
    return nn.Sequential(conv, nn.BatchNorm3d(width), nn.ReLU(inplace=True))
