"""Averaged class scores and hysteresis: what a person seen before changes, and what it does not."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_deploy.boxes import Detections
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.linker import BOX_INERTIA, OnlineLinker

law = settings(max_examples=60, deadline=None)
BOX = (10.0, 20.0, 60.0, 120.0)


def seen(*people: tuple[float, tuple[float, ...], tuple[float, ...]]) -> Detections:
    """Detections of (objectness, class probabilities, box), best first."""
    people = tuple(sorted(people, key=lambda person: -person[0] * max(person[1])))
    objectness = np.array([person[0] for person in people], np.float32)
    classes = len(people[0][1]) if people else 2
    scores = (objectness[:, None] * np.array([person[1] for person in people]).reshape(-1, classes)).astype(np.float32)
    xyxy = np.array([person[2] for person in people], np.float32).reshape(-1, 4)
    best = scores.argmax(axis=1) if len(people) else np.zeros(0, np.int64)
    return Detections(xyxy, scores.max(axis=1, initial=0), best, scores, None, objectness)


@law
@given(st.lists(st.tuples(st.floats(0.05, 1), st.floats(0, 1)), min_size=1, max_size=12), st.floats(0.5, 1))
def test_scores_are_objectness_times_the_weighted_mean_of_the_probabilities_so_far(
    frames: list[tuple[float, float]], decay: float
) -> None:
    linker = OnlineLinker(decay=decay)
    for number, (objectness, share) in enumerate(frames):
        linker.follow(seen((objectness, (share, 1 - share), BOX)))
        ages = [decay ** (number - at) for at in range(number + 1)]
        weights = [age * weight for age, (weight, _) in zip(ages, frames, strict=False)]
        mean = sum(weight * each for weight, (_, each) in zip(weights, frames, strict=False)) / sum(weights)
        expected = objectness * np.array([mean, 1 - mean])
        np.testing.assert_allclose(linker.shown.scores[0], expected, atol=1e-6)  # float32
        assert linker.shown.confidence[0] == linker.shown.scores[0].max()
        assert linker.shown.class_id[0] == linker.shown.scores[0].argmax()


def test_a_gap_ages_what_was_seen_before_it() -> None:
    near, far = OnlineLinker(decay=0.5), OnlineLinker(decay=0.5)
    for linker, number in ((near, 1), (far, 4)):
        linker.follow(seen((0.8, (1.0, 0.0), BOX)), 0)
        linker.follow(seen((0.8, (0.0, 1.0), BOX)), number)
    np.testing.assert_allclose(near.shown.scores[0], 0.8 * np.array([1 / 3, 2 / 3]), atol=1e-6)
    np.testing.assert_allclose(far.shown.scores[0], 0.8 * np.array([1 / 17, 16 / 17]), atol=1e-6)


def test_a_box_moves_from_where_it_was_shown_to_where_it_is() -> None:
    linker, moved = OnlineLinker(decay=0.97), np.array(BOX) + 8
    linker.follow(seen((0.8, (1.0, 0.0), BOX)))
    np.testing.assert_array_equal(linker.shown.xyxy[0], BOX)
    linker.follow(seen((0.8, (1.0, 0.0), tuple(moved))))
    np.testing.assert_allclose(linker.shown.xyxy[0], BOX_INERTIA * np.array(BOX) + (1 - BOX_INERTIA) * moved)


@law
@given(st.lists(st.floats(0, 4000, width=32), min_size=4, max_size=4), st.integers(1, 40))
def test_the_first_box_shown_of_a_person_is_exactly_the_detected_one(corners: list[float], number: int) -> None:
    """A weighted sum of a number with itself may differ by its last bit, as for frames after 0."""
    x1, y1, x2, y2 = corners
    box = (min(x1, x2), min(y1, y2), max(x1, x2) + 1, max(y1, y2) + 1)
    linker, found = OnlineLinker(decay=0.97), seen((0.8, (1.0, 0.0), box))
    linker.follow(found, number)
    np.testing.assert_array_equal(linker.shown.xyxy, found.xyxy)
    assert linker.shown.xyxy.dtype == np.float32 and not np.shares_memory(linker._alive[0].box, found.xyxy)


def test_without_decay_detections_are_given_back_as_they_were() -> None:
    linker, rng = OnlineLinker(), np.random.default_rng(0)
    for _ in range(9):
        found = seen(*((float(w), (0.3, 0.7), tuple(rng.random(4) * 50)) for w in rng.random(3)))
        linker.follow(found)
        for name in ("xyxy", "confidence", "class_id", "scores", "objectness"):
            np.testing.assert_array_equal(getattr(linker.shown, name), getattr(found, name))


SURE, WEAK, NONE = (0.9, (1.0, 0.0), BOX), (0.3, (0.6, 0.4), BOX), (0.1, (0.6, 0.4), BOX)


@pytest.mark.parametrize(
    ("frames", "shown"),
    [
        ([WEAK, WEAK], [False, False]),  # never above `appear`
        ([WEAK, SURE, WEAK, WEAK], [False, True, True, True]),  # stays above `keep`
        ([SURE, NONE, WEAK], [True, False, True]),  # below `keep` for a frame, the same person after it
        ([SURE, *[None] * 7, WEAK], [True, *[False] * 8]),  # the tube has ended: who comes back has to appear anew
    ],
)
def test_a_person_appears_above_one_threshold_and_stays_above_another(
    frames: list[tuple[float, tuple[float, ...], tuple[float, ...]] | None], shown: list[bool]
) -> None:
    linker = OnlineLinker(decay=0.97, appear=0.5, keep=0.2)
    found = []
    for frame in frames:
        linker.follow(seen(*([frame] if frame else [])))
        found.append(len(linker.shown) == 1)
        assert set(linker.tracker_id.tolist()) <= {0}
    assert found == shown


def test_without_keep_every_box_has_to_exceed_the_threshold() -> None:
    linker = OnlineLinker(decay=0.97, appear=0.5)
    for frame, expected in ((SURE, 1), (WEAK, 0), (SURE, 1)):
        linker.follow(seen(frame))
        assert len(linker.shown) == expected


def test_candidates_take_no_numbers_and_begin_no_tubes() -> None:
    linker, other = OnlineLinker(appear=0.5, keep=0.2, min_frames=2), tuple(np.array(BOX) + 200)
    for _ in range(4):
        tubes = linker.push(seen((0.3, (1.0, 0.0), other)))
        assert not tubes and not len(linker.shown)
    linker.follow(seen((0.3, (1.0, 0.0), other), SURE))
    assert linker.tracker_id.tolist() == [0] and linker.shown.objectness is not None
    assert linker.shown.objectness.tolist() == pytest.approx([0.9])
    assert linker.close() == []  # seen once: no tube
    assert linker.finished() == []


@law
@given(st.integers(0, 2**32 - 1))
def test_no_tube_has_a_box_that_was_not_shown_and_its_score_is_the_mean_of_those_shown(seed: int) -> None:
    rng, linker = np.random.default_rng(seed), OnlineLinker(decay=0.9, appear=0.5, keep=0.3, min_frames=2)
    scores: dict[int, list[np.ndarray]] = {}
    tubes = []
    for _ in range(25):
        people = [(float(rng.random()), (0.2, 0.8), tuple(np.array(BOX) + 100 * at)) for at in range(3)]
        linker.follow(seen(*people))
        tubes += linker.finished()
        assert linker.shown.objectness is not None
        assert all(objectness > 0.3 for objectness in linker.shown.objectness)
        for who, row in zip(linker.tracker_id.tolist(), linker.shown.scores, strict=True):
            scores.setdefault(who, []).append(row)
    for tube in [*tubes, *linker.close()]:
        assert tube.tracker_id is not None and len(scores[tube.tracker_id]) >= 2
        if len(tube) == len(scores[tube.tracker_id]):  # without gaps
            assert tube.score == pytest.approx(np.mean(scores[tube.tracker_id], axis=0).max(), abs=1e-6)


@pytest.mark.parametrize("decay", [-0.1, 1.1, float("nan")])
def test_a_decay_that_is_none_is_refused(decay: float) -> None:
    with pytest.raises(InputError, match="expected 0 to 1"):
        OnlineLinker(decay=decay)
