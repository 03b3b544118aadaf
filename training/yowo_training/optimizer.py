"""Which weights learn, how fast, and when. Knows recipes and networks; nothing of data."""

from __future__ import annotations

import math

import torch
from torch import nn

from yowo_training.recipes import Recipe

WARMUP = 0.05  # share of a cosine's run over which the learning rate rises


def build_optimizer(model: nn.Module, recipe: Recipe, filled: tuple[str, ...] = ()) -> torch.optim.Optimizer:
    """The recipe's optimizer; norms and biases without decay, pretrained weights at a rate of their own.

    Args:
        model: a `Yowo`, or the `Supervised` around it.
        filled: branches that were started from a file.
    """
    started = {*filled, *(recipe.pretrained if recipe.imagenet else ())}
    named = [(name.removeprefix("yowo."), weights) for name, weights in model.named_parameters()]
    pretrained = {weights for name, weights in named if name.partition(".")[0] in started}
    groups = []
    for is_pretrained in (True, False):
        for decays in (True, False):
            trained = (p for p in model.parameters() if p.requires_grad)
            chosen = [p for p in trained if (p in pretrained) == is_pretrained and (p.ndim > 1) == decays]
            rate = recipe.learning_rate * (recipe.pretrained_rate if is_pretrained else 1.0)
            decay = recipe.weight_decay if decays else 0.0
            groups.append({"params": chosen, "lr": rate, "peak": rate, "weight_decay": decay})
    groups = [group for group in groups if group["params"]]
    if recipe.optimizer == "sgd":
        return torch.optim.SGD(groups, momentum=recipe.momentum)
    return torch.optim.AdamW(groups)


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to its own height times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def rate_factor(recipe: Recipe, step: int, done: float) -> float:
    """The learning rate as a share of its height.

    Args:
        step: from 1, of the optimizer.
        done: share of the run that lies behind.
    """
    if recipe.halve_at:
        return float(0.5 ** sum(step > at for at in recipe.halve_at))
    return rate_at(done, recipe.first_3d)


def rate_at(done: float, alone: float = 0.0) -> float:
    """Up in a line, then down as a cosine to 1 %.

    Args:
        alone: share of the run for which one branch trains without the other. A cycle of its own, down to 20 %.
    """
    if done < alone:
        return 0.2 + 0.8 * rate_at(done / alone)
    done = (done - alone) / (1 - alone)
    if done < WARMUP:
        return max(done / WARMUP, 0.01)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP))) / 2
