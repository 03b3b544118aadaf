"""Decode network outputs into detections."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float
from yowo_deploy.boxes import Detections, cxcywh_to_xyxy, nms
from yowo_deploy.errors import ModelFileError
from yowo_deploy.spec import ModelSpec


def decode(raw: NDArray[Any], spec: ModelSpec) -> tuple[Float, Float, Float]:
    """Every prediction of one output, before any threshold.

    x = (sigmoid(tx) + column) / columns, w = exp(tw) * anchor_w / columns, likewise in y; OFFICIAL_YOWO, "Decode".
    Computed in float64 and rounded to float32 once, so that processors whose exponentials differ by their last bit
    agree.

    Args:
        raw: (A * (5 + C), rows, columns) float; channel a * (5 + C) + k is tx, ty, tw, th, conf, class 0...

    Returns:
        boxes (N, 4) as cx, cy, w, h in units of the input, 0 to 1; objectness (N,); class probabilities (N, C).
        N = A * rows * columns, in that order.
    """
    columns, rows = spec.grid_size
    cells = raw.astype(np.float64).reshape(len(spec.anchors), 5 + spec.classes, rows * columns)
    sizes = np.asarray(spec.anchors) / (columns, rows)
    x = (_sigmoid(cells[:, 0]) + np.tile(np.arange(columns), rows)) / columns
    y = (_sigmoid(cells[:, 1]) + np.repeat(np.arange(rows), columns)) / rows
    # exp(20) cells is far outside any frame, and stays finite where areas are multiplied
    w, h = (np.exp(np.minimum(cells[:, 2 + side], 20)) * sizes[:, side, None] for side in (0, 1))
    boxes = np.stack([x, y, w, h], axis=-1).reshape(-1, 4).astype(np.float32)
    classes = cells[:, 5:].transpose(0, 2, 1).reshape(-1, spec.classes)
    return boxes, _sigmoid(cells[:, 4]).reshape(-1).astype(np.float32), class_probabilities(classes, spec)


def class_probabilities(logits: NDArray[Any], spec: ModelSpec) -> Float:
    """(N, C) class logits to probabilities, by the spec's activation."""
    logits = logits.astype(np.float64, copy=False)
    exclusive = spec.classes if spec.class_activation == "softmax" else spec.softmax_classes
    made = np.concatenate([_softmax(logits[:, :exclusive]), _sigmoid(logits[:, exclusive:])], axis=1)
    return made.astype(np.float32)


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
        raise ModelFileError("the model answers with NaN or infinity; its weights or its input are not what they were")
    threshold = spec.confidence_threshold if confidence is None else confidence
    boxes, objectness, probabilities = decode(raw, spec)
    scores = objectness[:, None] * probabilities
    order_by = objectness if spec.class_activation == "softmax+sigmoid" else scores.max(axis=1)
    rows = np.flatnonzero(objectness > keep if keep else order_by > threshold)
    # The logit orders as objectness does, and still tells apart what its sigmoid rounds to the same number.
    logits = raw.reshape(len(spec.anchors), 5 + spec.classes, -1)[:, 4].reshape(-1)
    rows = rows[nms(cxcywh_to_xyxy(boxes[rows]), logits[rows], spec.nms_threshold if iou is None else iou)]
    rows = rows[np.argsort(-scores[rows].max(axis=1), kind="stable")]
    extent = np.array(frame_size * 2, np.float32)
    xyxy = np.clip(cxcywh_to_xyxy(boxes[rows]), 0, 1) * extent
    best = scores[rows]
    found = Detections(
        xyxy.astype(np.float32), best.max(axis=1), best.argmax(axis=1), best, objectness=objectness[rows]
    )
    return found, float(scores.max())


def _sigmoid(values: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # exp(-x) overflows to inf for x < -709, and 1 / inf is the right answer
        return np.asarray(1 / (1 + np.exp(-values)))


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))  # of no class as well
    return np.asarray(exponentials / exponentials.sum(axis=1, keepdims=True))
