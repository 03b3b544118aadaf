"""Weights for one branch: all of it or nothing, from every format that such files come in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from yowo_deploy.errors import ModelFileError
from yowo_training.checkpoints.backbone_weights import load_branch
from yowo_training.models.backbones.darknet import Darknet19, Darknet19Bare
from yowo_training.models.backbones.mobilenet import MobileNetV2
from yowo_training.models.backbones.shufflenetv2 import ShuffleNetV2


def fresh(seed: int, build: Callable[[], nn.Module] = MobileNetV2) -> nn.Module:
    torch.manual_seed(seed)
    model = build()
    for name, value in model.state_dict().items():
        if value.is_floating_point() and "var" not in name:
            value.normal_()
    return model


def same(first: nn.Module, second: nn.Module) -> bool:
    pairs = zip(first.state_dict().items(), second.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for (name, a), b in pairs if not name.endswith("num_batches_tracked"))


LAYOUTS: list[tuple[str, Callable[[dict[str, torch.Tensor]], object]]] = [
    ("bare", lambda state: state),
    (
        "under state_dict, on several GPUs",
        lambda s: {"state_dict": {f"module.{k}": v for k, v in s.items()}, "epoch": 3},
    ),
    ("old, without counters", lambda s: {k: v for k, v in s.items() if not k.endswith("num_batches_tracked")}),
    ("in a wrapper", lambda s: {"model": {f"net.{k}": v for k, v in s.items()} | {"n_averaged": torch.ones(1)}}),
    ("inside a whole YOWO", lambda s: {"state_dict": {f"module.backbone_3d.{k}": v for k, v in s.items()}}),
]


@pytest.mark.parametrize(("what", "wrap"), LAYOUTS, ids=[row[0] for row in LAYOUTS])
def test_every_layout_fills_every_tensor(
    tmp_path: Path, what: str, wrap: Callable[[dict[str, torch.Tensor]], object]
) -> None:
    source, target = fresh(0), fresh(1)
    torch.save(wrap(source.state_dict()), tmp_path / "w.pth")
    filled = load_branch(target, tmp_path / "w.pth")  # type: ignore[arg-type]
    assert same(source, target)
    assert filled.tensors == sum(not k.endswith("num_batches_tracked") for k in source.state_dict())
    assert filled.dropped == 0


def test_the_classifier_is_dropped_and_counted_and_their_spelling_understood(tmp_path: Path) -> None:
    source, target = fresh(0, ShuffleNetV2), fresh(1, ShuffleNetV2)
    state = {f"module.{k.replace('branch', 'banch')}": v for k, v in source.state_dict().items()}
    state |= {"module.classifier.1.weight": torch.zeros(4, 4), "module.classifier.1.bias": torch.zeros(4)}
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    assert load_branch(target, tmp_path / "w.pth").dropped == 2  # type: ignore[arg-type]
    assert same(source, target)


FIRST = "features.0.0.weight"
FAULTS: list[tuple[str, Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], str]] = [
    ("one missing", lambda s: dict(list(s.items())[1:]), "1 of"),
    ("one of another shape", lambda s: s | {"features.0.0.weight": torch.zeros(1)}, "1 of another shape"),
    ("one unknown", lambda s: s | {"surprise": torch.zeros(1)}, "1 unknown"),
    ("whole numbers", lambda s: s | {FIRST: s[FIRST].to(torch.int8)}, "holds torch.int8"),
    ("not finite", lambda s: s | {FIRST: s[FIRST] * torch.nan}, "not finite"),
    ("variances below zero", lambda s: {k: -1 - v if "_var" in k else v for k, v in s.items()}, "variances below zero"),
]


@pytest.mark.parametrize(("what", "spoil", "message"), FAULTS, ids=[row[0] for row in FAULTS])
def test_anything_unfilled_is_refused_and_nothing_is_loaded(
    tmp_path: Path, what: str, spoil: Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]], message: str
) -> None:
    torch.save(spoil(dict(fresh(0).state_dict())), tmp_path / "w.pth")
    target, untouched = fresh(1), fresh(1)
    with pytest.raises(ModelFileError, match=message):
        load_branch(target, tmp_path / "w.pth")  # type: ignore[arg-type]
    assert same(target, untouched)


def darknet_bytes(model: nn.Module, wide_header: bool) -> bytes:
    """Written layer by layer from the description in OFFICIAL_YOWO, not with the reader's own order."""
    parts = [np.array([0, 2 if wide_header else 1, 0], "<i4").tobytes(), bytes(8 if wide_header else 4)]
    for number in sorted(map(int, model.models)):  # type: ignore[union-attr,arg-type]
        layer = dict(model.models[str(number)].named_children())  # type: ignore[union-attr,index,operator]
        conv = next((m for name, m in layer.items() if name.startswith("conv")), None)
        norm = next((m for name, m in layer.items() if name.startswith("bn")), None)
        if conv is None:
            continue
        tensors = [norm.bias, norm.weight, norm.running_mean, norm.running_var] if norm else [conv.bias]
        parts += [tensor.detach().numpy().astype("<f4").tobytes() for tensor in (*tensors, conv.weight)]
    return b"".join(parts)


def test_darknet_weights_are_read(tmp_path: Path) -> None:
    source, target = fresh(0, Darknet19), fresh(1, Darknet19)
    content = darknet_bytes(source, wide_header=False)
    (tmp_path / "yolo.weights").write_bytes(content)
    assert len(content) == 203_934_260  # the size of yolo.weights for this network (OFFICIAL_YOWO)
    load_branch(target, tmp_path / "yolo.weights")  # type: ignore[arg-type]
    assert same(source, target)


@pytest.mark.parametrize("outputs", [125, 30])
def test_the_last_layer_of_another_data_set_stays_new(outputs: int, tmp_path: Path) -> None:
    source, target = fresh(0, Darknet19), fresh(1, Darknet19)
    before = {key: value.clone() for key, value in target.state_dict().items()}
    layer = source.models["30"].conv23  # type: ignore[union-attr,index,operator]
    layer.weight.data, layer.bias.data = layer.weight[:outputs], layer.bias[:outputs]  # type: ignore[union-attr,index]
    (tmp_path / "yolo-voc.weights").write_bytes(darknet_bytes(source, wide_header=True))
    filled = load_branch(target, tmp_path / "yolo-voc.weights")  # type: ignore[arg-type]
    assert filled.dropped == outputs * 1025
    for key, value in target.state_dict().items():
        expected = before if key.startswith("models.30.") else source.state_dict()
        assert torch.equal(value, expected[key]), key
    (tmp_path / "cut.weights").write_bytes(darknet_bytes(source, wide_header=True)[:-4])
    with pytest.raises(ModelFileError, match="nothing was loaded"):
        load_branch(target, tmp_path / "cut.weights")  # type: ignore[arg-type]


@pytest.mark.parametrize("wide_header", [False, True])
def test_the_bare_darknet_takes_the_first_layers_and_counts_the_rest_with_either_header(
    tmp_path: Path, wide_header: bool
) -> None:
    source, target = fresh(0, Darknet19Bare), fresh(1, Darknet19Bare)
    (tmp_path / "d.weights").write_bytes(darknet_bytes(source, wide_header) + np.zeros(7, "<f4").tobytes())
    assert load_branch(target, tmp_path / "d.weights").dropped == 7  # type: ignore[arg-type]
    assert same(source, target)


@pytest.mark.parametrize("size", [3, 16, 20, 4_000_000])
def test_darknet_weights_of_another_size_are_refused(tmp_path: Path, size: int) -> None:
    (tmp_path / "d.weights").write_bytes(b"\1" + bytes(size - 1))
    with pytest.raises(ModelFileError, match="nothing was loaded"):
        load_branch(fresh(0, Darknet19Bare), tmp_path / "d.weights")  # type: ignore[arg-type]


def test_darknet_weights_of_another_network_are_not_taken_for_these(tmp_path: Path) -> None:
    """YOLOv3's file has more numbers than the bare Darknet-19 needs; read as its own they would give NaN."""
    target, untouched = fresh(1, Darknet19Bare), fresh(1, Darknet19Bare)
    other = np.random.default_rng(0).normal(0, 0.02, 25_000_000).astype("<f4")
    (tmp_path / "yolov3.weights").write_bytes(np.array([0, 2, 0, 0, 0], "<i4").tobytes() + other.tobytes())
    with pytest.raises(ModelFileError, match=r"where variances are: .* such as YOLOv3; nothing was loaded"):
        load_branch(target, tmp_path / "yolov3.weights")  # type: ignore[arg-type]
    assert same(target, untouched)
