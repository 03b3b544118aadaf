"""Decode network outputs into detections."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Int
from yowo_deploy.boxes import Detections, cxcywh_to_xyxy, nms
from yowo_deploy.errors import ModelFileError
from yowo_deploy.spec import ModelSpec


def decode(raw: NDArray[Any], spec: ModelSpec, rows: Int | None = None) -> tuple[Float, Float, Float]:
    """Predictions of one output, before any threshold.

    x = (sigmoid(tx) + column) / columns, w = exp(tw) * anchor_w / columns, likewise in y; OFFICIAL_YOWO, "Decode".
    Computed in float64 and rounded to float32 once, so that processors whose exponentials differ by their last bit
    agree.

    Args:
        raw: (A * (5 + C), rows, columns) float; channel a * (5 + C) + k is tx, ty, tw, th, conf, class 0...
        rows: (N,) which of the A * rows * columns predictions, in that order; all by default.

    Returns:
        boxes (N, 4) as cx, cy, w, h in units of the input, 0 to 1; objectness (N,); class probabilities (N, C).
    """
    grid = spec.grid_size
    cells = raw.reshape(len(spec.anchors), 5 + spec.classes, -1)
    anchor, cell = np.divmod(np.arange(len(cells) * cells.shape[2]) if rows is None else rows, cells.shape[2])
    values = np.ascontiguousarray(cells[anchor, :, cell], np.float64)
    corner = np.stack([cell % grid[0], cell // grid[0]], axis=1)
    # exp(20) cells is far outside any frame, and stays finite where areas are multiplied
    sizes = np.exp(np.minimum(values[:, 2:4], 20)) * (np.asarray(spec.anchors) / grid)[anchor]
    boxes = np.concatenate([(_sigmoid(values[:, :2]) + corner) / grid, sizes], axis=1).astype(np.float32)
    return boxes, _sigmoid(values[:, 4]).astype(np.float32), class_probabilities(values[:, 5:], spec)


def class_probabilities(logits: NDArray[Any], spec: ModelSpec) -> Float:
    """(N, C) class logits to probabilities, by the spec's activation."""
    logits = logits.astype(np.float64, copy=False)
    if spec.class_activation == "softmax":
        return _softmax(logits).astype(np.float32)
    exclusive, others = logits[:, : spec.softmax_classes], logits[:, spec.softmax_classes :]
    return np.concatenate([_softmax(exclusive), _sigmoid(others)], axis=1).astype(np.float32)


def detect(
    raw: NDArray[Any],
    spec: ModelSpec,
    frame_size: tuple[int, int],
    confidence: float | None = None,
    iou: float | None = None,
) -> Detections:
    """Decode, threshold, suppress: the detections of one output.

    Suppression is class-agnostic and ordered by objectness alone, as in the release (OFFICIAL_YOWO, "Decode"); equal
    ones in the order of anchor, row and column.
    For AVA's activation the threshold is on objectness, else on objectness times the best class probability.

    Args:
        raw: (A * (5 + C), rows, columns) float.
        frame_size: (width, height) of the original frame in pixels.
        confidence: detections must exceed this; the spec's display threshold by default.
        iou: suppression threshold; the spec's by default.

    Returns:
        Detections sorted by confidence; equal ones as suppression orders them.

    Raises:
        ModelFileError: the output holds NaN or infinity.
    """
    return detect_and_best(raw, spec, frame_size, confidence, iou)[0]


def detect_and_best(
    raw: NDArray[Any],
    spec: ModelSpec,
    frame_size: tuple[int, int],
    confidence: float | None = None,
    iou: float | None = None,
    keep: float = 0.0,
) -> tuple[Detections, float]:
    """As `detect`, and the highest score of any class, shown or not: a threshold below it would have shown something.

    Args:
        keep: with this, every detection whose objectness exceeds it, whatever its score: what a linker with hysteresis
            takes.

    Raises:
        ModelFileError: the answer holds NaN or infinity.
    """
    if not np.isfinite(raw).all():
        raise ModelFileError("the model's output has NaN or infinity: its weights or its input are damaged")
    threshold = keep or (spec.confidence_threshold if confidence is None else confidence)
    cells = raw.reshape(len(spec.anchors), 5 + spec.classes, -1)
    logits = cells[:, 4].reshape(-1)
    objectness = _sigmoid(logits.astype(np.float64)).astype(np.float32)
    # No score exceeds its objectness: what is below the threshold and below any score needs no decoding.
    anchor, cell = np.divmod(objectness.argmax(), cells.shape[2])
    highest = (objectness.max() * class_probabilities(cells[anchor, None, 5:, cell], spec)).max()
    rows = np.flatnonzero(objectness >= min(threshold, highest))
    boxes, objectness, probabilities = decode(raw, spec, rows)
    scores = objectness[:, None] * probabilities
    best = scores.max(axis=1)
    by_objectness = keep or spec.class_activation == "softmax+sigmoid"
    found = np.flatnonzero((objectness if by_objectness else best) > threshold)
    corners = cxcywh_to_xyxy(boxes)
    # The logit orders as objectness does, and still tells apart what its sigmoid rounds to the same number.
    found = found[nms(corners[found], logits[rows[found]], spec.nms_threshold if iou is None else iou)]
    found = found[np.argsort(-best[found], kind="stable")]
    xyxy = np.clip(corners[found], 0, 1) * np.array(frame_size * 2, np.float32)
    scores = scores[found]
    classes = scores.argmax(axis=1)
    return Detections(xyxy, best[found], classes, scores, objectness=objectness[found]), float(best.max())


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # exp(-x) overflows to inf for x < -709, and 1 / inf is the right answer
        return np.asarray(1 / (1 + np.exp(-values)))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))  # of no class as well
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
