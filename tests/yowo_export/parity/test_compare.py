"""Two models are compared on their outputs and their detections, and every planted fault shows."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace

import numpy as np
import pytest
import torch

from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import Engine
from yowo_deploy.errors import InputError
from yowo_deploy.spec import ModelSpec, Precision
from yowo_export.parity.compare import LIMITS, Pair, compare
from yowo_export.sample_clips import made_up_clips
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.models.yowo import Yowo
from yowo_training.torch_backend import TorchBackend


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


TWO_BOXES = ModelSpec(
    labels=("run", "sit"),
    anchors=((1.0, 1.0), (1.0, 1.6)),
    clip_length=1,
    input_size=(64, 64),
    confidence_threshold=0.3,
)


class Says(Engine):
    """Two boxes over one another in one cell: (score, share of the first class) of each; nothing elsewhere."""

    name = "says"

    def __init__(self, *boxes: tuple[float, float]) -> None:
        self.spec = TWO_BOXES
        self._raw = np.zeros((2, 7, 2, 2), np.float32)
        self._raw[:, 4] = -20.0
        for anchor, (score, share) in enumerate(boxes):
            best = max(share, 1 - share)
            self._raw[anchor, 4:, 0, 0] = logit(score / best), logit(share), 0.0

    def infer(self, clips: np.ndarray) -> Float:
        return self._raw.reshape(1, 14, 2, 2)


def logit(share: float) -> float:
    return float(np.log(share / (1 - share)))


def told_apart(first: Says, second: Says, precision: Precision) -> tuple[int, int]:
    clip = np.zeros(TWO_BOXES.clip_shape, np.float32)
    found = compare(first, second, [(clip, clip, (64, 64))], LIMITS[precision])
    assert found.detections == 1
    return found.missing, found.extra


@pytest.mark.parametrize(
    ("first", "second", "precision", "expected"),
    [
        pytest.param([(0.71, 0.99), (0.70, 0.99)], [(0.70, 0.99), (0.71, 0.99)], "fp16", (0, 0), id="nms tie"),
        pytest.param([(0.71, 0.99), (0.70, 0.99)], [(0.70, 0.99), (0.71, 0.99)], "fp32", (1, 1), id="no tie in fp32"),
        pytest.param([(0.80, 0.99), (0.60, 0.99)], [(0.60, 0.99), (0.80, 0.99)], "int8", (1, 1), id="order turned"),
        pytest.param([(0.80, 0.99), (0.60, 0.01)], [(0.80, 0.01), (0.60, 0.99)], "int8", (1, 1), id="class swap"),
        pytest.param([(0.80, 0.99), (0.20, 0.01)], [(0.80, 0.01), (0.20, 0.99)], "int8", (1, 1), id="weak class swap"),
        pytest.param([(0.50, 0.505), (0.1, 0.9)], [(0.50, 0.495), (0.1, 0.9)], "fp16", (0, 0), id="class tie"),
        pytest.param([(0.50, 0.60), (0.1, 0.9)], [(0.50, 0.40), (0.1, 0.9)], "int8", (1, 1), id="class turned"),
        pytest.param([(0.31, 0.99), (0.1, 0.9)], [(0.29, 0.99), (0.1, 0.9)], "fp16", (0, 0), id="below the threshold"),
        pytest.param([(0.40, 0.99), (0.1, 0.9)], [(0.20, 0.99), (0.1, 0.9)], "fp16", (1, 0), id="lost"),
    ],
)
def test_what_near_equals_decide_is_not_lost_and_a_turned_class_is(
    first: list[tuple[float, float]],
    second: list[tuple[float, float]],
    precision: Precision,
    expected: tuple[int, int],
) -> None:
    assert told_apart(Says(*first), Says(*second), precision) == expected


def test_an_engine_that_takes_no_clip_alone_gets_it_repeated(checkpoint: Checkpoint) -> None:
    class OfFour(TorchBackend):
        batch = (4, 4)

        def infer(self, clips: np.ndarray) -> Float:
            assert len(clips) == 4
            return super().infer(clips)

    found = compare(TorchBackend.of(checkpoint), OfFour.of(checkpoint), pairs(checkpoint.spec, 1), LIMITS["fp32"])
    assert not found.beyond(LIMITS["fp32"])


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
