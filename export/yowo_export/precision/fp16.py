"""The same graph with its floats in 16 bits. Knows onnx-ir; nothing of engines, clips or accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from yowo_export.graph.rewrites import store_single

HALF_MAX = float(np.finfo(np.float16).max)
HALF_TINY = float(np.finfo(np.float16).tiny)  # below it half precision loses digits
BFLOAT16_OPSET = 22  # the first whose convolutions may be bfloat16

# Always in float32, whatever the clips show: logits of the Gram matrix are sums of hundreds of squares, which half
# precision overflows or rounds by 2.7e-3 (DEPLOYMENT_FACTS). Our graphs multiply matrices nowhere else.
GRAM = frozenset({"Attention", "MatMul", "Softmax"})

# Inputs that the operator wants in float32 whatever the rest is.
_FIXED_INPUTS = {"Resize": {1, 2}}
_TYPES = {ir.DataType.FLOAT16: np.dtype(np.float16), ir.DataType.BFLOAT16: np.dtype(ml_dtypes.bfloat16)}


def lower(model: ir.Model, dtype: ir.DataType, keep: Callable[[ir.Node], bool]) -> int:
    """Compute in 16 bits, but for what is to be kept; casts stand where the two meet.

    Before: a float32 graph, or one with Q/DQ nodes, every value with its type.
    After: inputs and outputs of the graph are float32 as before. Nodes of `GRAM`, nodes for which `keep` holds, and
    nodes whose weights the type cannot hold, compute in float32. Each weight is stored once.

    Returns:
        How many nodes compute in the type.
    """
    pass_ = _Lowering(model, dtype)
    count = sum([pass_.rewrite(node, low) for node, low in _decided(model, dtype, keep)])
    pass_.finish()
    if dtype == ir.DataType.BFLOAT16:
        model.graph.opset_imports[""] = max(BFLOAT16_OPSET, model.graph.opset_imports[""])
    return count


def rehearse(model: ir.Model, dtype: ir.DataType, keep: Callable[[ir.Node], bool]) -> None:
    """Round in float32 what `lower` would compute in 16 bits: for engines that only say they do.

    ONNX Runtime on a CPU runs half precision in float32 and rounds nothing in between; what it answers to a file that
    `lower` wrote is too good. Here every weight, and every value that a lowered node reads or writes, passes through
    the 16-bit type; sums within a node are of float32, as GPUs have them.
    """
    graph, rounded = model.graph, dict[ir.Value, ir.Value]()
    for node, low in _decided(model, dtype, keep):
        fixed = _FIXED_INPUTS.get(node.op_type, set())
        for index, value in enumerate(node.inputs):
            if not low or value is None or value.dtype != ir.DataType.FLOAT or index in fixed:
                continue
            if value not in rounded:
                rounded[value] = _rounded(graph, value, dtype)
            node.replace_input_with(index, rounded[value])
        for value in node.outputs if low else ():
            if value.dtype == ir.DataType.FLOAT:
                readers, is_output, name = list(value.uses()), value.is_graph_output(), value.name
                twin = _rounded(graph, value, dtype)
                for use in readers:
                    use.node.replace_input_with(use.idx, twin)
                rounded[twin] = twin
                if is_output:
                    value.name, twin.name = f"{name}_exact", name
                    graph.outputs[list(graph.outputs).index(value)] = twin


def _decided(model: ir.Model, dtype: ir.DataType, keep: Callable[[ir.Node], bool]) -> Iterator[tuple[ir.Node, bool]]:
    """Each node of the graph as it was, and whether it is to be in 16 bits."""
    store_single(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for node in list(model.graph):
        yield node, node.op_type not in GRAM and not keep(node) and _fits(node, dtype)


def _fits(node: ir.Node, dtype: ir.DataType) -> bool:
    """Whether the type holds the node's weights, and its scales with all their digits."""
    if dtype != ir.DataType.FLOAT16:
        return True
    for index, value in enumerate(node.inputs):
        numbers = _numbers(value)
        if numbers is None or not numbers.size:
            continue
        if np.abs(numbers).max() > HALF_MAX:
            return False
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and index == 1 and numbers.min() < HALF_TINY:
            return False
    return True


def _rounded(graph: ir.Graph, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """The same value, as the type holds it, in float32 again."""
    numbers = _numbers(value)
    if numbers is not None:
        name = f"{value.name}_rounded"
        exact = ir.tensor(numbers.astype(_TYPES[dtype]).astype(np.float32), name=name)
        weight = ir.Value(name=name, const_value=exact, type=value.type, shape=value.shape)
        graph.register_initializer(weight)
        return weight
    down = ir.node("Cast", [value], attributes={"to": dtype.value}, name=f"{value.name}_down")
    up = ir.node("Cast", [down.outputs[0]], attributes={"to": ir.DataType.FLOAT.value}, name=f"{value.name}_up")
    for cast, kind in ((down, dtype), (up, ir.DataType.FLOAT)):
        cast.outputs[0].name, cast.outputs[0].type, cast.outputs[0].shape = cast.name, ir.TensorType(kind), value.shape
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph[0], [down, up])
    else:
        graph.insert_after(producer, [down, up])
    return up.outputs[0]


class _Lowering:
    """Which values are 16 bits wide by now, and the casts and weights made so far."""

    def __init__(self, model: ir.Model, dtype: ir.DataType) -> None:
        self._graph, self._dtype = model.graph, dtype
        self._low: set[ir.Value] = set()
        self._twins: dict[ir.Value, ir.Value] = {}

    def rewrite(self, node: ir.Node, low: bool) -> bool:
        """Let the node read what it should, and mark what it puts out; whether it has any float to lower."""
        fixed = _FIXED_INPUTS.get(node.op_type, set())
        touched = False
        for index, value in enumerate(node.inputs):
            if value is None or not self._is_float(value):
                continue
            wanted = low and index not in fixed
            touched |= wanted
            if wanted != (value in self._low):
                node.replace_input_with(index, self._twin(value))
        for value in node.outputs:
            if low and value.dtype == ir.DataType.FLOAT:
                value.type = ir.TensorType(self._dtype)
                self._low.add(value)
                touched = True
        return touched

    def finish(self) -> None:
        """Give the graph its float32 outputs back, and drop weights that nobody reads any more."""
        for index, value in enumerate(self._graph.outputs):
            if value in self._low:
                name, twin = value.name, self._twin(value)
                value.name = f"{name}_low"
                twin.name, twin.shape = name, value.shape
                self._graph.outputs[index] = twin
        for name, value in list(self._graph.initializers.items()):
            if not value.uses():
                del self._graph.initializers[name]

    def _is_float(self, value: ir.Value) -> bool:
        return value in self._low or value.dtype == ir.DataType.FLOAT

    def _twin(self, value: ir.Value) -> ir.Value:
        """The same numbers in the other width, made once."""
        if value not in self._twins:
            numbers = _numbers(value)
            if numbers is not None:
                name = f"{value.name}_low"
                twin = ir.Value(name=name, const_value=ir.tensor(numbers.astype(_TYPES[self._dtype]), name=name))
                twin.type, twin.shape = ir.TensorType(self._dtype), value.shape
                self._graph.register_initializer(twin)
            else:
                twin = self._cast(value)
            self._twins[value] = twin
        return self._twins[value]

    def _cast(self, value: ir.Value) -> ir.Value:
        to = ir.DataType.FLOAT if value in self._low else self._dtype
        name = f"{value.name}_to_{to.name.lower()}"
        cast = ir.node("Cast", [value], attributes={"to": to.value}, name=name)
        twin = cast.outputs[0]
        twin.name, twin.type, twin.shape = name, ir.TensorType(to), value.shape
        producer = value.producer()
        if producer is None:  # the graph's input
            self._graph.insert_before(self._graph[0], cast)
        else:
            self._graph.insert_after(producer, cast)
        return twin


def _numbers(value: ir.Value | None) -> NDArray[np.float32] | None:
    """The float32 numbers of a weight; None for anything else."""
    if value is None or value.const_value is None or value.const_value.dtype != ir.DataType.FLOAT:
        return None
    return np.asarray(value.const_value.numpy(), np.float32)
