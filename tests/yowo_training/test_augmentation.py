"""Crops and flips: boxes go where the pixels go."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_training.augmentation import Augmentation, crop_matrix, draw_augmentation, no_augmentation

FRAME = (160, 120)
INPUT = (64, 64)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_bright_rectangle_lies_in_its_moved_box(seed: int) -> None:
    augmentation = draw_augmentation(np.random.default_rng(seed), FRAME, INPUT, jitter=0.2, colour=0.0)
    box = np.array([[50, 40, 110, 90]], np.float32)
    frame = np.zeros((FRAME[1], FRAME[0], 3), np.uint8)
    frame[40:90, 50:110] = 255
    moved, _ = augmentation.boxes(box)
    rows, columns = np.nonzero(augmentation.frame(frame)[..., 0] > 127)
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    # The border pixel is bright or not by rounding: one pixel of the input either way.
    np.testing.assert_allclose(moved[0] * 64, seen, atol=1.01)


def test_nothing_drawn_is_a_plain_squash() -> None:
    augmentation = no_augmentation(FRAME, INPUT)
    boxes, visible = augmentation.boxes(np.array([[0, 0, 160, 120], [40, 30, 80, 60]], np.float32))
    np.testing.assert_allclose(boxes, [[0, 0, 1, 1], [0.25, 0.25, 0.5, 0.5]], atol=1e-6)
    assert visible.all()


def test_a_flip_mirrors_the_frame_and_twice_gives_it_back() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    table = np.tile(np.arange(256, dtype=np.uint8)[:, None], 3)
    matrix = crop_matrix(np.zeros(2), np.array([64.0, 64.0]), (64, 64), flip=True)
    flip = Augmentation(matrix, table, (64, 64))
    assert (flip.frame(frame) == frame[:, ::-1]).all()
    assert (flip.frame(flip.frame(frame)) == frame).all()


def test_a_box_that_leaves_the_crop_is_not_visible() -> None:
    table = np.tile(np.arange(256, dtype=np.uint8)[:, None], 3)
    right_half = Augmentation(crop_matrix(np.array([80.0, 0]), np.array([160.0, 120]), INPUT, False), table, INPUT)
    boxes = np.array([[0, 0, 60, 100], [60, 0, 90, 100], [90, 10, 150, 100]], np.float32)
    assert right_half.boxes(boxes)[1].tolist() == [False, False, True]
