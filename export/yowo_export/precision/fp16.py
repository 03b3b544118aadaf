"""The same graph with its floats in 16 bits. Knows onnx-ir; nothing of engines, clips or accuracy."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import LiftConstantsToInitializersPass

from yowo_export.graph.builder import NodeBuilder, numbers_of, remove_unread_weights, replace_output
from yowo_export.graph.rewrites import store_single

HALF_MAX = float(np.finfo(np.float16).max)
HALF_TINY = float(np.finfo(np.float16).tiny)  # below it half precision loses digits
HEADROOM = 2.0  # values of other clips may be twice as large as those of the clips given before half overflows
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
    new, rounded = NodeBuilder(model.graph), dict[ir.Value, ir.Value]()
    for node, low in _decided(model, dtype, keep):
        fixed = _FIXED_INPUTS.get(node.op_type, set())
        for index, value in enumerate(node.inputs):
            if not low or value is None or value.dtype != ir.DataType.FLOAT or index in fixed:
                continue
            if value not in rounded:
                rounded[value] = _rounded(new, value, dtype)
            node.replace_input_with(index, rounded[value])
        for value in node.outputs if low else ():
            if value.dtype == ir.DataType.FLOAT:
                readers, is_output = list(value.uses()), value.is_graph_output()
                twin = _rounded(new, value, dtype)
                for use in readers:
                    use.node.replace_input_with(use.idx, twin)
                rounded[twin] = twin
                if is_output:
                    replace_output(model.graph, value, twin)


def overflowing(model: ir.Model, reach: Mapping[str, float]) -> set[str]:
    """Names of the nodes that read or write values within `HEADROOM` of what half precision can hold.

    Args:
        reach: the largest absolute value of each tensor, by name; one that is not finite counts as too large.
    """
    large = {name for name, far in reach.items() if not far <= HALF_MAX / HEADROOM}
    return {
        str(node.name)
        for node in model.graph
        if any(value is not None and value.name in large for value in (*node.inputs, *node.outputs))
    }


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
        numbers = _weights(value)
        if numbers is None or not numbers.size:
            continue
        if np.abs(numbers).max() > HALF_MAX:
            return False
        if node.op_type in ("QuantizeLinear", "DequantizeLinear") and index == 1 and numbers.min() < HALF_TINY:
            return False
    return True


def _rounded(new: NodeBuilder, value: ir.Value, dtype: ir.DataType) -> ir.Value:
    """The same value, as the type holds it, in float32 again."""
    numbers = _weights(value)
    if numbers is not None:
        return new.constant(numbers.astype(_TYPES[dtype]).astype(np.float32), f"{value.name}_rounded")
    new.behind(value)
    return new.cast(new.cast(value, dtype), ir.DataType.FLOAT)


class _Lowering:
    """Which values are 16 bits wide by now, and the casts and weights made so far."""

    def __init__(self, model: ir.Model, dtype: ir.DataType) -> None:
        self._graph, self._new, self._dtype = model.graph, NodeBuilder(model.graph), dtype
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
        """Give the graph its float32 outputs back, and remove weights that no node reads."""
        for value in list(self._graph.outputs):
            if value in self._low:
                replace_output(self._graph, value, self._twin(value))
        remove_unread_weights(self._graph)

    def _is_float(self, value: ir.Value) -> bool:
        return value in self._low or value.dtype == ir.DataType.FLOAT

    def _twin(self, value: ir.Value) -> ir.Value:
        """The same numbers in the other width, made once."""
        if value not in self._twins:
            numbers = _weights(value)
            if numbers is not None:
                self._twins[value] = self._new.constant(numbers.astype(_TYPES[self._dtype]), f"{value.name}_low")
            else:
                self._new.behind(value)
                to = ir.DataType.FLOAT if value in self._low else self._dtype
                self._twins[value] = self._new.cast(value, to)
        return self._twins[value]


def _weights(value: ir.Value | None) -> NDArray[np.float32] | None:
    """The numbers of a float32 constant; None for anything else."""
    numbers = numbers_of(value)
    return numbers if numbers is not None and numbers.dtype == np.float32 else None
