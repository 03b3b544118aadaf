"""Export a checkpoint as one ONNX file that carries its spec, after a comparison with PyTorch."""

from __future__ import annotations

import copy
import dataclasses
import json
import logging
import os
import warnings
from pathlib import Path
from typing import Any, Literal

import numpy as np
import onnx
import onnx_ir as ir
import torch
from torch import nn

from yowo_deploy.backends.ort import open_file
from yowo_deploy.errors import ModelFileError, ParityError
from yowo_deploy.files import atomic_write
from yowo_deploy.model_files.onnx_reader import CONFIG_KEY, COST_KEY
from yowo_deploy.preprocess.golden_frame import GOLDEN_KEY, golden_record
from yowo_deploy.spec import METADATA_KEY
from yowo_export.graph.free_batch import BATCH, free_batch
from yowo_export.graph.module_names import name_blocks
from yowo_export.graph.onnx_file import write_onnx
from yowo_export.graph.rewrites import (
    ATTENTION_OPSET,
    PLAIN_OPSET,
    fuse_attention,
    key_frame_as_slice,
    reorg_as_space_to_depth,
    store_half,
)
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.checkpoints.onnx_weights import normed
from yowo_training.models.flops import cost
from yowo_training.models.yowo import Yowo
from yowo_training.torch_backend import TorchBackend

Attention = Literal["fused", "plain"]

# Sums of 10^4 products in another order, over a hundred layers, of outputs of size 10: 1.6e-5 was measured with
# ResNeXt-101. Ten times that is still a hundredth of what moves a box by a pixel.
LIMIT = 2e-4

# Half precision moves each weight by up to 2^-11 = 4.9e-4 of itself at random; over a hundred layers that grows by
# sqrt(100) to 5e-3. Twice that.
HALF_LIMIT = 1e-2

CLIPS_TRACED = 11  # few tensors have another dimension of that size; none of the clips is computed


def export_onnx(
    checkpoint: Checkpoint,
    output: str | os.PathLike[str],
    attention: Attention = "fused",
    half_weights: bool = False,
) -> float:
    """Write a checkpoint as ONNX: input "clips" (batch, 3, T, H, W), output "raw", any batch.

    Before the file appears under its name, onnx checks it and ONNX Runtime's answers, to one clip and to a batch of
    two, are compared with PyTorch's.

    Args:
        attention: "fused" as one Attention node (opset 23), or "plain" as MatMul, Softmax, MatMul (opset 20), for
            engines without that operator.
        half_weights: store large weights in half precision, see `store_half`; the arithmetic is unchanged.

    Returns:
        The largest difference from PyTorch, relative to the largest output.

    Raises:
        ParityError: it exceeds `LIMIT`, or `HALF_LIMIT` with half weights, or the file cannot be run; nothing is
            written.
        OutputError: the file cannot be written.
    """
    spec = checkpoint.spec
    with atomic_write(output) as temporary:
        model = trace(checkpoint, attention)
        model.metadata_props[METADATA_KEY] = spec.to_json()
        model.metadata_props[GOLDEN_KEY] = golden_record(spec)
        model.metadata_props[CONFIG_KEY] = json.dumps(dataclasses.asdict(checkpoint.model.config))
        parts = {name: dataclasses.asdict(part) for name, part in cost(checkpoint.model, spec.clip_shape).items()}
        model.metadata_props[COST_KEY] = json.dumps(parts)
        if half_weights:
            store_half(model)
        write_onnx(model, temporary)
        onnx.checker.check_model(str(temporary), full_check=True)
        try:
            difference = _difference(checkpoint, temporary)
        except ModelFileError as error:  # as weights that overflowed where norms were folded
            said = str(error).replace(str(temporary), "the exported file")
            raise ParityError(f"{said}: not written") from error
        limit = HALF_LIMIT if half_weights else LIMIT
        if not difference <= limit:
            raise ParityError(f"ONNX and PyTorch differ by {difference:.1e}, more than {limit:.0e}: not written")
    return difference


def trace(checkpoint: Checkpoint, attention: Attention) -> ir.Model:
    """The graph of a checkpoint, its batch norms and two last layers folded.

    Args:
        attention: see `export_onnx`.

    Raises:
        ParityError: the attention was not found in the traced graph.
    """
    model = fold_output_layers(checkpoint.model)
    names = fold_norms(model)
    opset = ATTENTION_OPSET if attention == "fused" else PLAIN_OPSET
    clips = torch.empty(CLIPS_TRACED, *checkpoint.spec.clip_shape)
    graph = _traced(model, clips, opset)
    if not free_batch(graph, CLIPS_TRACED):
        graph = _traced(model, clips, opset, ({0: torch.export.Dim(BATCH)},))
    for value in list(graph.graph.initializers.values()):
        value.name = names.get(str(value.name), value.name)
    name_blocks(graph)
    key_frame_as_slice(graph)
    reorg_as_space_to_depth(graph)
    if attention == "fused" and not fuse_attention(graph) and checkpoint.model.cfam is not None:
        raise ParityError("no attention was found in the traced graph: is this PyTorch newer? try --attention plain")
    return graph


def _traced(model: Yowo, clips: torch.Tensor, opset: int, dynamic: tuple[dict[int, Any]] | None = None) -> ir.Model:
    with warnings.catch_warnings():
        # The exporter's own deprecations and the absence of torchvision: nothing a user can act on.
        warnings.simplefilter("ignore")
        logging.getLogger("torch.onnx").setLevel(logging.ERROR)
        program = torch.onnx.export(
            model,
            (clips,),
            dynamo=True,
            opset_version=opset,
            input_names=["clips"],
            output_names=["raw"],
            dynamic_shapes=dynamic,
            verbose=False,
        )
    assert program is not None  # only the older exporter returns nothing
    return program.model


def fold_output_layers(model: Yowo) -> Yowo:
    """A copy in evaluation mode in which CFAM's output and the final layer, both linear, are one 1x1 convolution."""
    folded = copy.deepcopy(model).eval()
    if folded.cfam is None:
        return folded
    hidden, final = folded.cfam.conv_out[1], folded.conv_final
    assert isinstance(hidden, nn.Conv2d) and hidden.bias is not None
    outer, inner = final.weight.detach().flatten(1).double(), hidden.weight.detach().flatten(1).double()
    head = nn.Conv2d(hidden.in_channels, final.out_channels, 1)
    with torch.no_grad():
        head.weight.copy_((outer @ inner)[..., None, None])
        head.bias.copy_(outer @ hidden.bias.double())  # type: ignore[union-attr]
    folded.cfam.conv_out = nn.Sequential()
    folded.conv_final = head
    return folded


def fold_norms(model: Yowo) -> dict[str, str]:
    """Fold every batch norm into the convolution before it, in place, which spares tracing a third of its work.

    The new convolution stands where the norm stood, whose output it gives, and an identity where it stood itself: so
    both names keep their meaning for `name_blocks`. No module works in place any more: tracing undoes that slowly.

    Returns:
        Names of its weights after the convolution, by those which they have in the model now.
    """
    names: dict[str, str] = {}
    for module in model.modules():
        if isinstance(getattr(module, "inplace", None), bool):
            module.inplace = False  # type: ignore[assignment]
    for conv_name, norm_name in list(normed(model)):
        conv, norm = model.get_submodule(conv_name), model.get_submodule(norm_name)
        assert isinstance(conv, nn.Conv2d | nn.Conv3d) and isinstance(norm, nn.BatchNorm2d | nn.BatchNorm3d)
        assert norm.running_mean is not None and norm.running_var is not None
        scale = norm.weight.double() / torch.sqrt(norm.running_var.double() + norm.eps)
        bias = norm.bias.double() - norm.running_mean.double() * scale
        bias += 0 if conv.bias is None else conv.bias.double() * scale
        weight = conv.weight.double() * scale.view(-1, *[1] * (conv.weight.dim() - 1))
        conv.weight = nn.Parameter(weight.detach().float())
        conv.bias = nn.Parameter(bias.detach().float()) if bias.any() else None
        model.set_submodule(norm_name, conv)
        model.set_submodule(conv_name, nn.Identity())
        names |= {f"{norm_name}.weight": f"{conv_name}.weight", f"{norm_name}.bias": f"{conv_name}.weight_bias"}
    return names


def _difference(checkpoint: Checkpoint, path: Path) -> float:
    rng = np.random.default_rng(0)
    clips = rng.standard_normal((2, *checkpoint.spec.clip_shape), np.float32)
    with TorchBackend.of(checkpoint) as reference, open_file(path) as candidate:
        expected = reference.infer(clips)
        answers = np.concatenate([candidate.infer(clips[:1]), candidate.infer(clips)[1:]])
    return float(np.abs(answers - expected).max() / max(1.0, np.abs(expected).max()))
