"""Graph rewrites on onnx-ir, each a small function: what must hold before, what holds after, did it change anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

ATTENTION_OPSET = 23  # the first with an Attention operator
PLAIN_OPSET = 20  # what TensorRT and ONNX Runtime's quantizer take (DEPLOYMENT_FACTS)
LARGE = 1024  # numbers; smaller tensors are not worth a Cast


def fuse_attention(model: ir.Model) -> bool:
    """Replace Softmax(Q @ F^T) @ F by one Attention node with K = V = F and scale 1, which is the same.

    Before: plain MatMul, Transpose (0, 2, 1), MatMul over (B, C, H*W), softmax over the last axis, where nothing else
    reads what lies between; the model's opset is `ATTENTION_OPSET` or newer.
    After: Attention in their place, Q as it was (F, or its negative for released weights; DEPLOYMENT_FACTS, "The Gram
    attention"). A graph without the pattern is left alone.

    Returns:
        Whether anything was replaced.
    """
    fused = False
    for node in list(model.graph):
        found = _match(node)
        if found is None:
            continue
        query, features, last, dead = found
        attention = ir.node(
            "Attention",
            [query, features, features],
            attributes={"scale": 1.0, "q_num_heads": 1, "kv_num_heads": 1},
            name=f"{node.name}_attention",
        )
        attention.metadata_props.update(last.metadata_props)
        ir.convenience.replace_nodes_and_values(
            model.graph, last, [*dead], [attention], [last.outputs[0]], [attention.outputs[0]]
        )
        fused = True
    return fused


def split_attention(model: ir.Model) -> bool:
    """Undo `fuse_attention`: each Attention node becomes Transpose, MatMul, Softmax, MatMul, and the opset is 20 again.

    Before: Attention nodes are as `fuse_attention` leaves them; no other operator needs more than `PLAIN_OPSET`.

    Returns:
        Whether anything was replaced.
    """
    found = [node for node in model.graph if node.op_type == "Attention"]
    for node in found:
        query, features = node.inputs[:2]
        turned = ir.node("Transpose", [features], attributes={"perm": [0, 2, 1]}, name=f"{node.name}_transpose")
        logits = ir.node("MatMul", [query, turned.outputs[0]], name=f"{node.name}_logits")
        weights = ir.node("Softmax", [logits.outputs[0]], attributes={"axis": -1}, name=f"{node.name}_softmax")
        last = ir.node("MatMul", [weights.outputs[0], features], name=f"{node.name}_sum")
        made = [turned, logits, weights, last]
        for new in made:
            new.metadata_props.update(node.metadata_props)
            new.outputs[0].name, new.outputs[0].type = f"{new.name}_output", ir.TensorType(ir.DataType.FLOAT)
        ir.convenience.replace_nodes_and_values(model.graph, node, [node], made, [node.outputs[0]], [last.outputs[0]])
    if found:
        model.graph.opset_imports[""] = PLAIN_OPSET
    return bool(found)


def store_half(model: ir.Model) -> bool:
    """Keep large weights in half precision, cast back where they are read: half the file, the same arithmetic.

    Before: any graph. After: every float32 initializer of `LARGE` numbers or more whose values half precision can hold
    is a float16 one behind a Cast. Each weight has moved by at most 2^-11 of itself, or 2^-25.

    Returns:
        Whether any was found.
    """
    changed = False
    for value in list(model.graph.initializers.values()):
        weights = value.const_value
        if weights is None or weights.dtype != ir.DataType.FLOAT or weights.size < LARGE:
            continue
        exact = weights.numpy()
        if np.abs(exact).max() > np.finfo(np.float16).max:
            continue
        name = f"{value.name}_half"
        half = ir.Value(name=name, const_value=ir.tensor(exact.astype(np.float16), name=name))
        cast = ir.node("Cast", [half], attributes={"to": ir.DataType.FLOAT.value}, name=f"{value.name}_cast")
        _replace(value, cast.outputs[0])
        del model.graph.initializers[str(value.name)]
        model.graph.register_initializer(half)
        model.graph.insert_before(model.graph[0], cast)
        changed = True
    return changed


def store_single(model: ir.Model) -> bool:
    """Undo `store_half` but for the rounding: float16 initializers behind a Cast to float32 become float32 ones.

    Returns:
        Whether any was found.
    """
    changed = False
    for half in list(model.graph.initializers.values()):
        weights, cast = half.const_value, _only_reader_of(half)
        if weights is None or weights.dtype != ir.DataType.FLOAT16 or cast is None or cast.op_type != "Cast":
            continue
        if cast.attributes["to"].as_int() != ir.DataType.FLOAT.value:
            continue
        name = str(half.name).removesuffix("_half")
        single = ir.Value(name=name, const_value=ir.tensor(weights.numpy().astype(np.float32), name=name))
        _replace(cast.outputs[0], single)
        model.graph.remove(cast, safe=True)
        del model.graph.initializers[str(half.name)]
        model.graph.register_initializer(single)
        changed = True
    return changed


def key_frame_as_slice(model: ir.Model) -> bool:
    """Replace a Gather of one constant index by Slice and Squeeze, which engines read in place.

    Before: any graph. After: no Gather with a scalar constant index.

    Returns:
        Whether anything was replaced.
    """
    changed = False
    for node in list(model.graph):
        index = _constant(node.inputs[1]) if node.op_type == "Gather" else None
        if index is None or index.ndim:
            continue
        at, axis = int(index), node.attributes.get_int("axis", 0)
        bounds = {"start": [at], "end": [at + 1 if at != -1 else np.iinfo(np.int64).max], "axis": [axis]}
        start, end, axes = (_register(model.graph, f"{node.name}_{name}", value) for name, value in bounds.items())
        piece = ir.node("Slice", [node.inputs[0], start, end, axes], name=f"{node.name}_slice")
        flat = ir.node("Squeeze", [piece.outputs[0], axes], name=f"{node.name}_squeeze")
        piece.outputs[0].name, piece.outputs[0].type = f"{node.name}_slice", ir.TensorType(ir.DataType.FLOAT)
        _put_in_place(model.graph, [node], [piece, flat])
        changed = True
    return changed


def reorg_as_space_to_depth(model: ir.Model) -> bool:
    """Replace Reshape, Transpose (0, 3, 5, 1, 2, 4), Reshape, which is Darknet's reorg, by one SpaceToDepth.

    Before: any graph. After: no such three nodes of which nothing else reads what lies between.

    Returns:
        Whether anything was replaced.
    """
    changed = False
    for node in list(model.graph):
        if node.op_type != "Transpose" or list(node.attributes.get_ints("perm", ())) != [0, 3, 5, 1, 2, 4]:
            continue
        before, after = node.inputs[0].producer() if node.inputs[0] else None, _only_reader(node)
        if before is None or before.op_type != "Reshape" or _only_reader(before) is not node:
            continue
        shape = _constant(before.inputs[1])
        if after is None or after.op_type != "Reshape" or shape is None or shape[3] != shape[5]:
            continue
        whole = ir.node(
            "SpaceToDepth", [before.inputs[0]], attributes={"blocksize": int(shape[3])}, name=f"{node.name}_reorg"
        )
        _put_in_place(model.graph, [before, node, after], [whole])
        changed = True
    return changed


def _put_in_place(graph: ir.Graph, old: list[ir.Node], new: list[ir.Node]) -> None:
    """The last new output for the last old one: same name, type, shape and block."""
    value, made = old[-1].outputs[0], new[-1].outputs[0]
    made.type, made.shape = value.type, value.shape
    for node in new:
        node.metadata_props.update(old[-1].metadata_props)
    ir.convenience.replace_nodes_and_values(graph, old[-1], old, new, [value], [made])


def _constant(value: ir.Value | None) -> NDArray[Any] | None:
    """The numbers of a value that is the same for every clip; None for others."""
    found = None if value is None else ir.convenience.get_const_tensor(value)
    return None if found is None else found.numpy()


def _register(graph: ir.Graph, name: str, numbers: list[int]) -> ir.Value:
    """A list of whole numbers as a constant of the graph."""
    tensor = ir.tensor(np.array(numbers, np.int64), name=name)
    value = ir.Value(
        name=name, const_value=tensor, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([len(numbers)])
    )
    graph.register_initializer(value)
    return value


def _replace(old: ir.Value, new: ir.Value) -> None:
    new.shape, new.type = old.shape, ir.TensorType(ir.DataType.FLOAT)
    old.replace_all_uses_with(new)


def _only_reader_of(value: ir.Value) -> ir.Node | None:
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 else None


def _match(softmax: ir.Node) -> tuple[ir.Value, ir.Value, ir.Node, list[ir.Node]] | None:
    """(query, features, last node, nodes that go) around a Softmax, if it is the Gram attention's."""
    if softmax.op_type != "Softmax" or softmax.inputs[0] is None:
        return None
    logits = softmax.inputs[0].producer()
    last = _only_reader(softmax)
    if logits is None or logits.op_type != "MatMul" or last is None or last.op_type != "MatMul":
        return None
    query, turned = logits.inputs
    transpose = None if turned is None else turned.producer()
    if query is None or transpose is None or transpose.op_type != "Transpose":
        return None
    features = transpose.inputs[0]
    if features is None or last.inputs[0] is not softmax.outputs[0] or last.inputs[1] is not features:
        return None
    permutation = transpose.attributes.get("perm")
    if permutation is None or list(permutation.as_ints()) != [0, 2, 1]:
        return None
    if _only_reader(logits) is not softmax or _only_reader(transpose) is not logits:
        return None
    return query, features, last, [transpose, logits, softmax, last]


def _only_reader(node: ir.Node) -> ir.Node | None:
    return None if node.outputs[0].is_graph_output() else _only_reader_of(node.outputs[0])
