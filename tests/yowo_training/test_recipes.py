"""Recipes fit the data set and build the networks that they name."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import pytest
import torch
from torch._subclasses import FakeTensorMode

from yowo_deploy.datasets.base import AnnotatedVideo, Rules
from yowo_deploy.errors import InputError
from yowo_training.models.yowo import Yowo
from yowo_training.recipes import RECIPES, fields_of, find_recipe, recipe_of


class Boxes:
    """Anchors of a fifth by two fifths, and the half, of the frame, told in cells of a 10 x 5 grid."""

    labels = ("run", "sit")
    anchors = ((2.0, 2.0), (5.0, 2.5))
    anchor_grid = (10, 5)
    rules: Rules = "voc"
    judged_classes = ()

    def videos(self, split: str) -> Sequence[AnnotatedVideo]:
        return []


@pytest.mark.parametrize("name", RECIPES)
def test_args_json_holds_the_whole_recipe(name: str) -> None:
    assert recipe_of(json.loads(json.dumps(fields_of(RECIPES[name])))) == RECIPES[name]


@pytest.mark.parametrize("name", RECIPES)
def test_anchors_keep_their_share_of_the_frame_on_every_grid(name: str) -> None:
    spec = RECIPES[name].spec(Boxes())
    columns, rows = spec.grid_size
    shares = [(w / columns, h / rows) for w, h in spec.anchors]
    assert [share for pair in shares for share in pair] == pytest.approx([0.2, 0.4, 0.5, 0.5])


@pytest.mark.parametrize(
    ("name", "branches", "fused"),
    [
        ("yowo-2d", {"2d": 425}, False),
        ("yowo-3d", {"3d": 2048}, False),
        ("yowo-concat", {"2d": 425, "3d": 2048}, False),
        ("yowo", {"2d": 425, "3d": 2048}, True),
    ],
)
def test_the_four_models_of_table_2(name: str, branches: dict[str, int], fused: bool) -> None:
    recipe = find_recipe(name)
    spec = recipe.spec(Boxes())
    with FakeTensorMode():  # shapes without arithmetic
        model = Yowo(recipe.config(spec)).eval()
        clips = torch.empty(1, *spec.clip_shape)
        features, raw = model.features(clips), model(clips)
    assert [feature.shape[1] for feature in features] == [branches[key] for key in ("3d", "2d") if key in branches]
    assert (model.cfam is not None) == fused and model.conv_final.in_channels == (
        1024 if fused else sum(branches.values())
    )
    assert raw.shape == (1, 2 * (5 + 2), 7, 7) and spec.clip_length == 8


def test_an_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(InputError, match="yowo-lite"):
        find_recipe("yowo-huge")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("batch", "x"), ("batch", 0), ("batch", -3), ("batch", 10**30), ("batch", True),
        ("learning_rate", math.nan), ("learning_rate", -1.0), ("learning_rate", math.inf), ("input_size", "x"),
        ("input_size", [64]), ("ema", 2.0), ("ema", "x"), ("mosaic", -5), ("zoom", "x"), ("zoom", 0), ("epochs", "y"),
        ("name", 5), ("precision", "fp8"),
        ("optimizer", "x"), ("accumulate", 0), ("train_strides", []), ("train_strides", [0]), ("frozen_3d", "no"),
        ("loss", 3), ("loss", {"object": math.nan}), ("loss", {"object": -1.0}), ("loss", {"object": None}),
    ],
)  # fmt: skip
def test_fields_that_no_recipe_has_are_refused(name: str, value: object) -> None:
    fields = fields_of(find_recipe("yowo-tiny"))
    with pytest.raises(InputError, match=name if name != "loss" else "loss|object"):
        recipe_of({**fields, name: value})
