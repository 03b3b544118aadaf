"""What is trained: a network, and in training a classifier of whole clips on each branch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yowo_training.models.yowo import Yowo


class Supervised(nn.Module):
    """(B, 3, T, H, W) to the network's output, and to the actions that each branch alone sees in a clip.

    A cell of the output hears of one box; what a clip is about, each branch can learn from all its features, as the
    3-D backbones of the paper learnt it on Kinetics. The classifiers are no part of the checkpoint.

    Args:
        classes: of actions.
        alone: there are classifiers.
    """

    def __init__(self, yowo: Yowo, classes: int, alone: bool) -> None:
        super().__init__()
        self.yowo = yowo
        channels = yowo.branch_channels() if alone else []
        self.heads = nn.ModuleList(nn.Sequential(nn.Dropout(0.3), nn.Linear(c, classes)) for c in channels)

    def forward(
        self, clips: Tensor, heard_3d: Tensor | None = None, only_3d: bool = False
    ) -> tuple[Tensor, list[Tensor]] | Tensor:
        """The raw output, and (B, classes) logits of each branch.

        Args:
            heard_3d: see `Yowo.fused`.
            only_3d: nothing but the 3-D branch is run, and its logits are the answer.
        """
        if only_3d:
            [seen] = self.yowo.features(clips, rest_2d=True)
            logits: Tensor = self.heads[0](seen.mean(dim=(2, 3)))
            return logits
        features = self.yowo.features(clips)
        named = [head(seen.mean(dim=(2, 3))) for head, seen in zip(self.heads, features, strict=bool(self.heads))]
        return self.yowo.fused(features, heard_3d), named


def clip_loss(logits: Tensor, targets: list[Tensor], smoothing: float) -> Tensor:
    """Cross entropy of the actions in each clip, a mean over the clips with anybody in them.

    Args:
        logits: (B, C).
        targets: as of `yowo_loss`; each label of each box counts alike.
        smoothing: share of the truth that is spread over all classes.
    """
    peopled = [place for place, boxes in enumerate(targets) if len(boxes)]
    if not peopled:
        return logits.sum() * 0
    wanted = [F.one_hot(targets[place][:, 0].long(), logits.shape[1]).float().mean(dim=0) for place in peopled]
    return F.cross_entropy(logits[peopled].float(), torch.stack(wanted), label_smoothing=smoothing)
