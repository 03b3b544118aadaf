"""The loop learns, keeps the best checkpoint, holds recordings apart, and stops at a loss that is no number."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from yowo_deploy.datasets import AnnotatedVideo, Dataset, open_dataset
from yowo_deploy.datasets.base import Rules
from yowo_deploy.datasets.synthetic import make_synthetic
from yowo_deploy.errors import InputError, YowoError
from yowo_training.average import Average
from yowo_training.checkpoint import load_checkpoint
from yowo_training.loop import Budget, Run, build, build_optimizer, hold_out, rate_at
from yowo_training.loss import LossWeights
from yowo_training.recipes import Recipe, find_recipe

TINY = replace(find_recipe("yowo-tiny"), width=32, input_size=(64, 64), batch=4, loss=LossWeights())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("synthetic")
    make_synthetic(folder, videos_train=12, videos_test=6)
    return open_dataset("synthetic", folder)


class Two:
    """The first two videos of a data set, to be learnt by heart."""

    def __init__(self, dataset: Dataset) -> None:
        self.labels, self.anchors, self.anchor_grid = dataset.labels, dataset.anchors, dataset.anchor_grid
        self.rules: Rules = dataset.rules
        self._videos = dataset.videos("train")[:2]

    def videos(self, split: str) -> Sequence[AnnotatedVideo]:
        return self._videos


@pytest.mark.slow
def test_two_clips_are_learnt_by_heart(dataset: Dataset, tmp_path: Path) -> None:
    # A grid of 4 x 4 cells: with 2 x 2, three people would share cells, and only one of them can be learnt.
    recipe = replace(TINY, input_size=(128, 128), jitter=0.0, colour=0.0, batch=2, epochs=250, ema=0.9)
    run = Run(recipe, Two(dataset), tmp_path, Budget(None, recipe.epochs), validation=0.0)
    reports = list(run)
    losses = [report.loss for report in reports]
    assert np.mean(losses[-20:]) < 0.1 * np.mean(losses[:3])
    assert reports[-1].done == 1.0 and reports[-1].frame_map is not None
    assert run.best_map > 0.8
    loaded = load_checkpoint(run.best)
    assert loaded.spec.labels == dataset.labels
    assert {path.name for path in tmp_path.iterdir()} == {"best.pt", "last.pt", "args.json", "metrics.jsonl"}


def test_the_same_seed_gives_the_same_losses(dataset: Dataset, tmp_path: Path) -> None:
    def losses(seed: int) -> list[float]:
        run = Run(TINY, dataset, tmp_path / str(seed), Budget(None, 1), seed=seed)
        return [report.loss for report in run]

    assert losses(1) == losses(1) != losses(2)


def test_a_recording_is_never_on_both_sides(dataset: Dataset) -> None:
    videos = [replace(video, group=f"group {index // 3}") for index, video in enumerate(dataset.videos("train"))]
    training, held_out = hold_out(videos, 0.4)
    assert len(training) + len(held_out) == len(videos) and training and held_out
    assert not {v.group for v in training} & {v.group for v in held_out}


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_batch(dataset: Dataset, tmp_path: Path) -> None:
    run = Run(TINY, dataset, tmp_path, Budget(None, 1))
    with torch.no_grad():
        run.model.conv_final.weight.fill_(math.nan)
    with pytest.raises(YowoError, match="nan"):
        list(run)
    assert (tmp_path / "bad_batch.pt").exists() and not (tmp_path / "last.pt").exists()


@pytest.mark.parametrize(("minutes", "epochs"), [(0.0, 5), (-1.0, 5), (None, 0)])
def test_a_run_without_time_is_refused(minutes: float | None, epochs: int) -> None:
    with pytest.raises(InputError, match="needs time"):
        Budget(minutes, epochs)


def test_the_rate_rises_then_falls() -> None:
    rates = [rate_at(done) for done in np.linspace(0, 1, 101)]
    top = int(np.argmax(rates))
    assert rates[top] == pytest.approx(1.0) and 4 <= top <= 6
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


def test_every_parameter_is_trained_once_and_norms_do_not_decay(dataset: Dataset) -> None:
    recipe: Recipe = find_recipe("yowo-lite")
    model = build(recipe, recipe.spec(dataset))
    groups = build_optimizer(model, recipe).param_groups
    chosen = [id(p) for group in groups for p in group["params"]]
    assert sorted(chosen) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    stays = ("stem", *(f"blocks.{index}" for index in range(recipe.frozen_blocks)))
    prefixes = tuple(f"backbone_2d.{part}." for part in stays)
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(prefixes)} and frozen
    for group in groups:
        assert (group["weight_decay"] == 0) == all(p.ndim <= 1 for p in group["params"])


def test_the_average_trails_the_weights_and_never_leaves_their_range() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    average = Average(network, decay=0.9)
    seen = []
    for value in (0.0, 1.0, 1.0, 1.0):
        network.weight.data.fill_(value)
        average.update(network)
        seen.append(average.model.weight.item())
    assert seen[1:] == sorted(seen[1:]) and 0 < seen[-1] <= 1
