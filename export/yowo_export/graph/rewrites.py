"""Rewrites of ONNX graphs: attention, key frame, reorg, weights in half precision."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from yowo_export.graph.builder import NodeBuilder, numbers_of, only_reader

ATTENTION_OPSET = 23  # the first with an Attention operator
PLAIN_OPSET = 20  # the newest that TensorRT and ONNX Runtime's quantizer both take (DEPLOYMENT_FACTS)
LARGE = 1024  # numbers; smaller tensors are not worth a Cast


def fuse_attention(model: ir.Model) -> bool:
    """Replace Softmax(Q @ F^T) @ F by one Attention node with K = V = F and scale 1, which is the same.

    Before: plain MatMul, Transpose (0, 2, 1), MatMul over (B, C, H*W), softmax over the last axis, where nothing else
    reads what lies between; the model's opset is `ATTENTION_OPSET` or newer.
    After: Attention in their place, Q as it was (F, or its negative for official weights; DEPLOYMENT_FACTS, "The Gram
    attention"). A graph without the pattern is unchanged.

    Returns:
        Whether anything was replaced.
    """
    new, fused = NodeBuilder(model.graph, dtype=ir.DataType.FLOAT), False
    for node in list(model.graph):
        if (found := _gram_attention(node)) is None:
            continue
        query, features, old = found
        new.before(old[-1])
        attributes = {"scale": 1.0, "q_num_heads": 1, "kv_num_heads": 1}
        new.replace(old, new.node("Attention", [query, features, features], attributes))
        fused = True
    return fused


def split_attention(model: ir.Model) -> bool:
    """Undo `fuse_attention`: each Attention node becomes Transpose, MatMul, Softmax, MatMul, and the opset is 20 again.

    Before: Attention nodes are as `fuse_attention` leaves them; no other operator needs more than `PLAIN_OPSET`.

    Returns:
        Whether anything was replaced.
    """
    new = NodeBuilder(model.graph, dtype=ir.DataType.FLOAT)
    found = [node for node in model.graph if node.op_type == "Attention"]
    for node in found:
        query, features = node.inputs[:2]
        new.before(node)
        logits = new.node("MatMul", [query, new.node("Transpose", [features], {"perm": [0, 2, 1]})])
        new.replace([node], new.node("MatMul", [new.node("Softmax", [logits], {"axis": -1}), features]))
    if found:
        model.graph.opset_imports[""] = PLAIN_OPSET
    return bool(found)


def store_half(model: ir.Model) -> bool:
    """Store large weights in half precision, cast back where they are read: half the file, the same arithmetic.

    Before: any graph. After: every float32 initializer of `LARGE` numbers or more whose values half precision can hold
    is a float16 one behind a Cast. Each weight has moved by at most 2^-11 of itself, or 2^-25.

    Returns:
        Whether any was found.
    """
    new, changed = NodeBuilder(model.graph), False
    for value in list(model.graph.initializers.values()):
        weights = numbers_of(value)
        if weights is None or weights.dtype != np.float32 or weights.size < LARGE:
            continue
        if np.abs(weights).max() > np.finfo(np.float16).max:
            continue
        new.behind(value)
        half = new.constant(weights.astype(np.float16), f"{value.name}_half")
        value.replace_all_uses_with(new.cast(half, ir.DataType.FLOAT))
        del model.graph.initializers[str(value.name)]
        changed = True
    return changed


def store_single(model: ir.Model) -> bool:
    """Undo `store_half` but for the rounding: float16 initializers behind a Cast to float32 become float32 ones.

    Returns:
        Whether any was found.
    """
    new, changed = NodeBuilder(model.graph), False
    for half in list(model.graph.initializers.values()):
        weights, cast = numbers_of(half), only_reader(half)
        if weights is None or weights.dtype != np.float16 or cast is None or cast.op_type != "Cast":
            continue
        if cast.attributes["to"].as_int() != ir.DataType.FLOAT.value:
            continue
        single = new.constant(weights.astype(np.float32), str(half.name).removesuffix("_half"))
        cast.outputs[0].replace_all_uses_with(single)
        model.graph.remove(cast, safe=True)
        del model.graph.initializers[str(half.name)]
        changed = True
    return changed


def key_frame_as_slice(model: ir.Model) -> bool:
    """Replace a Gather of one constant index by Slice and Squeeze, which engines read in place.

    Before: any graph. After: no Gather with a scalar constant index.

    Returns:
        Whether anything was replaced.
    """
    new, changed = NodeBuilder(model.graph, dtype=ir.DataType.FLOAT), False
    for node in list(model.graph):
        index = numbers_of(node.inputs[1]) if node.op_type == "Gather" else None
        if index is None or index.ndim:
            continue
        at, end = int(index), int(index) + 1 if index != -1 else np.iinfo(np.int64).max
        new.before(node)
        start, stop, axes = (new.constant([number]) for number in (at, end, node.attributes.get_int("axis", 0)))
        new.replace([node], new.node("Squeeze", [new.node("Slice", [node.inputs[0], start, stop, axes]), axes]))
        changed = True
    return changed


def reorg_as_space_to_depth(model: ir.Model) -> bool:
    """Replace Reshape, Transpose (0, 3, 5, 1, 2, 4), Reshape, which is Darknet's reorg, by one SpaceToDepth.

    Before: any graph. After: no such three nodes of which nothing else reads what lies between.

    Returns:
        Whether anything was replaced.
    """
    new, changed = NodeBuilder(model.graph, dtype=ir.DataType.FLOAT), False
    for node in list(model.graph):
        if node.op_type != "Transpose" or list(node.attributes.get_ints("perm", ())) != [0, 3, 5, 1, 2, 4]:
            continue
        before, after = node.inputs[0].producer() if node.inputs[0] else None, only_reader(node.outputs[0])
        if before is None or before.op_type != "Reshape" or only_reader(before.outputs[0]) is not node:
            continue
        shape = numbers_of(before.inputs[1])
        if after is None or after.op_type != "Reshape" or shape is None or shape[3] != shape[5]:
            continue
        new.before(after)
        whole = new.node("SpaceToDepth", [before.inputs[0]], {"blocksize": int(shape[3])})
        new.replace([before, node, after], whole)
        changed = True
    return changed


def _gram_attention(softmax: ir.Node) -> tuple[ir.Value, ir.Value, list[ir.Node]] | None:
    """Query, features and the nodes of the Gram attention around a Softmax, in their order; None if it is another's."""
    if softmax.op_type != "Softmax" or softmax.inputs[0] is None:
        return None
    logits, last = softmax.inputs[0].producer(), only_reader(softmax.outputs[0])
    if logits is None or logits.op_type != "MatMul" or last is None or last.op_type != "MatMul":
        return None
    query, turned = logits.inputs
    transpose = None if turned is None else turned.producer()
    if query is None or transpose is None or transpose.op_type != "Transpose":
        return None
    features = transpose.inputs[0]
    if features is None or last.inputs[0] is not softmax.outputs[0] or last.inputs[1] is not features:
        return None
    if list(transpose.attributes.get_ints("perm", ())) != [0, 2, 1]:
        return None
    if only_reader(logits.outputs[0]) is not softmax or only_reader(transpose.outputs[0]) is not logits:
        return None
    return query, features, [transpose, logits, softmax, last]
