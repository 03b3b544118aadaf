"""Rebuild the network of an exported ONNX file with its weights."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from yowo_deploy.backends.loader import is_checkpoint
from yowo_deploy.errors import InputError, ModelFileError, foreign
from yowo_deploy.files import existing_file
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import CONFIG_KEY, OnnxFile, read_onnx_file
from yowo_training.checkpoints.checkpoint import SUFFIXES, Checkpoint, load_checkpoint
from yowo_training.models.yowo import Yowo, YowoConfig
from yowo_training.recipes import RECIPES

_OF_NORM = ("weight", "bias", "running_mean", "running_var")


def load_network(
    path: str | os.PathLike[str],
    clip: int | None = None,
    labels: Sequence[str] | None = None,
    anchors: Sequence[tuple[float, float]] | None = None,
) -> Checkpoint:
    """The network of a checkpoint or of a float32 ONNX file of ours; "default" is the shipped one.

    Args:
        clip: clip length; by default the file's.
        labels, anchors: of an official checkpoint, see `load_checkpoint`.

    Raises:
        InputError, ModelFileError, SpecError: see `load_checkpoint` and `checkpoint_from_onnx`.
    """
    file = existing_file(model_path(path), "model")
    if is_checkpoint(file) or file.suffix.lower() in SUFFIXES:  # a damaged one is named by its suffix alone
        return load_checkpoint(file, clip, labels, anchors)
    if labels is not None or anchors is not None:
        raise InputError(f"{path} has labels and anchors of its own: leave --labels and --anchors out")
    found = checkpoint_from_onnx(file)
    return found if clip is None else Checkpoint(found.model, found.spec.replace(clip_length=clip))


def checkpoint_from_onnx(path: str | os.PathLike[str]) -> Checkpoint:
    """The network of an ONNX file that `export` wrote, with the same answers.

    Batch norms are folded into convolutions in the file. Here each norm only adds the folded bias, which is exact in
    evaluation mode only: `settle_norms` must precede any training.

    Raises:
        InputError: no such file.
        ModelFileError: it is in lower precision, a streaming file, of an unknown network, or lacks a weight.
        SpecError: the file carries no spec.
    """
    file = read_onnx_file(existing_file(model_path(path), "ONNX file"))
    spec = file.spec
    if spec.precision != "fp32" or spec.streaming:
        kind = "a streaming file" if spec.streaming else f"in {spec.precision}"
        raise ModelFileError(f"{path} is {kind}: only the float32 file of clips holds the weights of a checkpoint")
    model = Yowo(_config(file)).eval()
    weights = {name.removesuffix("_half"): torch.from_numpy(w) for name, w in file.weights().items()}
    convolutions = (node.inputs for node in file.graph.nodes if node.operator == "Conv")
    # Equal ones are stored once, and zeros left out; from half precision both come through a Cast.
    pairs = ([name.removesuffix("_cast") for name in inputs[1:]] for inputs in convolutions)
    biases = {pair[0]: pair[1] for pair in pairs if len(pair) > 1}
    norms = (node for node in file.graph.nodes if node.operator == "BatchNormalization")  # those that were not folded
    with foreign(f"{path} lacks weights of {spec.name}", ModelFileError):
        for node in norms:
            named = zip(_OF_NORM, node.inputs[1:], strict=False)
            weights |= {f"{node.name}.{name}": weights[given.removesuffix("_cast")] for name, given in named}
        _fill(model, weights, biases)
    return Checkpoint(model, spec.replace(input_type="float32"))


def _config(file: OnnxFile) -> YowoConfig:
    """The network that the file records, or in an older file that of the recipe which it names."""
    spec = file.spec
    try:
        with foreign("its network"):
            if CONFIG_KEY in file.metadata:
                return YowoConfig.of(json.loads(file.metadata[CONFIG_KEY]))
            config = RECIPES[spec.name].config(spec)
            # Files that do not record their network are older than the branch that reads all pairs of frames.
            all_pairs = config.backbone_3d == "motion_lite0_p15"
            return replace(config, backbone_3d="motion_lite0") if all_pairs else config
    except InputError as error:
        raise ModelFileError(
            f"{file.path} is a {spec.name} that does not record its network: export it again from its checkpoint"
        ) from error


def _fill(model: Yowo, weights: dict[str, Tensor], biases: dict[str, str]) -> None:
    """Fill every tensor of the network from the initializers of its graph.

    Args:
        biases: of convolutions, by the names of their weights.

    Raises:
        KeyError: one is missing.
        RuntimeError: one has another shape.
    """
    state = model.state_dict()
    folded = dict(normed(model))
    filled = {key: value for key, value in state.items() if key.endswith("num_batches_tracked")}
    if model.cfam is not None:
        filled |= _output_layers(weights, model.config.width)
    for key in state:
        if key not in filled and key.rpartition(".")[0] not in folded.values():
            filled[key] = weights[key]
    for conv, norm in folded.items():
        of_norm = model.get_submodule(norm)
        assert isinstance(of_norm, nn.BatchNorm2d | nn.BatchNorm3d)
        found = biases.get(f"{conv}.weight")
        bias = torch.zeros(len(weights[f"{conv}.weight"])) if found is None else weights[found]
        filled |= {f"{norm}.bias": bias, f"{norm}.running_mean": torch.zeros_like(bias)}
        filled |= {
            f"{norm}.weight": torch.full_like(bias, math.sqrt(1 + of_norm.eps)),
            f"{norm}.running_var": torch.ones_like(bias),
        }
    model.load_state_dict(filled)


def _output_layers(weights: dict[str, Tensor], width: int) -> dict[str, Tensor]:
    """CFAM's output layer and the last one, of which the file has both folded into one: one of them is the identity.

    Raises:
        ValueError: the bias is not one that the last layer, which has none, passes on.
    """
    head, folded = weights["conv_final.weight"], weights["conv_final.bias"]
    outputs = len(head)
    if outputs > width:
        flat, wanted = head.flatten(1).double(), folded.double()[:, None]
        inner = torch.linalg.lstsq(flat, wanted).solution
        if not (flat @ inner - wanted).abs().max() <= 1e-2 * wanted.abs().max():  # weights in half precision: 1e-3
            raise ValueError(f"the bias of {outputs} outputs is not that of {width} channels")
        hidden, final, bias = torch.eye(width)[..., None, None], head, inner[:, 0].float()
    else:
        hidden, final, bias = torch.zeros(width, width, 1, 1), torch.zeros(outputs, width, 1, 1), torch.zeros(width)
        hidden[:outputs], bias[:outputs] = head, folded
        final[range(outputs), range(outputs)] = 1
    return {"cfam.conv_out.1.weight": hidden, "cfam.conv_out.1.bias": bias, "conv_final.weight": final}


def normed(model: Yowo) -> Iterator[tuple[str, str]]:
    """Names of each convolution and of the batch norm directly behind it, which the export folds into it."""
    for name, module in model.named_modules():
        for (conv, first), (norm, second) in pairwise(module.named_children()):
            if isinstance(first, nn.Conv2d | nn.Conv3d) and isinstance(second, nn.BatchNorm2d | nn.BatchNorm3d):
                yield f"{name}.{conv}", f"{name}.{norm}"
