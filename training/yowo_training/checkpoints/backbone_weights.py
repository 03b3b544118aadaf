"""Load weights of one branch: files of 3D-ResNet and Efficient-3DCNN, of a whole YOWO, and Darknet's format."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from yowo_deploy.backends.loader import is_checkpoint
from yowo_deploy.errors import ModelFileError, foreign
from yowo_deploy.files import existing_file
from yowo_training.checkpoints.checkpoint import named_tensors, read_tensors
from yowo_training.checkpoints.release_format import ANCHORS, CLASSIFIERS, COUNTER, our_names
from yowo_training.checkpoints.weight_tables import Weights, as_weight, networks
from yowo_training.models.backbones.base import Backbone
from yowo_training.models.backbones.darknet import Darknet19, Darknet19Bare


@dataclass(frozen=True)
class Filled:
    """Number of tensors filled, and number of those in the file that were not used; of numbers in Darknet's format."""

    tensors: int
    dropped: int


def load_branch(backbone: Backbone, path: str | os.PathLike[str]) -> Filled:
    """Fill every tensor of a backbone from a file, but for a last layer of another size, or change nothing.

    Args:
        path: a PyTorch file (bare, or under `state_dict`; of the backbone or of a whole YOWO), whose classifier is
            ignored; or, for Darknet-19, a `.weights` file.

    Raises:
        InputError: no such file.
        ModelFileError: any tensor would stay unfilled or has another shape, or the file holds something else.
    """
    file = existing_file(path, "weights")
    if is_checkpoint(file):
        return _load_state(backbone, file)
    if not isinstance(backbone, (Darknet19, Darknet19Bare)):
        raise ModelFileError(f"{file} is not a PyTorch file, and only Darknet-19 reads Darknet's .weights format")
    return _load_darknet(backbone, file)


def _load_state(backbone: Backbone, file: Path) -> Filled:
    wanted = {key: value for key, value in backbone.state_dict().items() if not key.endswith(COUNTER)}
    own = _of_this_branch(read_tensors(file), wanted)
    missing = [key for key in wanted if key not in own]
    misshapen = [key for key in wanted if key in own and own[key].shape != wanted[key].shape]
    strange = [key for key in own if key not in backbone.state_dict() and not key.startswith(CLASSIFIERS)]
    if missing or misshapen or strange:
        raise ModelFileError(
            f"{file} does not fit this backbone, nothing was loaded: {len(missing)} of {len(wanted)} tensors missing, "
            f"{len(misshapen)} of another shape, {len(strange)} unknown ({(missing + misshapen + strange)[0]!r}, ...)"
        )
    found = named_tensors(file, {key: own[key] for key in wanted})
    with foreign(f"{file} does not fit this backbone, nothing was loaded", ModelFileError):
        found = {key: as_weight(wanted[key].dtype, key, value) for key, value in found.items()}
    backbone.load_state_dict(found, strict=False)
    return Filled(len(wanted), sum(key.startswith(CLASSIFIERS) for key in own))


def _of_this_branch(content: dict[str, Any], wanted: Weights) -> Weights:
    """Of all networks in the file, and of the branches of a whole YOWO, the one with the most of the wanted names."""
    marks = (min(wanted), max(wanted))  # of which one may be missing
    found = [our_names(each.weights) for mark in marks for each in networks(content, mark)]
    return max(found, key=lambda table: len(wanted.keys() & table) - len(table) / 1e6, default={})


def _load_darknet(backbone: Darknet19 | Darknet19Bare, file: Path) -> Filled:
    """Header, then per layer norm bias, weight, mean, variance and filters; or bias and filters (OFFICIAL_YOWO).

    YOLOv2's last layer has as many outputs as its data set needs, 425 for COCO and 125 for VOC: one of another size
    than the network's stays as it was initialised.
    """
    content = file.read_bytes()
    major, minor = np.frombuffer(content[:8].ljust(8, b"\0"), "<i4")
    body = content[20 if 2 <= major * 10 + minor < 1000 else 16 :]  # the image counter has 8 bytes, or 4
    values = torch.from_numpy(np.frombuffer(body[: len(body) // 4 * 4], "<f4").copy())
    layers = [_darknet_order(layer) for layer in backbone.models.values()]
    head = layers[-1] if isinstance(backbone, Darknet19) else []
    needed = sum(tensor.numel() for layer in layers for tensor in layer)
    of_head = len(values) - needed + sum(tensor.numel() for tensor in head)
    # Five anchors, each output with a weight for every channel and a bias.
    fits = of_head > 0 and not of_head % (ANCHORS * (1 + head[1][0].numel())) if head else of_head >= 0
    if not fits or not values.isfinite().all():
        raise ModelFileError(
            f"{file} holds {len(values)} numbers after its header, this Darknet-19 needs "
            f"{f'{needed}, or others for its last layer' if head else f'at least {needed}'}; nothing was loaded"
        )
    filled = layers if len(values) == needed or not head else layers[:-1]
    targets = [tensor for layer in filled for tensor in layer]
    used = sum(tensor.numel() for tensor in targets)
    parts = torch.split(values[:used], [tensor.numel() for tensor in targets])
    variances = {id(part.running_var) for part in backbone.modules() if isinstance(part, nn.BatchNorm2d)}
    if any((part < 0).any() for tensor, part in zip(targets, parts, strict=True) if id(tensor) in variances):
        raise ModelFileError(
            f"{file} would put numbers below zero where variances are: it is of another network than Darknet-19, "
            "such as YOLOv3; nothing was loaded"
        )
    with torch.no_grad():
        for tensor, part in zip(targets, parts, strict=True):
            tensor.copy_(part.reshape(tensor.shape))
    return Filled(len(targets), len(values) - used)


def _darknet_order(layer: nn.Module) -> list[Tensor]:
    if not isinstance(layer, nn.Sequential):
        return []
    tensors: list[Tensor | None] = []
    for part in reversed(layer):  # in the file the norm precedes its convolution
        if isinstance(part, nn.BatchNorm2d):
            tensors += [part.bias, part.weight, part.running_mean, part.running_var]
        elif isinstance(part, nn.Conv2d):
            tensors += [part.bias, part.weight]
    return [tensor for tensor in tensors if tensor is not None]
