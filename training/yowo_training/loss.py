"""The training loss of all data sets (paper, equations 7 to 11)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

UNKNOWN = -1  # class of a target box that trains everything but the class: a person whose action is not known
IGNORED = -2  # class of a region in which nothing is background: an unlabelled person
IGNORED_IOU = 0.4  # lower than `ignore_iou`: the boxes of a teacher are rough


@dataclass(frozen=True)
class LossWeights:
    """Weights of the loss parts; defaults are the official values (OFFICIAL_YOWO, "Loss and training").

    Attributes:
        object: of the confidence of anchors that have a box.
        background: of the confidence of all others.
        coordinates: of x, y, w and h.
        classes: of the class term.
        ignore_iou: a background prediction that overlaps any box by more than this has no confidence loss.
        focal_gamma: of the class term; 0 is plain cross entropy.
        label_smoothing: fraction of a true label that is spread over all classes; not with `ManyLabels`.
        both_terms: the class term has both terms of the paper's equation 10, p^gamma log(1 - p) of the classes that a
            box does not have too, which the release leaves out; with `ManyLabels` it always has.
    """

    object: float = 5.0
    background: float = 1.0
    coordinates: float = 1.0
    classes: float = 1.0
    ignore_iou: float = 0.6
    focal_gamma: float = 2.0
    label_smoothing: float = 0.0
    both_terms: bool = False


@dataclass(frozen=True)
class ManyLabels:
    """Labels as in AVA: a person has one pose, and any number of the other actions.

    Attributes:
        exclusive: number of leading classes of which a box has one, by softmax; the others are binary, by sigmoid.
        shares: (C,) fraction of the boxes that have each class; the rarer, the larger the weight of its presence.
    """

    exclusive: int
    shares: Tensor


@dataclass(frozen=True)
class LossParts:
    """Six scalars, each summed over boxes and cells and divided by the batch.

    With `ManyLabels` the class part is a mean over the boxes before that: the official code adds this mean to sums over
    the batch, so that the class part does not outweigh where people are.
    """

    x: Tensor
    y: Tensor
    w: Tensor
    h: Tensor
    confidence: Tensor
    classes: Tensor

    @property
    def total(self) -> Tensor:
        """Their sum, to be minimised."""
        return self.x + self.y + self.w + self.h + self.confidence + self.classes


@dataclass(frozen=True)
class _Targets:
    """Assignment of ground-truth boxes; without those that lost their cell and anchor to a later box."""

    image: Tensor
    anchor: Tensor
    row: Tensor
    column: Tensor
    coordinates: Tensor  # (N, 4): x, y inside the cell, log w, log h against the anchor
    boxes: Tensor  # (N, 4): cx, cy, w, h in cells
    class_id: Tensor
    labels: Tensor  # (N, C) 0 or 1: the classes of all targets with this box


def yowo_loss(
    raw: Tensor,
    targets: list[Tensor],
    anchors: Tensor,
    weights: LossWeights | None = None,
    many: ManyLabels | None = None,
) -> LossParts:
    """Compare raw outputs with ground truth.

    A box belongs to the cell its centre falls into and to the anchor whose shape fits best. Smooth L1 / 2 on x, y
    (after the sigmoid) and w, h (logs), squared error / 2 on confidence against the IoU of the prediction, focal
    loss on the true class. The halves are the paper's lambda of 0.5.

    Args:
        raw: (B, A * (5 + C), rows, columns).
        targets: for each image (N, 5): class, cx, cy, w, h relative to the image; with many labels, a row for each.
            A class may be `UNKNOWN` or `IGNORED`.
        anchors: (A, 2) w, h in cells.
        weights: of the parts; the official ones by default.
        many: for boxes with many labels.

    Returns:
        Six scalars that carry the gradient.
    """
    weights = weights or LossWeights()
    batch, _, rows, columns = raw.shape
    exact = raw.to(torch.promote_types(raw.dtype, torch.float32))
    cells = exact.reshape(batch, len(anchors), -1, rows, columns).permute(0, 1, 3, 4, 2)
    xy, wh = cells[..., :2].sigmoid(), cells[..., 2:4]
    predicted = _boxes_in_cells(xy, wh, anchors).detach()
    people = [boxes[boxes[:, 0] > IGNORED] for boxes in targets]
    found = _assign(people, anchors, rows, columns, cells.shape[-1] - 5)
    own = (found.image, found.anchor, found.row, found.column)

    mask = _background(predicted, targets, rows, columns, weights)
    wanted = torch.zeros_like(mask)
    mask[own] = weights.object
    wanted[own] = _paired_iou(predicted[own], found.boxes)
    confidence = (mask * (cells[..., 4].sigmoid() - wanted) ** 2).sum() / 2

    estimate = torch.cat([xy[own], wh[own]], dim=-1)
    distance = F.smooth_l1_loss(estimate, found.coordinates, reduction="none").sum(dim=0) / 2
    x, y, w, h = (weights.coordinates * distance / batch).unbind()
    known = found.class_id > UNKNOWN
    logits = cells[own][:, 5:][known]
    if many:
        classes = _focal_many(logits, found.labels[known], many, weights.focal_gamma)
    else:
        classes = _focal(logits, found.class_id[known], weights)
    return LossParts(x, y, w, h, confidence / batch, weights.classes * classes / batch)


def _boxes_in_cells(xy: Tensor, wh: Tensor, anchors: Tensor) -> Tensor:
    """(B, A, rows, columns, 4) cx, cy, w, h in cells."""
    rows, columns = xy.shape[2:4]
    y, x = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    corner = torch.stack([x, y], dim=-1).to(xy)
    return torch.cat([xy + corner, wh.exp() * anchors[None, :, None, None]], dim=-1)


def _assign(targets: list[Tensor], anchors: Tensor, rows: int, columns: int, classes: int) -> _Targets:
    """Assign each box to a cell and an anchor; of two with the same, the later one stays."""
    image = torch.cat([torch.full((len(t),), i, device=t.device) for i, t in enumerate(targets)])
    boxes_of_all = torch.cat(targets)
    boxes = boxes_of_all[:, 1:] * boxes_of_all.new_tensor([columns, rows, columns, rows])
    shapes = boxes[:, None, 2:]
    overlap = torch.minimum(shapes, anchors[None]).prod(dim=-1)
    anchor = (overlap / (shapes.prod(dim=-1) + anchors.prod(dim=-1) - overlap)).argmax(dim=1)
    column = boxes[:, 0].long().clamp(0, columns - 1)
    row = boxes[:, 1].long().clamp(0, rows - 1)
    place = ((image * len(anchors) + anchor) * rows + row) * columns + column
    last = {int(where): index for index, where in enumerate(place.tolist())}
    keep = torch.tensor(sorted(last.values()), dtype=torch.long, device=boxes.device)
    inside = boxes[:, :2] - torch.stack([column, row], dim=-1)
    coordinates = torch.cat([inside, (boxes[:, 2:] / anchors[anchor]).log()], dim=-1)
    class_id = boxes_of_all[:, 0].long()
    same = (image[keep, None] == image) & (boxes[keep, None] == boxes).all(dim=-1)
    one_hot = F.one_hot(class_id.clamp(min=0), classes) * (class_id > UNKNOWN)[:, None]
    labels = (same.to(boxes) @ one_hot.to(boxes)).clamp(max=1)
    image, anchor, row, column = (values[keep] for values in (image, anchor, row, column))
    return _Targets(image, anchor, row, column, coordinates[keep], boxes[keep], class_id[keep], labels)


def _background(predicted: Tensor, targets: list[Tensor], rows: int, columns: int, weights: LossWeights) -> Tensor:
    """(B, A, rows, columns): the background weight; 0 where a prediction overlaps a box by more than `ignore_iou`.

    Of an `IGNORED` box `IGNORED_IOU` is enough.
    """
    mask = torch.full(predicted.shape[:-1], weights.background, dtype=predicted.dtype, device=predicted.device)
    for image, boxes in enumerate(targets):
        if len(boxes):
            in_cells = boxes[:, 1:] * boxes.new_tensor([columns, rows, columns, rows])
            enough = torch.where(boxes[:, 0] == IGNORED, IGNORED_IOU, weights.ignore_iou)
            overlap = _paired_iou(predicted[image].unsqueeze(-2), in_cells)
            mask[image][(overlap > enough).any(dim=-1)] = 0
    return mask


def _paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """IoU of (..., 4) cx, cy, w, h with (..., 4), broadcast."""
    low = torch.maximum(boxes[..., :2] - boxes[..., 2:] / 2, others[..., :2] - others[..., 2:] / 2)
    high = torch.minimum(boxes[..., :2] + boxes[..., 2:] / 2, others[..., :2] + others[..., 2:] / 2)
    intersection = (high - low).clamp(min=0).prod(dim=-1)
    union = boxes[..., 2:].prod(dim=-1) + others[..., 2:].prod(dim=-1) - intersection
    return intersection / union


def _focal(logits: Tensor, class_id: Tensor, weights: LossWeights) -> Tensor:
    """Sum of -(1 - p)^gamma log p over the true classes of (N, C) logits, smoothed over the others.

    With both terms, and of -p^gamma log(1 - p) over the other classes.
    """
    log_p = logits.log_softmax(dim=-1)
    of_true = log_p.gather(1, class_id[:, None]).squeeze(1)
    smooth = weights.label_smoothing
    likelihood = (1 - smooth) * of_true + smooth * log_p.mean(dim=-1)
    unsure = (1 - of_true.exp()).clamp(min=1e-7)  # at 0 a power below 1 has an infinite gradient
    loss = (-(unsure**weights.focal_gamma) * likelihood).sum()
    if weights.both_terms:
        p = log_p.exp().clamp(1e-7, 1 - 1e-7)  # at 1 the logarithm is infinite, at 0 the gradient of a power below 1
        absent = p**weights.focal_gamma * (1 - p).log()
        loss = loss - absent.scatter(1, class_id[:, None], 0.0).sum()
    return loss


def _focal_many(logits: Tensor, labels: Tensor, many: ManyLabels, gamma: float) -> Tensor:
    """Binary focal loss of every class, balanced by its frequency; summed over classes, averaged over boxes.

    Weights: exp(1 - share) for a positive, exp(share) for a negative. Probabilities are clamped to 1e-4 from 0 and 1
    (OFFICIAL_YOWO).
    """
    poses, others = logits[:, : many.exclusive], logits[:, many.exclusive :]
    p = torch.cat([poses.softmax(dim=-1), others.sigmoid()], dim=-1).clamp(1e-4, 1 - 1e-4)
    shares = many.shares.to(p)
    yes = -labels * (1 - shares).exp() * (1 - p) ** gamma * p.log()
    no = -(1 - labels) * shares.exp() * p**gamma * (1 - p).log()
    return (yes + no).sum() / max(1, len(logits))
