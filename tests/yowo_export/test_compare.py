"""Two models are compared on their outputs and their detections, and every planted fault shows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from yowo_deploy.errors import InputError
from yowo_deploy.spec import ModelSpec
from yowo_export.calibration import made_up_clips
from yowo_export.compare import LIMITS, Pair, compare
from yowo_training.backend import TorchBackend
from yowo_training.checkpoint import Checkpoint
from yowo_training.model import Yowo


def pairs(spec: ModelSpec, count: int) -> Iterator[Pair]:
    for clip, size_wh in made_up_clips(spec, count):
        yield clip, clip, size_wh


def test_a_model_agrees_with_itself_and_there_was_something_to_see(checkpoint: Checkpoint) -> None:
    model = TorchBackend.of(checkpoint)
    found = compare(model, model, pairs(checkpoint.spec, 4), LIMITS["fp32"])
    assert not found.beyond(LIMITS["fp32"]) and found.raw == 0 and found.missing == found.extra == 0
    assert found.clips == 4 and found.detections > 0


def one_weight(model: Yowo) -> None:
    assert model.backbone_3d is not None
    model.backbone_3d.features[0][0].weight.data[0, 0, 1, 1, 1] += 0.5  # type: ignore[index,union-attr,operator]


def attention_sign(model: Yowo) -> None:
    model.cfam.attention.sign = "paper"


def no_attention(model: Yowo) -> None:
    model.cfam.attention.gamma.data.zero_()


def a_score(model: Yowo) -> None:
    model.conv_final.weight.data[4] += 0.01


FAULTS = [one_weight, attention_sign, no_attention, a_score]


@pytest.mark.parametrize("spoil", FAULTS, ids=[fault.__name__ for fault in FAULTS])
def test_a_planted_fault_fails(checkpoint: Checkpoint, spoil: Callable[[Yowo], None]) -> None:
    spoiled = copy.deepcopy(checkpoint.model)
    spoil(spoiled)
    models = TorchBackend.of(checkpoint), TorchBackend.of(Checkpoint(spoiled, checkpoint.spec))
    assert compare(*models, pairs(checkpoint.spec, 4), LIMITS["fp32"]).beyond(LIMITS["fp32"])


def test_outputs_that_are_no_numbers_fail(checkpoint: Checkpoint) -> None:
    spoiled = copy.deepcopy(checkpoint.model)
    spoiled.conv_final.weight.data[0, 0] = torch.nan
    models = TorchBackend.of(checkpoint), TorchBackend.of(Checkpoint(spoiled, checkpoint.spec))
    found = compare(*models, pairs(checkpoint.spec, 1), LIMITS["fp32"])
    assert np.isnan(found.raw) and found.beyond(LIMITS["fp32"])


def test_models_for_different_tasks_are_not_compared(checkpoint: Checkpoint) -> None:
    other = Checkpoint(checkpoint.model, checkpoint.spec.replace(clip_length=4, labels=("a", "b", "c")))
    with pytest.raises(InputError, match=r"labels: .*'a'.*clip_length: 8 and 4"):
        compare(TorchBackend.of(checkpoint), TorchBackend.of(other), [], LIMITS["fp32"])


def test_no_clip_is_no_proof(checkpoint: Checkpoint) -> None:
    model = TorchBackend.of(checkpoint)
    with pytest.raises(InputError, match="no clip"):
        compare(model, model, [], LIMITS["fp32"])


def test_every_figure_has_its_limit(checkpoint: Checkpoint) -> None:
    model = TorchBackend.of(checkpoint)
    good = compare(model, model, pairs(checkpoint.spec, 1), LIMITS["fp32"])
    for change in ({"raw": 1e-3}, {"missing": 1}, {"extra": 1}, {"score": 0.01}, {"box_px": 1.0}, {"raw": np.nan}):
        assert replace(good, **change).beyond(LIMITS["fp32"]), change  # type: ignore[arg-type]


def test_the_clip_that_differs_most_is_named(checkpoint: Checkpoint) -> None:
    """A frame in which the third clip alone differs, given to one of two models that are the same."""
    model = TorchBackend.of(checkpoint)
    given = list(pairs(checkpoint.spec, 4))
    given[2] = (given[2][0], given[2][1] + np.float32(0.5), given[2][2])
    assert compare(model, model, given, LIMITS["fp32"]).worst == 2
