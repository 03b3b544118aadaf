"""The figures of the synthetic data: reversed pairs, visible motion, tight boxes."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from yowo_deploy.datasets.synthetic.stick_figures import (
    FINE,
    FIRST_LABELLED,
    FRAMES,
    LABELS,
    REVERSED,
    Clothes,
    Person,
    Points,
    box_of,
    chair,
    limbs,
    paint,
    poses,
)

WHITE = (255, 255, 255)
CLIP = 8
STYLES = list(itertools.product((0.85, 1.15), (0.0, 0.35)))  # the ends of what is drawn for vigour and ease


def person(label: str, **changes: Any) -> Person:
    clothes = Clothes(*[WHITE] * len(Clothes._fields))
    return Person(label, 70.0, (80.0, 110.0), 1, vigour=1.0, ease=0.2, turn=0.3, clothes=clothes)._replace(**changes)


def joints(who: Person) -> Points:
    """(FRAMES, joints, 2) pixels."""
    body = poses(who)
    return np.array([np.concatenate([limb.points for limb in limbs(who, body[f], f)]) for f in range(FRAMES)])


@pytest.mark.parametrize(("backward", "forward"), REVERSED.items())
@pytest.mark.parametrize(("vigour", "ease"), STYLES)
def test_the_labelled_frames_of_a_reversed_action_show_the_same_poses_in_opposite_order(
    backward: str, forward: str, vigour: float, ease: float
) -> None:
    there = poses(person(forward, vigour=vigour, ease=ease))[FIRST_LABELLED:]
    back = poses(person(backward, vigour=vigour, ease=ease))[FIRST_LABELLED:]
    assert back == there[::-1]
    assert back != there


@pytest.mark.parametrize("label", LABELS)
@pytest.mark.parametrize(("vigour", "ease"), STYLES)
def test_every_clip_that_ends_in_a_labelled_frame_shows_motion(label: str, vigour: float, ease: float) -> None:
    for turn in (0.0, 0.25, 0.5, 0.75):
        moving = joints(person(label, height=58.0, vigour=vigour, ease=ease, turn=turn))
        for last in range(FIRST_LABELLED, FRAMES):
            clip = moving[last - CLIP + 1 : last + 1]
            travelled = np.linalg.norm(clip - clip[-1], axis=2).max()
            assert travelled > 4, f"the smallest figure moves {travelled:.1f} pixels in the clip of frame {last}"


@pytest.mark.parametrize("label", [*REVERSED, *REVERSED.values()])
def test_a_one_way_motion_never_turns_back(label: str) -> None:
    steps = np.diff([(pose.thighs[0], pose.arms[0]) for pose in poses(person(label))], axis=0)
    assert np.all(steps >= 0) or np.all(steps <= 0)
    assert np.all(steps.any(axis=1))


@pytest.mark.parametrize("label", LABELS)
def test_a_box_is_as_tight_as_the_paint(label: str) -> None:
    who = person(label)
    body = poses(who)
    camera = np.array([3.0, -2.0])
    for frame in range(FIRST_LABELLED, FRAMES):
        canvas = np.zeros((120 * FINE, 160 * FINE, 3), np.uint8)
        parts = limbs(who, body[frame], frame)
        paint(canvas, parts, camera)
        rows, columns = np.nonzero(canvas.any(axis=2))
        painted = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / FINE
        # A point and half a thickness are rounded to whole fine pixels, each by half a one at most; cv2 may add one.
        np.testing.assert_allclose(painted, box_of(parts) - np.tile(camera, 2), atol=2 / FINE)


@pytest.mark.parametrize("label", LABELS)
def test_who_faces_left_is_the_mirror_image_of_who_faces_right(label: str) -> None:
    right, left = (joints(person(label, facing=facing)) for facing in (1, -1))
    middle = 80.0
    np.testing.assert_allclose(left[..., 0] - middle, middle - right[..., 0], atol=1e-9)
    np.testing.assert_allclose(left[..., 1], right[..., 1], atol=1e-9)


def test_a_walker_advances_towards_where_it_looks_and_nobody_else_goes_anywhere() -> None:
    for label, facing in itertools.product(LABELS, (-1, 1)):
        who = person(label, facing=facing)
        gone = who.feet_xy(FRAMES - 1) - who.feet_xy(0)
        assert gone[1] == 0
        assert (facing * gone[0] > 20) if label == "walk" else gone[0] == 0


@pytest.mark.parametrize("label", LABELS)
def test_nobody_sinks_into_the_ground_or_leaves_it(label: str) -> None:
    who = person(label)
    lowest = [box_of(limbs(who, pose, frame))[3] for frame, pose in enumerate(poses(who))]
    np.testing.assert_allclose(lowest, who.ground_xy[1], atol=1.0)  # toes of a frontal figure point down a little


def test_only_who_sits_has_a_chair() -> None:
    assert {label for label in LABELS if chair(person(label), 0)} == {"sit_down", "stand_up"}
