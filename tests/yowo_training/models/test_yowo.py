"""The network's laws: batches, time, the key frame, and what its configuration refuses."""

from __future__ import annotations

import pytest
import torch

from yowo_deploy.errors import InputError
from yowo_training.models.auxiliary_heads import Supervised, clip_loss
from yowo_training.models.yowo import Yowo, YowoConfig


def yowo(backbone_2d: str | None, backbone_3d: str | None, **changes: object) -> Yowo:
    torch.manual_seed(0)
    model = Yowo(YowoConfig(backbone_2d, backbone_3d, outputs=14, width=16, **changes)).eval()  # type: ignore[arg-type]
    if model.cfam is not None:
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
    model = yowo("tiny2d", "tiny3d_s16", shrink_3d=2)
    assert model(torch.randn(1, 3, 8, 64, 64)).shape == (1, 14, 2, 2)


def test_branches_that_end_in_different_grids_are_refused_by_name(clips: torch.Tensor) -> None:
    model = yowo("tiny2d", "tiny3d_s16")
    with pytest.raises(InputError, match="backbone_3d 6x4, backbone_2d 3x2: choose another backbone or shrink_3d"):
        model(clips)


@pytest.mark.parametrize("length", [1, 2, 3, 8, 16, 32])
@torch.no_grad()
def test_any_clip_length_is_taken(length: int) -> None:
    assert yowo("tiny2d", "tiny3d")(torch.randn(1, 3, length, 64, 64)).shape == (1, 14, 2, 2)


@torch.no_grad()
def test_concatenation_has_no_layers_of_its_own(clips: torch.Tensor) -> None:
    model = yowo("tiny2d", "tiny3d", fusion="concat")
    expected = torch.nn.functional.conv2d(torch.cat(model.features(clips), dim=1), model.conv_final.weight)
    assert model.cfam is None and torch.equal(model(clips), expected)


@torch.no_grad()
def test_3d_features_that_are_not_heard_are_zeros_to_the_fusion_alone(clips: torch.Tensor) -> None:
    model = yowo("tiny2d", "tiny3d")
    every, of_2d = model.features(clips)
    first = model.fused([every, of_2d], heard_3d=torch.tensor([1.0, 0.0]))
    assert torch.equal(first, model.fused([every * torch.tensor([1.0, 0.0]).view(2, 1, 1, 1), of_2d]))
    output, named = Supervised(model, classes=2, classify=True)(clips, torch.tensor([1.0, 0.0]))
    assert output.shape == first.shape and [logits.shape for logits in named] == [(2, 2), (2, 2)]


def test_the_3d_branch_alone_is_taught_without_the_other(clips: torch.Tensor) -> None:
    model = yowo("tiny2d", "tiny3d")
    supervised = Supervised(model, classes=3, classify=True)
    [logits] = supervised(clips, only_3d=True)
    assert logits.shape == (2, 3)
    logits.sum().backward()
    assert model.backbone_2d is not None and model.backbone_3d is not None
    assert all(p.grad is None for p in model.backbone_2d.parameters())
    assert all(p.grad is not None for p in model.backbone_3d.parameters())
    assert Supervised(model, classes=3, classify=False)(clips)[1] == []


def test_a_clip_is_about_what_its_people_do_and_an_empty_one_about_nothing() -> None:
    logits = torch.tensor([[3.0, 0.0], [0.0, 0.0], [1.0, 2.0]], requires_grad=True)
    targets = [
        torch.tensor([[0.0, 0, 0, 0, 0], [1.0, 0, 0, 0, 0]]),
        torch.zeros(0, 5),
        torch.tensor([[1.0, 0, 0, 0, 0]]),
    ]
    log_p = logits.detach().log_softmax(dim=1)
    expected = -(log_p[0].mean() + log_p[2, 1]) / 2
    assert clip_loss(logits, targets, 0.0).item() == pytest.approx(expected.item())
    nobody = clip_loss(logits, [torch.zeros(0, 5)] * 3, 0.1)
    nobody.backward()
    assert nobody.item() == 0 and logits.grad is not None and not logits.grad.any()


@torch.no_grad()
def test_a_third_branch_sees_another_modality(clips: torch.Tensor) -> None:
    model = yowo("tiny2d", "tiny3d", backbone_extra="mobilenetv2_1x")
    assert model(clips).shape == (2, 14, 2, 3) and list(model.branches()) == [name for name, *_ in model.fed()]
    seen, brighter = model.features(clips), model.features(clips + 0.5)  # everywhere by the same: no motion
    changed = [float((b - a).abs().max() / a.abs().max()) for a, b in zip(seen, brighter, strict=True)]
    assert changed[0] > 0.01 < changed[1] and changed[2] < 1e-3  # float32 of derivatives
    alone = model.features(clips[:, :, -1:].repeat(1, 1, 8, 1, 1))
    torch.testing.assert_close(alone[1], seen[1])  # the key frame's
    assert (alone[2] - seen[2]).abs().max() > 0.01 * seen[2].abs().max()


@pytest.mark.parametrize(("names", "message"), [(("vgg", None), "vgg"), ((None, "vgg"), "vgg"), ((None, None), "None")])
def test_a_configuration_that_makes_no_sense_is_refused(names: tuple[str | None, str | None], message: str) -> None:
    with pytest.raises(InputError, match=message):
        YowoConfig(*names, outputs=14)
