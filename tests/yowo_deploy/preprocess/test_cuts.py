"""Hard cuts end what movement, light and noise do not."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from yowo_deploy.arrays import Frame
from yowo_deploy.preprocess.cuts import CutDetector


def scene(seed: int, size_wh: tuple[int, int] = (320, 240)) -> Frame:
    """Smooth patches of a few colours."""
    rng = np.random.default_rng(seed)
    patches = rng.integers(0, 256, (4, 5, 3), np.uint8)
    return np.asarray(cv2.resize(patches, size_wh, interpolation=cv2.INTER_CUBIC), np.uint8)


@pytest.mark.parametrize("size_wh", [(320, 240), (1920, 1080), (64, 48)])
def test_another_scene_is_a_cut_and_the_same_one_is_none(size_wh: tuple[int, int]) -> None:
    for seed in range(20):
        detector = CutDetector()
        first, other = scene(seed, size_wh), scene(seed + 100, size_wh)
        assert [detector.push(each) for each in (first, first, other, other)] == [False, False, True, False]


def test_movement_light_and_noise_are_no_cuts() -> None:
    rng = np.random.default_rng(0)
    for seed in range(20):
        detector, frame = CutDetector(), scene(seed)
        noisy = np.clip(frame + rng.normal(0, 12, frame.shape), 0, 255).astype(np.uint8)
        for each in (frame, np.roll(frame, 16, axis=1), np.roll(frame, 32, axis=1), noisy):
            assert not detector.push(each)


def test_a_new_video_and_another_size_are_none() -> None:
    detector = CutDetector()
    detector.push(scene(0))
    assert not detector.push(scene(1, (640, 480)))
    detector.reset()
    assert not detector.push(scene(2))


def test_frames_too_small_for_a_histogram_have_none() -> None:
    detector, rng = CutDetector(), np.random.default_rng(0)
    assert not any(detector.push(rng.integers(0, 256, (30, 30, 3), np.uint8)) for _ in range(20))
