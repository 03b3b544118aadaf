"""The shipped model as a beginning: its answers come out of its ONNX file, and its boxes stay under a new head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from yowo_deploy.backends.ort import open_file
from yowo_deploy.errors import InputError
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_deploy.postprocess.decode import decode
from yowo_deploy.spec import ModelSpec
from yowo_training import finetune
from yowo_training.checkpoints.checkpoint import Checkpoint, save_checkpoint
from yowo_training.checkpoints.onnx_weights import checkpoint_from_onnx, normed
from yowo_training.model_init import build
from yowo_training.models.yowo import Yowo
from yowo_training.recipes import find_recipe

SHIPPED = model_path(DEFAULT)
# The same float32 weights, their sums in another order: `onnx_export.LIMIT`, which exporting is held to.
LIMIT = 2e-4


@pytest.fixture(scope="module")
def clips() -> Tensor:
    rng = np.random.default_rng(0)
    spec = read_spec(SHIPPED)
    return torch.from_numpy(rng.standard_normal((1, *spec.clip_shape)).astype(np.float32))


@pytest.fixture(scope="module")
def expected(clips: Tensor) -> np.ndarray:
    with open_file(SHIPPED) as backend:
        return backend.infer(clips.numpy())


@pytest.fixture
def shipped() -> Checkpoint:
    return checkpoint_from_onnx(SHIPPED)


def answer(model: torch.nn.Module, clips: Tensor) -> np.ndarray:
    with torch.no_grad():
        return np.asarray(model.eval()(clips))


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())


def test_the_network_answers_as_its_onnx_file(shipped: Checkpoint, clips: Tensor, expected: np.ndarray) -> None:
    assert difference(answer(shipped.model, clips), expected) < LIMIT
    shipped.model.cfam.conv_bn_relu1[1].bias.data += 0.1  # type: ignore[union-attr, operator]
    assert difference(answer(shipped.model, clips), expected) > LIMIT


def test_settled_norms_change_no_answer_but_make_training_begin_where_it_stood(
    shipped: Checkpoint, clips: Tensor, expected: np.ndarray
) -> None:
    def in_training() -> np.ndarray:
        torch.manual_seed(0)
        shipped.model.train()
        for module in shipped.model.modules():
            if isinstance(module, torch.nn.Dropout2d):
                module.eval()
        with torch.no_grad():
            found = np.asarray(shipped.model(clips))
        return found

    before = {name: value.clone() for name, value in shipped.model.state_dict().items()}
    unsettled = difference(in_training(), expected)
    shipped.model.load_state_dict(before)
    finetune.settle_norms(shipped.model, [clips])
    assert difference(answer(shipped.model, clips), expected) < LIMIT
    # The statistics are those of this very batch, so that both ways to normalise are one but for rounding, which a
    # hundred norms carry on: ten times the limit.
    assert difference(in_training(), expected) < 10 * LIMIT < unsettled


def test_weights_before_folded_norms_get_the_scale_of_a_new_network_and_no_answer_changes(
    shipped: Checkpoint, clips: Tensor, expected: np.ndarray
) -> None:
    finetune.restore_scale(shipped.model)
    assert difference(answer(shipped.model, clips), expected) < LIMIT
    assert not finetune.has_folded_norms(shipped.model)
    for conv, norm in normed(shipped.model):
        size = shipped.model.get_submodule(conv).weight.detach().flatten(1).square().mean(dim=1)  # type: ignore[union-attr, operator]
        wanted = 2 / shipped.model.get_submodule(conv).weight[0].numel()  # type: ignore[index, union-attr]
        torch.testing.assert_close(size[size > 0], torch.full_like(size[size > 0], wanted), rtol=1e-4, atol=0)
        assert shipped.model.get_submodule(norm).weight.isfinite().all()  # type: ignore[operator, union-attr]
    before = {name: value.clone() for name, value in shipped.model.state_dict().items()}
    finetune.restore_scale(shipped.model)  # of norms that are not folded nothing is changed
    assert all(torch.equal(value, before[name]) for name, value in shipped.model.state_dict().items())


def test_norms_need_settling_in_a_checkpoint_that_was_made_of_an_onnx_file_as_well(
    shipped: Checkpoint, clips: Tensor, tmp_path: Path
) -> None:
    recipe, spec = finetune.fine_tuning(find_recipe("yowo-lite")), shipped.spec
    save_checkpoint(tmp_path / "made.safetensors", shipped.model, spec, {})
    model = finetune.started(recipe, spec, tmp_path / "made.safetensors")
    assert finetune.has_folded_norms(model)
    finetune.settle_norms(model, [clips])
    save_checkpoint(tmp_path / "trained.pt", model, spec, {})
    assert not finetune.has_folded_norms(finetune.started(recipe, spec, tmp_path / "trained.pt"))


def boxes_of(raw: np.ndarray, spec: ModelSpec) -> tuple[np.ndarray, np.ndarray]:
    boxes, objectness, _ = decode(raw, spec)
    return boxes, objectness


@pytest.mark.parametrize("scale", [1.0, 1.3], ids=["the same anchors", "other anchors"])
@pytest.mark.parametrize("labels", [("walk",), tuple(f"class {n}" for n in range(30))], ids=["one class", "30 classes"])
def test_people_stay_where_they_were_under_a_head_for_other_classes(
    labels: tuple[str, ...], scale: float, clips: Tensor, expected: np.ndarray
) -> None:
    given = read_spec(SHIPPED)
    spec = given.replace(labels=labels, anchors=tuple((w * scale, h * scale) for w, h in given.anchors))
    recipe = finetune.fine_tuning(find_recipe("yowo-lite"))
    model = finetune.started(recipe, spec, SHIPPED)
    assert finetune.has_folded_norms(model) and model.config.outputs == 5 * (5 + len(labels))
    for found, wanted in zip(boxes_of(answer(model, clips)[0], spec), boxes_of(expected[0], given), strict=True):
        assert difference(found, wanted) < LIMIT


def test_stem_and_first_blocks_stay_frozen_and_no_branch_learns_alone() -> None:
    recipe = finetune.fine_tuning(find_recipe("yowo-lite"))
    model = finetune.started(recipe, read_spec(SHIPPED), SHIPPED)
    assert not any(weight.requires_grad for weight in model.backbone_2d.stem.parameters())  # type: ignore[union-attr, operator]
    assert (recipe.first_3d, recipe.imagenet) == (0.0, False)


def test_a_checkpoint_is_a_start_as_well(tmp_path: Path, clips: Tensor) -> None:
    recipe = find_recipe("yowo-tiny")
    spec = ModelSpec(labels=("a", "b"), anchors=((1.0, 2.0), (0.5, 1.0)), clip_length=8, input_size=(128, 96))
    torch.manual_seed(0)
    first = build(recipe, spec).eval()
    save_checkpoint(tmp_path / "first.pt", first, spec, {})
    other = spec.replace(labels=("c", "d", "e"))
    model = finetune.started(recipe, other, tmp_path / "first.pt")
    assert not finetune.has_folded_norms(model)
    some = torch.rand(2, *spec.clip_shape)
    for found, wanted in zip(
        boxes_of(answer(model, some)[0], other), boxes_of(answer(first, some)[0], spec), strict=True
    ):
        assert difference(found, wanted) < LIMIT
    again = finetune.started(recipe, spec, tmp_path / "first.pt")
    assert difference(answer(again, some), answer(first, some)) == 0
    with pytest.raises(InputError, match="another network than the recipe yowo-tiny"):
        finetune.started(recipe, spec, SHIPPED)


def test_a_start_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not found"):
        finetune.started(find_recipe("yowo-lite"), read_spec(SHIPPED), tmp_path / "absent.onnx")


def test_a_network_of_fewer_pairs_of_frames_is_a_start_with_the_same_answers(tmp_path: Path, clips: Tensor) -> None:
    spec = read_spec(SHIPPED)
    torch.manual_seed(0)
    recipe = find_recipe("yowo-lite+boxes")
    before = replace(recipe, backbone_3d="motion_lite0")
    few = Yowo(before.config(spec)).eval()
    save_checkpoint(tmp_path / "few.pt", few, spec, {})
    model = finetune.started(recipe, spec, tmp_path / "few.pt")
    assert model.config == recipe.config(spec) != few.config and not finetune.has_folded_norms(model)
    assert difference(answer(model, clips), answer(few, clips)) < LIMIT
    with pytest.raises(InputError, match="another network"):  # fewer pairs than the start has are lost
        save_checkpoint(tmp_path / "all.pt", model, spec, {})
        finetune.started(before, spec, tmp_path / "all.pt")
