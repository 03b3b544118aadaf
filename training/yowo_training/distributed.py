"""Distributed training of one network by several processes that `torchrun` starts."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.parallel import DistributedDataParallel

from yowo_deploy.backends.loader import full_device
from yowo_deploy.errors import InputError
from yowo_training.torch_backend import device_of

PATIENCE = timedelta(hours=6)  # the others wait during validation on the first process


@dataclass(frozen=True)
class Team:
    """The processes of a run.

    Attributes:
        rank: of this process, from 0; the first one writes the files.
        size: number of processes.
    """

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this is the process that writes files and output."""
        return self.rank == 0

    def agree(self, value: int, what: str) -> None:
        """Raise an InputError in every process unless all have the same number."""
        if self.size == 1:
            return
        values: list[Any] = [None] * self.size
        distributed.all_gather_object(values, value)
        if len(set(values)) > 1:
            raise InputError(f"the processes do not agree on the {what}: {', '.join(map(str, values))}")


def join_team(device: str) -> tuple[torch.device, Team]:
    """This process's device and team, from the environment that `torchrun` sets; NCCL on GPUs, else gloo.

    Raises:
        InputError: the device is absent; a team is given one GPU by number, though each process has its own; or the
            environment names a team without all variables of `torchrun`.
    """
    if "WORLD_SIZE" not in os.environ:
        return device_of(device), Team()
    device = device_of(device).type if device == "auto" else full_device(device)
    if device.startswith("cuda:"):
        raise InputError(f"under torchrun each process has a GPU of its own: --device cuda, not {device}")
    if lacking := [name for name in ("RANK", "MASTER_ADDR", "MASTER_PORT") if name not in os.environ]:
        raise InputError(
            f"WORLD_SIZE is set and {', '.join(lacking)} not: start with torchrun, or unset it for a single process"
        )
    own = device_of(f"cuda:{os.environ.get('LOCAL_RANK', '0')}" if device == "cuda" else device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=PATIENCE)
    return own, Team(distributed.get_rank(), distributed.get_world_size())


def shared(network: nn.Module, team: Team, device: torch.device, sometimes_idle: bool) -> nn.Module:
    """The network with gradients and batch statistics over the whole team's batch.

    Loss parts that are means over boxes, or over clips with boxes, are means over each process's own.

    Args:
        sometimes_idle: some steps do not use all weights.
    """
    if team.size == 1:
        return network
    share_statistics(network)
    ids = [device] if device.type == "cuda" else None
    return DistributedDataParallel(network, device_ids=ids, find_unused_parameters=sometimes_idle)


def mean_of(value: float, team: Team, device: torch.device) -> float:
    """The mean of a number over the processes."""
    if team.size == 1:
        return value
    total = torch.tensor(value, dtype=torch.float64, device=device)
    distributed.all_reduce(total)
    return float(total / team.size)


def share_statistics(network: nn.Module) -> None:
    """Make every batch norm use the whole team's batch. PyTorch's SyncBatchNorm works on GPUs only."""
    for module in network.modules():
        if isinstance(module, _BatchNorm):
            module.forward = partial(_shared_norm, module)  # type: ignore[method-assign]


def _shared_norm(norm: Any, x: Tensor) -> Tensor:
    """Batch norm over the whole team's batch; sums and squares in float32 or better."""
    if not norm.training:
        return F.batch_norm(x, norm.running_mean, norm.running_var, norm.weight, norm.bias, False, 0.0, norm.eps)
    with torch.autocast(x.device.type, enabled=False):
        wide = x.to(torch.promote_types(x.dtype, torch.float32))
        axes, shape = [0, *range(2, x.ndim)], (1, -1, *[1] * (x.ndim - 2))
        count = x.numel() / x.shape[1] * distributed.get_world_size()
        mean = _summed(wide.sum(axes)) / count
        centred = wide - mean.view(shape)
        variance = _summed((centred * centred).sum(axes)) / count
        with torch.no_grad():
            norm.running_mean.lerp_(mean.to(norm.running_mean), norm.momentum)
            norm.running_var.lerp_((variance * count / (count - 1)).to(norm.running_var), norm.momentum)
            norm.num_batches_tracked += 1
        scale: Tensor = norm.weight * (variance + norm.eps).rsqrt()
        moved: Tensor = centred * scale.view(shape) + norm.bias.view(shape)
        return moved.to(x.dtype)


class _Sum(torch.autograd.Function):
    """The sum over the team; its gradient is the sum of the processes' gradients."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


def _summed(values: Tensor) -> Tensor:
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total
