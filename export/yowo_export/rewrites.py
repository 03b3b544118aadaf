"""Graph rewrites on onnx-ir, each a small function: what must hold before, what holds after, did it change anything."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

ATTENTION_OPSET = 23  # the first with an Attention operator
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
        ir.convenience.replace_nodes_and_values(
            model.graph, last, [*dead], [attention], [last.outputs[0]], [attention.outputs[0]]
        )
        fused = True
    return fused


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
