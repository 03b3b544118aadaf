"""Who does what from when to when: people cut where they begin something else."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_deploy.postprocess.actions import Actions, smooth_classes
from yowo_deploy.result import Result

MadeUp = Callable[..., Result]
WALK, RUN = [0.8, 0.2, 0.0], [0.2, 0.6, 0.0]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 6), st.sampled_from([0.0, 0.3, 2.0]))
def test_no_other_labelling_is_worth_more(seed: int, frames: int, cost: float) -> None:
    scores = np.random.default_rng(seed).random((frames, 3)).astype(np.float32)

    def worth(path: tuple[int, ...]) -> float:
        changes = [frame for frame in range(1, frames) if path[frame] != path[frame - 1]]
        costs = [cost * scores[: frame + 1].max(axis=1).mean() for frame in changes]
        return float(sum(scores[frame, class_id] for frame, class_id in enumerate(path)) - sum(costs))

    found = worth(tuple(smooth_classes(scores, cost).tolist()))
    best = max(map(worth, itertools.product(range(3), repeat=frames)))
    assert found == pytest.approx(best, abs=1e-5)  # float32 scores, up to six of them, summed in two orders


def told(actions: Actions, results: list[Result]) -> list[tuple[int, int, int, int]]:
    """Person, class, first and last frame."""
    over = [action for each in results for action in actions.push(each)] + actions.close()
    return [(a.tube.tracker_id or 0, a.tube.class_id, int(a.tube.frames[0]), int(a.tube.frames[-1])) for a in over]


@pytest.mark.parametrize("scale", [1.0, 0.125])
def test_a_moment_of_something_else_is_no_action(scale: float, made_up: MadeUp) -> None:
    # Better by 0.4 for five frames pays for one change at a cost of 2, not for two; the mean best score is 0.8.
    course = [WALK] * 20 + [RUN] * 5 + [WALK] * 20
    results = [made_up(number, {0: [scale * score for score in scores]}) for number, scores in enumerate(course)]
    assert told(Actions(change_cost=2.0), results) == [(0, 0, 0, 44)]
    assert told(Actions(change_cost=1.2), results) == [(0, 0, 0, 19), (0, 1, 20, 24), (0, 0, 25, 44)]


def test_a_class_that_leads_by_little_for_half_of_the_frames_has_its_action(made_up: MadeUp) -> None:
    """Scores as the shipped model gives them on videos of others: 44 frames of one class, 45 of another."""
    course = [[0.15, 0.12, 0.0]] * 44 + [[0.12, 0.15, 0.0]] * 45
    results = [made_up(number, {0: scores}) for number, scores in enumerate(course)]
    assert told(Actions(), results) == [(0, 0, 0, 43), (0, 1, 44, 88)]


def test_a_flicker_of_low_scores_is_no_action(made_up: MadeUp) -> None:
    course = [[0.15, 0.12, 0.0]] * 20 + [[0.12, 0.15, 0.0]] * 4 + [[0.15, 0.12, 0.0]] * 20
    results = [made_up(number, {0: scores}) for number, scores in enumerate(course)]
    assert told(Actions(), results) == [(0, 0, 0, 43)]


def test_an_action_is_told_once_its_person_is_gone(made_up: MadeUp) -> None:
    actions = Actions(patience=3)
    assert actions.push(made_up(0, {7: WALK})) == []
    assert [len(actions.push(made_up(number))) for number in range(1, 6)] == [0, 0, 0, 1, 0]
    assert actions.close() == []


def test_frames_that_nobody_looked_at_are_filled_in(made_up: MadeUp) -> None:
    results = [made_up(number, {0: WALK}, carried=number % 3 != 0) for number in range(10)]
    assert told(Actions(), results) == [(0, 0, 0, 9)]
    assert told(Actions(), results[:9]) == [(0, 0, 0, 6)]  # what is carried at the end was not seen


def test_times_are_those_of_the_first_and_last_frame(made_up: MadeUp) -> None:
    actions = Actions()
    for number in (5, 6, 7):
        actions.push(made_up(number, {0: WALK}))
    [action] = actions.close()
    assert (action.first_time, action.last_time) == (5 / 25, 7 / 25)
    assert action.tube.score == pytest.approx(0.8)
    assert action.tube.scores is not None and len(action.tube.scores) == len(action.tube.xyxy) == 3


def test_who_never_leaves_is_told_in_pieces(made_up: MadeUp) -> None:
    results = [made_up(number, {0: WALK}) for number in range(25)]
    assert told(Actions(memory=10), results) == [(0, 0, 0, 9), (0, 0, 10, 19), (0, 0, 20, 24)]
