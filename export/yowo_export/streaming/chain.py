"""The chain of layers at the start of a 3-D network, from the frames to the first fork of the graph."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from math import prod

import onnx_ir as ir

from yowo_deploy.errors import InputError
from yowo_export.graph.builder import ELEMENTWISE, ints, kernel_axes, numbers_of, only_reader
from yowo_export.streaming.pairs import Pairs, find_pairs
from yowo_export.streaming.reuse import Window

_EACH = ELEMENTWISE | {"Cast", "QuantizeLinear", "DequantizeLinear"}
# An INT8 multiply-add in units of a float32 one: OpenVINO's stem took 52 and 21.5 ms (DEPLOYMENT_FACTS), 340 and 120 ms
# on the machine of this project.
INT8_COST = 0.35
# Layers with a kernel in time. Behind six of them the receptive field is 13 frames or more, twice that for each stride:
# hardly a position of a usual clip is free of padding, so there is nothing left to share.
MAX_SLIDING = 6


@dataclass
class Layer:
    """A layer that slides over time, and what follows it frame by frame.

    Attributes:
        node: a Conv; or a MaxPool, for its maximum over time (that over space belongs to the layer before it); or, as
            the first layer, a ReduceMean over colours, behind which only `pairs` may follow.
        window: how it slides over time.
        value: the output of the last node, in the graph before the rewrite.
        rounded: the DequantizeLinear that gives `value`, where the layer's own numbers are INT8.
        after: frame-wise nodes behind the node and before `rounded`.
        whole: whether `value` is the complete output of the layer: not where a maximum over time follows.
        pairs: what the layer is, where it is maps of neighbouring frames; the node is the last of theirs then.
    """

    node: ir.Node
    window: Window
    value: ir.Value
    rounded: ir.Node | None = None
    after: list[ir.Node] = field(default_factory=list)
    whole: bool = True
    pairs: Pairs | None = None

    @property
    def map_shape(self) -> tuple[int, ...]:
        """Shape of one position of the output; one of the axes is time."""
        channels, *_, height, width = sides(self.value)
        if self.pairs is not None:
            channels = self.pairs.maps
        return (1, 1 if self.is_grey else channels, height, width)

    @property
    def bytes_of_map(self) -> int:
        """Size of one position of the output as state between frames."""
        last = [node for node in self.after if node.op_type != "MaxPool"][-1:]
        narrow = self.rounded is not None or [node.op_type for node in last] == ["QuantizeLinear"]
        return prod(self.map_shape) * (1 if narrow else 4)

    @property
    def is_grey(self) -> bool:
        """Whether the layer is the mean of a frame's colours: its output is (B, T, H, W), time where channels were."""
        return self.node.op_type == "ReduceMean" and self.pairs is None

    @property
    def cost_of_tap(self) -> float:
        """Time of one tap of the kernel at one position, in float32 multiply-adds."""
        if self.node.op_type != "Conv":
            return 0.0
        weight, (channels, _, height, width) = self.node.inputs[1], sides(self.node.outputs[0])
        producer = None if weight is None else weight.producer()
        rounded = producer is not None and producer.op_type == "DequantizeLinear"
        inputs, _, *kernel = sides(weight)
        return channels * height * width * inputs * prod(kernel) * (INT8_COST if rounded else 1)

    @property
    def bytes_of_sum(self) -> int:
        """Size of the node's output at one position."""
        channels, _, height, width = sides(self.node.outputs[0])
        return 4 * channels * height * width

    @property
    def bytes_touched(self) -> int:
        """Size of all that is written, and of sums read again, for one position."""
        if self.pairs is not None:
            return self.pairs.bytes_of_place
        return self.bytes_of_map + (2 * self.bytes_of_sum if self.node.op_type == "Conv" else 0)


@dataclass
class Chain:
    """The layers between the clips and the first fork.

    Attributes:
        clips: the graph's input.
        framewise: frame-wise nodes before any layer, in the order of the graph.
        key_frames: Slice nodes that extract the newest frame.
        layers: from the first 3-D convolution on.
        whole: nodes of other branches that read whole clips: means over colours, where a convolution shares more.
    """

    clips: ir.Value
    framewise: list[ir.Node] = field(default_factory=list)
    key_frames: list[ir.Node] = field(default_factory=list)
    layers: list[Layer] = field(default_factory=list)
    whole: list[ir.Node] = field(default_factory=list)

    @property
    def frame_bytes(self) -> int:
        """Size of one float32 frame."""
        channels, _, height, width = sides(self.clips)
        return 4 * channels * height * width


def sides(value: ir.Value | None) -> list[int]:
    """(C, T, H, W), or (C / groups, kT, kH, kW) of weights: all sides but the first."""
    assert value is not None and value.shape is not None
    return [int(side) for side in list(value.shape)[1:] if isinstance(side, int)]


def find_chain(model: ir.Model, length: int) -> Chain:
    """The chain of a model that takes clips of `length` frames.

    Raises:
        InputError: the first layer is neither a 3-D convolution nor a mean over colours, so nothing can be reused.
    """
    [clips] = model.graph.inputs
    chain = Chain(clips)
    stem, grey = None, list[ir.Node]()
    waiting, seen = [clips], {clips}
    while waiting:
        for use in waiting.pop(0).uses():
            node = use.node
            if kernel_axes(node) == 3 and node.attributes.get_int("group", 1) == 1:
                if stem not in (None, node):
                    raise InputError("two 3-D convolutions read the clips: this network cannot be streamed")
                stem = node
            elif _is_grey(node):
                grey.append(node)
            elif _takes_newest(node, length):
                chain.key_frames.append(node)
            elif _is_framewise(node):
                chain.framewise.append(node)
                waiting += [value for value in node.outputs if value not in seen]
                seen |= set(node.outputs)
            else:
                raise InputError(
                    f"the frames are read by {node.op_type} {node.name}, which mixes them, not by a 3-D convolution: "
                    "neighbouring clips share nothing that --streaming could reuse"
                )
    if stem is None and len(grey) == 1:
        stem = grey.pop()
    if stem is None:
        raise InputError("no 3-D convolution reads the frames: neighbouring clips share nothing that could be reused")
    if stem.op_type == "ReduceMean":
        [value] = stem.outputs
        chain.layers.append(Layer(stem, Window(1, 1, 0, length), value))
        if (pairs := find_pairs(model.graph, value, length)) is not None:
            producer = pairs.value.producer()
            assert producer is not None
            chain.layers.append(Layer(producer, pairs.window, pairs.value, pairs=pairs))
    else:
        _follow(chain, stem)
    return dataclasses.replace(chain, whole=grey)


def _follow(chain: Chain, node: ir.Node) -> None:
    """Add layers from the node on, until the graph forks or a node does not fit."""
    sliding = 0
    while True:
        window, value = _window(node), node.outputs[0]
        sliding += window is not None and window.kernel > 1
        if not (_grows(chain.layers, node, window) if sliding <= MAX_SLIDING else False):
            return
        chain.layers[-1].value = value
        if (reader := only_reader(value)) is None:
            return
        node = reader


def _grows(layers: list[Layer], node: ir.Node, window: Window | None) -> bool:
    """Add the node to the chain if it fits; whether it did."""
    value = node.outputs[0]
    last = layers[-1] if layers else None
    if node.op_type == "Conv" and window is not None:
        layers.append(Layer(node, window, value))
    elif last is None:
        return False
    elif node.op_type == "MaxPool" and window is not None:
        last.after.append(node)  # a maximum over space and time is one over space, then one over time
        if (window.kernel, window.stride) != (1, 1):
            rounded, last.rounded = last.rounded, None  # the maximum of rounded numbers is one of them
            last.value, last.whole = value, False
            layers.append(Layer(node, window, value, rounded))
    elif node.op_type == "DequantizeLinear" and last.rounded is None:
        last.rounded = node
    elif _is_each(node):
        if last.rounded is not None:
            last.after.append(last.rounded)
            last.rounded = None
        last.after.append(node)
    else:
        return False
    return True


def _window(node: ir.Node) -> Window | None:
    """How a 3-D convolution or pooling slides over time; None for other nodes, and for dilation in time."""
    is_pool = node.op_type == "MaxPool" and len(node.attributes.get_ints("kernel_shape", ())) == 3
    if not is_pool and kernel_axes(node) != 3:
        return None
    value = node.outputs[0]
    if value.shape is None or len(value.shape) != 5 or len(sides(value)) != 4 or ints(node, "dilations", 1, 3)[0] != 1:
        return None
    kernel = ints(node, "kernel_shape", 1, 3)[0] if is_pool else sides(node.inputs[1])[1]
    return Window(kernel, ints(node, "strides", 1, 3)[0], ints(node, "pads", 0, 6)[0], sides(value)[1], not is_pool)


def _is_grey(node: ir.Node) -> bool:
    """Whether the node is the mean over the colours of (B, 3, T, H, W)."""
    axes = numbers_of(node.inputs[1]) if node.op_type == "ReduceMean" and len(node.inputs) > 1 else None
    shape = node.outputs[0].shape
    return axes is not None and axes.tolist() == [1] and shape is not None and len(shape) == 4


def _is_each(node: ir.Node) -> bool:
    """Whether the node is elementwise with constants."""
    return node.op_type in _EACH and all(
        value is None or (numbers_of(value) is not None and value.shape in (None, ir.Shape([])))
        for value in node.inputs[1:]
    )


def _is_framewise(node: ir.Node) -> bool:
    pool = node.op_type == "AveragePool" and ints(node, "kernel_shape", 1, 3)[0] == ints(node, "strides", 1, 3)[0] == 1
    return _is_each(node) or (pool and not any(ints(node, "pads", 0, 6)))


def _takes_newest(node: ir.Node, length: int) -> bool:
    """Whether the node is a Slice of the last frame, followed by nothing but a Squeeze of its axis."""
    if node.op_type != "Slice":
        return False
    found = [numbers_of(value) for value in node.inputs[1:] if value is not None]
    bounds = [None if each is None else each.ravel().tolist() for each in found]
    reader = only_reader(node.outputs[0])
    if len(bounds) < 3 or bounds[2] != [2] or reader is None or reader.op_type != "Squeeze":
        return False
    return bounds[0] in ([-1], [length - 1]) and bounds[1] is not None and bounds[1][0] >= length
