"""Class outputs that are learnt from the network with which a fine-tuning began."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from yowo_deploy.errors import InputError
from yowo_deploy.spec import ModelSpec
from yowo_training.checkpoints.checkpoint import save_checkpoint
from yowo_training.distillation import Teacher, distillation_loss
from yowo_training.finetune import started
from yowo_training.loss import LossParts, ManyLabels
from yowo_training.models.yowo import Yowo
from yowo_training.recipes import find_recipe

ANCHORS, CLASSES = 2, 4
SPEC = ModelSpec(labels=("run", "sit"), anchors=((1.0, 1.0), (2.0, 3.0)), input_size=(128, 96))


def outputs(seed: int) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.normal(size=(3, ANCHORS * (5 + CLASSES), 2, 3)))


def sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


@pytest.mark.parametrize("exclusive", [CLASSES, 2])
def test_the_loss_is_the_cross_entropy_with_the_teacher_where_it_sees_people(exclusive: int) -> None:
    raw, teacher = outputs(0), outputs(1)
    many = None if exclusive == CLASSES else ManyLabels(exclusive, torch.zeros(CLASSES))
    expected = 0.0
    for image, anchor, row, column in np.ndindex(3, ANCHORS, 2, 3):
        mine, theirs = (x.numpy().reshape(3, ANCHORS, -1, 2, 3)[image, anchor, :, row, column] for x in (raw, teacher))
        p, q = (np.exp(x[5 : 5 + exclusive]) / np.exp(x[5 : 5 + exclusive]).sum() for x in (theirs, mine))
        of_cell = -(p * np.log(q)).sum()
        p, q = (sigmoid(x[5 + exclusive :]) for x in (theirs, mine))
        of_cell -= (p * np.log(q) + (1 - p) * np.log(1 - q)).sum()
        expected += sigmoid(theirs[4]) * of_cell / 3
    assert distillation_loss(raw, teacher, ANCHORS, many).item() == pytest.approx(expected, rel=1e-9)


def test_nothing_is_learnt_from_a_teacher_of_the_same_opinion_and_classes_alone_from_another() -> None:
    raw = outputs(0).requires_grad_()
    distillation_loss(raw, raw.detach(), ANCHORS).backward()
    assert raw.grad is not None and raw.grad.abs().max() < 1e-12
    distillation_loss(raw, outputs(1).requires_grad_(), ANCHORS).backward()
    by_channel = raw.grad.reshape(3, ANCHORS, 5 + CLASSES, -1).abs().amax(dim=(0, 1, 3))
    assert not by_channel[:5].any() and by_channel[5:].all()


def test_the_class_loss_has_the_share_of_the_teacher() -> None:
    recipe = find_recipe("yowo-tiny")
    network = Yowo(recipe.config(SPEC))
    teacher = Teacher(network, 0.75, None)
    clips = torch.rand(2, *SPEC.clip_shape)
    output = network.eval()(clips).detach()
    parts = LossParts(*torch.arange(6.0))
    alike = distillation_loss(output, output, len(SPEC.anchors)).item()
    with torch.no_grad():
        network.conv_final.weight += 1  # the teacher is a copy
    found = teacher.taught(parts, output, clips, len(SPEC.anchors), weight=2.0)
    assert found.classes.item() == pytest.approx(0.25 * 5 + 0.75 * 2 * alike, rel=1e-4)
    assert replace(found, classes=parts.classes) == parts


def test_a_teacher_of_other_classes_is_refused(tmp_path: Path) -> None:
    recipe = replace(find_recipe("yowo-tiny"), distill=0.5)
    save_checkpoint(tmp_path / "start.pt", Yowo(recipe.config(SPEC)), SPEC, {})
    started(recipe, SPEC, tmp_path / "start.pt")
    for other in (SPEC.replace(labels=("sit", "run")), SPEC.replace(anchors=((1.0, 1.0), (2.0, 2.5)))):
        with pytest.raises(InputError, match="not those of the data set"):
            started(recipe, other, tmp_path / "start.pt")
        started(replace(recipe, distill=0.0), other, tmp_path / "start.pt")
