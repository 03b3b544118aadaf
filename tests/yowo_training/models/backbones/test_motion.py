"""Flow inside the network: what moves is seen where it moves, and a still clip, or the camera, is no motion."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from yowo_training.models.backbones.motion import (
    ALL_PAIRS,
    MAPS,
    PAIRS,
    WINDOW,
    MotionLite0,
    lucas_kanade,
    motion,
    with_more_pairs,
)


def texture(size: int) -> torch.Tensor:
    """(1, 1, size, size), smooth at the scale of a few pixels, so that first derivatives mean something."""
    torch.manual_seed(0)
    return F.avg_pool2d(F.avg_pool2d(torch.rand(1, 1, size, size), 5, 1, 2), 5, 1, 2) * 4


def waves(right: float, down: float) -> torch.Tensor:
    """(1, 1, 96, 96) of smooth waves along both axes, moved by so many pixels."""
    y, x = torch.meshgrid(*[torch.arange(96.0)] * 2, indexing="ij")
    return ((x - right) * 0.4).sin()[None, None] + ((y - down) * 0.45).sin()


@pytest.mark.parametrize(("right", "down"), [(0.0, 0.0), (0.5, 0.0), (0.0, -1.0), (0.3, 0.4), (1.5, -1.0)])
def test_a_small_shift_is_found_everywhere(right: float, down: float) -> None:
    flow = lucas_kanade(waves(0, 0), waves(right, down))[0, :, 8:-8, 8:-8].flatten(1)
    # Differences in place of derivatives see a wave of 0.45 rad a pixel steeper by up to (0.45 * 1.5)^2 / 6 = 8 %.
    torch.testing.assert_close(flow.median(dim=1).values, torch.tensor([right, down]), atol=0.01, rtol=0.08)


def test_only_what_moves_against_the_camera_is_motion() -> None:
    still = texture(64).expand(-1, 3, -1, -1).unsqueeze(2).expand(-1, -1, 8, -1, -1)
    assert not motion(still).any()
    ground = texture(80)[0, 0]
    moved = torch.stack([ground[8:72, 8 - step : 72 - step] for step in (0, 1)])
    flow = motion(moved.expand(1, 3, -1, -1, -1))[:, PAIRS:]  # the whole picture moves: the camera did
    assert flow.mean(dim=(2, 3)).abs().max() < 1e-5


def test_a_thing_that_moves_is_seen_where_it_is() -> None:
    clip = texture(64).repeat(1, 3, 1, 1).unsqueeze(2).repeat(1, 1, 8, 1, 1)
    thing = texture(24)[0, 0] + 1
    for step in range(8):
        clip[0, :, step, 20:44, 10 + step : 34 + step] = thing
    flow = motion(clip)[0, PAIRS : 2 * PAIRS].mean(dim=0)  # to the right, at full size
    on_it, elsewhere = flow[24:40, 20:34], flow[:, 52:]
    assert on_it.median() > 0.4 and elsewhere.abs().median() < 0.2


def test_time_turned_round_turns_the_flow_round() -> None:
    clip = torch.rand(1, 3, 8, 32, 32)
    forwards, backwards = motion(clip), motion(clip.flip(2))
    # Pairs are mirrored too, as their places in the clip are symmetrical.
    first, second = forwards[:, PAIRS : 2 * PAIRS], backwards[:, PAIRS : 2 * PAIRS].flip(1)
    torch.testing.assert_close(first, -second, atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("length", [1, 2, 5, 16])
def test_any_length_and_any_size_give_one_picture_of_features(length: int) -> None:
    with torch.no_grad():
        assert MotionLite0()(torch.rand(2, 3, length, 48, 64)).shape == (2, 1280, 1, 3, 4)


def test_the_window_reaches_as_far_as_it_says() -> None:
    before, after = torch.zeros(1, 1, 32, 32), torch.zeros(1, 1, 32, 32)
    after[0, 0, 16, 16], after[0, 0, 16, 17], after[0, 0, 17, 16] = 1.0, 0.5, 0.5
    touched = lucas_kanade(before, after).abs().sum(dim=1)[0].nonzero()
    reach = WINDOW // 2 + 1  # and the slope looks one pixel further
    assert touched.min() >= 16 - reach and touched.max() <= 17 + reach and len(touched) > WINDOW


def test_eight_pairs_are_every_second_one_of_fifteen() -> None:
    clip = torch.rand(1, 3, 16, 32, 32)
    every = motion(clip, ALL_PAIRS).unflatten(1, (MAPS, ALL_PAIRS))
    torch.testing.assert_close(every[:, :, ::2], motion(clip).unflatten(1, (MAPS, PAIRS)))
    assert torch.equal(every[0, 0], clip[0].mean(dim=0).diff(dim=0))  # of brightness, between all neighbours


@torch.no_grad()
def test_a_branch_with_more_pairs_begins_with_the_same_answers() -> None:
    torch.manual_seed(0)
    given, wanted = MotionLite0().double().train(), MotionLite0(ALL_PAIRS).double()
    for norm in [module for module in given.modules() if isinstance(module, nn.BatchNorm2d)]:
        norm.momentum = 1.0
    given(torch.rand(4, 3, 16, 64, 64, dtype=torch.float64))  # so that the norms have its statistics
    with_more_pairs(given, wanted)
    clips = torch.rand(2, 3, 16, 64, 64, dtype=torch.float64)
    expected = given.eval()(clips)
    torch.testing.assert_close(wanted.eval()(clips), expected)
    wanted.network.stem[1].weight[:, 1] = 1.0  # a new pair, which is listened to
    assert (wanted(clips) - expected).abs().max() > 1e-3


@pytest.mark.parametrize("pairs", [PAIRS, ALL_PAIRS])
def test_training_computes_the_same_motion_in_its_own_layout(pairs: int) -> None:
    clip = torch.rand(2, 3, 16, 32, 48, generator=torch.Generator().manual_seed(0))
    own = motion(clip, pairs, torch.channels_last)
    assert own.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(own, motion(clip, pairs), rtol=0, atol=1e-5)  # 2.4e-7 was the most of 300
