"""Lower the floats of a graph to 16 bits, rehearse that in float32, and find values that would overflow."""

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
HALF_TINY = float(np.finfo(np.float16).tiny)  # 6.1e-5; smaller numbers are subnormal and lose digits
HEADROOM = 2.0  # other clips may reach values twice as large as the sample clips do before half precision overflows
BFLOAT16_OPSET = 22  # the first whose convolutions may be bfloat16

# Always in float32, whatever the clips reach: logits of the Gram matrix are sums of hundreds of squares, which overflow
# half precision or are rounded by 2.7e-3 (DEPLOYMENT_FACTS). Our graphs have no other matrix products.
GRAM = frozenset({"Attention", "MatMul", "Softmax"})

# Inputs that the operator takes in float32 only.
_FIXED_INPUTS = {"Resize": {1, 2}}
_TYPES = {ir.DataType.FLOAT16: np.dtype(np.float16), ir.DataType.BFLOAT16: np.dtype(ml_dtypes.bfloat16)}


def lower(model: ir.Model, dtype: ir.DataType, keep: Callable[[ir.Node], bool]) -> int:
    """Compute in 16 bits except for chosen nodes, with casts between the two.

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
    """Round to 16 bits, in a float32 graph, what `lower` would compute in 16 bits.

    ONNX Runtime on a CPU runs half precision in float32 and rounds nothing in between: its answers to a file that
    `lower` wrote are more exact than a GPU's. Here every weight, and every value that a lowered node reads or writes,
    passes through the 16-bit type; sums within a node are of float32, as on GPUs.
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
                # A float32 reader too gets the rounded value: `lower` casts the 16-bit one back for it.
                readers, is_output = list(value.uses()), value.is_graph_output()
                twin = _rounded(new, value, dtype)
                for use in readers:
                    use.node.replace_input_with(use.idx, twin)
                rounded[twin] = twin  # rounded already for lowered readers
                if is_output:
                    replace_output(model.graph, value, twin)


def overflowing(model: ir.Model, reach: Mapping[str, float]) -> set[str]:
    """Names of the nodes whose inputs or outputs are within a factor of `HEADROOM` of half precision's largest number.

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
    """Each node of the original graph, and whether it goes to 16 bits."""
    store_single(model)
    LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
    for node in list(model.graph):
        yield node, node.op_type not in GRAM and not keep(node) and _fits(node, dtype)


def _fits(node: ir.Node, dtype: ir.DataType) -> bool:
    """Whether the type holds the node's weights, and its Q/DQ scales as normal numbers.

    A weight below `HALF_TINY` adds next to nothing to a sum; a scale multiplies every number that passes through.
    """
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
    """The values lowered so far, and their twins in the other width."""

    def __init__(self, model: ir.Model, dtype: ir.DataType) -> None:
        self._graph, self._new, self._dtype = model.graph, NodeBuilder(model.graph), dtype
        self._low: set[ir.Value] = set()
        self._twins: dict[ir.Value, ir.Value] = {}

    def rewrite(self, node: ir.Node, low: bool) -> bool:
        """Give the node inputs of the right width and mark its outputs; whether it has any float to lower."""
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
        """The same numbers in the other width; created once."""
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
