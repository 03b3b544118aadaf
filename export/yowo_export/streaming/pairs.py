"""Maps of neighbouring frames, such as optical flow: a part of the graph that does the same for every pair of a clip.

Each channel of each value in it is a function of a few grey frames, and of no other channel. Channels with the same
function, moved in time, are one map: what it is for a pair of this clip it was for that pair in the clip before.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import onnx_ir as ir

from yowo_export.graph.builder import ELEMENTWISE, NodeBuilder, numbers_of
from yowo_export.streaming.reuse import Window

_EACH = ELEMENTWISE | {"Add", "Cast", "DequantizeLinear", "Div", "Identity", "Max", "Mul", "Neg", "QuantizeLinear"}
_EACH |= {"Sub", "Sum"}


class Channel(NamedTuple):
    """The number of its function, and the frames that it depends on."""

    function: int
    oldest: int
    newest: int


Channels = dict[ir.Value, list[Channel]]


@dataclass(frozen=True)
class Pairs:
    """The part between the grey frames and the first layer that mixes pairs.

    Attributes:
        grey: (B, T, H, W), its input.
        value: (B, maps * places, H, W), its output, ordered by map and then by place.
        channels: of every value in it.
        maps: of a pair.
        window: the frames of each pair, by place; there may be more than two.
    """

    grey: ir.Value
    value: ir.Value
    channels: Channels
    maps: int
    window: Window

    @property
    def bytes_of_place(self) -> int:
        """Size of all that is computed for one pair, in float32."""
        made = [each.shape for each in self.channels if each is not self.grey and each.shape is not None]
        return sum(4 * prod(side for side in shape if isinstance(side, int)) for shape in made) // self.window.length

    def last(self, new: NodeBuilder, frame: Callable[[int], ir.Value]) -> ir.Value:
        """The maps of the last pair, (1, maps, H, W).

        Args:
            frame: (1, 1, H, W), the grey frame so many frames before the newest of the pair.
        """
        places = self.window.length
        return _Part(self, new, frame).only(self.value, tuple(range(places - 1, self.maps * places, places)))


def find_pairs(graph: ir.Graph, grey: ir.Value, length: int) -> Pairs | None:
    """What follows the grey frames of a clip of `length`; None where that is not the same for every pair of them."""
    functions = dict[object, int]()
    channels: Channels = {grey: [Channel(-1, frame, frame) for frame in range(length)]}
    for node in graph:
        if (found := _found(node, channels, functions)) is not None:
            channels[node.outputs[0]] = found
    inside = {value.producer() for value in channels}
    ends = [value for value in channels if value.is_graph_output() or not inside.issuperset(value.consumers())]
    if len(ends) != 1 or ends == [grey]:
        return None
    [value] = ends
    maps = list(dict.fromkeys(each.function for each in channels[value]))
    newest = [each.newest for each in channels[value] if each.function == maps[0]]
    if [(each.function, each.newest) for each in channels[value]] != [(one, at) for one in maps for at in newest]:
        return None
    kernel = 1 + max(each.newest - each.oldest for each in channels[value])
    starts = tuple(frame + 1 - kernel for frame in newest)
    return Pairs(grey, value, channels, len(maps), Window(kernel, 1, 0, len(starts), starts=starts))


def _found(node: ir.Node, channels: Channels, functions: dict[object, int]) -> list[Channel] | None:
    """The channels of a node's output; None where it does not belong to the pairs."""
    if not any(value in channels for value in node.inputs):
        return None
    sources = [value for value in node.inputs if value is not None and numbers_of(value) is None]
    if any(value not in channels for value in sources):
        return None
    before = [channels[value] for value in sources]
    if node.op_type == "Concat":
        in_time = node.attributes.get_int("axis") in (1, -3)
        return [each for part in before for each in part] if in_time else None
    if (picked := _picked(node)) is not None:
        return before[0][picked]
    if len({len(each) for each in before}) > 1 or not _is_alike(node):
        return None
    found = list[Channel]()
    for taps in zip(*before, strict=True):
        newest = max(each.newest for each in taps)
        function = (node, *((each.function, newest - each.newest) for each in taps))
        number = functions.setdefault(function, len(functions))
        found.append(Channel(number, min(each.oldest for each in taps), newest))
    return found


def _picked(node: ir.Node) -> slice | None:
    """The channels that a Slice takes; None for other nodes."""
    bounds = _constants(node) if node.op_type == "Slice" else []
    if len(bounds) < 3 or bounds[2] not in ([1], [-3]):
        return None
    [start], [end], _, *steps = bounds
    step = steps[0][0] if steps else 1
    return slice(int(start), int(end), int(step)) if step > 0 else None


def _is_alike(node: ir.Node) -> bool:
    """Whether a node treats every channel of (B, N, H, W) by itself, and all in the same way."""
    constants = _constants(node)
    match node.op_type:
        case "AveragePool" | "MaxPool":
            return True
        case "Pad":
            return len(constants[0]) == 8 and not any(constants[0][side] for side in (0, 1, 4, 5))
        case "Resize":
            return len(node.inputs) == 3 and constants[-1][:2] == [1, 1]
        case "ReduceMean":
            return _in_space(constants) and node.attributes.get_int("keepdims", 1) == 1
        case "Slice":
            return _in_space(constants[2:])
    return node.op_type in _EACH and all(len(each) == 1 for each in constants)


def _constants(node: ir.Node) -> list[list[float]]:
    """The constants that a node reads, flat."""
    found = [numbers_of(value) for value in node.inputs if value is not None]
    return [each.ravel().tolist() for each in found if each is not None]


def _in_space(axes: list[list[float]]) -> bool:
    """Whether the first of some constants are axes of (B, N, H, W), and only those of space."""
    return bool(axes) and bool(axes[0]) and {axis % 4 for axis in axes[0]} <= {2, 3}


class _Part:
    """The nodes of some pairs, made anew for some channels of what they put out."""

    def __init__(self, pairs: Pairs, new: NodeBuilder, frame: Callable[[int], ir.Value]) -> None:
        self._pairs, self._new, self._frame = pairs, new, frame
        self._made = dict[tuple[ir.Value, tuple[int, ...]], ir.Value]()

    def only(self, value: ir.Value, at: tuple[int, ...]) -> ir.Value:
        """These channels of a value, in rising order."""
        if (value, at) not in self._made:
            self._made[value, at] = self._fresh(value, at)
        return self._made[value, at]

    def _fresh(self, value: ir.Value, at: tuple[int, ...]) -> ir.Value:
        node, channels = value.producer(), self._pairs.channels
        assert node is not None
        if value is self._pairs.grey:
            newest = channels[self._pairs.value][-1].newest
            return self._joined([self._frame(newest - each) for each in at])
        if (picked := _picked(node)) is not None:
            [source] = (each for each in node.inputs if each in channels)
            return self.only(source, tuple(range(len(channels[source]))[picked][each] for each in at))
        if node.op_type != "Concat":
            sources = [self.only(each, at) if each in channels else each for each in node.inputs]
            return self._new.node(node.op_type, sources, dict(node.attributes))
        parts, begin = list[ir.Value](), 0
        for each in node.inputs:
            assert each is not None
            end = begin + len(channels[each])
            if inside := tuple(channel - begin for channel in at if begin <= channel < end):
                parts.append(self.only(each, inside))
            begin = end
        return self._joined(parts)

    def _joined(self, parts: list[ir.Value]) -> ir.Value:
        return self._new.node("Concat", parts, {"axis": 1}) if parts[1:] else parts[0]
