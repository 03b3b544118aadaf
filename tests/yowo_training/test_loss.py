"""The loss against the release's figures, a naive float64 loop, and its own laws."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from yowo_training.loss import IGNORED, UNKNOWN, LossWeights, ManyLabels, yowo_loss

WEIGHTS = [LossWeights(), LossWeights(2.0, 0.5, 3.0, 4.0, 0.3, 1.5, 0.2), LossWeights(focal_gamma=1.5, both_terms=True)]
ANCHORS = torch.tensor([[0.9, 3.1], [1.7, 4.0], [3.1, 5.8]], dtype=torch.float64)


def test_the_release_answers_the_same_up_to_its_missing_division_by_the_batch(reference_dir: Path) -> None:
    fixture = np.load(reference_dir / "official" / "loss_fixture.npz")
    raw = torch.from_numpy(fixture["output"]).requires_grad_()
    targets = [torch.from_numpy(rows[rows[:, 3] > 0]) for rows in fixture["target"]]
    parts = yowo_loss(raw, targets, torch.from_numpy(fixture["anchors"]).float().reshape(5, 2))
    batch = len(targets)
    found = {"x": parts.x, "y": parts.y, "w": parts.w, "h": parts.h, "conf": parts.confidence, "cls": parts.classes}
    for name, value in (found | {"loss": parts.total}).items():
        assert value.item() * batch == pytest.approx(float(fixture[name]), rel=1e-5), name
    torch.autograd.backward(parts.total * batch)
    assert raw.grad is not None
    # float32 sums of a few hundred terms of size 1
    np.testing.assert_allclose(raw.grad.numpy(), fixture["gradient"], atol=1e-6)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_a_naive_loop_gives_the_same_value(weights: LossWeights) -> None:
    rng = np.random.default_rng(3)
    raw = rng.standard_normal((2, 3 * 9, 4, 5))
    targets = [np.array([[1, 0.3, 0.4, 0.3, 0.8], [3, 0.8, 0.6, 0.2, 0.5]]), np.zeros((0, 5))]
    expected = naive_loss(raw, targets, ANCHORS.numpy(), weights)
    parts = yowo_loss(torch.from_numpy(raw), [torch.from_numpy(t) for t in targets], ANCHORS, weights)
    assert parts.total.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("weights", WEIGHTS)
def test_the_gradient_is_the_slope_of_a_naive_loop(weights: LossWeights) -> None:
    rng = np.random.default_rng(5)
    raw = rng.standard_normal((1, 3 * 9, 4, 5))
    targets = [np.array([[1, 0.3, 0.4, 0.3, 0.8], [3, 0.8, 0.6, 0.2, 0.5]])]
    tensor = torch.from_numpy(raw).requires_grad_()
    total = yowo_loss(tensor, [torch.from_numpy(t) for t in targets], ANCHORS, weights).total
    [gradient] = torch.autograd.grad(total, tensor)
    strongest = np.argsort(-gradient.abs().numpy().ravel())[:40]
    step = 1e-5
    for index in {*strongest.tolist(), *rng.integers(0, raw.size, 40).tolist()}:
        sides = []
        for sign in (1, -1):
            moved = raw.copy()
            moved.ravel()[index] += sign * step
            sides.append(naive_loss(moved, targets, ANCHORS.numpy(), weights, judged=raw))
        assert (sides[0] - sides[1]) / (2 * step) == pytest.approx(gradient.flatten()[index].item(), abs=1e-6)


def test_of_two_boxes_in_one_cell_the_later_one_is_learnt() -> None:
    torch.manual_seed(0)
    raw = torch.randn(1, 27, 4, 5)
    first, later = ([1.0, 0.51, 0.52, 0.3, 0.9], [3.0, 0.53, 0.57, 0.28, 0.95])
    both, alone = (yowo_loss(raw, [torch.tensor(rows)], ANCHORS.float()) for rows in ([first, later], [later]))
    for name in ("x", "y", "w", "h", "classes"):
        assert getattr(both, name).item() == pytest.approx(getattr(alone, name).item()), name


def test_two_equal_images_have_the_loss_of_one() -> None:
    torch.manual_seed(0)
    raw = torch.randn(1, 27, 4, 5)
    target = torch.tensor([[2.0, 0.5, 0.5, 0.4, 0.4]])
    one = yowo_loss(raw, [target], ANCHORS.float()).total
    two = yowo_loss(raw.repeat(2, 1, 1, 1), [target, target], ANCHORS.float()).total
    assert two.item() == pytest.approx(one.item(), rel=1e-6)


def test_a_perfect_prediction_costs_next_to_nothing_and_any_shift_costs_more() -> None:
    rows, columns, row, column, anchor, class_id = 4, 5, 2, 3, 1, 2
    raw = torch.full((1, 3, 9, rows, columns), -9.0)
    raw[:, :, :4] = 0
    cell = raw[0, anchor, :, row, column]
    cell[4], cell[5 + class_id] = 9, 9  # sure of object and class; tx = ty = 0 is the middle of the cell
    size = ANCHORS[anchor]
    middle = ((column + 0.5) / columns, (row + 0.5) / rows)
    target = torch.tensor([[class_id, *middle, size[0] / columns, size[1] / rows]], dtype=torch.float32)
    perfect = yowo_loss(raw.flatten(1, 2), [target], ANCHORS.float()).total.item()
    assert perfect < 1e-3
    for channel in (0, 1, 2, 3, 4, 5):
        shifted = raw.clone()
        shifted[0, anchor, channel, row, column] += -18.0 if channel == 4 else 18.0
        assert yowo_loss(shifted.flatten(1, 2), [target], ANCHORS.float()).total.item() > perfect + 0.1


def test_images_without_boxes_still_teach_the_background() -> None:
    raw = torch.zeros(1, 27, 4, 5, requires_grad=True)
    parts = yowo_loss(raw, [torch.zeros(0, 5)], ANCHORS.float())
    assert parts.confidence.item() == pytest.approx(3 * 4 * 5 * 0.5**2 / 2)
    assert parts.classes.item() == parts.x.item() == 0.0


@pytest.mark.parametrize("scale", [3, 30])  # of logits: at 30 most probabilities are within 1e-4 of 0 or 1
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_many_labels_a_box_are_what_a_naive_loop_gives(gamma: float, scale: float) -> None:
    rng = np.random.default_rng(4)
    raw = scale * rng.standard_normal((2, 3 * (5 + 6), 4, 5))
    shares = rng.uniform(0, 1, 6)
    box, other = [0.3, 0.4, 0.3, 0.8], [0.8, 0.6, 0.2, 0.5]
    # The first box has three labels, one of them an exclusive one; the second box one label.
    targets = [np.array([[1, *box], [3, *box], [5, *box]]), np.array([[0, *other]])]
    many = ManyLabels(2, torch.from_numpy(shares))
    weights = LossWeights(focal_gamma=gamma)
    tensors = [torch.from_numpy(rows) for rows in targets]
    parts = yowo_loss(torch.from_numpy(raw), tensors, ANCHORS, weights, many)
    expected = 0.0
    for image, labels, (cx, cy, w, h) in ((0, {1, 3, 5}, box), (1, {0}, other)):
        fit = [_iou((0, 0, w * 5, h * 4), (0, 0, *anchor)) for anchor in ANCHORS.numpy()]
        cells = raw[image].reshape(3, 11, 4, 5)[int(np.argmax(fit)), 5:, int(cy * 4), int(cx * 5)]
        poses = np.exp(cells[:2]) / np.exp(cells[:2]).sum()
        for class_id, p in enumerate([*poses, *(_sigmoid(value) for value in cells[2:])]):
            p = min(max(p, 1e-4), 1 - 1e-4)
            if class_id in labels:
                expected -= math.exp(1 - shares[class_id]) * (1 - p) ** gamma * math.log(p)
            else:
                expected -= math.exp(shares[class_id]) * p**gamma * math.log(1 - p)
    # A mean over the two boxes, as in the official code, beside detection parts that are sums; all over the batch.
    assert parts.classes.item() == pytest.approx(expected / 2 / 2, rel=1e-12)
    single = yowo_loss(torch.from_numpy(raw), tensors, ANCHORS, weights)
    assert (parts.x, parts.w, parts.confidence) == (single.x, single.w, single.confidence)


@pytest.mark.parametrize("both_terms", [False, True])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_a_class_that_is_certain_has_a_gradient_that_is_a_number(gamma: float, both_terms: bool) -> None:
    raw = torch.zeros(1, 27, 4, 5)
    raw.view(1, 3, 9, 4, 5)[:, :, 5 + 2] = 200.0
    raw.requires_grad_()
    weights = LossWeights(focal_gamma=gamma, both_terms=both_terms)
    total = yowo_loss(raw, [torch.tensor([[2.0, 0.5, 0.5, 0.4, 0.4]])], ANCHORS.float(), weights)
    [gradient] = torch.autograd.grad(total.total, raw)
    assert gradient.isfinite().all()


def naive_loss(
    raw: np.ndarray,
    targets: list[np.ndarray],
    anchors: np.ndarray,
    weights: LossWeights,
    judged: np.ndarray | None = None,
) -> float:
    """The objective as its description reads (OFFICIAL_YOWO, "Loss and training"), one cell at a time.

    Args:
        judged: outputs whose boxes overlap the true ones, in place of those of `raw`: no gradient flows through them.
    """
    batch, _, rows, columns = raw.shape
    cells, boxes_of = (
        v.reshape(batch, len(anchors), -1, rows, columns) for v in (raw, raw if judged is None else judged)
    )
    total = 0.0
    for image in range(batch):
        boxes = [(int(c), cx * columns, cy * rows, w * columns, h * rows) for c, cx, cy, w, h in targets[image]]
        owners = {}
        for class_id, cx, cy, w, h in boxes:
            fit = [_iou((0, 0, w, h), (0, 0, *anchor)) for anchor in anchors]
            owners[int(np.argmax(fit)), int(cy), int(cx)] = (class_id, cx, cy, w, h)
        for anchor, row, column in np.ndindex(len(anchors), rows, columns):
            tx, ty, tw, th, conf, *logits = cells[image, anchor, :, row, column]
            x, y = _sigmoid(tx), _sigmoid(ty)
            bx, by, bw, bh = boxes_of[image, anchor, :4, row, column]
            size = anchors[anchor][0] * math.exp(bw), anchors[anchor][1] * math.exp(bh)
            predicted = (_sigmoid(bx) + column, _sigmoid(by) + row, *size)
            owner = owners.get((anchor, row, column))
            if owner is None:
                best = max((_iou(predicted, box[1:]) for box in boxes), default=0.0)
                total += 0.0 if best > weights.ignore_iou else weights.background * _sigmoid(conf) ** 2 / 2
                continue
            class_id, cx, cy, w, h = owner
            total += weights.object * (_sigmoid(conf) - _iou(predicted, owner[1:])) ** 2 / 2
            wanted = (cx - column, cy - row, math.log(w / anchors[anchor][0]), math.log(h / anchors[anchor][1]))
            distance = sum(_smooth_l1(a - b) / 2 for a, b in zip((x, y, tw, th), wanted, strict=True))
            p = np.exp(logits) / np.exp(logits).sum()
            smooth = weights.label_smoothing
            likelihood = (1 - smooth) * math.log(p[class_id]) + smooth * np.log(p).mean()
            unsure = (1 - p[class_id]) ** weights.focal_gamma
            total += weights.coordinates * distance - weights.classes * unsure * likelihood
            if weights.both_terms:  # equation 10, of y = 0
                absent = [float(q**weights.focal_gamma * math.log(1 - q)) for q in np.delete(p, class_id)]
                total -= weights.classes * sum(absent)
    return total / batch


def _sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def _smooth_l1(value: float) -> float:
    return 0.5 * value**2 if abs(value) < 1 else abs(value) - 0.5


def _iou(one: tuple[float, ...], other: tuple[float, ...]) -> float:
    sides = [
        max(0.0, min(a + wa / 2, b + wb / 2) - max(a - wa / 2, b - wb / 2))
        for (a, wa), (b, wb) in zip(
            zip(one[:2], one[2:], strict=True), zip(other[:2], other[2:], strict=True), strict=True
        )
    ]
    both = sides[0] * sides[1]
    return both / (one[2] * one[3] + other[2] * other[3] - both)


def test_an_unknown_class_trains_the_box_and_no_class() -> None:
    torch.manual_seed(1)
    raw = torch.randn(1, 27, 4, 5, requires_grad=True)
    box = [0.5, 0.5, 0.4, 0.9]
    named, unknown = (yowo_loss(raw, [torch.tensor([[class_id, *box]])], ANCHORS.float()) for class_id in (2, UNKNOWN))
    assert unknown.classes.item() == 0 < named.classes.item()
    for part in ("x", "y", "w", "h", "confidence"):
        assert getattr(unknown, part).item() == getattr(named, part).item() > 0
    [gradient] = torch.autograd.grad(unknown.total, raw)
    cells = gradient.view(1, 3, 9, 4, 5)
    assert not cells[:, :, 5:].any() and cells[:, :, :5].any()


def test_an_unknown_class_leaves_the_others_many_labels_alone() -> None:
    torch.manual_seed(2)
    raw, many = torch.randn(1, 3 * 11, 4, 5), ManyLabels(2, torch.full((6,), 0.3))
    here, there = [0.3, 0.4, 0.3, 0.8], [0.8, 0.6, 0.2, 0.5]
    labels = [[1.0, *here], [4.0, *here]]
    alone, both = (
        yowo_loss(raw, [torch.tensor(rows)], ANCHORS.float(), many=many).classes.item()
        for rows in (labels, [*labels, [float(UNKNOWN), *there]])
    )
    assert alone == pytest.approx(both)


def test_an_ignored_region_is_neither_target_nor_background() -> None:
    raw = torch.full((1, 3, 9, 4, 5), -9.0)
    raw[:, :, :4] = 0
    row, column, anchor = 2, 3, 1
    raw[0, anchor, 4, row, column] = 9  # sure of somebody whom nobody labelled
    raw = raw.flatten(1, 2).requires_grad_()
    size = ANCHORS[anchor] / torch.tensor([5.0, 4.0])
    box = [(column + 0.5) / 5, (row + 0.5) / 4, *size.tolist()]
    elsewhere = [0.1, 0.1, 0.1, 0.1]
    for rows, punished in ([[IGNORED, *box]], False), ([[IGNORED, *elsewhere]], True), ([], True):
        parts = yowo_loss(raw, [torch.tensor(rows, dtype=torch.float32).reshape(-1, 5)], ANCHORS.float())
        [gradient] = torch.autograd.grad(parts.total, raw)
        assert (gradient.view(1, 3, 9, 4, 5)[0, anchor, 4, row, column].item() > 1e-5) == punished
        assert (parts.confidence.item() > 0.1) == punished
        assert parts.x.item() == parts.w.item() == parts.classes.item() == 0
