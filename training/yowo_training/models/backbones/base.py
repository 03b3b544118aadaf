"""Base class of backbones: a module with a number of output channels."""

from __future__ import annotations

from torch import Tensor, nn

from yowo_deploy.spec import Modality


class Backbone(nn.Module):
    """`forward` takes frames or clips, one tensor, and gives one tensor of `out_channels` channels.

    Attributes:
        modality: what the first layer reads, see `ModelSpec.branches`.
    """

    out_channels: int
    modality: Modality = "colour"

    def __call__(self, x: Tensor) -> Tensor:
        features: Tensor = super().__call__(x)
        return features
