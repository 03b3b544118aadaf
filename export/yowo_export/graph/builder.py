"""Nodes and constants that a rewrite adds to a graph, each under a name of its own. Knows onnx-ir alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from yowo_deploy.errors import ModelFileError

Change = Callable[[NDArray[Any]], NDArray[Any]]


class NewNodes:
    """Adds to the end of a graph, which the caller sorts.

    Args:
        prefix: of every name.
    """

    def __init__(self, graph: ir.Graph, prefix: str) -> None:
        self._graph, self._prefix, self._numbers = graph, prefix, count()

    def node(
        self, operator: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any] | None = None
    ) -> ir.Value:
        """What a new node puts out."""
        name = f"{self._prefix}_{operator.lower()}_{next(self._numbers)}"
        node = ir.node(operator, inputs, attributes=attributes or {}, name=name)
        node.outputs[0].name = name
        self._graph.append(node)
        return node.outputs[0]

    def like(self, node: ir.Node, source: ir.Value, changes: Mapping[str, Any] | None = None) -> ir.Value:
        """The same operator on another value, its other inputs and attributes as they are but for changes."""
        return self.node(node.op_type, [source, *node.inputs[1:]], dict(node.attributes) | dict(changes or {}))

    def channels(self, value: ir.Value, start: int, end: int) -> ir.Value:
        """Channels from start to end, which is not one of them."""
        return self.node("Slice", [value, *(self.constant(np.array([number])) for number in (start, end, 1))])

    def changed(self, value: ir.Value | None, change: Change) -> ir.Value:
        """A constant as `change` makes it; of one that is cast or dequantized, what is stored is changed.

        Raises:
            ModelFileError: the value is no such constant.
        """
        assert value is not None
        stored, node = ir.convenience.get_const_tensor(value), value.producer()
        if stored is not None:
            return self.constant(np.ascontiguousarray(change(stored.numpy())))
        if node is None or node.op_type not in ("Cast", "DequantizeLinear"):
            raise ModelFileError(
                f"the weights {value.name} of the first layers are no constants: export the model again"
            )
        return self.like(node, self.changed(node.inputs[0], change))

    def constant(self, array: NDArray[Any]) -> ir.Value:
        """An array in the graph."""
        name = f"{self._prefix}_constant_{next(self._numbers)}"
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
        self._graph.register_initializer(value)
        return value
