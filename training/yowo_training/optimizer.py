"""Optimizers and learning rate schedules."""

from __future__ import annotations

import math

import torch
from torch import nn

from yowo_training.recipes import Recipe

WARMUP = 0.05  # fraction of a cosine cycle over which the learning rate rises


def build_optimizer(model: nn.Module, recipe: Recipe, filled: tuple[str, ...] = ()) -> torch.optim.Optimizer:
    """The recipe's optimizer; no decay for norms and biases, a separate rate for pretrained weights.

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
    """Set every group's learning rate to its peak times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def rate_factor(recipe: Recipe, step: int, done: float) -> float:
    """The learning rate as a fraction of its peak.

    Args:
        step: from 1, of the optimizer.
        done: fraction of the run, 0 to 1.
    """
    if recipe.halve_at:
        return float(0.5 ** sum(step > at for at in recipe.halve_at))
    return rate_at(done, recipe.first_3d)


def rate_at(done: float, first_3d: float = 0.0) -> float:
    """Linear rise, then a cosine down to 1 % of the peak.

    Args:
        first_3d: fraction of the run in which only the 3-D branch is trained; a cycle of its own, down to 20 %.
    """
    if done < first_3d:
        return 0.2 + 0.8 * rate_at(done / first_3d)
    done = (done - first_3d) / (1 - first_3d)
    if done < WARMUP:
        return max(done / WARMUP, 0.01)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP))) / 2
