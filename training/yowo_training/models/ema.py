"""An exponential moving average of a network's weights."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Generic, TypeVar

import torch
from torch import Tensor, nn

Network = TypeVar("Network", bound=nn.Module)


class Average(Generic[Network]):
    """`model` is a copy whose floating-point tensors are the moving average of the trained network's.

    Args:
        decay: weight of the old value at each update, less over the first updates.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.model: Network = copy.deepcopy(network).eval()
        self._decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Add the current weights of the network to the average."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        for mine, theirs in zip(self.model.state_dict().values(), network.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)


@torch.no_grad()
def mixed(network: Network, other: Mapping[str, Tensor], share: float) -> Network:
    """The network with so much of each weight replaced by that of another; itself where there is no other.

    The mean of a network and of what it was fine-tuned to often does better than either, and most of all on other data
    than it was fine-tuned on (Wortsman et al., 2022, "Robust fine-tuning of zero-shot models").

    Args:
        other: tensors by name, of the same network.
    """
    if not other:
        return network
    network = copy.deepcopy(network)
    for name, value in network.state_dict().items():
        if value.is_floating_point():
            value.lerp_(other[name].to(value), share)
    return network
