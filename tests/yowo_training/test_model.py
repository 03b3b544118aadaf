"""The network's laws: batches, time, the key frame, and what its configuration refuses."""

from __future__ import annotations

import pytest
import torch

from yowo_deploy.errors import InputError
from yowo_training.model import Yowo, YowoConfig


def yowo(backbone_2d: str | None, backbone_3d: str | None, **changes: int) -> Yowo:
    torch.manual_seed(0)
    model = Yowo(YowoConfig(backbone_2d, backbone_3d, outputs=14, width=16, **changes)).eval()  # type: ignore[arg-type]
    model.cfam.attention.gamma.data.fill_(0.5)
    return model


@pytest.fixture
def clips() -> torch.Tensor:
    return torch.randn(2, 3, 8, 64, 96, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def test_a_batch_of_two_is_twice_a_batch_of_one(clips: torch.Tensor) -> None:
    model = yowo("tiny2d", "tiny3d")
    both = model(clips)
    assert both.shape == (2, 14, 2, 3)
    torch.testing.assert_close(both, torch.cat([model(clips[:1]), model(clips[1:])]), atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_reversing_time_changes_the_3d_branch_and_the_2d_branch_sees_the_last_frame_alone(clips: torch.Tensor) -> None:
    model = yowo("tiny2d", "tiny3d")
    features_3d, features_2d = model.features(clips)
    earlier = clips.clone()
    earlier[:, :, :-1] = clips[:, :, :-1].flip(2)
    moved_3d, same_2d = model.features(earlier)
    assert (moved_3d - features_3d).abs().max() > 0.01 * features_3d.abs().max()
    assert torch.equal(same_2d, features_2d)


@torch.no_grad()
def test_either_branch_can_be_left_out(clips: torch.Tensor) -> None:
    assert yowo("tiny2d", None)(clips).shape == yowo(None, "tiny3d")(clips).shape == (2, 14, 2, 3)


@torch.no_grad()
def test_a_branch_on_frames_of_half_size_meets_the_other_on_one_grid() -> None:
    model = yowo("tiny2d", "shufflenetv2_2x_s16", shrink_3d=2)
    assert model(torch.randn(1, 3, 8, 64, 64)).shape == (1, 14, 2, 2)


@pytest.mark.parametrize("length", [1, 2, 3, 8, 16, 32])
@torch.no_grad()
def test_any_clip_length_is_taken(length: int) -> None:
    assert yowo("tiny2d", "tiny3d")(torch.randn(1, 3, length, 64, 64)).shape == (1, 14, 2, 2)


@pytest.mark.parametrize(("names", "message"), [(("vgg", None), "vgg"), ((None, "vgg"), "vgg"), ((None, None), "None")])
def test_a_configuration_that_makes_no_sense_is_refused(names: tuple[str | None, str | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        YowoConfig(*names, outputs=14)
