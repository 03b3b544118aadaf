"""Checkpoints of the original YOWO release: their key names, and what they leave unsaid (OFFICIAL_YOWO)."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from yowo_deploy.datasets.jhmdb import ANCHORS as JHMDB21_ANCHORS
from yowo_deploy.errors import ModelFileError
from yowo_deploy.spec import ModelSpec
from yowo_training.backbones import BACKBONES_2D, BACKBONES_3D
from yowo_training.model import Yowo, YowoConfig

_RENAMED = (("cfam.sc.", "cfam.attention."), (".banch1.", ".branch1."), (".banch2.", ".branch2."))
_COUNTER = "num_batches_tracked"

UCF24_LABELS = (
    "Basketball BasketballDunk Biking CliffDiving CricketBowling Diving Fencing FloorGymnastics GolfSwing HorseRiding "
    "IceDancing LongJump PoleVault RopeClimbing SalsaSpin SkateBoarding Skiing Skijet SoccerJuggling Surfing "
    "TennisSwing TrampolineJumping VolleyballSpiking WalkingWithDog"
)
JHMDB21_LABELS = (
    "brush_hair catch clap climb_stairs golf jump kick_ball pick pour pullup push run shoot_ball shoot_bow shoot_gun "
    "sit stand swing_baseball throw walk wave"
)
_UCF24_ANCHORS = (
    (0.70458, 1.18803), (1.26654, 2.55121), (1.59382, 4.08321), (2.30548, 4.94180), (3.52332, 5.91979),
)  # fmt: skip

# Which data set a class count means.
_DATASETS = {24: (UCF24_LABELS, _UCF24_ANCHORS), 21: (JHMDB21_LABELS, JHMDB21_ANCHORS)}
_ANCHORS = 5


def our_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The release's keys as ours: without `module.`, with our spelling of three modules."""
    renamed = {}
    for key, value in weights.items():
        name = key.removeprefix("module.")
        for theirs, ours in _RENAMED:
            name = name.replace(theirs, ours)
        renamed[name] = value
    return renamed


def recognise(file: Path, weights: dict[str, Tensor]) -> YowoConfig:
    """The network that these tensors, under our names, fill completely.

    Raises:
        ModelFileError: there is none.
    """
    head = weights.get("conv_final.weight")
    if head is None or head.ndim != 4:
        raise ModelFileError(
            f"{file} is a checkpoint of another network: it has no `conv_final.weight` ({_sample(weights)})"
        )
    shapes = {key: value.shape for key, value in weights.items() if not key.endswith(_COUNTER)}
    for backbone_2d, backbone_3d in product(BACKBONES_2D, BACKBONES_3D):
        config = YowoConfig(backbone_2d, backbone_3d, head.shape[0], head.shape[1], attention_sign="release")
        with torch.device("meta"):
            state = Yowo(config).state_dict()
        if shapes == {key: value.shape for key, value in state.items() if not key.endswith(_COUNTER)}:
            return config
    raise ModelFileError(f"{file} is a checkpoint of a network that is not known here ({_sample(weights)})")


def spec_of(file: Path, config: YowoConfig, clip_length: int) -> ModelSpec:
    """What the release left unsaid: labels and anchors by the class count, preprocessing by the data set.

    Raises:
        ModelFileError: the class count belongs to no data set of the release.
    """
    classes = config.outputs // _ANCHORS - 5
    if classes not in _DATASETS or config.outputs % _ANCHORS:
        raise ModelFileError(
            f"{file} has {config.outputs} output channels, expected 145 (UCF101-24) or 130 (J-HMDB-21)"
        )
    labels, anchors = _DATASETS[classes]
    return ModelSpec(
        labels=tuple(labels.split()),
        anchors=anchors,
        clip_length=clip_length,
        resize_filter="bicubic",
        attention_sign="release",
        name=f"yowo-{config.backbone_3d}",
    )


def _sample(weights: dict[str, Tensor]) -> str:
    return f"{len(weights)} tensors, the first {next(iter(weights))!r}"
