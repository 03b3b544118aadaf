"""Which part of the network each node of a graph is: the names that people know from PyTorch. Knows onnx-ir alone."""

from __future__ import annotations

import ast
from collections.abc import Iterator

import onnx_ir as ir

BLOCK_KEY = "yowo_block"  # metadata of a node: the module of the network that it is of

_SCOPES, _CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"


def name_blocks(model: ir.Model) -> bool:
    """Note at every node its block, and drop what else PyTorch's exporter noted: a megabyte of stack traces and paths.

    Before: a graph as the exporter leaves it, or one of ours.
    After: a node's metadata is `BLOCK_KEY` alone. A block is the module that holds the layer, for example
    "backbone_3d.layer3.4" or "cfam.attention"; "" is what belongs to no part.

    Returns:
        Whether anything was changed.
    """
    changed = False
    for node in model.graph:
        if BLOCK_KEY not in node.metadata_props:
            block = _block_of(node)
            node.metadata_props.clear()
            node.metadata_props[BLOCK_KEY] = block
            changed = True
    model.graph.metadata_props.clear()
    for value in _values(model.graph):
        value.metadata_props.clear()
    return changed


def block_of(node: ir.Node) -> str:
    """The block that `name_blocks` noted; "" for a node that came later."""
    return node.metadata_props.get(BLOCK_KEY, "")


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


def _block_of(node: ir.Node) -> str:
    try:
        scopes = ast.literal_eval(node.metadata_props[_SCOPES])
        classes = ast.literal_eval(node.metadata_props[_CLASSES])
    except (KeyError, ValueError, SyntaxError):
        return ""
    modules = list(zip(scopes, classes, strict=False))[:-1]  # the last is the operation
    if modules and modules[-1][1].startswith("torch.nn.") and ".container." not in modules[-1][1]:
        modules.pop()  # a layer, of the module that holds it
    return str(modules[-1][0]) if modules else ""
