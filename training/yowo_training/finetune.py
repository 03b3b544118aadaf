"""Start training from a trained model with other classes: a checkpoint or an exported ONNX file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import replace

import torch
from torch import Tensor, nn

from yowo_deploy.errors import InputError
from yowo_deploy.files import existing_file
from yowo_deploy.spec import ModelSpec
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.checkpoints.onnx_weights import load_network, normed
from yowo_training.model_init import fastest_layout
from yowo_training.models.backbones.motion import MotionLite0, with_more_pairs
from yowo_training.models.yowo import Yowo, YowoConfig
from yowo_training.recipes import Recipe

STARTED = ("backbone_2d", "backbone_3d", "backbone_extra", "cfam")  # parts that are reused
BOX = 5  # channels of an anchor before its classes: x, y, w, h, objectness

_Norm = nn.BatchNorm2d | nn.BatchNorm3d


def fine_tuning(recipe: Recipe) -> Recipe:
    """The recipe for a network whose branches are trained already: without their own first phase."""
    return replace(recipe, imagenet=False, first_3d=0.0)


def started(recipe: Recipe, spec: ModelSpec, start: str | os.PathLike[str]) -> Yowo:
    """The network of `start` with a head for the classes of `spec`, in training mode.

    Branches and CFAM are reused, and the head if classes and anchors are the same. Otherwise the box outputs are reused
    if there are as many anchors; the class outputs are new.

    Its norms may still need `settle_norms`, see `has_folded_norms`.

    Raises:
        InputError: no such file, or its network is not the recipe's.
        ModelFileError: it is neither a checkpoint nor a float32 ONNX file of ours.
    """
    file = existing_file(start, "model to start from")
    given = load_network(file)
    config = recipe.config(spec)
    if replace(_with_all_pairs(given.model.config, config), outputs=config.outputs) != config:
        raise InputError(
            f"{file} has another network than the recipe {recipe.name}: give its own recipe, or another --start"
        )
    model = Yowo(config)
    if given.model.config.backbone_3d != config.backbone_3d:
        given = _widened(given, model)
    reused = {k: v for k, v in given.model.state_dict().items() if not k.startswith(("conv_final.", "cfam.conv_out."))}
    model.load_state_dict(reused, strict=False)
    same = (given.spec.labels, given.spec.anchors, given.spec.class_activation)
    if same == (spec.labels, spec.anchors, spec.class_activation):
        model.load_state_dict(given.model.state_dict())
    elif len(spec.anchors) == len(given.spec.anchors):
        _keep_boxes(model, given, spec)
    freeze = getattr(model.backbone_2d, "freeze", None)
    if freeze is not None:
        freeze(recipe.frozen_blocks)
    return fastest_layout(model)


def _with_all_pairs(given: YowoConfig, wanted: YowoConfig) -> YowoConfig:
    """The given network with the wanted 3-D branch, where that only reads more pairs of frames."""
    more = (given.backbone_3d, wanted.backbone_3d) == ("motion_lite0", "motion_lite0_p15")
    return replace(given, backbone_3d=wanted.backbone_3d) if more else given


def _widened(given: Checkpoint, wanted: Yowo) -> Checkpoint:
    """The given network with a 3-D branch that reads as many pairs of frames as the wanted one."""
    model = Yowo(replace(given.model.config, backbone_3d=wanted.config.backbone_3d))
    old, new = given.model.backbone_3d, model.backbone_3d
    assert isinstance(old, MotionLite0) and isinstance(new, MotionLite0)
    model.load_state_dict(
        {name: value for name, value in given.model.state_dict().items() if not name.startswith("backbone_3d.")},
        strict=False,
    )
    with_more_pairs(old, new)
    return Checkpoint(model, given.spec)


def has_folded_norms(model: Yowo) -> bool:
    """Whether norms are as `checkpoint_from_onnx` leaves them, which a checkpoint made of an ONNX file keeps."""
    return any(_is_folded(module) for module in model.modules() if isinstance(module, _Norm))


def _is_folded(norm: _Norm) -> bool:
    return torch.equal(norm.weight, torch.full_like(norm.weight, math.sqrt(1 + norm.eps)))


@torch.no_grad()
def restore_scale(model: Yowo) -> None:
    """Give weights before folded norms the scale of a new network's (He et al., 2015), without changing an answer.

    Each channel carries the gain of its norm: those of the shipped model are 0.1 to 9 times the pretrained ones (5th
    and 95th percentile). Steps of AdamW do not depend on the size of a weight, so that small ones would be overrun and
    large ones never learn.
    """
    for conv_name, norm_name in normed(model):
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d | nn.Conv3d) and isinstance(norm, _Norm)
        size = conv.weight.flatten(1).square().mean(dim=1).sqrt()
        if _is_folded(norm) and conv.bias is None:
            factor = torch.where(size > 0, math.sqrt(2 / conv.weight[0].numel()) / size, 1.0)
            conv.weight.mul_(factor.view(-1, *[1] * (conv.weight.ndim - 1)))
            norm.weight.div_(factor)


@torch.no_grad()
def settle_norms(model: Yowo, clips: Iterable[Tensor]) -> None:
    """Give norms the statistics of their inputs, and weights such that nothing changes in evaluation mode.

    Folded ones first give back their gain, see `restore_scale`.

    In training mode, which normalises by the batch, the network then starts with the same answers.

    Args:
        clips: batches, (B, 3, T, H, W).
    """
    restore_scale(model)
    training = model.training
    model.eval()
    seen: dict[_Norm, list[Tensor]] = {norm: [] for norm in model.modules() if isinstance(norm, _Norm)}
    hooks = [norm.register_forward_hook(_collect(of_norm)) for norm, of_norm in seen.items()]
    for batch in clips:
        model(batch)
    for hook in hooks:
        hook.remove()
    for norm, moments in seen.items():
        assert norm.running_mean is not None and norm.running_var is not None
        first, second = torch.stack(moments).mean(dim=0).unbind()
        variance = (second - first**2).clamp(min=1e-6)
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        norm.bias.copy_(norm.bias + gain * (first - norm.running_mean))
        norm.weight.copy_(gain * (variance + norm.eps).sqrt())
        norm.running_mean.copy_(first)
        norm.running_var.copy_(variance)
    model.train(training)


def _collect(moments: list[Tensor]):  # type: ignore[no-untyped-def]  # torch's own type of a hook is private
    def hook(norm: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        flat = inputs[0].transpose(0, 1).flatten(1).double()
        moments.append(torch.stack([flat.mean(dim=1), (flat**2).mean(dim=1)]).float())

    return hook


@torch.no_grad()
def _keep_boxes(model: Yowo, given: Checkpoint, spec: ModelSpec) -> None:
    """Copy the box outputs of the given head, converted to the anchors of the spec."""
    if model.cfam is None or given.model.cfam is None:
        return
    inner, outer = given.model.cfam.conv_out[1], given.model.conv_final.weight.flatten(1)
    hidden, final = model.cfam.conv_out[1], model.conv_final.weight
    assert isinstance(inner, nn.Conv2d) and inner.bias is not None
    assert isinstance(hidden, nn.Conv2d) and hidden.bias is not None
    anchors = len(spec.anchors)
    if anchors * BOX > hidden.out_channels:
        return
    old, new = (torch.arange(anchors)[:, None] * (BOX + s.classes) + torch.arange(BOX) for s in (given.spec, spec))
    rows = torch.arange(anchors * BOX)
    hidden.weight[rows] = (outer[old.flatten()] @ inner.weight.flatten(1))[..., None, None]
    hidden.bias[rows] = outer[old.flatten()] @ inner.bias
    final[:, rows] = 0
    final[new.flatten()] = 0
    final[new.flatten(), rows] = 1
    stretched = (torch.tensor(given.spec.anchors) / torch.tensor(spec.anchors)).log()  # w = anchor * exp(output)
    hidden.bias.view(-1)[rows.view(anchors, BOX)[:, 2:4]] += stretched
