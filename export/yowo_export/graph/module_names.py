"""Names of graph nodes after the PyTorch modules that they were traced from."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator

import onnx_ir as ir

BLOCK_KEY = "yowo_block"  # metadata of a node: the module of the network that it belongs to
OUTPUT_KEY = "yowo_output"  # metadata of a node whose output is what a module returns: the module and its call

_SCOPES, _CLASSES = "pkg.torch.onnx.name_scopes", "pkg.torch.onnx.class_hierarchy"


def name_blocks(model: ir.Model) -> bool:
    """Record the block of every node, name it as PyTorch does, and drop the exporter's other metadata.

    Those are a megabyte of stack traces and paths.

    Before: a graph as the exporter leaves it, or one of ours.
    After: the only metadata of a node are `BLOCK_KEY` and, on some, `OUTPUT_KEY`. A block is the module that holds the
    layer, for example "backbone_3d.layer3.4" or "cfam.attention"; "" where there is none. A node with weights has the
    name of the module that owns them, "backbone_3d.layer3.4.conv2"; one without has that of its own module, or of the
    module around it and its operator, "cfam.attention/Softmax"; the second of a name ends in "#2".

    Returns:
        Whether anything was changed.
    """
    new = [node for node in model.graph if BLOCK_KEY not in node.metadata_props]
    scopes = {node: _modules_of(node) for node in new}
    outputs = _module_outputs(scopes)
    named = Counter[str]()
    for node, modules in scopes.items():
        if modules is not None:
            name = _name_of(node, modules)
            named[name] += 1
            node.name = _numbered(name, named[name])
        node.metadata_props.clear()
        node.metadata_props[BLOCK_KEY] = _block_of(modules or [])
        if node in outputs:
            node.metadata_props[OUTPUT_KEY] = outputs[node]
    model.graph.metadata_props.clear()
    for value in _values(model.graph):
        value.metadata_props.clear()
    return bool(new)


def block_of(node: ir.Node) -> str:
    """The block that `name_blocks` recorded; "" for a node that was added later."""
    return node.metadata_props.get(BLOCK_KEY, "")


def _values(graph: ir.Graph) -> Iterator[ir.Value]:
    yield from graph.inputs
    yield from graph.initializers.values()
    for node in graph:
        yield from node.outputs


Modules = list[tuple[str, bool]]  # from the whole network inwards: name, and whether it is a layer of torch.nn


def _modules_of(node: ir.Node) -> Modules | None:
    """The modules that a node was traced in; None where the exporter recorded none."""
    try:
        scopes = ast.literal_eval(node.metadata_props[_SCOPES])
        classes = ast.literal_eval(node.metadata_props[_CLASSES])
    except (KeyError, ValueError, SyntaxError):
        return None
    pairs = list(zip(scopes, classes, strict=False))[:-1]  # the last is the operation
    return [(str(name), kind.startswith("torch.nn.") and ".container." not in kind) for name, kind in pairs]


def _block_of(modules: Modules) -> str:
    outside = [name for name, is_layer in modules if name and not is_layer]
    return outside[-1] if outside else modules[-1][0] if modules else ""  # a layer outside of all blocks is its own


def _name_of(node: ir.Node, modules: Modules) -> str:
    weight = next((str(value.name) for value in node.inputs if value is not None and value.is_initializer()), "")
    owner, _, kind = weight.rpartition(".")
    if owner and kind == "weight":
        return owner  # a batch norm folded into a convolution leaves the node in its own scope
    name, is_layer = modules[-1] if modules else ("", False)
    return name if is_layer else f"{name}/{node.op_type}"


def _module_outputs(scopes: dict[ir.Node, Modules | None]) -> dict[ir.Node, str]:
    """Nodes whose output is what a module returns: every call of a layer, the last node of any other module."""
    last: dict[tuple[str, str], ir.Node] = {}
    for node, modules in scopes.items():
        for name, is_layer in modules or []:
            call = node.metadata_props[_SCOPES] if is_layer else ""
            last.pop((name, call), None)  # so that the order is that of the last nodes
            last[name, call] = node
    calls = Counter[str]()
    outputs = {}
    for (name, _), node in last.items():
        # Where the node is the output of an inner module too, that module's name stands for it.
        if name and (scopes[node] or [])[-1][0] == name:
            calls[name] += 1
            outputs[node] = _numbered(name, calls[name])
    return outputs


def _numbered(name: str, count: int) -> str:
    return name if count == 1 else f"{name}#{count}"
