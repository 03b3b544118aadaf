"""Official checkpoints, of the YOWO release: key names, and the spec that they do not contain (OFFICIAL_YOWO)."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from yowo_deploy.datasets import class_names
from yowo_deploy.datasets.jhmdb import ANCHORS as JHMDB21_ANCHORS
from yowo_deploy.errors import ModelFileError
from yowo_deploy.spec import ModelSpec
from yowo_training.models.backbones import BACKBONES_2D, BACKBONES_3D
from yowo_training.models.yowo import Yowo, YowoConfig

_RENAMED = (("cfam.sc.", "cfam.attention."), (".banch1.", ".branch1."), (".banch2.", ".branch2."))
COUNTER = "num_batches_tracked"

_UCF24_ANCHORS = (
    (0.70458, 1.18803), (1.26654, 2.55121), (1.59382, 4.08321), (2.30548, 4.94180), (3.52332, 5.91979),
)  # fmt: skip
_AVA_ANCHORS = (
    (0.71626, 2.13583), (1.28967, 4.15014), (2.12714, 5.09344), (3.27212, 5.87423), (5.16303, 6.33821),
)  # fmt: skip
_ANCHORS = 5

# Labels, anchors and preprocessing by class count, which identifies the data set (OFFICIAL_YOWO).
_SPECS = {
    24: ModelSpec(labels=class_names.UCF24, anchors=_UCF24_ANCHORS),
    21: ModelSpec(labels=class_names.JHMDB21, anchors=JHMDB21_ANCHORS),
    80: ModelSpec(
        labels=class_names.AVA,
        anchors=_AVA_ANCHORS,
        mean=(0.45,) * 3,
        std=(0.225,) * 3,
        class_activation="softmax+sigmoid",
        softmax_classes=class_names.AVA_POSES,
        nms_threshold=0.5,
    ),
}


def our_names(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Official keys as ours: without `module.`, with our spelling of three modules."""
    renamed = {}
    for key, value in weights.items():
        name = key.removeprefix("module.")
        for theirs, ours in _RENAMED:
            name = name.replace(theirs, ours)
        renamed[name] = value
    return renamed


def recognise(file: Path, weights: dict[str, Tensor]) -> YowoConfig:
    """The configuration of the network that these tensors, under our names, fill completely.

    Raises:
        ModelFileError: there is none.
    """
    head = weights.get("conv_final.weight")
    if head is None or head.ndim != 4:
        raise ModelFileError(
            f"{file} is a checkpoint of another network: it has no `conv_final.weight` ({_sample(weights)})"
        )
    shapes = {key: value.shape for key, value in weights.items() if not key.endswith(COUNTER)}
    for backbone_2d, backbone_3d in product(BACKBONES_2D, BACKBONES_3D):
        # "release" is the value in specs and checkpoints since the first version; LAYOUT's word for it is official.
        config = YowoConfig(backbone_2d, backbone_3d, head.shape[0], head.shape[1], attention_sign="release")
        with torch.device("meta"):
            state = Yowo(config).state_dict()
        if shapes == {key: value.shape for key, value in state.items() if not key.endswith(COUNTER)}:
            return config
    raise ModelFileError(f"{file} is a checkpoint of an unknown network ({_sample(weights)})")


def spec_of(file: Path, config: YowoConfig, clip_length: int, old: bool) -> ModelSpec:
    """The spec of an official checkpoint: labels, anchors and preprocessing follow from the class count.

    Args:
        old: the file has the layout of 2020, when Pillow's default filter was "nearest".

    Raises:
        ModelFileError: the class count is of no official data set.
    """
    classes = config.outputs // _ANCHORS - 5
    if classes not in _SPECS or config.outputs % _ANCHORS:
        known = ", ".join(str(_ANCHORS * (5 + count)) for count in _SPECS)
        raise ModelFileError(f"{file} has {config.outputs} output channels, expected one of {known}")
    return _SPECS[classes].replace(
        clip_length=clip_length,
        resize_filter="nearest" if old else "bicubic",
        attention_sign="release",
        name=f"yowo-{config.backbone_3d}",
    )


def _sample(weights: dict[str, Tensor]) -> str:
    return f"{len(weights)} tensors, the first {next(iter(weights))!r}"
