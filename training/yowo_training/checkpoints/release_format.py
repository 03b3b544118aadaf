"""Official checkpoints, of the YOWO release: key names, and the spec that they do not contain (OFFICIAL_YOWO)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yowo_deploy.datasets import class_names
from yowo_deploy.datasets.jhmdb import ANCHORS as JHMDB21_ANCHORS
from yowo_deploy.errors import ModelFileError
from yowo_deploy.spec import ModelSpec
from yowo_training.checkpoints.weight_tables import Weights, networks, refuse_views, tables
from yowo_training.models.backbones import BACKBONES_2D, BACKBONES_3D
from yowo_training.models.yowo import Yowo, YowoConfig

_RENAMED = (("cfam.sc.", "cfam.attention."), (".banch1.", ".branch1."), (".banch2.", ".branch2."))
COUNTER = "num_batches_tracked"
HEAD = "conv_final.weight"
_PARTS = ("backbone_2d", "backbone_3d", "cfam", "conv_final")
CLASSIFIERS = ("fc.", "classifier.")  # of a branch as it was pretrained; no features come from them

_UCF24_ANCHORS = (
    (0.70458, 1.18803), (1.26654, 2.55121), (1.59382, 4.08321), (2.30548, 4.94180), (3.52332, 5.91979),
)  # fmt: skip
_AVA_ANCHORS = (
    (0.71626, 2.13583), (1.28967, 4.15014), (2.12714, 5.09344), (3.27212, 5.87423), (5.16303, 6.33821),
)  # fmt: skip
ANCHORS = 5

# By class count: the data set, and what its name is in file names.
_NAMES = {24: ("UCF101-24", "ucf"), 21: ("J-HMDB-21", "jhmdb"), 80: ("AVA", "ava")}
_OWN = 24  # whose settings people with classes of their own begin from

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


def find_network(file: Path, content: dict[str, Any]) -> tuple[Weights, YowoConfig, list[str]]:
    """Weights of an official network under our names, its configuration, and what is to be said about both.

    Raises:
        ModelFileError: there is none, or it does not fit any network whole; with what is there instead.
    """
    found = networks(content, HEAD)
    if not found:
        raise ModelFileError(f"{file} {_instead(content)}")
    misfits = []
    for network in found:
        refuse_views(file, network.weights)
        if any(key.startswith("cfam.attention.") for key in network.weights):
            raise ModelFileError(f"{file} holds weights of a network of yowo-deploy without its spec: take its best.pt")
        named = our_names({key: value for key, value in network.weights.items() if not key.endswith(COUNTER)})
        unused = {key for key in named if key.partition(".")[2].startswith(CLASSIFIERS)}
        weights = {key: value for key, value in named.items() if key.split(".")[0] in _PARTS and key not in unused}
        extra = sorted({key.split(".")[0] for key in network.weights} - set(_PARTS))
        extra += sorted({key.rpartition(".")[0] for key in unused})
        config = _nearest(file, weights)
        if not (misfit := _misfit(weights, config)):
            notes = [f"weights taken from {network.place!r} of {len(found)} networks in it"] if len(found) > 1 else []
            notes += [f"{', '.join(extra[:5])} left out: no part of the network"] if extra else []
            return weights, config, notes
        misfits.append(f"seems to be YOWO with {config.backbone_2d} and {config.backbone_3d}, but {misfit}")
    raise ModelFileError(f"{file} {min(misfits, key=len)}")


def our_names(weights: Weights) -> Weights:
    """Official names of three modules in our spelling."""
    renamed = {}
    for key, value in weights.items():
        for theirs, ours in _RENAMED:
            key = key.replace(theirs, ours)
        renamed[key] = value
    return renamed


def _nearest(file: Path, weights: Weights) -> YowoConfig:
    """The configuration whose backbones have the most names and shapes in common with these tensors."""
    head = weights[HEAD]
    if head.ndim != 4:
        raise ModelFileError(f"{file} is a checkpoint of another network: its {HEAD} has {head.ndim} axes, expected 4")
    best = []
    for branch, zoo in (("backbone_2d.", BACKBONES_2D), ("backbone_3d.", BACKBONES_3D)):
        own = {(key.removeprefix(branch), v.shape) for key, v in weights.items() if key.startswith(branch)}
        best.append(min(zoo, key=lambda name: len(own ^ _shapes(zoo[name])) if own else 0))
    # "release" is the value in specs and checkpoints since the first version; LAYOUT's word for it is official.
    return YowoConfig(best[0], best[1], head.shape[0], head.shape[1], attention_sign="release")


@cache
def _shapes(build: Callable[[], nn.Module]) -> frozenset[tuple[str, torch.Size]]:
    with torch.device("meta"):
        return frozenset((key, v.shape) for key, v in build().state_dict().items() if not key.endswith(COUNTER))


def _misfit(weights: Weights, config: YowoConfig) -> str:
    """What keeps these tensors from filling a network; "" if nothing does."""
    wanted = dict(_shapes(partial(Yowo, config)))
    given = {key: value.shape for key, value in weights.items()}
    kinds = {
        "missing": [key for key in wanted if key not in given],
        "of another shape": [key for key in wanted if key in given and given[key] != wanted[key]],
        "left over": [key for key in given if key not in wanted],
    }
    return "; ".join(
        f"{len(keys)} of its {len(wanted)} tensors {what} ({_listed(keys)})" for what, keys in kinds.items() if keys
    )


def _instead(content: dict[str, Any]) -> str:
    """What a file without a whole network holds, and what to do with it."""
    found = list(tables(content))
    if {"arguments", "progress", "network"} <= set(content):
        return "is the state of a run, from which `train --resume` continues: its weights are in best.pt beside it"
    for _, table in found:
        names = set(our_names(table))
        if any("cfam" in name.split(".") for name in names):
            return f"seems to be YOWO, but {HEAD} is missing of it, the last layer ({some(table)})"
        for zoo, option in ((BACKBONES_2D, "--weights-2d"), (BACKBONES_3D, "--weights-3d")):
            for name, build in zoo.items():
                wanted = {key for key, _ in _shapes(build)}
                if all(any(key == each or each.endswith(f".{key}") for each in names) for key in wanted):
                    return f"holds the weights of one branch, {name}: `train {option}` starts from it"
    if any("param_groups" in each for each in (content, content.get("optimizer")) if isinstance(each, dict)):
        return f"holds the state of an optimizer and no weights ({some(content)})"
    if not found:
        return (
            f"holds {some(content)} and no table of named tensors, expected a checkpoint of yowo-deploy or an official "
            "YOWO one"
        )
    largest = max(found, key=lambda each: len(each[1]))[1]
    return f"is a checkpoint of another network: it has no {HEAD} ({some(largest)})"


def spec_of(
    file: Path,
    config: YowoConfig,
    old: bool,
    labels: Sequence[str] | None = None,
    anchors: Sequence[tuple[float, float]] | None = None,
) -> tuple[ModelSpec, list[str]]:
    """The spec of an official checkpoint, but for its clip length, and what was assumed in it.

    Args:
        old: the file has the layout of 2020, when Pillow's default filter was "nearest".
        labels: of its classes; by default those of the official data set with as many.
        anchors: by default those of that data set, or with labels of UCF101-24.

    Raises:
        ModelFileError: there are other numbers of classes than these.
        SpecError: labels or anchors are impossible.
    """
    count = len(anchors) if anchors else ANCHORS
    classes, left = config.outputs // max(count, 1) - 5, config.outputs % max(count, 1)
    if left or classes < 1:
        raise ModelFileError(f"{file} has {config.outputs} output channels, which {count} anchors do not divide")
    if labels is not None and len(labels) != classes:
        raise ModelFileError(f"{file} has {classes} classes, and {len(labels)} labels are given")
    if labels is None and classes not in _SPECS:
        raise ModelFileError(
            f"{file} has {classes} classes, those of no official data set: name them with `yowo-deploy export {file} "
            "--labels a,b,c`, or --labels and a file with a name in each line"
        )
    spec, notes = _SPECS[classes if labels is None else _OWN], []
    if labels is not None:
        spec = spec.replace(labels=tuple(labels))
        notes += [] if anchors else [f"anchors and preprocessing of {_NAMES[_OWN][0]} assumed (--anchors gives others)"]
    elif not any(word in file.name.lower() for word in _NAMES[classes]):
        notes.append(f"{classes} classes, taken for those of {_NAMES[classes][0]} (--labels gives others)")
    if anchors:
        spec = spec.replace(anchors=tuple((float(w), float(h)) for w, h in anchors))
    name, filtering = f"yowo-{config.backbone_3d}", "nearest" if old else "bicubic"
    return spec.replace(resize_filter=filtering, attention_sign="release", name=name), notes


def some(content: Any) -> str:
    """The first names in a table, for a message."""
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    return f"{len(content)} entries ({_listed(list(map(str, content)))})"


def _listed(names: list[str]) -> str:
    return f"{', '.join(name[:60] for name in names[:3])}{', ...' if len(names) > 3 else ''}"
