"""Make nodes and constants in ONNX graphs, and find constants, attributes and readers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from yowo_deploy.errors import ModelFileError
from yowo_export.graph.module_names import BLOCK_KEY, block_of

Change = Callable[[NDArray[Any]], NDArray[Any]]

ELEMENTWISE = frozenset({"Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSwish", "Tanh"})  # of one value


class NodeBuilder:
    """Adds nodes under unique names: to the end of the graph, which the caller sorts, or at the place last chosen.

    Args:
        prefix: of every name, until a place is chosen.
        dtype: of the outputs of new nodes; None leaves it to shape inference.
    """

    def __init__(self, graph: ir.Graph, prefix: str = "", dtype: ir.DataType | None = None) -> None:
        self._graph, self._prefix, self._used = graph, prefix, Counter[str]()
        self._type = None if dtype is None else ir.TensorType(dtype)
        self._insert: Callable[[ir.Node], None] = graph.append
        self._block: str | None = None

    def before(self, node: ir.Node) -> None:
        """Put what follows before that node, named after it and in its block."""
        self._prefix, self._block = str(node.name), block_of(node)
        self._insert = lambda new: self._graph.insert_before(node, new)

    def behind(self, value: ir.Value) -> None:
        """Put what follows behind the node that makes that value, or at the start of the graph."""
        self._prefix, self._block = str(value.name), None
        last = value.producer()

        def insert(new: ir.Node) -> None:
            nonlocal last
            if last is None:
                self._graph.insert_before(self._graph[0], new)
            else:
                self._graph.insert_after(last, new)
            last = new

        self._insert = insert

    def nodes(
        self,
        operator: str,
        inputs: Sequence[ir.Value | None],
        attributes: Mapping[str, Any] | None = None,
        count: int = 1,
    ) -> Sequence[ir.Value]:
        """The `count` outputs of a new node."""
        name = self._name(operator)
        node = ir.node(operator, inputs, attributes=attributes or {}, num_outputs=count, name=name)
        for index, value in enumerate(node.outputs):
            value.name, value.type = name if count == 1 else f"{name}_{index}", self._type
        if self._block is not None:
            node.metadata_props[BLOCK_KEY] = self._block
        self._insert(node)
        return node.outputs

    def node(
        self, operator: str, inputs: Sequence[ir.Value | None], attributes: Mapping[str, Any] | None = None
    ) -> ir.Value:
        """The output of a new node."""
        return self.nodes(operator, inputs, attributes)[0]

    def like(self, node: ir.Node, source: ir.Value, changes: Mapping[str, Any] | None = None) -> ir.Value:
        """The same operator on another value; its other inputs, and its attributes but for the changes, stay."""
        return self.node(node.op_type, [source, *node.inputs[1:]], dict(node.attributes) | dict(changes or {}))

    def cast(self, value: ir.Value, dtype: ir.DataType) -> ir.Value:
        """The value in another type."""
        made = self.node("Cast", [value], {"to": dtype.value})
        made.type, made.shape = ir.TensorType(dtype), value.shape
        return made

    def channels(self, value: ir.Value, start: int, end: int) -> ir.Value:
        """Channels `start` to `end`, the latter excluded."""
        return self.node("Slice", [value, *(self.constant([number]) for number in (start, end, 1))])

    def changed(self, value: ir.Value | None, change: Change) -> ir.Value:
        """A constant after `change`; where it is cast or dequantized, the stored numbers are changed.

        Raises:
            ModelFileError: the value is not such a constant.
        """
        assert value is not None
        stored, node = numbers_of(value), value.producer()
        if stored is not None:
            return self.constant(np.ascontiguousarray(change(stored)))
        if node is None or node.op_type not in ("Cast", "DequantizeLinear"):
            raise ModelFileError(f"the weights {value.name} are not constants: export the model again")
        return self.like(node, self.changed(node.inputs[0], change))

    def constant(self, numbers: Any, name: str = "") -> ir.Value:
        """An initializer of the graph."""
        name = name or self._name("constant")
        tensor = ir.tensor(np.asarray(numbers), name=name)
        value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=tensor.shape)  # type: ignore[arg-type]
        self._graph.register_initializer(value)
        return value

    def replace(self, nodes: Sequence[ir.Node], value: ir.Value) -> None:
        """Remove nodes, `value` in place of the output of the last one: its name, type, shape, readers and metadata."""
        old, producer = nodes[-1].outputs[0], value.producer()
        if producer is not None:
            producer.metadata_props.update(nodes[-1].metadata_props)
        value.name, value.type, value.shape = old.name, old.type, old.shape
        old.replace_all_uses_with(value, replace_graph_outputs=True)
        for node in reversed(nodes):
            self._graph.remove(node, safe=True)

    def _name(self, kind: str) -> str:
        name = f"{self._prefix}_{kind.lower()}"
        self._used[name] += 1
        return name if self._used[name] == 1 else f"{name}_{self._used[name]}"


def numbers_of(value: ir.Value | None) -> NDArray[Any] | None:
    """The numbers of a constant; None for a value that depends on the clips."""
    found = None if value is None else ir.convenience.get_const_tensor(value)
    return None if found is None else found.numpy()


def ints(node: ir.Node, name: str, default: int, length: int) -> list[int]:
    """An attribute that is a list of whole numbers; `length` times the default where it is absent."""
    return list(node.attributes.get_ints(name, [default] * length))


def spatial(node: ir.Node) -> dict[str, Any]:
    """The attributes of a 3-D convolution or pooling for one frame: kernel, strides, pads, dilations without time."""
    attributes: dict[str, Any] = dict(node.attributes)
    for name in ("kernel_shape", "strides", "dilations"):
        if name in attributes:
            attributes[name] = ints(node, name, 1, 3)[1:]
    if "pads" in attributes:
        pads = ints(node, "pads", 0, 6)
        attributes["pads"] = [*pads[1:3], *pads[4:]]
    return attributes


def kernel_axes(node: ir.Node) -> int:
    """2 or 3, the axes over which a convolution slides; 0 for other nodes."""
    weight = node.inputs[1] if node.op_type == "Conv" else None
    return 0 if weight is None or weight.shape is None else len(weight.shape) - 2


def only_reader(value: ir.Value) -> ir.Node | None:
    """The one node that reads a value, once; None where there are more or none, or where the graph puts it out."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def replace_output(graph: ir.Graph, old: ir.Value, new: ir.Value) -> None:
    """Make another value an output of the graph, under the name of the old one."""
    name, old.name = old.name, f"{old.name}_inner"
    new.name, new.shape = name, old.shape
    graph.outputs[list(graph.outputs).index(old)] = new


def remove_unread_weights(graph: ir.Graph) -> None:
    """Remove initializers that no node reads."""
    for name, value in list(graph.initializers.items()):
        if not value.uses():
            del graph.initializers[name]
