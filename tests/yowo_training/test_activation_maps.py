"""Activation maps: as large as the grid, from 0 to 1, and a frame that is not there is said to be missing."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from yowo_deploy.errors import InputError
from yowo_deploy.spec import ModelSpec
from yowo_training.activation_maps import activation_maps, explain
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.models.yowo import Yowo, YowoConfig

SPEC = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=4, input_size=(96, 64))


@pytest.mark.parametrize(
    ("branches", "names"),
    [(("tiny2d", "tiny3d"), ["3-D branch", "2-D branch"]), (("tiny2d", None), ["2-D branch"])],
)
def test_every_branch_has_a_map_of_the_grid(branches: tuple[str, str | None], names: list[str]) -> None:
    torch.manual_seed(0)
    model = Yowo(YowoConfig(*branches, outputs=SPEC.output_channels, width=16)).eval()
    maps = activation_maps(model, torch.rand(1, *SPEC.clip_shape))
    assert list(maps) == names
    for activation in maps.values():
        assert activation.shape == (2, 3) and activation.min() == 0 and activation.max() == 1


def test_the_picture_shows_the_frame_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    model = Yowo(YowoConfig("tiny2d", "tiny3d", outputs=SPEC.output_channels, width=16)).eval()
    frames = [np.full((48, 64, 3), 10 * index, np.uint8) for index in range(5)]
    picture = explain(Checkpoint(model, SPEC), frames, key=3, confidence=1.0)
    assert picture.shape[1] > 3 * 64 and (picture[20, 20] == 30).all()
    with pytest.raises(InputError, match="no frame 5"):
        explain(Checkpoint(model, SPEC), frames, key=5)
