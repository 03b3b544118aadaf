"""Start training from a trained model with other classes: a checkpoint or an exported ONNX file."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn

from yowo_deploy.backends.loader import is_checkpoint
from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.files import existing_file
from yowo_deploy.model_files.onnx_reader import read_spec, read_weights
from yowo_deploy.spec import ModelSpec
from yowo_training.checkpoints.checkpoint import Checkpoint, load_checkpoint
from yowo_training.model_init import fastest_layout
from yowo_training.models.yowo import Yowo
from yowo_training.recipes import RECIPES, Recipe

STARTED = ("backbone_2d", "backbone_3d", "cfam")  # parts that are reused
BOX = 5  # channels of an anchor before its classes: x, y, w, h, objectness

_Norm = nn.BatchNorm2d | nn.BatchNorm3d


def fine_tuning(recipe: Recipe) -> Recipe:
    """The recipe for a network whose branches are trained already: without their own first phase."""
    return replace(recipe, imagenet=False, first_3d=0.0)


def started(recipe: Recipe, spec: ModelSpec, start: str | os.PathLike[str]) -> tuple[Yowo, bool]:
    """The network of `start` with a head for the classes of `spec`, in training mode.

    Branches and CFAM are reused, and the head if classes and anchors are the same. Otherwise the box outputs are reused
    if there are as many anchors; the class outputs are new.

    Returns:
        The network, and whether its norms still need `settle_norms`.

    Raises:
        InputError: no such file, or its network is not the recipe's.
        ModelFileError: it is neither a checkpoint nor a float32 ONNX file of ours.
    """
    file = existing_file(start, "model to start from")
    folded = not is_checkpoint(file)
    given = load_onnx(file) if folded else load_checkpoint(file)
    config = recipe.config(spec)
    if replace(given.model.config, outputs=config.outputs) != config:
        raise InputError(
            f"{file} is of another network than the recipe {recipe.name}: take its own recipe, or another start"
        )
    model = Yowo(config)
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
    return fastest_layout(model), folded


def load_onnx(path: Path) -> Checkpoint:
    """The network of an ONNX file that `export` wrote for one of our recipes, with the same answers.

    Batch norms are folded into convolutions in the file. Here each norm only adds the folded bias, which is exact in
    evaluation mode only: `settle_norms` must precede any training.

    Raises:
        ModelFileError: it is in lower precision, of an unknown recipe, or lacks a weight.
        SpecError: the file carries no spec.
    """
    spec = read_spec(path)
    if spec.name not in RECIPES or spec.precision != "fp32":
        raise ModelFileError(
            f"{path} is a {spec.name} in {spec.precision}: only float32 files of our recipes can be trained on"
        )
    model = Yowo(RECIPES[spec.name].config(spec)).eval()
    weights = {name.removesuffix("_half"): torch.from_numpy(w) for name, w in read_weights(path).items()}
    try:
        _fill(model, weights)
    except (KeyError, RuntimeError) as error:
        raise ModelFileError(f"{path} lacks weights of {spec.name}: {str(error).splitlines()[0]}") from error
    return Checkpoint(model, spec)


@torch.no_grad()
def settle_norms(model: Yowo, clips: Iterable[Tensor]) -> None:
    """Give norms the statistics of their inputs, and weights such that nothing changes in evaluation mode.

    In training mode, which normalises by the batch, the network then starts with the same answers.

    Args:
        clips: batches, (B, 3, T, H, W).
    """
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


def _fill(model: Yowo, weights: dict[str, Tensor]) -> None:
    """Fill every tensor of the network from the initializers of its graph.

    Raises:
        KeyError: one is missing.
        RuntimeError: one has another shape.
    """
    state = model.state_dict()
    folded = dict(_normed(model))
    filled = {key: value for key, value in state.items() if key.endswith("num_batches_tracked")}
    for key in state:
        module = key.rpartition(".")[0]
        if key in filled or key.startswith(("conv_final.", "cfam.conv_out.")) or module in folded.values():
            continue
        filled[key] = weights[key]
    for conv, norm in folded.items():
        of_norm = model.get_submodule(norm)
        assert isinstance(of_norm, _Norm)
        bias = weights[f"{conv}.weight_bias"]
        filled |= {f"{norm}.bias": bias, f"{norm}.running_mean": torch.zeros_like(bias)}
        filled |= {
            f"{norm}.weight": torch.full_like(bias, math.sqrt(1 + of_norm.eps)),
            f"{norm}.running_var": torch.ones_like(bias),
        }
    head, width = weights["conv_final.weight"], model.config.width
    outputs = len(head)
    if outputs > width:
        raise KeyError(f"a head of {outputs} outputs through {width} channels")
    # The file has both layers folded into one: the first layer takes it, the second is the identity.
    hidden, final = torch.zeros(width, width, 1, 1), torch.zeros(outputs, width, 1, 1)
    hidden[:outputs], bias = head, torch.zeros(width)
    bias[:outputs] = weights["conv_final.bias"]
    final[range(outputs), range(outputs)] = 1
    filled |= {"cfam.conv_out.1.weight": hidden, "cfam.conv_out.1.bias": bias, "conv_final.weight": final}
    model.load_state_dict(filled)


def _normed(model: Yowo) -> Iterator[tuple[str, str]]:
    """Names of each convolution and of the norm directly behind it, which the export folds into it."""
    for name, module in model.named_modules():
        if isinstance(module, nn.Sequential):
            for (conv, first), (norm, second) in pairwise(module.named_children()):
                if isinstance(first, (nn.Conv2d, nn.Conv3d)) and isinstance(second, _Norm):
                    yield f"{name}.{conv}", f"{name}.{norm}"


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
