"""Frame-mAP: as a plain loop counts it, and as others published it."""

from __future__ import annotations

import gzip
import itertools
import json
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from yowo_deploy.boxes import Tube, iou_matrix
from yowo_deploy.metrics import FrameBoxes, classification_accuracy, frame_map, localization_recall
from yowo_deploy.metrics.ava_ap import ava_map
from yowo_deploy.metrics.frame_ap import average_precision, confusion_matrix
from yowo_deploy.metrics.video_ap import video_map
from yowo_deploy.spec import MAX_LABELS

law = settings(max_examples=100, deadline=None)
CLASSES = 3

# frame, class, corners, score
Row = tuple[int, int, tuple[float, float, float, float], float]


def table(rows: Iterable[Row]) -> FrameBoxes:
    rows = list(rows)
    return FrameBoxes(
        np.array([row[0] for row in rows], np.int64),
        np.array([row[1] for row in rows], np.int64),
        np.array([row[2] for row in rows], np.float32).reshape(-1, 4),
        np.array([row[3] for row in rows], np.float32),
    )


@st.composite
def rows(draw: st.DrawFn, min_size: int = 0, distinct: bool = False) -> list[Row]:
    """Few frames, few classes, small boxes: much overlaps, and scores are often equal unless `distinct`."""
    made: list[Row] = []
    for number in range(draw(st.integers(min_size, 10))):
        x, y = draw(st.integers(0, 4)), draw(st.integers(0, 4))
        box = (x, y, x + draw(st.integers(1, 4)), y + draw(st.integers(1, 4)))
        score = (number + 1) / 16 if distinct else draw(st.sampled_from([0.25, 0.5, 0.75]))
        made.append((draw(st.integers(0, 2)), draw(st.integers(0, CLASSES - 1)), box, score))
    return draw(st.permutations(made))


def overlap(one: Row, other: Row, pixel_inclusive: bool = False) -> float:
    return float(iou_matrix(np.array([one[2]], float), np.array([other[2]], float), pixel_inclusive)[0, 0])


def plain_ap(detections: list[Row], truth: list[Row], iou: float, pixel_inclusive: bool) -> float:
    """Pascal VOC's devkit for one class: best score first, the best box of the frame or nothing, each box once; then
    the area under the precision that is reached at this recall or a higher one."""
    taken: set[int] = set()
    right = []
    for detection in sorted(detections, key=lambda row: -row[3]):
        candidates = [
            (overlap(detection, row, pixel_inclusive), -i) for i, row in enumerate(truth) if row[0] == detection[0]
        ]
        best, index = max(candidates, default=(0.0, 0))
        right.append(best >= iou and -index not in taken)
        if right[-1]:
            taken.add(-index)
    if not truth:
        return math.nan
    precision = [sum(right[: n + 1]) / (n + 1) for n in range(len(right))]
    return sum(max(precision[n:]) for n in range(len(right)) if right[n]) / len(truth)


# A box over two others, which takes the first, so that the one that fits the first comes too late.
LEFT, RIGHT, WHOLE = (0, 0, 2, 2), (2, 0, 4, 2), (0, 0, 4, 2)


@law
@given(rows(), rows(), st.sampled_from([0.2, 0.5, 0.75]), st.booleans())
@example([(0, 0, WHOLE, 0.9), (0, 0, LEFT, 0.8)], [(0, 0, LEFT, 1.0), (0, 0, RIGHT, 1.0)], 0.5, False)
def test_the_figure_is_that_of_the_plain_loop(
    detections: list[Row], truth: list[Row], iou: float, pixel_inclusive: bool
) -> None:
    found = frame_map(table(detections), table(truth), CLASSES, iou, pixel_inclusive)
    per_class = [
        plain_ap([r for r in detections if r[1] == c], [r for r in truth if r[1] == c], iou, pixel_inclusive)
        for c in range(CLASSES)
    ]
    # Double precision throughout; sums of at most ten numbers below 1, in another order.
    assert found.per_class == pytest.approx(per_class, abs=1e-12, nan_ok=True)
    known = [value for value in per_class if not math.isnan(value)]
    assert found.mean == pytest.approx(sum(known) / len(known) if known else math.nan, abs=1e-12, nan_ok=True)


def apart(truth: list[Row]) -> bool:
    """Whether no two boxes of a frame and class are the same, so that each can be found."""
    return len({row[:3] for row in truth}) == len(truth)


@law
@given(rows(min_size=1))
def test_the_truth_itself_is_perfect_and_nothing_is_worthless(truth: list[Row]) -> None:
    assume(apart(truth))
    boxes = table(truth)
    assert frame_map(boxes, boxes, CLASSES).mean == 1
    assert localization_recall(boxes, boxes) == 1
    nothing = FrameBoxes.concatenate([])
    assert frame_map(nothing, boxes, CLASSES).mean == 0
    assert localization_recall(nothing, boxes) == 0
    assert math.isnan(classification_accuracy(nothing, boxes))


@law
@given(rows(distinct=True), rows(), st.randoms(use_true_random=False))
def test_neither_the_order_of_rows_nor_the_scale_of_scores_matters(
    detections: list[Row], truth: list[Row], random: Any
) -> None:
    before = frame_map(table(detections), table(truth), CLASSES).per_class
    shuffled = [(*row[:3], row[3] ** 2) for row in random.sample(detections, len(detections))]
    after = frame_map(table(shuffled), table(truth), CLASSES).per_class
    assert np.array_equal(after, before, equal_nan=True)


def test_a_box_found_twice_counts_once_and_a_box_of_another_frame_or_class_not_at_all() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    truth = table([(0, 0, box, 1), (1, 0, box, 1)])
    twice = table([(0, 0, box, 0.9), (0, 0, box, 0.8), (1, 0, box, 0.7)])
    assert frame_map(twice, truth, 2).per_class[0] == pytest.approx((1 + 2 / 3) / 2)
    elsewhere = table([(2, 0, box, 0.9), (0, 1, box, 0.8)])
    found = frame_map(elsewhere, truth, 2)
    assert found.per_class[0] == 0
    assert math.isnan(found.per_class[1])
    assert found.mean == 0


def test_as_many_classes_as_a_model_may_have_need_no_memory_for_their_pairs() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    truth = table([(0, 0, box, 1), (1, MAX_LABELS - 1, box, 1)])
    found = table([(0, 0, box, 0.9), (1, MAX_LABELS - 2, box, 0.9)])
    assert classification_accuracy(found, truth) == 0.5
    per_class = frame_map(found, truth, MAX_LABELS).per_class
    assert per_class[[0, -1]].tolist() == [1, 0] and np.isnan(per_class[1:-1]).all()


def test_without_truth_there_is_no_figure() -> None:
    nothing, something = FrameBoxes.concatenate([]), table([(0, 0, (0, 0, 1, 1), 1)])
    assert math.isnan(frame_map(something, nothing, 2).mean)
    assert math.isnan(localization_recall(something, nothing))
    assert math.isnan(classification_accuracy(something, nothing))


@pytest.mark.parametrize(
    ("right", "positives", "expected"),
    [
        ([], 3, 0),
        ([True], 1, 1),
        ([True, False], 1, 1),
        ([False, True], 1, 1 / 2),
        ([True, False, True], 2, (1 + 2 / 3) / 2),
        ([False, True, True], 2, 2 / 3),  # the envelope lifts 1/2 to the 2/3 that comes after
        ([True, True], 4, 2 / 4),
    ],
)
def test_the_area_under_the_envelope(right: list[bool], positives: int, expected: float) -> None:
    assert average_precision(np.array(right, bool), positives) == pytest.approx(expected)


def test_eleven_points_begin_at_their_recall_and_not_after_it() -> None:
    """Of a hundred boxes `found` are found and nothing is wrong: precision is 1 at recalls up to found / 100."""
    for found in range(1, 101):
        expected = sum(100 * tenth <= 10 * found for tenth in range(11)) / 11
        assert average_precision(np.ones(found, bool), 100, eleven_point=True) == pytest.approx(expected), found


def test_an_overlap_of_exactly_the_threshold_is_enough() -> None:
    """As Pascal VOC's devkit has it (`ovmax >= minoverlap`), and AVA's evaluator (`iou >= threshold`)."""
    truth, half = table([(0, 0, (0, 0, 10, 10), 1.0)]), table([(0, 0, (0, 0, 10, 5), 1.0)])
    for iou, enough in ((0.5, 1.0), (np.nextafter(0.5, 1), 0.0)):
        assert frame_map(half, truth, 1, iou).mean == ava_map(half, truth, 1, iou).mean == enough
        assert localization_recall(half, truth, iou) == enough
        assert classification_accuracy(half, truth, iou) == pytest.approx(1.0 if enough else math.nan, nan_ok=True)
        tubes = [[(0, Tube(0, np.array([4]), boxes.xyxy, 1.0))] for boxes in (half, truth)]
        assert video_map(*tubes, 1, [iou], pixel_inclusive=False)[0].mean == enough


@law
@given(rows(), rows(min_size=1))
def test_recall_is_the_share_of_boxes_that_anything_overlaps(detections: list[Row], truth: list[Row]) -> None:
    found = [any(d[0] == t[0] and overlap(d, t) >= 0.5 for d in detections) for t in truth]
    assert localization_recall(table(detections), table(truth)) == sum(found) / len(found)


def test_accuracy_asks_the_best_scored_detection_of_each_box_that_is_found() -> None:
    first, second, third = (0.0, 0.0, 10.0, 10.0), (20.0, 0.0, 30.0, 10.0), (40.0, 0.0, 50.0, 10.0)
    truth = table([(0, 0, first, 1), (0, 1, second, 1), (0, 2, third, 1)])
    detections = table(
        [
            (0, 1, first, 0.3),  # wrong, but not the best of its box
            (0, 0, first, 0.9),
            (0, 1, second, 0.3),  # right, but not the best of its box
            (0, 2, second, 0.4),
            (0, 0, (40.0, 0.0, 50.0, 4.0), 0.9),  # overlaps the third by 0.4 only: it is not found
        ]
    )
    assert classification_accuracy(detections, truth) == 1 / 2


@law
@given(rows(), rows())
def test_a_table_is_the_sum_of_its_parts(ones: list[Row], others: list[Row]) -> None:
    joined = FrameBoxes.concatenate([table(ones), FrameBoxes.concatenate([]), table(others)])
    whole = table(ones + others)
    assert len(joined) == len(ones) + len(others)
    for name in ("frame", "class_id", "xyxy", "score"):
        assert np.array_equal(getattr(joined, name), getattr(whole, name))
        assert getattr(joined, name).dtype == getattr(whole, name).dtype


@pytest.fixture(scope="module")
def jhmdb21(reference_dir: Path) -> tuple[FrameBoxes, FrameBoxes, dict[str, Any]]:
    """A whole set of YOWO detections on J-HMDB-21, its ground truth, and the published figures."""
    folder = reference_dir / "detections" / "jhmdb21_yowo"
    tables = []
    frames: dict[str, int] = {}
    for name, columns in (("detections", 7), ("groundtruths", 6)):
        with gzip.open(folder / f"{name}.txt.gz", "rt") as stream:
            cells = [line.split() for line in stream]
        numbers = np.array([row[1:] for row in cells], np.float64)
        assert numbers.shape[1] == columns - 1
        frame = np.array([frames.setdefault(row[0], len(frames)) for row in cells], np.int64)
        score = numbers[:, 1] if columns == 7 else np.ones(len(numbers))
        class_id = numbers[:, 0].astype(np.int64) - 1
        tables.append(FrameBoxes(frame, class_id, numbers[:, -4:].astype(np.float32), score.astype(np.float32)))
    return tables[0], tables[1], json.loads((folder / "expected_frame_map.json").read_text())


@pytest.mark.parametrize("iou", [0.5, 0.75])
@pytest.mark.parametrize("pixel_inclusive", [True, False])
def test_published_figures_are_reached_class_by_class(
    iou: float, pixel_inclusive: bool, jhmdb21: tuple[FrameBoxes, FrameBoxes, dict[str, Any]]
) -> None:
    detections, truth, expected = jhmdb21
    wanted = expected[f"iou{iou}_offset{pixel_inclusive:d}"]
    found = frame_map(detections, truth, 21, iou, pixel_inclusive)
    # Scores were stored with seven digits; equal ones may be ranked in another order, which moves an average
    # precision by about one detection in 10,000. Published to 0.01 points, that is 1e-4.
    assert found.per_class == pytest.approx([wanted["per_class"][str(c)] for c in range(1, 22)], abs=1e-4)
    assert found.mean == pytest.approx(wanted["mAP"], abs=1e-4)


def test_published_plots_show_the_same_figures(
    jhmdb21: tuple[FrameBoxes, FrameBoxes, dict[str, Any]],
) -> None:
    detections, truth, expected = jhmdb21
    # The titles of the published plots, rounded to 0.01 points.
    titles = expected["published_png_titles_percent_iou0.5"]
    inclusive = frame_map(detections, truth, 21, pixel_inclusive=True)
    assert 100 * inclusive.per_class == pytest.approx([titles[str(c)] for c in range(1, 22)], abs=0.0051)
    assert 100 * inclusive.mean == pytest.approx(50.199, abs=0.01)
    assert 100 * frame_map(detections, truth, 21).mean == pytest.approx(49.907, abs=0.01)


def voc_sample(folder: Path, frames: dict[str, int]) -> FrameBoxes:
    """Rows of `class [score] x y width height`."""
    rows_of: list[Row] = []
    for file in sorted(folder.glob("*.txt")):
        for line in file.read_text().splitlines():
            *score, x, y, w, h = (float(cell) for cell in line.split()[1:])
            box = (x, y, x + w, y + h)
            rows_of.append((frames.setdefault(file.stem, len(frames)), 0, box, score[0] if score else 1.0))
    return table(rows_of)


def test_another_evaluator_agrees_on_its_own_sample(reference_dir: Path) -> None:
    folder = reference_dir / "detections" / "pascalvoc_sample"
    frames: dict[str, int] = {}
    truth, detections = (voc_sample(folder / name, frames) for name in ("groundtruths", "detections"))
    assert (len(truth), len(detections)) == (15, 24)
    found = frame_map(detections, truth, 1, iou=0.3, pixel_inclusive=True)
    assert found.mean == pytest.approx(0.245687, abs=5e-7)  # as many digits as were published


def test_multisports_agrees_on_one_video(reference_dir: Path) -> None:
    stored = json.loads(
        (reference_dir / "detections" / "multisports_one_video" / "multisports_one_video.json").read_text()
    )
    [tubes_of_video] = stored["gt"]["gttubes"].values()
    truth = table(
        (int(frame), int(class_id), tuple(box), 1.0)
        for class_id, tubes in tubes_of_video.items()
        for frame, *box in itertools.chain.from_iterable(tubes)
    )
    key = next(name for name in stored if name.startswith("frame_detections"))
    detections = table((int(row[1]), int(row[2]), tuple(row[4:]), row[3]) for row in stored[key])
    found = frame_map(detections, truth, 66, pixel_inclusive=True)
    assert 100 * found.mean == pytest.approx(83.6506, abs=5e-5)  # as many digits as were published


def test_rows_of_any_frame_numbers_are_kept_apart() -> None:
    box = (0.0, 0.0, 10.0, 10.0)
    numbers: NDArray[np.int64] = np.array([0, 1, 999_999, 1_000_000, 5_000_000_000], np.int64)
    truth = table((int(number), 1, box, 1.0) for number in numbers)
    for left_out in range(len(numbers)):
        detections = table((int(number), 1, box, 0.5) for number in np.delete(numbers, left_out))
        assert frame_map(detections, truth, 2).per_class[1] == pytest.approx(4 / 5)


@law
@given(seed=st.integers(0, 10_000))
def test_every_box_stands_in_the_confusion_matrix_once(seed: int) -> None:
    """Its diagonal and its last column are accuracy and recall."""
    rng = np.random.default_rng(seed)
    corners = rng.integers(0, 6, (12, 2))
    boxes = [(int(rng.integers(2)), int(rng.integers(CLASSES)), (x, y, x + 4, y + 4), s) for (x, y), s in
             zip(corners.tolist(), rng.random(12).tolist(), strict=True)]  # fmt: skip
    found, truth = table(boxes[:8]), table(boxes[8:])
    counts = confusion_matrix(found, truth, CLASSES)
    np.testing.assert_array_equal(counts.sum(axis=1), np.bincount(truth.class_id, minlength=CLASSES))
    matches = [[j for j in range(8) if found.frame[j] == truth.frame[i]
                and iou_matrix(found.xyxy[[j]], truth.xyxy[[i]])[0, 0] >= 0.5] for i in range(4)]  # fmt: skip
    assert counts[:, -1].sum() >= sum(not near for near in matches)
    seen = counts[:, :-1]
    accuracy = classification_accuracy(found, truth)
    assert math.isnan(accuracy) if not seen.sum() else accuracy == pytest.approx(np.trace(seen) / seen.sum())
