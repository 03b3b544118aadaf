"""3-D convolutions as 2-D ones, one chain of nodes a frame. Knows onnx-ir; nothing of when that is faster.

ONNX Runtime lays 2-D maps out in blocks that fill its vector units and knows no such layout for 3-D. And a tap that
would only see the padding in front of the first frame or behind the last is never computed: of layers that are down to
two frames a third of the work, of those down to one two thirds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir

TAP_KEY = "yowo_tap"  # metadata of a 2-D convolution that gives but a part of a 3-D one's sum

_EACH = frozenset({"Relu", "LeakyRelu", "Clip", "Sigmoid", "HardSwish", "Tanh", "Add", "Mul", "Sub", "Div", "Concat"})

Frames = list[ir.Value]


def frames_apart(model: ir.Model, leave: Collection[ir.Node] = ()) -> bool:
    """Replace 3-D convolutions, and what stands between them, by 2-D nodes for each frame.

    Before: a float32 graph whose clip length is fixed; values (B, C, T, H, W) have their shapes.
    After: the same answers but for the order of sums. Convolution, max pooling, addition, concatenation of channels,
    activation functions and the mean over time are taken apart; before any other node that reads (B, C, T, H, W) the
    frames are put together again. Convolutions whose sum makes one of several taps are noted (`TAP_KEY`).

    Args:
        leave: nodes that stay as they are.

    Returns:
        Whether there was a 3-D convolution.
    """
    nodes = [node for node in model.graph if node not in leave]
    if not any(_is_conv_3d(node) for node in nodes):
        return False
    apart = _Apart(model.graph)
    for node in nodes:
        apart.rewrite(node)
    apart.clean()
    return True


class _Apart:
    """The frames of every value that was taken apart so far."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph = graph
        self._frames: dict[ir.Value, Frames] = {}
        self._taps: dict[tuple[ir.Value, int], ir.Value] = {}
        self._numbers = count()
        self._old: dict[ir.Node, None] = {}
        self._at: ir.Node = graph[0]

    def rewrite(self, node: ir.Node) -> None:
        """Put the node's frame-wise form before it, or let it read whole clips again."""
        self._at = node
        made = self._made(node)
        if made is None:
            for index, value in enumerate(node.inputs):
                if value in self._frames and value.producer() in self._old:
                    node.replace_input_with(index, self._whole(value))
            return
        self._old[node] = None
        value = node.outputs[0]
        if not isinstance(made, ir.Value):
            self._frames[value] = made
            if not value.is_graph_output():
                return
            made = self._whole(value)
        made.shape, made.type = value.shape, value.type
        value.replace_all_uses_with(made, replace_graph_outputs=True)

    def clean(self) -> None:
        """Remove what was replaced, last first, and weights that nobody reads."""
        for node in reversed(list(self._old)):
            self._graph.remove(node, safe=True)
        for name, value in list(self._graph.initializers.items()):
            if not value.uses():
                del self._graph.initializers[name]

    def _made(self, node: ir.Node) -> Frames | ir.Value | None:
        source = node.inputs[0] if node.inputs else None
        if source is None:
            return None
        if _is_conv_3d(node):
            return self._conv(node, self._apart(source))
        if source not in self._frames:
            return None
        if node.op_type == "MaxPool" and len(node.attributes.get_ints("kernel_shape", ())) == 3:
            return self._max_pool(node, self._frames[source])
        if node.op_type == "ReduceMean" and _axes(node) == [2] and not node.attributes.get_int("keepdims", 1):
            frames = self._frames[source]
            total = self._node("Sum", frames) if len(frames) > 1 else frames[0]
            return self._node("Mul", [total, self._constant(np.float32(1 / len(frames)))])
        if node.op_type in _EACH and (node.op_type != "Concat" or node.attributes["axis"].as_int() == 1):
            return self._each(node)
        return None

    def _conv(self, node: ir.Node, frames: Frames) -> Frames:
        weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
        assert weight is not None and weight.const_value is not None
        taps = weight.const_value.numpy()
        strides, pads = _ints(node, "strides", 1, 3), _ints(node, "pads", 0, 6)
        dilation = _ints(node, "dilations", 1, 3)
        attributes: dict[str, Any] = {"strides": strides[1:], "pads": [*pads[1:3], *pads[4:]]}
        attributes |= {"dilations": dilation[1:], "group": node.attributes.get_int("group", 1)}
        attributes["kernel_shape"] = list(taps.shape[3:])

        def tap(frame: ir.Value, k: int, first: bool) -> ir.Value:
            key = (weight, k)
            if key not in self._taps:
                self._taps[key] = self._constant(np.ascontiguousarray(taps[:, :, k]), f"{weight.name}_{k}")
            inputs = [frame, self._taps[key], *([bias] if first and bias is not None else [])]
            made = self._node("Conv", inputs, attributes)
            conv = made.producer()
            if conv is not None and taps.shape[2] > 1:
                conv.metadata_props[TAP_KEY] = str(k)
            return made

        def combine(seen: list[tuple[int, ir.Value]]) -> ir.Value:
            total = tap(seen[0][1], seen[0][0], True)
            for k, frame in seen[1:]:
                total = self._node("Add", [total, tap(frame, k, False)])
            return total

        return self._slide(frames, taps.shape[2], strides[0], (pads[0], pads[3]), dilation[0], combine)

    def _max_pool(self, node: ir.Node, frames: Frames) -> Frames:
        kernel, strides = _ints(node, "kernel_shape", 1, 3), _ints(node, "strides", 1, 3)
        pads = _ints(node, "pads", 0, 6)
        attributes: dict[str, Any] = {"kernel_shape": kernel[1:], "strides": strides[1:]}
        attributes |= {"pads": [*pads[1:3], *pads[4:]], "ceil_mode": node.attributes.get_int("ceil_mode", 0)}
        pooled = [self._node("MaxPool", [frame], attributes) for frame in frames]

        def combine(seen: list[tuple[int, ir.Value]]) -> ir.Value:
            return self._node("Max", [frame for _, frame in seen]) if len(seen) > 1 else seen[0][1]

        return self._slide(pooled, kernel[0], strides[0], (pads[0], pads[3]), 1, combine)

    @staticmethod
    def _slide(
        frames: Frames,
        kernel: int,
        stride: int,
        pads: tuple[int, int],
        dilation: int,
        combine: Callable[[list[tuple[int, ir.Value]]], ir.Value],
    ) -> Frames:
        """One output for each place of the window, of the frames that it really sees: (tap, frame) pairs."""
        places = (len(frames) + sum(pads) - dilation * (kernel - 1) - 1) // stride + 1
        made = []
        for place in range(places):
            at = [(k, place * stride - pads[0] + k * dilation) for k in range(kernel)]
            made.append(combine([(k, frames[t]) for k, t in at if 0 <= t < len(frames)]))
        return made

    def _each(self, node: ir.Node) -> Frames | None:
        """The same node for every frame, if every input is taken apart or the same for all frames."""
        length = next(len(self._frames[v]) for v in node.inputs if v in self._frames)
        inputs: list[Frames | list[ir.Value | None]] = []
        for value in node.inputs:
            if value is None or value not in self._frames:
                if value is not None and (value.const_value is None or value.const_value.size != 1):
                    if value.shape is None or len(value.shape) != 5 or node.op_type == "Concat":
                        return None
                    inputs.append(self._apart(value))
                    continue
                inputs.append([value] * length)
            else:
                inputs.append(self._frames[value])
        if any(len(frames) != length for frames in inputs):
            return None
        attributes = dict(node.attributes)
        return [self._node(node.op_type, list(frame), attributes) for frame in zip(*inputs, strict=True)]

    def _apart(self, value: ir.Value) -> Frames:
        """The frames of a value: those it is made of, or slices of it."""
        if value not in self._frames:
            length = value.shape[2] if value.shape is not None else None
            assert isinstance(length, int)
            axis = self._constant(np.array([2]))
            sizes = self._constant(np.ones(length, np.int64))
            split = ir.node(
                "Split", [value, sizes], attributes={"axis": 2}, num_outputs=length, name=self._name("Split")
            )
            self._place(split)
            self._frames[value] = [self._node("Squeeze", [piece, axis]) for piece in split.outputs]
        return self._frames[value]

    def _whole(self, value: ir.Value) -> ir.Value:
        """The frames of a value put together again."""
        axis = self._constant(np.array([2]))
        planes = [self._node("Unsqueeze", [frame, axis]) for frame in self._frames[value]]
        whole = self._node("Concat", planes, {"axis": 2})
        whole.shape, whole.type = value.shape, value.type
        return whole

    def _node(self, operator: str, inputs: Sequence[ir.Value | None], attributes: Any = None) -> ir.Value:
        node = ir.node(operator, inputs, attributes=attributes or {}, name=self._name(operator))
        self._place(node)
        return node.outputs[0]

    def _place(self, node: ir.Node) -> None:
        node.metadata_props.update(self._at.metadata_props)
        for index, value in enumerate(node.outputs):
            value.name, value.type = f"{node.name}_{index}", ir.TensorType(ir.DataType.FLOAT)
        self._graph.insert_before(self._at, node)

    def _constant(self, numbers: Any, name: str = "") -> ir.Value:
        name = name or self._name("constant")
        array = np.asarray(numbers)
        tensor = ir.tensor(array, name=name)
        value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
        self._graph.register_initializer(value)
        return value

    def _name(self, operator: str) -> str:
        return f"{self._at.name}_{operator.lower()}_{next(self._numbers)}"


def _is_conv_3d(node: ir.Node) -> bool:
    weight = node.inputs[1] if node.op_type == "Conv" else None
    return weight is not None and weight.const_value is not None and len(weight.const_value.shape) == 5


def _ints(node: ir.Node, name: str, default: int, length: int) -> list[int]:
    return list(node.attributes.get_ints(name, [default] * length))


def _axes(node: ir.Node) -> list[int]:
    value = node.inputs[1] if len(node.inputs) > 1 else None
    return [] if value is None or value.const_value is None else value.const_value.numpy().tolist()
