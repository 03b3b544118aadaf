"""Class outputs that are learnt from a teacher network (knowledge distillation, Hinton et al., 2015)."""

from __future__ import annotations

import copy
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn import functional as F

from yowo_training.loss import LossParts, ManyLabels
from yowo_training.models.yowo import Yowo


class Teacher:
    """A copy of the network with which a fine-tuning begins: few labelled videos are soon learnt by heart.

    Args:
        network: copied as it is now.
        share: of the class loss that comes from the teacher, in place of the labels.
        many: for boxes with many labels.
    """

    def __init__(self, network: Yowo, share: float, many: ManyLabels | None) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.share, self.many = share, many

    def taught(self, parts: LossParts, output: Tensor, clips: Tensor, anchors: int, weight: float) -> LossParts:
        """The parts of the loss with the teacher's share in the class part, at the weight of that part."""
        with torch.no_grad():
            wanted = self.network(clips)
        loss = weight * distillation_loss(output, wanted, anchors, self.many)
        return replace(parts, classes=torch.lerp(parts.classes, loss, self.share))


def distillation_loss(raw: Tensor, teacher: Tensor, anchors: int, many: ManyLabels | None = None) -> Tensor:
    """Cross entropy of the classes of a network with those of its teacher, wherever the teacher sees a person.

    No label is needed, so people whose action is not known count as well.

    Args:
        raw, teacher: (B, A * (5 + C), rows, columns) raw outputs for the same clips.
        anchors: A.
        many: for boxes with many labels.

    Returns:
        A scalar that carries the gradient: the sum over cells and anchors, each weighted by the teacher's objectness,
        divided by the batch.
    """
    exact = torch.promote_types(raw.dtype, torch.float32)
    of_anchors = (len(raw), anchors, -1, *raw.shape[2:])
    cells, wanted = (each.to(exact).reshape(of_anchors).movedim(2, -1) for each in (raw, teacher.detach()))
    logits, of_teacher = cells[..., 5:], wanted[..., 5:]
    poses = many.exclusive if many else logits.shape[-1]
    likelihood = of_teacher[..., :poses].softmax(dim=-1) * logits[..., :poses].log_softmax(dim=-1)
    others = F.binary_cross_entropy_with_logits(
        logits[..., poses:], of_teacher[..., poses:].sigmoid(), reduction="none"
    )
    loss = others.sum(dim=-1) - likelihood.sum(dim=-1)
    total: Tensor = (wanted[..., 4].sigmoid() * loss).sum()
    return total / len(raw)
