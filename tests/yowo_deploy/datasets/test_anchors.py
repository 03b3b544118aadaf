"""Anchors by k-means: laws, and the published ones as the mark to reach."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_deploy.datasets import open_dataset
from yowo_deploy.datasets.anchors import bad_anchors, box_sizes, fit_anchors, mean_iou, shape_iou
from yowo_deploy.errors import DatasetError


def shapes(seed: int, count: int) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.2, 7, (count, 2))


def test_boxes_of_as_many_shapes_as_anchors_are_fitted_exactly() -> None:
    centres = np.array([[1.0, 2.0], [3.0, 3.0], [5.0, 1.5]])
    sizes = np.repeat(centres, [5, 9, 3], axis=0)
    np.testing.assert_allclose(fit_anchors(sizes, 3), centres[np.argsort(centres.prod(axis=1))])
    assert mean_iou(sizes, fit_anchors(sizes, 3)) == pytest.approx(1.0)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), count=st.integers(1, 6))
def test_more_anchors_never_fit_worse_and_order_of_boxes_does_not_matter(seed: int, count: int) -> None:
    sizes = shapes(seed, 60)
    fitted = mean_iou(sizes, fit_anchors(sizes, count))
    # k-means finds local optima: one anchor more may lose a little, never much.
    assert mean_iou(sizes, fit_anchors(sizes, count + 1)) > fitted - 0.02
    assert mean_iou(sizes[::-1], fit_anchors(sizes, count)) == pytest.approx(fitted)


def test_a_box_of_an_odd_shape_moves_no_anchor() -> None:
    """The middle of a cluster is its median, not its mean."""
    sizes = np.concatenate([np.full((20, 2), 1.0), np.full((20, 2), 10.0), [[1.0, 1.9]]])
    found = fit_anchors(sizes, count=2)
    np.testing.assert_allclose(np.sort(found, axis=0), [[1, 1], [10, 10]])


def test_the_same_seed_gives_the_same_anchors() -> None:
    sizes = shapes(3, 100)
    np.testing.assert_array_equal(fit_anchors(sizes, 5, seed=1), fit_anchors(sizes, 5, seed=1))


def test_overlap_of_shapes_is_that_of_centred_boxes() -> None:
    assert shape_iou(np.array([[2.0, 4.0]]), np.array([[4.0, 2.0], [2.0, 4.0]])).tolist() == [[4 / 12, 1.0]]


def test_too_few_shapes_are_an_error() -> None:
    with pytest.raises(DatasetError, match="too few"):
        fit_anchors(np.ones((10, 2)), 2)
    with pytest.raises(DatasetError, match="no box"):
        box_sizes([], (7, 7))


@pytest.mark.slow
def test_jhmdb21_is_fitted_no_worse_than_by_the_published_anchors(data_dir: Path) -> None:
    dataset = open_dataset("jhmdb21", data_dir / "jhmdb21")
    sizes = box_sizes(dataset.videos("train"), (7, 7))
    assert len(sizes) == 22713
    assert mean_iou(sizes, fit_anchors(sizes, 5)) >= mean_iou(sizes, np.array(dataset.anchors))


def test_anchors_are_called_bad_only_where_fitted_ones_are_clearly_better() -> None:
    sizes = shapes(3, 200)
    fitted = fit_anchors(sizes, 5)
    assert bad_anchors(sizes, fitted) == "" and bad_anchors(sizes[:3], fitted * 9) == ""  # too few to fit
    present, better = mean_iou(sizes, fitted * 9), mean_iou(sizes, fit_anchors(sizes, 5, starts=2))
    assert bad_anchors(sizes, fitted * 9).endswith(f"mean IoU {present:.3f}, with fitted ones {better:.3f}")
