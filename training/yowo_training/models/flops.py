"""Count parameters and multiply-adds of a network by part, without running it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch._subclasses import FakeTensorMode  # shapes without arithmetic
from torch.utils.flop_counter import FlopCounterMode

from yowo_training.models.yowo import Yowo

PARTS = ("backbone_3d", "backbone_2d", "backbone_extra", "cfam", "conv_final")


@dataclass(frozen=True)
class Cost:
    """Cost of one part.

    Attributes:
        parameters: number of trainable weights.
        macs: multiply-adds for one clip; the papers' "FLOPs" (OFFICIAL_YOWO, "Network").
    """

    parameters: int
    macs: int


def cost(model: Yowo, clip_shape: tuple[int, int, int, int]) -> dict[str, Cost]:
    """Cost of each part that the model has, and of the whole under "total".

    Args:
        clip_shape: (3, T, H, W).
    """
    model.eval()
    with FakeTensorMode(allow_non_fake_inputs=True), FlopCounterMode(display=False) as counter:
        model(torch.empty(1, *clip_shape))
    counts = counter.get_flop_counts()
    costs = {}
    for name in PARTS:
        part = getattr(model, name)
        if part is not None:
            flops = sum(counts.get(f"{type(model).__name__}.{name}", {}).values())
            costs[name] = Cost(sum(p.numel() for p in part.parameters()), flops // 2)
    costs["total"] = Cost(sum(p.numel() for p in model.parameters()), counter.get_total_flops() // 2)
    return costs
