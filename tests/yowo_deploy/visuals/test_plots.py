"""Names in plots can be read, and nothing is said on stderr about them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

plots: Any = pytest.importorskip("yowo_deploy.visuals.plots")

NAMES = ["走路", "يمشي", "चलना", "идти", "walk $x$", "a\nb", "\U0010fffd", "caf\udce9"]
BARS = [(number, number, 0.9, 0.0, 5.0 + number) for number in range(len(NAMES))]


def test_letters_that_no_font_has_are_drawn_as_the_number_of_the_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """DejaVu Sans, matplotlib's own font, has Latin, Greek, Cyrillic and Arabic letters, and no Han or Devanagari."""
    fonts = [font for font in plots.fontManager.ttflist if font.name.startswith(("DejaVu", "Last Resort"))]
    monkeypatch.setattr(plots.fontManager, "ttflist", fonts)
    monkeypatch.setattr(plots, "_JOINS_LETTERS", True)
    shown = ["class 0", "يمشي", "class 2", "идти", r"walk \$x\$", "class 5", "class 6", "class 7"]
    assert plots.readable(NAMES) == shown
    monkeypatch.setattr(plots, "_JOINS_LETTERS", False)
    assert plots.readable(NAMES) == [shown[0], "class 1", *shown[2:]]


@pytest.mark.parametrize("title", ["院子.mp4", "caf\udce9.mp4", "a\nb $1 $2", "\x1b[2J"])
def test_a_timeline_is_drawn_without_a_warning(title: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as matplotlib's about a glyph that is missing
        plots.timeline_plot(BARS, NAMES, (0, 20), "seconds", title, tmp_path / "t.png")
        plots.data_plot(NAMES, [(1, 2)] * len(NAMES), [1.0], np.ones((2, 2)), np.ones((1, 2)), tmp_path / "d.png")
    assert capfd.readouterr().err == ""
    assert all(cv2.imread(str(tmp_path / name)) is not None for name in ("t.png", "d.png"))


def test_thousands_of_classes_with_long_names_fit_a_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plots._CLASSES <= 100  # 5,000 pixels of the largest plot
    monkeypatch.setattr(plots, "_CLASSES", 20)  # drawn in a fifth of the time
    labels = [f"{number} " + "w" * 990 for number in range(3000)]
    counts = np.zeros((3000, 3001), np.int64)
    counts[range(3000), range(3000)] = range(3000)  # the last ones have the most boxes
    curves = [np.ones((2, 1 + number)) for number in range(3000)]
    bars = [(number % 50, number, 0.9, 0.0, 5.0) for number in range(3000)]
    sizes = np.ones((2, 2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # as matplotlib's about axes of no size
        plots.confusion_plot(counts, labels, tmp_path / "c.png")
        plots.precision_recall_plot(curves, labels, tmp_path / "p.png")
        plots.data_plot(labels, [(number, 0) for number in range(3000)], [1.0], sizes, sizes, tmp_path / "d.png")
        plots.timeline_plot(bars, labels, (0, 20), "seconds", "title", tmp_path / "t.png")
    assert all(max(cv2.imread(str(path)).shape) < 2500 for path in tmp_path.iterdir())
    assert plots._largest([0, 5, 3, *[1] * 3000])[:2] == [1, 2]
