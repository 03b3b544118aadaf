"""CFAM, channel fusion and attention (paper, section 3.1)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from yowo_deploy.spec import AttentionSign


class GramAttention(nn.Module):
    """Channel attention by the Gram matrix: gamma * M F + F, M = softmax of +-F F^T over rows (equations 3 to 6).

    Args:
        sign: "paper" takes softmax(G), "release" softmax(-G), with which official weights were trained
            (OFFICIAL_YOWO, "Attention sign").
    """

    def __init__(self, sign: AttentionSign) -> None:
        super().__init__()
        self.sign = sign
        self.gamma = nn.Parameter(torch.zeros(1))  # the paper's alpha: a fresh model starts without attention

    def forward(self, features: Tensor) -> Tensor:
        """(B, C, H, W) to the same shape; logits and softmax in float32 whatever the precision around them."""
        with torch.autocast(features.device.type, enabled=False):
            flat = features.flatten(2).float()
            query = flat if self.sign == "paper" else -flat
            weights = torch.softmax(query @ flat.transpose(1, 2), dim=-1)
            attended = (weights @ flat).reshape(features.shape)
        return self.gamma * attended.to(features.dtype) + features


class Cfam(nn.Module):
    """(B, channels_in, H, W), the concatenated features, to (B, channels_out, H, W).

    Args:
        width: channels within.
        sign: of the Gram matrix, see `GramAttention`.
    """

    def __init__(self, channels_in: int, width: int, channels_out: int, sign: AttentionSign) -> None:
        super().__init__()
        self.conv_bn_relu1 = _conv_bn_relu(channels_in, width, 1)
        self.conv_bn_relu2 = _conv_bn_relu(width, width, 3)
        self.attention = GramAttention(sign)
        self.conv_bn_relu3 = _conv_bn_relu(width, width, 3)
        self.conv_out = nn.Sequential(nn.Dropout2d(0.1), nn.Conv2d(width, channels_out, 1))

    def forward(self, features: Tensor) -> Tensor:
        x = self.attention(self.conv_bn_relu2(self.conv_bn_relu1(features)))
        return self.conv_out(self.conv_bn_relu3(x))  # type: ignore[no-any-return]


def _conv_bn_relu(channels: int, width: int, kernel: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, width, kernel, padding=kernel // 2, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(width), nn.ReLU(inplace=True))
