"""Fit anchors to a data set's boxes: k-means with 1 - IoU as distance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.errors import DatasetError
from yowo_deploy.video.reader import open_video

Sizes = NDArray[np.float64]
CLEARLY_BETTER = 0.15  # in mean IoU; J-HMDB's anchors are 0.06 below fitted ones
_ROUNDS = 300  # k-means settles long before


def box_sizes(videos: Sequence[AnnotatedVideo], grid_size: tuple[int, int]) -> Sizes:
    """(N, 2) width and height in grid cells of every annotated box, each frame of each tube.

    Args:
        grid_size: (columns, rows) of the network's output.

    Raises:
        DatasetError: there is no box with an area, or a video cannot be opened.
    """
    sizes = []
    for video in videos:
        cells = np.array(grid_size) / np.array(video.size_wh or _size_wh(video))
        sizes += [(tube.xyxy[:, 2:] - tube.xyxy[:, :2]) * cells for tube in video.tubes]
    found = np.concatenate(sizes).astype(np.float64) if sizes else np.zeros((0, 2))
    found = found[(found > 0).all(axis=1)]
    if not len(found):
        raise DatasetError("no box with an area in these videos, nothing to fit anchors to")
    return found


def _size_wh(video: AnnotatedVideo) -> tuple[int, int]:
    with open_video(video.path, allow_damaged=True) as reader:
        return reader.size_wh


def fit_anchors(sizes: Sizes, count: int = 5, starts: int = 8, seed: int = 0) -> Sizes:
    """The best of several k-means, each with a k-means++ start; the centre of a cluster is its median shape.

    Args:
        sizes: (N, 2) width and height of boxes.
        count: anchors wanted.

    Returns:
        (count, 2) in the unit of `sizes`, by area ascending.

    Raises:
        DatasetError: there are fewer different shapes than anchors wanted.
    """
    if len(np.unique(sizes, axis=0)) < count:
        raise DatasetError(f"{len(np.unique(sizes, axis=0))} different box shapes, too few for {count} anchors")
    rng = np.random.default_rng(seed)
    fits = [_settle(_spread_start(sizes, count, rng), sizes) for _ in range(starts)]
    best = max(fits, key=lambda anchors: mean_iou(sizes, anchors))
    return np.asarray(best[np.argsort(best.prod(axis=1))])


def mean_iou(sizes: Sizes, anchors: Sizes) -> float:
    """Mean over boxes of the overlap with the anchor that fits best, all centred on one point."""
    return float(shape_iou(sizes, anchors).max(axis=1).mean())


def anchor_fit(sizes: Sizes, anchors: Sizes) -> tuple[float, float | None]:
    """Mean overlap of boxes with their best anchor: with these, and with those that k-means finds, where it can."""
    thinned = sizes[:: 1 + len(sizes) // 20_000]  # neighbours in a tube are alike
    if len(np.unique(sizes, axis=0)) < len(anchors):
        return mean_iou(sizes, anchors), None
    return mean_iou(sizes, anchors), mean_iou(sizes, fit_anchors(thinned, len(anchors), starts=2))


def bad_anchors(sizes: Sizes, anchors: Sizes) -> str:
    """The message that fitted anchors would fit clearly better; "" if they would not."""
    present, fitted = anchor_fit(sizes, anchors)
    if fitted is None or fitted - present < CLEARLY_BETTER:
        return ""
    return f"anchors fit these boxes badly: mean IoU {present:.3f}, with fitted ones {fitted:.3f}"


def shape_iou(sizes: Sizes, anchors: Sizes) -> Sizes:
    """(N, A) overlap of (N, 2) boxes and (A, 2) anchors centred on one point."""
    intersection = np.minimum(sizes[:, None], anchors[None]).prod(axis=2)
    return np.asarray(intersection / (sizes.prod(axis=1)[:, None] + anchors.prod(axis=1)[None] - intersection))


def _spread_start(sizes: Sizes, count: int, rng: np.random.Generator) -> Sizes:
    """k-means++: each next centre is a box drawn by its squared distance, 1 - IoU, from those chosen."""
    chosen = sizes[rng.integers(len(sizes))][None]
    while len(chosen) < count:
        distance = (1 - shape_iou(sizes, chosen).max(axis=1)).clip(0) ** 2
        chosen = np.vstack([chosen, sizes[rng.choice(len(sizes), p=distance / distance.sum())]])
    return np.asarray(chosen)


def _settle(anchors: Sizes, sizes: Sizes) -> Sizes:
    for _ in range(_ROUNDS):
        nearest = shape_iou(sizes, anchors).argmax(axis=1)
        moved = np.array(
            [np.median(sizes[nearest == i], axis=0) if (nearest == i).any() else a for i, a in enumerate(anchors)]
        )
        if np.array_equal(moved, anchors):
            break
        anchors = moved
    return anchors
