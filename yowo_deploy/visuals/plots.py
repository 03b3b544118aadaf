"""Plots as PNG files, whole or absent, with matplotlib."""

from __future__ import annotations

import unicodedata
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.font_manager import fontManager, get_font
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from numpy.typing import NDArray

from yowo_deploy.files import atomic_write
from yowo_deploy.visuals.draw import LONGEST_NAME, colour_of, text_colour_on

_SHOWN = 4000  # more dots than that are a blot
_MARKED = 60  # points of a line that still show as points
_WRITTEN = 0.01  # share from which a cell has its number
_ROWS = 40  # of people, on a page that is still read
_CLASSES = 100  # on such a page; of thousands the picture took gigabytes
_WIDE = 3.0  # inches of a column of such names
_FONT, _REGULAR = "DejaVu Sans", (400, "normal", "regular")  # comes with matplotlib
_BOXES = "Last Resort"  # has a box with a hint for every letter there is
_JOINS_LETTERS = tuple(map(int, matplotlib.__version__.split(".")[:2])) >= (3, 11)  # as Arabic and Devanagari need it


def precision_recall_plot(curves: Sequence[NDArray[np.float64]], labels: Sequence[str], path: str | Path) -> None:
    """Precision over recall, a line a class that has one.

    Args:
        curves: for each class (2, N) recall and precision.
    """
    names, kept = readable(labels), _largest([curve.shape[1] for curve in curves])
    drawn = [(names[class_id], curves[class_id]) for class_id in kept if curves[class_id].shape[1]]
    figure = _figure(6 + _WIDE * _columns(drawn), 6)
    axes = figure.subplots()
    colours = colormaps["turbo"](np.linspace(0.05, 0.95, max(len(drawn), 1)))
    for (label, (recall, precision)), colour in zip(drawn, colours, strict=False):
        axes.plot(recall, np.maximum.accumulate(precision[::-1])[::-1], label=label, color=colour, lw=1.2)
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02))
    axes.set_title(_left_out(labels, "detections"), fontsize=10)
    if drawn:
        figure.legend(loc="outside right upper", fontsize=8, ncols=_columns(drawn))
    _save(figure, path)


def data_plot(
    labels: Sequence[str],
    counts: Sequence[tuple[int, int]],
    lengths_s: Sequence[float],
    sizes: NDArray[np.float64],
    anchors: NDArray[np.float64],
    path: str | Path,
    sides: tuple[str, str] = ("train", "test"),
) -> None:
    """What a data set is made of: tubes by class, lengths of tubes, sizes of boxes beside anchors.

    Args:
        counts: of each class, its tubes on each of the two `sides`.
        lengths_s: seconds of each tube.
        sizes, anchors: (N, 2) width and height in grid cells.
    """
    kept = _largest([sum(of_class) for of_class in counts])
    figure = _figure(14, max(4.5, 0.28 * len(kept)))
    bars, lengths, dots = figure.subplots(1, 3)
    places, (train, test) = range(len(kept)), np.array(counts).reshape(-1, 2)[kept].T
    bars.barh(places, train, color="#0072b2", label=sides[0])
    bars.barh(places, test, left=train, color="#e69f00", label=sides[1])
    names = readable(labels)
    bars.set_yticks(places, [names[class_id] for class_id in kept], fontsize=8)
    bars.set_title(_left_out(labels, "tubes"), fontsize=10)
    bars.invert_yaxis()
    bars.set(xlabel="tubes")
    bars.legend()
    lengths.hist(lengths_s, bins=30, color="#009e73")
    lengths.set(xlabel="length of a tube, seconds", ylabel="tubes")
    _dots(dots, sizes, anchors)
    _save(figure, path)


def training_plot(columns: Mapping[str, NDArray[np.float64]], path: str | Path) -> None:
    """The course of a training run over its epochs: losses, figures of the validations, learning rate, speed.

    Args:
        columns: of results.csv by name, NaN where a row has no value.
    """
    figure = _figure(12, 7)
    panels = figure.subplots(2, 2).ravel()
    losses = [name for name in columns if name.endswith("loss")]
    figures = ("frame_map", "recall", "accuracy")
    for axes, names, title in zip(
        panels, (losses, figures, ("rate",), ("clips_per_s",)), ("loss", "validation", "rate", "clips/s"), strict=True
    ):
        for number, name in enumerate(names):
            known = ~np.isnan(columns[name])
            if known.any():
                colour = colormaps["tab10"](number)
                marker = "o" if known.sum() <= _MARKED else ""
                axes.plot(columns["epoch"][known], columns[name][known], label=name, color=colour, marker=marker, ms=4)
        axes.set(title=title, xlabel="epoch")
        axes.grid(alpha=0.3)
        if len(names) > 1 and axes.lines:
            axes.legend(fontsize=8)
    panels[1].set_ylim(0, 1.02)
    _save(figure, path)


def confusion_plot(counts: NDArray[np.int64], labels: Sequence[str], path: str | Path) -> None:
    """Share of the ground-truth boxes of each class (rows) by what they were taken for (columns).

    Args:
        counts: (C, C + 1), see `confusion_matrix`; the last column was not found.
    """
    kept, every_name = _largest(counts.sum(axis=1).tolist()), readable(labels)
    size = max(6.0, 0.4 * len(kept))
    figure = _figure(size + 1.5, size)
    axes = figure.subplots()
    shares = counts[kept] / np.maximum(counts[kept].sum(axis=1, keepdims=True), 1)
    shares = shares[:, [*kept, len(labels)]]
    shown = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    names = [every_name[class_id] for class_id in kept]
    axes.set_xticks(range(len(kept) + 1), [*names, "not found"], rotation=60, ha="right", fontsize=8)
    axes.set_yticks(range(len(kept)), names, fontsize=8)
    axes.set(xlabel="best-scoring detection", ylabel="truth")
    axes.set_title(_left_out(labels, "boxes"), fontsize=10)
    for row, column in np.argwhere(shares >= _WRITTEN):
        ink = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, f"{shares[row, column]:.2f}", ha="center", va="center", fontsize=7, color=ink)
    figure.colorbar(shown)
    _save(figure, path)


def anchor_plot(sizes: NDArray[np.float64], anchors: NDArray[np.float64], path: str | Path) -> None:
    """Box sizes as dots, anchors as crosses; beside it the anchors as centred rectangles. Units: grid cells."""
    figure = _figure(10, 5)
    dots, shapes = figure.subplots(1, 2)
    _dots(dots, sizes, anchors)
    limit = anchors.max() / 2 * 1.1
    for width, height in anchors:
        shapes.add_patch(Rectangle((-width / 2, -height / 2), width, height, fill=False, edgecolor="#d55e00", lw=1.5))
    shapes.set(xlim=(-limit, limit), ylim=(-limit, limit), aspect="equal", xlabel="cells", title="anchors")
    _save(figure, path)


def depth_plot(errors: Sequence[float], limits: Sequence[float], first: int | None, path: str | Path) -> None:
    """Error behind each layer against its depth, beside its limit, on a logarithmic scale.

    Args:
        errors: infinite where a value is no number; drawn at the top.
        first: the layer to point at.
    """
    figure = _figure(10, 4.5)
    axes = figure.subplots()
    finite = np.where(np.isfinite(errors), errors, np.nan)
    top = float(np.nanmax([*finite, *limits, 1e-12])) * 10
    shown = np.where(np.isnan(finite), top, np.maximum(finite, 1e-9))
    axes.semilogy(shown, marker=".", ms=4, lw=1, color="#0072b2", label="difference")
    axes.semilogy(limits, lw=1, ls="--", color="#999999", label="limit")
    if first is not None:
        axes.semilogy([first], [shown[first]], marker="o", ms=11, mfc="none", color="#d55e00", label="the first", ls="")
    axes.set(xlabel="layer", ylabel="difference, relative")
    axes.grid(alpha=0.3)
    axes.legend()
    _save(figure, path)


def latency_plot(names: Sequence[str], seconds: Sequence[NDArray[np.float64]], path: str | Path) -> None:
    """How latencies are spread, and how they went: left the share of calls above each, right one dot a call.

    The share has a logarithmic axis, so that the slowest calls, which a histogram hides, are as wide as the others.

    Args:
        names: of what was measured.
        seconds: for each (N,) in the order of the calls.
    """
    figure = _figure(10, 4.5)
    spread, course = figure.subplots(1, 2)
    colours = colormaps["tab10"](np.arange(10))
    for number, (name, values) in enumerate(zip(names, seconds, strict=True)):
        ordered, colour = np.sort(values) * 1000, colours[number % 10]
        above = 1 - np.arange(len(ordered)) / len(ordered)
        spread.step(ordered, 100 * above, where="pre", color=colour, lw=1.5, label=f"{name} ({len(ordered)} calls)")
        spread.axvline(float(np.median(ordered)), color=colour, lw=0.8, ls=":")
        course.plot(1000 * values, ".", color=colour, ms=3, alpha=0.6)
    for axes in (spread, course):
        axes.grid(alpha=0.25)
    spread.set(xlabel="latency, ms (dotted: median)", ylabel="share of calls that took as long or longer, %")
    spread.set(yscale="log", ylim=(None, 110))
    spread.yaxis.set_major_formatter("{x:g}")
    course.set(xlabel="call", ylabel="latency, ms", ylim=(0, None))
    figure.legend(loc="outside upper left", fontsize=8)
    _save(figure, path)


def timeline_plot(
    bars: Sequence[tuple[int, int, float, float, float]],
    labels: Sequence[str],
    span: tuple[float, float],
    unit: str,
    title: str,
    path: str | Path,
) -> None:
    """Who does what from when to when: a row a person, a bar an action, its score in it where there is room.

    Args:
        bars: person, class, score, begin and end, as `span` counts.
        labels: names by class.
        span: of the video.
        unit: of the axis.
    """
    spent: dict[int, float] = {}
    for person, _, _, begin, end in bars:
        spent[person] = spent.get(person, 0) + end - begin
    people = sorted(sorted(spent, key=lambda person: -spent[person])[:_ROWS])
    left_out = f", the {_ROWS} seen longest of {len(spent)} people" if len(spent) > _ROWS else ""
    names = readable(labels)
    if any(name == f"class {number}" != label for number, (name, label) in enumerate(zip(names, labels, strict=True))):
        left_out += " (class N: no installed font has the letters of its name)"
    shown = sorted({class_id for person, class_id, *_ in bars if person in people})[:_CLASSES]
    figure = _figure(9 + _WIDE * _columns(shown), 1.6 + 0.38 * max(2, len(people)))
    axes = figure.subplots()
    length = max(span[1] - span[0], 1e-9)
    for person, class_id, score, begin, end in bars:
        if person not in people:
            continue
        blue, green, red = (channel / 255 for channel in colour_of(class_id))
        ink = tuple(channel / 255 for channel in text_colour_on(colour_of(class_id)))
        axes.barh(people.index(person), end - begin, left=begin, height=0.7, color=(red, green, blue), lw=0)
        text = f"{names[class_id]} {score:.2f}"
        if (end - begin) / length > 0.0085 * len(text):
            middle = (begin + end) / 2, people.index(person)
            axes.annotate(text, middle, ha="center", va="center", fontsize=8, color=ink)
    axes.set_yticks(range(len(people)), [f"#{person}" for person in people])
    axes.set(xlabel=unit, ylabel="person", xlim=span, ylim=(max(1, len(people)) - 0.4, -0.6))
    lacking = _lacking(title)
    letters = (c if c.isprintable() and c not in lacking else c.encode("unicode_escape").decode() for c in title)
    axes.set_title(escaped("".join(letters)) + left_out, fontsize=10, loc="left")
    axes.grid(axis="x", alpha=0.3)
    axes.set_axisbelow(True)
    colours = [tuple(channel / 255 for channel in reversed(colour_of(class_id))) for class_id in shown]
    patches = [Rectangle((0, 0), 1, 1, color=colour) for colour in colours]
    if shown:
        entries = [names[class_id] for class_id in shown]
        figure.legend(patches, entries, loc="outside right upper", fontsize=8, ncols=_columns(shown))
    _save(figure, path)


def _columns(entries: Sequence[object]) -> int:
    """Columns of a legend."""
    return 1 + len(entries) // 30


def _largest(counts: Sequence[int]) -> list[int]:
    """The classes with the most of something, as many as a page has room for, in their own order."""
    return sorted(sorted(range(len(counts)), key=lambda class_id: -counts[class_id])[:_CLASSES])


def _left_out(labels: Sequence[str], things: str) -> str:
    return f"the {_CLASSES} of {len(labels):,} classes with the most {things}" if len(labels) > _CLASSES else ""


def escaped(text: str) -> str:
    """Text as it is: matplotlib would read what stands between dollar signs as mathematics."""
    return text.replace("$", r"\$")


def readable(labels: Sequence[str]) -> list[str]:
    """Names as they are drawn: cut off where they are long, and "class N" where no installed font has the letters,
    which would be empty boxes."""
    labels = [label if len(label) <= LONGEST_NAME else f"{label[: LONGEST_NAME - 3]}..." for label in labels]
    lacking = _lacking("".join(labels))
    joined = ("Mn", "Mc") if not _JOINS_LETTERS else ()
    hidden = {
        letter
        for letter in set("".join(labels))
        if letter in lacking
        or not letter.isprintable()
        or unicodedata.category(letter) in joined
        or (joined and unicodedata.bidirectional(letter) in ("R", "AL"))
    }
    return [f"class {i}" if hidden.intersection(label) else escaped(label) for i, label in enumerate(labels)]


def _lacking(text: str) -> set[str]:
    """The letters that no installed font has."""
    return _fonts_for(text)[1]


def _fonts_for(text: str) -> tuple[list[str], set[str]]:
    """Installed fonts that have the letters of a text between them, matplotlib's own first; letters that none has."""
    families, lacking = list[str](), set(text)
    upright = (font for font in fontManager.ttflist if font.style == "normal" and font.weight in _REGULAR)
    fonts = [font for font in upright if not font.name.startswith(_BOXES)]
    for font in sorted(fonts, key=lambda font: (font.name != _FONT, "Noto" not in font.name, font.name)):
        table = get_font(font.fname).get_charmap() if lacking else {}
        found = {letter for letter in lacking if ord(letter) in table}
        if found or not families:
            families.append(font.name)
            lacking -= found
    return families, lacking


def _figure(width: float, height: float) -> Figure:
    """An empty page, in inches."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def _save(figure: Figure, path: str | Path) -> None:
    texts = [found for found in figure.findobj(Text) if isinstance(found, Text)]
    families, _ = _fonts_for("".join(found.get_text() for found in texts))
    for found in texts:
        found.set_fontfamily(families)
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=110, format="png")


def _dots(axes: Axes, sizes: NDArray[np.float64], anchors: NDArray[np.float64]) -> None:
    """Box sizes as dots, anchors as crosses."""
    picked = sizes[np.random.default_rng(0).permutation(len(sizes))[:_SHOWN]]
    axes.scatter(
        picked[:, 0], picked[:, 1], s=4, alpha=0.25, color="#56b4e9", linewidths=0, label=f"boxes ({len(sizes)})"
    )
    axes.scatter(anchors[:, 0], anchors[:, 1], s=80, marker="x", color="#d55e00", label="anchors")
    axes.set(xlabel="width, cells", ylabel="height, cells", xlim=(0, None), ylim=(0, None))
    axes.legend(loc="lower right")
