"""An exponential moving average of a network's weights, which validates better than the weights themselves."""

from __future__ import annotations

import copy
from typing import Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class Average(Generic[Network]):
    """Keeps `model`, a copy whose floating-point tensors trail those of the network that is trained.

    Args:
        decay: share of the old value kept at each update, less over the first updates.
    """

    def __init__(self, network: Network, decay: float) -> None:
        self.model: Network = copy.deepcopy(network).eval()
        self._decay = decay
        self.updates = 0

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Take one step towards the network as it is now."""
        self.updates += 1
        decay = min(self._decay, (1 + self.updates) / (10 + self.updates))
        for mine, theirs in zip(self.model.state_dict().values(), network.state_dict().values(), strict=True):
            if mine.is_floating_point():
                mine.lerp_(theirs, 1 - decay)
            else:
                mine.copy_(theirs)
