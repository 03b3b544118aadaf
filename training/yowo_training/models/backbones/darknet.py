"""Darknet-19 as in the official YOWO: the whole YOLOv2 detector, down to its 425 output channels."""

from __future__ import annotations

from collections import OrderedDict

import torch
from torch import Tensor, nn

from yowo_training.models.backbones.base import Backbone

# (module number, layer number, channels out, kernel): 2x2 pooling stands where a module number is left out
# before the passthrough. OFFICIAL_YOWO, "Network".
_TRUNK = [
    (0, 1, 32, 3), (2, 2, 64, 3), (4, 3, 128, 3), (5, 4, 64, 1), (6, 5, 128, 3), (8, 6, 256, 3), (9, 7, 128, 1),
    (10, 8, 256, 3), (12, 9, 512, 3), (13, 10, 256, 1), (14, 11, 512, 3), (15, 12, 256, 1), (16, 13, 512, 3),
    (18, 14, 1024, 3), (19, 15, 512, 1), (20, 16, 1024, 3), (21, 17, 512, 1), (22, 18, 1024, 3), (23, 19, 1024, 3),
    (24, 20, 1024, 3),
]  # fmt: skip
_BARE = 18  # layers of the classifier that Darknet-19 was made for, its last one left out
_PASSTHROUGH_FROM = 16
_POOLS = (1, 3, 7, 11, 17)


class Darknet19(Backbone):
    """(B, 3, H, W) to (B, 425, H/32, W/32); parameters have the official key names."""

    out_channels = 425

    def __init__(self) -> None:
        super().__init__()
        modules = _trunk(len(_TRUNK))
        modules[26] = _conv(21, 512, 64, 1)
        modules[29] = _conv(22, 4 * 64 + 1024, 1024, 3)
        modules[30] = nn.Sequential(OrderedDict(conv23=nn.Conv2d(1024, self.out_channels, 1)))
        self.models = nn.ModuleDict({str(number): modules[number] for number in sorted(modules)})

    def forward(self, frames: Tensor) -> Tensor:
        x = frames
        for number in range(25):
            x = self.models[str(number)](x)
            if number == _PASSTHROUGH_FROM:
                fine = x
        side = reorg(self.models["26"](fine))
        return self.models["30"](self.models["29"](torch.cat([side, x], dim=1)))  # type: ignore[no-any-return]


class Darknet19Bare(Backbone):
    """(B, 3, H, W) to (B, 1024, H/32, W/32): the classifier's eighteen layers, without YOLOv2's detection layers."""

    out_channels = 1024

    def __init__(self) -> None:
        super().__init__()
        modules = _trunk(_BARE)
        self.models = nn.ModuleDict({str(number): modules[number] for number in sorted(modules)})

    def forward(self, frames: Tensor) -> Tensor:
        x = frames
        for module in self.models.values():
            x = module(x)
        return x


def reorg(x: Tensor) -> Tensor:
    """(B, C, H, W) to (B, 4C, H/2, W/2), the four neighbours outermost: ONNX SpaceToDepth, not pixel_unshuffle."""
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, channels, height // 2, 2, width // 2, 2)
    return blocks.permute(0, 3, 5, 1, 2, 4).reshape(batch, 4 * channels, height // 2, width // 2)


def _trunk(layers: int) -> dict[int, nn.Module]:
    """The first convolutions and all pooling, by module number."""
    modules: dict[int, nn.Module] = {number: nn.MaxPool2d(2) for number in _POOLS}
    channels = 3
    for number, layer, width, kernel in _TRUNK[:layers]:
        modules[number] = _conv(layer, channels, width, kernel)
        channels = width
    return modules


def _conv(layer: int, channels: int, width: int, kernel: int) -> nn.Sequential:
    parts: list[tuple[str, nn.Module]] = [
        (f"conv{layer}", nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)),
        (f"bn{layer}", nn.BatchNorm2d(width)),
        (f"leaky{layer}", nn.LeakyReLU(0.1)),
    ]
    return nn.Sequential(OrderedDict(parts))
