"""Rescoring along tubes: what it takes from a video's rows, and what it leaves."""

from __future__ import annotations

import numpy as np
import pytest

from yowo_deploy.metrics.frame_ap import FrameBoxes
from yowo_deploy.metrics.tube_scores import averaged, detections_of, rescored, rows_of

CLASSES, FRAMES = 3, 6


def video(seed: int) -> FrameBoxes:
    """Two people who stand apart and stay where they are; class probabilities sum to 1."""
    rng, parts = np.random.default_rng(seed), []
    for frame in range(FRAMES):
        for left in (0, 200):
            scores = rng.uniform(0.3, 0.9) * rng.dirichlet(np.ones(CLASSES))
            box = np.tile(np.array([left, 10, left + 50, 110], np.float32), (CLASSES, 1))
            frames = np.full(CLASSES, frame, np.int64)
            parts.append(FrameBoxes(frames, np.arange(CLASSES), box, scores.astype(np.float32)))
    return FrameBoxes.concatenate(parts)


def by_person(rows: FrameBoxes) -> np.ndarray:
    """(2, FRAMES, CLASSES) scores."""
    made = np.zeros((2, FRAMES, CLASSES))
    made[(rows.xyxy[:, 0] > 100).astype(int), rows.frame, rows.class_id] = rows.score
    return made


def test_rows_become_detections_and_rows_again() -> None:
    rows = video(0)
    again = FrameBoxes.concatenate([rows_of(frame, found, 0.0) for frame, found in detections_of(rows, CLASSES)])
    np.testing.assert_array_equal(by_person(again), by_person(rows))
    for _, found in detections_of(rows, CLASSES):
        assert found.objectness is not None
        np.testing.assert_allclose(found.objectness, found.scores.sum(axis=1), rtol=1e-6)


@pytest.mark.parametrize("decay", [0.5, 1.0])
def test_averages_are_causal_and_keep_the_objectness(decay: float) -> None:
    rows = video(1)
    scores, objectness = by_person(rows), by_person(rows).sum(axis=2)
    found = by_person(averaged(rows, CLASSES, 0.0, decay))
    for frame in range(FRAMES):
        weights = decay ** np.arange(frame, -1, -1.0)
        mean = np.einsum("f,pfc->pc", weights, scores[:, : frame + 1]) / (objectness[:, : frame + 1] @ weights)[:, None]
        np.testing.assert_allclose(found[:, frame], objectness[:, frame, None] * mean, atol=1e-6)
    early = rows.rows(rows.frame < 3)
    np.testing.assert_array_equal(by_person(averaged(early, CLASSES, 0.0, decay))[:, :3], found[:, :3])


def test_whole_tubes_have_one_mean_for_all_their_frames() -> None:
    rows = video(2)
    scores, objectness = by_person(rows), by_person(rows).sum(axis=2)
    mean = scores.sum(axis=1) / objectness.sum(axis=1)[:, None]
    found = by_person(rescored(rows, CLASSES, 0.0))
    np.testing.assert_allclose(found, objectness[..., None] * mean[:, None], atol=1e-6)


def test_scores_below_the_threshold_are_left_out() -> None:
    rows = video(3)
    for rescore in (averaged, rescored):
        assert (rescore(rows, CLASSES, 0.2).score > 0.2).all()
    nobody = rows.rows(rows.frame < 0)
    assert len(averaged(nobody, CLASSES, 0.0)) == len(rescored(nobody, CLASSES, 0.0)) == 0
