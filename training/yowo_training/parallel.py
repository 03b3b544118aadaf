"""Several processes that train one network, as `torchrun` starts them. One process alone needs nothing of this."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.distributed.nn.functional import all_reduce
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True)
class Team:
    """This process and its like.

    Attributes:
        rank: number of this process, from 0; the first one writes the files.
        size: how many there are.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """This is the process that writes files and speaks."""
        return self.rank == 0


def join_team(device: torch.device) -> Team:
    """The team of which `torchrun` has told this process by its environment: over NCCL on GPUs, else gloo."""
    if "WORLD_SIZE" not in os.environ:
        return Team()
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Team(distributed.get_rank(), distributed.get_world_size())


def shared(network: nn.Module, team: Team, device: torch.device, sometimes_idle: bool) -> nn.Module:
    """The network, whose gradients and batch statistics are those of the whole team's batch.

    Args:
        sometimes_idle: there are steps in which some weights take no part.
    """
    if team.size == 1:
        return network
    share_statistics(network)
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=ids, find_unused_parameters=sometimes_idle)


def mean_of(value: float, team: Team, device: torch.device) -> float:
    """Of a number that each process has."""
    if team.size == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return float(total / team.size)


def share_statistics(network: nn.Module) -> None:
    """Let every batch norm see the whole team's batch. PyTorch's own SyncBatchNorm works on GPUs alone."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.forward = partial(_shared_norm, module)  # type: ignore[method-assign]


def _shared_norm(norm: Any, x: Tensor) -> Tensor:
    """What `norm` does with the whole team's batch."""
    if not norm.training:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
    axes = [0, *range(2, x.ndim)]
    count = x.numel() / x.shape[1] * distributed.get_world_size()
    sums: Tensor = all_reduce(torch.stack([x.sum(axes), (x * x).sum(axes)]))  # type: ignore[no-untyped-call]
    mean = sums[0] / count
    variance = (sums[1] / count - mean * mean).clamp(min=0)
    with torch.no_grad():
        norm.running_mean.lerp_(mean, norm.momentum)
        norm.running_var.lerp_(variance * count / (count - 1), norm.momentum)
        norm.num_batches_tracked += 1
    shape = (1, -1, *[1] * (x.ndim - 2))
    scale: Tensor = norm.weight * (variance + norm.eps).rsqrt()
    moved: Tensor = x * scale.view(shape) + (norm.bias - mean * scale).view(shape)
    return moved
