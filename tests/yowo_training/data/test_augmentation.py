"""Crops and flips: boxes go where the pixels go."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_deploy.arrays import Frame
from yowo_deploy.preprocess.frames import resize
from yowo_deploy.spec import ResizeFilter
from yowo_training.data.augmentation import LEAST_OF_A_SIDE, Augmentation, draw_augmentation, draw_places

FRAME = (160, 120)
INPUT = (64, 64)


def shown(augmentation: Augmentation, frame: Frame) -> Frame:
    """One frame as the training sees it."""
    [window] = augmentation.frames([frame])
    return window


def no_augmentation(size_wh: tuple[int, int], input_wh: tuple[int, int], resize_filter: ResizeFilter) -> Augmentation:
    """The whole frame, resized to the input."""
    return Augmentation((0.0, 0.0, float(size_wh[0]), float(size_wh[1])), False, input_wh, resize_filter)


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_a_bright_rectangle_lies_in_its_moved_box(seed: int) -> None:
    augmentation = draw_augmentation(np.random.default_rng(seed), FRAME, INPUT, "bilinear", jitter=0.2, colour=0.0)
    box = np.array([[50, 40, 110, 90]], np.float32)
    frame = np.zeros((FRAME[1], FRAME[0], 3), np.uint8)
    frame[40:90, 50:110] = 255
    moved, _ = augmentation.boxes(box)
    rows, columns = np.nonzero(shown(augmentation, frame)[..., 0] > 127)
    seen = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1])
    # The border pixel is bright or not by rounding: one pixel of the input either way.
    np.testing.assert_allclose(moved[0] * 64, seen, atol=1.01)


def test_nothing_drawn_is_a_plain_squash() -> None:
    augmentation = no_augmentation(FRAME, INPUT, "bilinear")
    boxes, visible = augmentation.boxes(np.array([[0, 0, 160, 120], [40, 30, 80, 60]], np.float32))
    np.testing.assert_allclose(boxes, [[0, 0, 1, 1], [0.25, 0.25, 0.5, 0.5]], atol=1e-6)
    assert visible.all()


@pytest.mark.parametrize("resize_filter", ["nearest", "bilinear", "bicubic"])
def test_nothing_drawn_gives_the_frame_that_the_runtime_sees(resize_filter: ResizeFilter) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (120, 160, 3), np.uint8)
    seen = shown(no_augmentation(FRAME, INPUT, resize_filter), frame)
    np.testing.assert_array_equal(seen, resize(frame, INPUT, resize_filter))


def test_a_flip_mirrors_the_frame_and_twice_gives_it_back() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    flip = replace(no_augmentation((64, 64), (64, 64), "bilinear"), flip=True)
    assert (shown(flip, frame) == frame[:, ::-1]).all()
    assert (shown(flip, shown(flip, frame)) == frame).all()
    boxes, _ = flip.boxes(np.array([[0, 8, 16, 32]], np.float32))
    np.testing.assert_allclose(boxes, [[0.75, 0.125, 1, 0.5]])


def test_a_box_that_leaves_the_crop_is_not_visible() -> None:
    right_half = replace(no_augmentation(FRAME, INPUT, "bilinear"), crop_xyxy=(80.0, 0.0, 160.0, 120.0))
    boxes = np.array([[0, 0, 60, 100], [60, 0, 90, 100], [90, 10, 150, 100]], np.float32)
    assert right_half.boxes(boxes)[1].tolist() == [False, False, True]


def test_beyond_the_frame_its_edge_goes_on() -> None:
    frame = np.zeros((40, 40, 3), np.uint8)
    frame[:, -1] = 200
    window = resize(frame, (10, 10), "bilinear", (60.0, 0.0, 70.0, 10.0))
    assert (window == 200).all()


@pytest.mark.parametrize("resize_filter", ["nearest", "bilinear", "bicubic"])
def test_frames_together_are_what_each_is_alone_whatever_their_sizes(resize_filter: ResizeFilter) -> None:
    rng = np.random.default_rng(3)
    frames = [rng.integers(0, 256, (high, 160, 3), np.uint8) for high in (120, 120, 120, 96, 120, 120)]
    augmentation = draw_augmentation(rng, FRAME, INPUT, resize_filter, jitter=0.2, colour=0.0)
    together = list(augmentation.frames(frames))
    assert len(together) == len(frames)
    for one, frame in zip(together, frames, strict=True):
        np.testing.assert_array_equal(one, shown(augmentation, frame))


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), aspect=st.sampled_from([0.6, 1.0, 1.6]))
def test_a_smaller_crop_holds_its_box_lies_in_the_frame_and_has_the_shape_asked_for(seed: int, aspect: float) -> None:
    box = np.array([70, 50, 100, 80], np.float32)
    rng = np.random.default_rng(seed)
    crop = draw_augmentation(rng, FRAME, INPUT, "bilinear", 0.0, 0.0, 0.6, aspect, box).crop_xyxy
    corners = np.array(crop)
    assert (corners[:2] >= -1e-9).all() and (corners[2:] <= np.array(FRAME) + 1e-9).all()
    width, height = (corners[2:] - corners[:2]) / FRAME
    assert width / height == pytest.approx(aspect) and 0.6 - 1e-9 <= max(width, height) <= 1 + 1e-9
    assert (corners[:2] <= box[:2] + 1e-4).all() and (corners[2:] >= box[2:] - 1e-4).all()


def test_tiles_fill_the_input_without_overlap() -> None:
    counts = set()
    for seed in range(60):
        covered = np.zeros((64, 96), int)
        places = draw_places(np.random.default_rng(seed), (96, 64))
        for left, top, right, bottom in places:
            covered[top:bottom, left:right] += 1
            assert right - left >= 96 * LEAST_OF_A_SIDE - 1 and bottom - top >= 64 * LEAST_OF_A_SIDE - 1
        assert (covered == 1).all()
        counts.add(len(places))
    assert counts == {2, 3, 4}
