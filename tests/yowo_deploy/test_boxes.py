"""Boxes: overlap as pixels count it, and suppression as a plain loop does it."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from yowo_deploy.arrays import Float
from yowo_deploy.boxes import Detections, cxcywh_to_xyxy, iou_matrix, nms, xyxy_to_cxcywh

law = settings(max_examples=100, deadline=None)

GRID = 12  # integer boxes in so small a frame overlap, touch and nest often


@st.composite
def boxes(draw: st.DrawFn, max_boxes: int = 8) -> Float:
    """(N, 4) float32 corners in pixels, sides of 1 to 2000."""
    count = draw(st.integers(0, max_boxes))
    low = draw(hnp.arrays(np.float32, (count, 2), elements=st.floats(-500, 500, width=32)))
    size = draw(hnp.arrays(np.float32, (count, 2), elements=st.floats(1, 2000, width=32)))
    return np.concatenate([low, low + size], axis=1)


@st.composite
def integer_boxes(draw: st.DrawFn, max_boxes: int = 6, min_boxes: int = 0) -> NDArray[np.float64]:
    """(N, 4) whole corners, sides of 0 to `GRID`."""
    count = draw(st.integers(min_boxes, max_boxes))
    corners = draw(hnp.arrays(np.int64, (count, 2, 2), elements=st.integers(0, GRID)))
    return np.sort(corners, axis=1).reshape(count, 4).astype(np.float64)


def pixels(box: NDArray[Any], pixel_inclusive: bool) -> set[tuple[int, int]]:
    """The unit squares of a box; with `pixel_inclusive` the one at its far corner as well."""
    x1, y1, x2, y2 = (int(side) for side in box)
    return set(itertools.product(range(x1, x2 + pixel_inclusive), range(y1, y2 + pixel_inclusive)))


@law
@given(integer_boxes(), integer_boxes(), st.booleans())
def test_overlap_is_shared_pixels_to_all_pixels(
    ones: NDArray[np.float64], others: NDArray[np.float64], pixel_inclusive: bool
) -> None:
    found = iou_matrix(ones, others, pixel_inclusive)
    assert found.shape == (len(ones), len(others))
    for (i, one), (j, other) in itertools.product(enumerate(ones), enumerate(others)):
        a, b = pixels(one, pixel_inclusive), pixels(other, pixel_inclusive)
        assert found[i, j] == (len(a & b) / len(a | b) if a | b else 0)  # whole numbers up to the last division


@law
@given(boxes(), boxes())
def test_overlap_is_symmetric_and_a_share(ones: Float, others: Float) -> None:
    found = iou_matrix(ones, others)
    assert np.array_equal(found, iou_matrix(others, ones).T)
    # The union's rounding error, half a unit of 2^-23 of the sum of two areas, is all that can lift the ratio.
    assert np.all((found >= 0) & (found <= 1 + 2**-22))


@law
@given(boxes())
def test_a_box_overlaps_itself_wholly(ones: Float) -> None:
    assert np.all(np.diag(iou_matrix(ones, ones)) == 1)


@law
@given(boxes())
def test_centres_and_corners_are_two_ways_to_say_one_thing(ones: Float) -> None:
    # Corners reach 2500, whose float32 neighbours lie 2^-12 apart; each of the steps rounds by half of that.
    assert np.allclose(cxcywh_to_xyxy(xyxy_to_cxcywh(ones)), ones, rtol=0, atol=4 * 2**-12)
    assert xyxy_to_cxcywh(np.array([10, 20, 30, 60.0])).tolist() == [20, 40, 20, 40]


def plain_nms(ones: NDArray[Any], scores: NDArray[Any], threshold: float) -> list[int]:
    """Take the best that is left, throw away what overlaps it, again."""
    left = sorted(range(len(ones)), key=lambda i: (-scores[i], i))
    kept: list[int] = []
    while left:
        best, *others = left
        kept.append(best)
        left = [i for i in others if iou_matrix(ones[[best]], ones[[i]])[0, 0] <= threshold]
    return kept


SCORES = st.sampled_from([0.1, 0.5, 0.5, 0.9])  # few values, so that ties are common
THRESHOLDS = st.sampled_from([0.0, 0.2, 0.4, 0.5, 1.0])


@st.composite
def scored(draw: st.DrawFn, min_boxes: int = 0) -> tuple[NDArray[Any], NDArray[Any]]:
    ones = draw(integer_boxes(min_boxes=min_boxes))
    return ones, np.array([draw(SCORES) for _ in ones])


@law
@given(scored(), THRESHOLDS)
def test_suppression_is_the_plain_loop(given_boxes: tuple[NDArray[Any], NDArray[Any]], threshold: float) -> None:
    ones, scores = given_boxes
    kept = nms(ones, scores, threshold)
    assert kept.tolist() == plain_nms(ones, scores, threshold)
    assert kept.dtype == np.int64


@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_suppression_of_many_boxes_is_the_plain_loop(threshold: float) -> None:
    rng = np.random.default_rng(0)
    ones = np.sort(rng.integers(0, 3 * GRID, (200, 2, 2)), axis=1).reshape(-1, 4).astype(np.float32)
    scores = rng.integers(0, 50, len(ones)) / 50
    assert nms(ones, scores, threshold).tolist() == plain_nms(ones, scores, threshold)  # in several rounds


@law
@given(scored(min_boxes=1), THRESHOLDS)
def test_the_best_box_survives_first_and_suppressing_again_changes_nothing(
    given_boxes: tuple[NDArray[Any], NDArray[Any]], threshold: float
) -> None:
    ones, scores = given_boxes
    kept = nms(ones, scores, threshold)
    assert kept[0] == scores.argmax()
    assert nms(ones[kept], scores[kept], threshold).tolist() == list(range(len(kept)))


@law
@given(integer_boxes(), THRESHOLDS, st.randoms(use_true_random=False))
def test_without_ties_the_order_of_the_boxes_does_not_matter(
    ones: NDArray[np.float64], threshold: float, random: Any
) -> None:
    scores = np.array(random.sample(range(100), len(ones)), np.float32)
    order = np.array(random.sample(range(len(ones)), len(ones)), np.int64)
    assert order[nms(ones[order], scores[order], threshold)].tolist() == nms(ones, scores, threshold).tolist()


def detections(count: int, tracked: bool) -> Detections:
    rng = np.random.default_rng(count)
    return Detections(
        rng.random((count, 4), np.float32),
        rng.random(count, np.float32),
        rng.integers(0, 3, count),
        rng.random((count, 3), np.float32),
        rng.integers(0, 9, count) if tracked else None,
    )


@pytest.mark.parametrize("tracked", [False, True])
@pytest.mark.parametrize(
    "index", [np.array([True, False, True]), slice(1, None), np.array([2, 0]), np.zeros(0, np.int64)]
)
def test_picking_picks_from_every_field(index: Any, tracked: bool) -> None:
    whole = detections(3, tracked)
    picked = whole[index]
    assert len(picked) == len(whole.confidence[index])
    for name in ("xyxy", "confidence", "class_id", "scores", *(["tracker_id"] if tracked else [])):
        assert np.array_equal(getattr(picked, name), getattr(whole, name)[index])
    assert (picked.tracker_id is not None) == tracked


def test_no_detections_have_the_shapes_of_some() -> None:
    none, some = Detections.empty(3), detections(2, tracked=False)[:0]
    assert len(none) == 0
    for name in ("xyxy", "confidence", "class_id", "scores"):
        assert getattr(none, name).shape == getattr(some, name).shape
        assert getattr(none, name).dtype == getattr(some, name).dtype


def test_small_integers_do_not_overflow() -> None:
    boxes = np.array([[10, 10, 250, 250], [5, 5, 255, 255]], np.uint8)
    np.testing.assert_allclose(iou_matrix(boxes, boxes), iou_matrix(boxes.astype(float), boxes.astype(float)))
