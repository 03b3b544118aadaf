"""Replace 3-D convolutions by 2-D ones, one chain of nodes per frame.

ONNX Runtime stores 2-D maps in blocks that fill its vector units, and has no such layout for 3-D. And a tap that
would only read the padding in front of the first frame or behind the last is never computed: of layers that are down to
two frames this saves a third of the work, of those down to one two thirds.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import numpy as np
import onnx_ir as ir

from yowo_export.graph.builder import (
    ELEMENTWISE,
    NodeBuilder,
    ints,
    kernel_axes,
    numbers_of,
    remove_unread_weights,
    spatial,
)

TAP_KEY = "yowo_tap"  # metadata of a 2-D convolution that computes only some taps of a 3-D one

_FRAMEWISE = ELEMENTWISE | {"Add", "Mul", "Sub", "Div", "Concat"}

Frames = list[ir.Value]


def conv3d_as_2d(model: ir.Model, leave: Collection[ir.Node] = ()) -> bool:
    """Replace 3-D convolutions, and the nodes between them, by 2-D nodes for each frame.

    Before: a float32 graph whose clip length is fixed; values (B, C, T, H, W) have their shapes.
    After: the same answers but for the order of sums. Convolution, max pooling, addition, concatenation of channels,
    activation functions and the mean over time are split by frame; before any other node that reads (B, C, T, H, W)
    the frames are joined again. Convolutions that compute one of several taps carry `TAP_KEY`.

    Args:
        leave: nodes that stay as they are.

    Returns:
        Whether there was a 3-D convolution.
    """
    nodes = [node for node in model.graph if node not in leave]
    if not any(_is_constant_conv_3d(node) for node in nodes):
        return False
    splitter = _Splitter(model.graph)
    for node in nodes:
        splitter.rewrite(node)
    splitter.clean()
    return True


class _Splitter:
    """The frames of every value that was split so far."""

    def __init__(self, graph: ir.Graph) -> None:
        self._graph, self._new = graph, NodeBuilder(graph, dtype=ir.DataType.FLOAT)
        self._frames: dict[ir.Value, Frames] = {}
        self._taps: dict[tuple[ir.Value, int], ir.Value] = {}
        self._old: dict[ir.Node, None] = {}

    def rewrite(self, node: ir.Node) -> None:
        """Put the node's frame-wise form before it, or let it read whole clips again."""
        self._new.before(node)
        made = self._made(node)
        if made is None:
            for index, value in enumerate(node.inputs):
                if value in self._frames and value.producer() in self._old:
                    node.replace_input_with(index, self._joined(value))
            return
        value = node.outputs[0]
        if not isinstance(made, ir.Value):
            self._frames[value] = made
            if not value.is_graph_output():
                self._old[node] = None
                return
            made = self._joined(value)
        self._new.replace([node], made)

    def clean(self) -> None:
        """Remove what was replaced, last first, and weights that no node reads."""
        for node in reversed(list(self._old)):
            self._graph.remove(node, safe=True)
        remove_unread_weights(self._graph)

    def _made(self, node: ir.Node) -> Frames | ir.Value | None:
        source = node.inputs[0] if node.inputs else None
        if source is None:
            return None
        if _is_constant_conv_3d(node):
            return self._conv(node, self._split(source))
        if source not in self._frames:
            return None
        frames = self._frames[source]
        if node.op_type == "MaxPool" and len(node.attributes.get_ints("kernel_shape", ())) == 3:
            return self._max_pool(node, frames)
        axes = numbers_of(node.inputs[1]) if node.op_type == "ReduceMean" and len(node.inputs) > 1 else None
        if axes is not None and axes.tolist() == [2] and not node.attributes.get_int("keepdims", 1):
            total = self._new.node("Sum", frames) if len(frames) > 1 else frames[0]
            return self._new.node("Mul", [total, self._new.constant(np.float32(1 / len(frames)))])
        if node.op_type in _FRAMEWISE and (node.op_type != "Concat" or node.attributes["axis"].as_int() == 1):
            return self._each(node)
        return None

    def _conv(self, node: ir.Node, frames: Frames) -> Frames:
        weight, bias = node.inputs[1], node.inputs[2] if len(node.inputs) > 2 else None
        taps = numbers_of(weight)
        assert weight is not None and taps is not None
        strides, pads = ints(node, "strides", 1, 3), ints(node, "pads", 0, 6)
        dilation, attributes = ints(node, "dilations", 1, 3), spatial(node)

        def tap(frame: ir.Value, k: int, first: bool) -> ir.Value:
            key = (weight, k)
            if key not in self._taps:
                self._taps[key] = self._new.constant(np.ascontiguousarray(taps[:, :, k]), f"{weight.name}_{k}")
            inputs = [frame, self._taps[key], *([bias] if first and bias is not None else [])]
            made = self._new.node("Conv", inputs, attributes)
            conv = made.producer()
            if conv is not None and taps.shape[2] > 1:
                conv.metadata_props[TAP_KEY] = str(k)
            return made

        def combine(seen: list[tuple[int, ir.Value]]) -> ir.Value:
            total = tap(seen[0][1], seen[0][0], True)
            for k, frame in seen[1:]:
                total = self._new.node("Add", [total, tap(frame, k, False)])
            return total

        return self._slide(frames, taps.shape[2], strides[0], (pads[0], pads[3]), dilation[0], combine)

    def _max_pool(self, node: ir.Node, frames: Frames) -> Frames:
        kernel, strides = ints(node, "kernel_shape", 1, 3), ints(node, "strides", 1, 3)
        pads = ints(node, "pads", 0, 6)
        pooled = [self._new.node("MaxPool", [frame], spatial(node)) for frame in frames]

        def combine(seen: list[tuple[int, ir.Value]]) -> ir.Value:
            return self._new.node("Max", [frame for _, frame in seen]) if len(seen) > 1 else seen[0][1]

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
        """One output for each place of the window, from the (tap, frame) pairs that do not lie in the padding."""
        places = (len(frames) + sum(pads) - dilation * (kernel - 1) - 1) // stride + 1
        made = []
        for place in range(places):
            at = [(k, place * stride - pads[0] + k * dilation) for k in range(kernel)]
            made.append(combine([(k, frames[t]) for k, t in at if 0 <= t < len(frames)]))
        return made

    def _each(self, node: ir.Node) -> Frames | None:
        """The same node for every frame, if every input is split or the same for all frames."""
        length = next(len(self._frames[v]) for v in node.inputs if v in self._frames)
        inputs: list[Frames | list[ir.Value | None]] = []
        for value in node.inputs:
            if value is None or value not in self._frames:
                if value is not None and (value.const_value is None or value.const_value.size != 1):
                    if value.shape is None or len(value.shape) != 5 or node.op_type == "Concat":
                        return None
                    inputs.append(self._split(value))
                    continue
                inputs.append([value] * length)
            else:
                inputs.append(self._frames[value])
        if any(len(frames) != length for frames in inputs):
            return None
        attributes = dict(node.attributes)
        return [self._new.node(node.op_type, list(frame), attributes) for frame in zip(*inputs, strict=True)]

    def _split(self, value: ir.Value) -> Frames:
        """The frames of a value: those it is made of, or slices of it."""
        if value not in self._frames:
            length = value.shape[2] if value.shape is not None else None
            assert isinstance(length, int)
            sizes = self._new.constant(np.ones(length, np.int64))
            planes, axis = self._new.nodes("Split", [value, sizes], {"axis": 2}, length), self._new.constant([2])
            self._frames[value] = [self._new.node("Squeeze", [plane, axis]) for plane in planes]
        return self._frames[value]

    def _joined(self, value: ir.Value) -> ir.Value:
        """The frames of a value as one clip again."""
        axis = self._new.constant([2])
        planes = [self._new.node("Unsqueeze", [frame, axis]) for frame in self._frames[value]]
        whole = self._new.node("Concat", planes, {"axis": 2})
        whole.shape, whole.type = value.shape, value.type
        return whole


def _is_constant_conv_3d(node: ir.Node) -> bool:
    return kernel_axes(node) == 3 and numbers_of(node.inputs[1]) is not None
