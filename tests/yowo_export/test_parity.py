"""Parity passes for the same model and fails for every planted fault."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
import torch

from yowo_deploy.errors import InputError
from yowo_deploy.preprocess import Frame
from yowo_export.parity import LIMITS, compare, random_clips, video_clips
from yowo_training.backend import TorchBackend
from yowo_training.checkpoint import Checkpoint
from yowo_training.model import Yowo


def test_a_model_agrees_with_itself_and_there_was_something_to_see(checkpoint: Checkpoint) -> None:
    model = TorchBackend.of(checkpoint)
    found = compare(model, model, random_clips(checkpoint.spec, 4), LIMITS["fp32"])
    assert found.passed and found.raw == 0 and found.missing == found.extra == 0
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
    assert not compare(*models, random_clips(checkpoint.spec, 4), LIMITS["fp32"]).passed


def test_outputs_that_are_no_numbers_fail(checkpoint: Checkpoint) -> None:
    spoiled = copy.deepcopy(checkpoint.model)
    spoiled.conv_final.weight.data[0, 0] = torch.nan
    models = TorchBackend.of(checkpoint), TorchBackend.of(Checkpoint(spoiled, checkpoint.spec))
    assert not compare(*models, random_clips(checkpoint.spec, 1), LIMITS["fp32"]).passed


def test_models_for_different_tasks_are_not_compared(checkpoint: Checkpoint) -> None:
    other = Checkpoint(checkpoint.model, checkpoint.spec.replace(colour="bgr", labels=("a", "b", "c")))
    with pytest.raises(InputError, match=r"labels.*colour"):
        compare(TorchBackend.of(checkpoint), TorchBackend.of(other), [], LIMITS["fp32"])


def test_no_clip_is_no_proof(checkpoint: Checkpoint) -> None:
    model = TorchBackend.of(checkpoint)
    with pytest.raises(InputError, match="no clip"):
        compare(model, model, [], LIMITS["fp32"])


def test_every_figure_has_its_limit(checkpoint: Checkpoint) -> None:
    model = TorchBackend.of(checkpoint)
    good = compare(model, model, random_clips(checkpoint.spec, 1), LIMITS["fp32"])
    for change in ({"raw": 1e-3}, {"missing": 1}, {"extra": 1}, {"score": 0.01}, {"box_px": 1.0}, {"raw": np.nan}):
        assert not replace(good, **change).passed, change  # type: ignore[arg-type]


def test_clips_of_a_video_end_a_clip_length_apart(checkpoint: Checkpoint) -> None:
    frames: list[Frame] = [np.full((40, 60, 3), 10 * index, np.uint8) for index in range(20)]
    clips = [(clip.copy(), size) for clip, size in video_clips(frames, checkpoint.spec, 5)]
    last = [round(float(clip[0, -1].mean()) * 25.5) for clip, _ in clips]
    assert last == [7, 15] and clips[0][1] == (60, 40)
