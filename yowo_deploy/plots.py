"""Plots as PNG files. Knows matplotlib, which is an extra; nothing of how the numbers came about."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib import colormaps
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from numpy.typing import NDArray

_SHOWN = 4000  # more dots than that are a blot


def precision_recall_plot(curves: Sequence[NDArray[np.float64]], labels: Sequence[str], path: Path) -> None:
    """Precision over recall, a line a class that has one.

    Args:
        curves: for each class (2, N) recall and precision.
    """
    figure = Figure(figsize=(9, 6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    drawn = [(label, curve) for label, curve in zip(labels, curves, strict=True) if curve.shape[1]]
    colours = colormaps["turbo"](np.linspace(0.05, 0.95, max(len(drawn), 1)))
    for (label, (recall, precision)), colour in zip(drawn, colours, strict=False):
        axes.plot(recall, np.maximum.accumulate(precision[::-1])[::-1], label=label, color=colour, lw=1.2)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    if drawn:
        figure.legend(loc="outside right upper", fontsize=8, ncols=1 + len(drawn) // 30)
    figure.savefig(path, dpi=110, format="png")


def data_plot(
    labels: Sequence[str],
    counts: Sequence[tuple[int, int]],
    lengths_s: Sequence[float],
    sizes: NDArray[np.float64],
    anchors: NDArray[np.float64],
    path: Path,
) -> None:
    """What a data set is made of: tubes by class, lengths of tubes, sizes of boxes beside anchors.

    Args:
        counts: of each class, its tubes to train and to test on.
        lengths_s: seconds of each tube.
        sizes, anchors: (N, 2) width and height in grid cells.
    """
    figure = Figure(figsize=(14, max(4.5, 0.28 * len(labels))), layout="constrained")
    FigureCanvasAgg(figure)
    bars, lengths, dots = figure.subplots(1, 3)
    places, (train, test) = range(len(labels)), np.array(counts).reshape(-1, 2).T
    bars.barh(places, train, color="#0072b2", label="train")
    bars.barh(places, test, left=train, color="#e69f00", label="test")
    bars.set_yticks(places, [label.replace("$", r"\$") for label in labels], fontsize=8)
    bars.invert_yaxis()
    bars.set(xlabel="tubes")
    bars.legend()
    lengths.hist(lengths_s, bins=30, color="#009e73")
    lengths.set(xlabel="length of a tube, seconds", ylabel="tubes")
    picked = sizes[np.random.default_rng(0).permutation(len(sizes))[:_SHOWN]]
    dots.scatter(*picked.T, s=4, alpha=0.25, color="#56b4e9", linewidths=0, label=f"boxes ({len(sizes)})")
    dots.scatter(*anchors.T, s=80, marker="x", color="#d55e00", label="anchors")
    dots.set(xlabel="width, cells", ylabel="height, cells", xlim=(0, None), ylim=(0, None))
    dots.legend(loc="lower right")
    figure.savefig(path, dpi=110, format="png")


def anchor_plot(sizes: NDArray[np.float64], anchors: NDArray[np.float64], path: Path) -> None:
    """Box sizes as dots, anchors as crosses; beside it the anchors as centred rectangles. Units: grid cells."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    FigureCanvasAgg(figure)
    dots, shapes = figure.subplots(1, 2)
    picked = sizes[np.random.default_rng(0).permutation(len(sizes))[:_SHOWN]]
    dots.scatter(*picked.T, s=4, alpha=0.25, color="#56b4e9", linewidths=0, label=f"boxes ({len(sizes)})")
    dots.scatter(*anchors.T, s=80, marker="x", color="#d55e00", label="anchors")
    dots.set(xlabel="width, cells", ylabel="height, cells", xlim=(0, None), ylim=(0, None))
    dots.legend(loc="lower right")
    limit = anchors.max() / 2 * 1.1
    for width, height in anchors:
        shapes.add_patch(Rectangle((-width / 2, -height / 2), width, height, fill=False, edgecolor="#d55e00", lw=1.5))
    shapes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel="cells", title="anchors")
    figure.savefig(path, dpi=110)
