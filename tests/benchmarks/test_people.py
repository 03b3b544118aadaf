"""People are found whatever they do, false boxes count apart, and thresholds are chosen by F1, then by steadiness."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from benchmarks.people import Found, actions, count, named_table, picture, table
from benchmarks.thresholds import Row, f1, steadiest
from benchmarks.zoo import architecture, figures, precision_changes
from yowo_deploy.boxes import Detections
from yowo_deploy.evaluation import Evaluation, Figures
from yowo_deploy.metrics import ClassAp
from yowo_deploy.model_files.default import model_path

BOX, FAR, HALF_OFF = [0.0, 0, 10, 20], [50.0, 50, 60, 70], [6.0, 0, 16, 20]
NONE = np.zeros((0, 4), np.float32)


def boxes(*rows: list[float]) -> np.ndarray:
    return np.array(rows, np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("found", "truth", "ignored", "expected"),
    [
        (boxes(BOX), boxes(BOX), NONE, Found(1, 1, 0, 1)),
        (boxes(HALF_OFF), boxes(BOX), NONE, Found(1, 0, 1, 1)),
        (boxes(BOX, FAR), boxes(BOX), NONE, Found(1, 1, 1, 1)),
        (boxes(BOX, FAR), boxes(BOX), boxes(FAR), Found(1, 1, 0, 1)),
        (NONE, boxes(BOX, FAR), boxes(FAR), Found(2, 0, 0, 1)),
        (boxes(FAR), NONE, NONE, Found(0, 0, 1, 1)),
        (NONE, NONE, NONE, Found(0, 0, 0, 1)),
    ],
)
def test_a_person_is_found_by_half_an_overlap_and_other_boxes_are_false(
    found: np.ndarray, truth: np.ndarray, ignored: np.ndarray, expected: Found
) -> None:
    assert count(found, truth, ignored) == expected


def test_the_last_row_counts_all_people_and_frames_together() -> None:
    first, second = Found(8, 2, 1, 10), Found(2, 2, 3, 10)
    names = ("0.25", "0.15", "0.1", "0.05", "default")
    text = table([("a", dict.fromkeys(names, first)), ("b", dict.fromkeys(names, second))])
    assert text.splitlines()[-1].startswith("| all | 10 | 40 % (0.20) |")


def test_the_action_shown_of_a_person_is_that_of_the_box_that_fits_best() -> None:
    nearly = [1.0, 0, 11, 20]
    found = Detections(
        boxes(nearly, BOX, FAR), np.ones(3, np.float32), np.array([2, 1, 0]), np.ones((3, 3), np.float32)
    )
    assert actions(found, boxes(BOX)) == [1] and actions(found, boxes(FAR, nearly)) == [0, 2]
    assert actions(found, boxes([80.0, 80, 90, 90])) == [] and actions(found, NONE) == []
    empty = found[np.zeros(3, bool)]
    assert actions(empty, boxes(BOX)) == []
    text = named_table([("a", Counter(run=3, sit=1)), ("b", Counter())], most=1)
    assert text.splitlines()[2:] == ["| a | run 75 % |", "| b | - |"]


def test_the_steadiest_pair_within_half_a_point_is_chosen() -> None:
    best, steady = Row(0.1, 0.3, 80, 80, 80.0, 5.0), Row(0.1, 0.4, 79, 80, 79.6, 3.0)
    worse = Row(0.2, 0.5, 70, 90, 78.0, 1.0)
    assert steadiest([best, steady, worse]) == steady
    assert steadiest([best, worse]) == best
    assert f1(100, 50) == pytest.approx(200 / 3) and f1(0, 0) == 0


def test_a_row_of_the_zoo_is_read_from_the_file_and_its_evaluation(tmp_path: Path) -> None:
    found = architecture(model_path("default"))
    assert found["2-D branch"] == "efficientnet_lite0" and found["frames x stride"] == "16 x 1"
    assert float(found["GMAC a clip"]) > 0.5 and found["architecture"] == "yowo-lite"
    ap = ClassAp(np.array([0.5]))
    alone = Figures(ClassAp(np.array([0.4])), {}, 0.8, 0.5)
    whole = Evaluation(ap, {0.2: ap, 0.5: ap}, 0.9, 0.6, 10, 0, variants={"frame": alone})
    points = figures(whole)
    assert points["frame-mAP@0.5 along tubes"] == 50 and points["frame-mAP@0.5, every frame alone"] == 40
    assert points["recall"] == 90 and points["class accuracy"] == 60


def test_changes_by_precision_are_differences_and_unknown_ones_a_dash(tmp_path: Path) -> None:
    assert set(precision_changes(tmp_path).values()) == {"-"}
    for form, value in (("fp32", 51.86), ("fp16", 51.87)):
        (tmp_path / f"{form}.openvino.1.json").write_text(json.dumps([value, 93.0, 59.0]))
    changes = precision_changes(tmp_path)
    assert changes.pop("FP16 on openvino") == "+0.01" and set(changes.values()) == {"-"}


def test_the_picture_has_the_shares_of_the_people_by_action(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda figure, path: drawn.append(figure))
    rows = [("fencing", Found(10, 8, 0, 10), Counter(push=5, wave=3)), ("diving", Found(4, 0, 0, 4), Counter())]
    picture(rows, tmp_path / "people.png")
    written = [text.get_text() for text in drawn[0].axes[0].texts]
    assert written == ["push 50", "wave 30", "overlooked 20", "overlooked 100"]
