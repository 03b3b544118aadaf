"""What is trained: a network, and in training an output layer of its own for each branch."""

from __future__ import annotations

from torch import Tensor, nn

from yowo_training.model import Yowo


class Supervised(nn.Module):
    """(B, 3, T, H, W) to the outputs that a loss compares: the network's, then each branch's alone.

    The 2-D branch learns the training videos sooner than the 3-D one; with an output of its own, the slower branch
    still has everything to learn for itself. These layers are no part of the checkpoint.

    Args:
        alone: each branch has its own output; else there is the network's alone.
    """

    def __init__(self, yowo: Yowo, alone: bool) -> None:
        super().__init__()
        self.yowo = yowo
        outputs = yowo.config.outputs
        channels = yowo.branch_channels() if alone else []
        self.heads = nn.ModuleList(
            nn.Sequential(nn.Dropout2d(0.2), nn.Conv2d(c, outputs, 1, bias=False)) for c in channels
        )

    def forward(self, clips: Tensor, heard_3d: Tensor | None = None) -> list[Tensor]:
        """Args: see `Yowo.fused`. With no clip heard the 3-D branch is not run, and has no output of its own."""
        rests = heard_3d is not None and not heard_3d.any()
        features = self.yowo.features(clips, rest_3d=rests)
        alone = [head(seen) for head, seen in zip(self.heads, features, strict=bool(self.heads))]
        return [self.yowo.fused(features, heard_3d), *alone[rests:]]
