"""A timeline has a bar an action."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.yowo_deploy.sinks.yard import NAMES, yard
from yowo_deploy.errors import MissingExtraError, OutputError
from yowo_deploy.result import Result
from yowo_deploy.sinks import TimelineSink
from yowo_deploy.visuals import image_io

LATIN = ("walk", "run $5", "sit")  # matplotlib's font has no others


@pytest.mark.parametrize("timed", [True, False])
def test_a_timeline_has_a_bar_an_action(
    timed: bool, made_up: Callable[..., Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plots: Any = pytest.importorskip("yowo_deploy.visuals.plots")
    given, draw = [], plots.timeline_plot
    monkeypatch.setattr(plots, "timeline_plot", lambda *arguments: (given.append(arguments), draw(*arguments)))
    others = {} if timed else {"timestamp": None}
    with TimelineSink(tmp_path / "t.png", "yard $ 5", LATIN) as sink:
        for each in yard(lambda number, people: made_up(number, people, **others)):
            sink.write(each.frame, each)
    [(bars, labels, span, unit, *_)] = given
    a_frame = 1 / 25 if timed else 1
    expected = [(4, 2, 0.8, 10, 15), (0, 0, 0.9, 0, 20), (0, 1, 0.7, 20, 40)]
    for bar, (person, class_id, score, begin, end) in zip(bars, expected, strict=True):
        assert bar[:2] == (person, class_id)
        assert bar[2:] == pytest.approx((score, begin * a_frame, end * a_frame))
    assert (labels, unit) == (LATIN, "seconds" if timed else "frames")
    assert span == pytest.approx((0, 40 * a_frame))
    picture = cv2.imread(str(tmp_path / "t.png"))
    assert (
        picture.shape[1] > 1000 and (np.unique(picture.reshape(-1, 3), axis=0, return_counts=True)[1] > 2000).sum() >= 4
    )


def test_a_timeline_of_many_shows_those_seen_longest(made_up: Callable[..., Result], tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    with TimelineSink(tmp_path / "t.png", "crowd", LATIN) as sink:
        for number in range(3):
            each = made_up(number, {who: [0.9, 0, 0] for who in range(60)})
            sink.write(each.frame, each)
    assert cv2.imread(str(tmp_path / "t.png")).shape[0] < 2200  # 40 rows of 0.38 inch, and 1.6 inch, at 110 dots


def test_what_a_timeline_lacks_is_said_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OutputError, match=r"ends in \.png"):
        TimelineSink(tmp_path / "t.pdf", "", NAMES)
    monkeypatch.setattr(image_io, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"yowo-deploy\[plots\]"):
        TimelineSink(tmp_path / "t.png", "", NAMES)
