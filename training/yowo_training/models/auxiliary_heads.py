"""The network in training, with a classifier of whole clips on each branch."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from yowo_training.loss import UNKNOWN
from yowo_training.models.yowo import Yowo


class Supervised(nn.Module):
    """(B, 3, T, H, W) to the network's output, and to a classification of the clip by each branch.

    The loss of the output reaches a cell through one box; the classifiers train each branch on all its features, as the
    3-D backbones of the paper were trained on Kinetics. They are not saved in checkpoints.

    Args:
        classes: number of actions.
        classify: whether there are classifiers.
    """

    def __init__(self, yowo: Yowo, classes: int, classify: bool) -> None:
        super().__init__()
        self.yowo = yowo
        self.names = list(yowo.branches()) if classify else []
        channels = [yowo.branches()[name].out_channels for name in self.names]
        self.heads = nn.ModuleList(nn.Sequential(nn.Dropout(0.3), nn.Linear(c, classes)) for c in channels)

    def forward(
        self, clips: Tensor, heard_3d: Tensor | None = None, only_3d: bool = False
    ) -> tuple[Tensor, list[Tensor]] | list[Tensor]:
        """The raw output, and (B, classes) logits of each branch.

        Args:
            heard_3d: see `Yowo.fused`.
            only_3d: run the branches over the clip only, and return their logits.
        """
        features = self.yowo.features(clips, "backbone_2d" if only_3d else "")
        known = zip(self.names, self.heads, strict=True)
        heads = [head for name, head in known if not (only_3d and name == "backbone_2d")]
        named = [head(seen.mean(dim=(2, 3))) for head, seen in zip(heads, features, strict=bool(heads))]
        if only_3d:
            return named
        return self.yowo.fused(features, heard_3d), named


def clip_loss(logits: Tensor, targets: list[Tensor], smoothing: float) -> Tensor:
    """Cross entropy of the actions in each clip, averaged over the clips with boxes whose action is known.

    Args:
        logits: (B, C).
        targets: see `yowo_loss`; every label of every box has the same weight.
        smoothing: fraction of the truth that is spread over all classes.
    """
    named = [boxes[boxes[:, 0] > UNKNOWN, 0].long() for boxes in targets]
    filled = [place for place, class_ids in enumerate(named) if len(class_ids)]
    if not filled:
        return logits.sum() * 0
    wanted = [F.one_hot(named[place], logits.shape[1]).float().mean(dim=0) for place in filled]
    return F.cross_entropy(logits[filled].float(), torch.stack(wanted), label_smoothing=smoothing)
