"""Shapes of all values of a graph, and bounds on what an engine would make of it, found before any engine."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from yowo_deploy.errors import ModelFileError
from yowo_deploy.model_files.onnx_graph import (
    FLOAT32,
    FLOATS,
    INT8,
    INT32,
    INT64,
    UINT8,
    Graph,
    Node,
    Tensor,
)

Shape = tuple[int, ...]
Known = tuple[int, Shape]  # type and shape

MAX_INPUT = 1 << 28  # numbers: what `ModelSpec` allows a clip
# In multiples of the numbers that go in, measured over every backbone, precision and target: see the tests. The sum is
# largest, 206 of 16 frames, in INT8 of ResNeXt-101 for ONNX Runtime, where every value is there rounded and as float.
MAX_VALUE, MAX_SUM, MAX_WORK = 16, 240, 60_000
_FLOOR = 1 << 20  # numbers that go in, at least: networks on tiny frames have the same layers
_LEFT_OUT: Known = (0, ())
_DATA = (*FLOATS, UINT8, INT8)  # what may be moved; whole numbers of more bits are parameters and never computed with
_WIDE = {"Add", "Sub", "Mul", "Div", "Max", "Sum"}
_SHAPED = {
    "ReduceMean",
    "Reshape",
    "Resize",
    "Slice",
    "Split",
    "Squeeze",
    "Unsqueeze",
}  # by whole numbers behind the first
_MOVED = _SHAPED - {"ReduceMean", "Resize"} | {
    "Concat",
    "Identity",
    "Max",
    "MaxPool",
    "Pad",
    "SpaceToDepth",
    "Transpose",
}
_SAME = {"Exp", "Relu", "LeakyRelu", "HardSwish", "Identity", "Neg", "Sigmoid", "Softmax", "Tanh"}


def check_shapes(graph: Graph) -> dict[str, Known]:
    """Type and shape of every value, by name and for a batch of one; what is impossible or too large is refused.

    Where the batch is open, values and work grow at most in proportion with it, so that the bounds hold for any batch.

    Raises:
        ModelFileError: a value is read before it is made, or made twice; an operator cannot take its inputs; a value,
            their sum or the multiply-adds exceed their bounds, or grow otherwise. The message lacks the name of the
            file.
    """
    values = _Inference(graph, batch=1).run()
    if any(value.shape is not None and value.shape[0] < 0 for value in graph.inputs):
        # By induction over the nodes, two batches tell of all: no rule moves the batch, the first side, to another,
        # and a side that doubles with it is a multiple of it, or less for larger ones where a slice ends.
        for name, (_, shape) in _Inference(graph, batch=2).run().items():
            one = values[name][1]
            if shape not in (one, (*(2 * side for side in one[:1]), *one[1:])):
                raise ModelFileError(
                    f"makes {name[:60]!r} of shape {one} from one clip and {shape} from two, which is not in "
                    "proportion, so it is refused"
                )
    return values


class _Inference:
    def __init__(self, graph: Graph, batch: int) -> None:
        self._graph, self._batch = graph, batch
        self._constants: dict[str, Tensor] = {}
        self._known: dict[str, Known] = {}
        self._work = 0
        self._rules: dict[str, Callable[[Node, Shape, list[Shape]], Shape]] = {
            "Attention": self._attention,
            "AveragePool": self._pool,
            "Concat": self._concat,
            "Conv": self._conv,
            "MatMul": self._matmul,
            "MaxPool": self._pool,
            "Pad": self._pad,
            "ReduceMean": self._mean,
            "Reshape": self._reshape,
            "Resize": self._resize,
            "Slice": self._slice,
            "SpaceToDepth": self._space_to_depth,
            "Squeeze": self._squeeze,
            "Transpose": self._transpose,
            "Unsqueeze": self._unsqueeze,
        }

    def run(self) -> dict[str, Known]:
        """See `check_shapes`."""
        for tensor in self._graph.tensors:
            self._constants[tensor.name] = tensor
            self._make(tensor.name, (tensor.dtype, tensor.shape))
        given = 0
        for value in self._graph.inputs:
            if value.name in self._constants:  # IR 3 lists weights among the inputs: ours are IR 8 and newer
                raise ModelFileError(f"has the input {value.name[:60]!r}, which is a weight too, so it is refused")
            if value.shape is None or not 0 < len(value.shape) <= 6 or value.dtype not in _DATA:
                raise ModelFileError(f"has the input {value.name[:60]!r} without type or shape, so it is refused")
            shape = tuple(self._batch if side < 0 and not at else side for at, side in enumerate(value.shape))
            if min(shape) < 0:
                raise ModelFileError(f"leaves a side of {value.name[:60]!r} open that is not the batch: refused")
            self._make(value.name, (value.dtype, shape))
            given += math.prod(shape)
        if not 0 < given <= MAX_INPUT:
            raise ModelFileError(f"takes {given} numbers, more than the {MAX_INPUT} of any clip, so it is refused")
        base, total = max(given, _FLOOR * self._batch), 0
        # INT8 files make every weight anew from its rounded form; a file cannot hold more of them than bytes.
        weights = sum(math.prod(tensor.shape) for tensor in self._graph.tensors)
        most_value, most_sum = max(MAX_VALUE * base, weights), MAX_SUM * base + 4 * weights
        for node in self._graph.nodes:
            for name, found in zip(node.outputs, self._outputs(node), strict=True):
                self._make(name, found)
                count = math.prod(found[1])
                total += count
                if count > most_value or total > most_sum or self._work > MAX_WORK * base:
                    raise ModelFileError(
                        f"makes values of {count} numbers, {total} in all, with {self._work} multiply-adds from "
                        f"{given} numbers: more than any YOWO graph, so it is refused"
                    )
        for value in self._graph.outputs:
            if value.name not in self._known:
                raise ModelFileError(f"outputs {value.name[:60]!r}, which nothing makes, so it is refused")
        return self._known

    def _make(self, name: str, known: Known) -> None:
        if not name or name in self._known or 0 in known[1] or len(known[1]) > 8:
            raise ModelFileError(f"makes {name[:60]!r} twice, or without a number in it, so it is refused")
        self._known[name] = known

    def _outputs(self, node: Node) -> list[Known]:
        """Types and shapes of a node's outputs."""
        try:
            inputs = [self._known[name] if name else _LEFT_OUT for name in node.inputs]
        except KeyError as error:
            missing = str(error.args[0])[:60]
            raise ModelFileError(f"reads {missing!r}, which nothing before makes, so it is refused") from error
        try:
            kind, shapes = _output_type(node, inputs), [shape for _, shape in inputs]
            if node.operator == "Split":
                return [(kind, shape) for shape in self._split(node, shapes[0])]
            shape = self._shape(node, shapes[0], shapes)
        except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
            takes = [self._known.get(name, (0, ()))[1] for name in node.inputs[:4]]
            raise ModelFileError(
                f"has a {node.operator} ({node.outputs[0][:60]!r}) that cannot take its inputs {takes}: refused"
            ) from error
        return [(kind, shape)]

    def _shape(self, node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        if node.operator in _SAME:
            if node.operator == "Softmax":
                _axis(node, "axis", -1, len(first))
            return first
        if node.operator in _WIDE:
            return _broadcast(inputs)
        if node.operator in ("Cast", "Clip", "QuantizeLinear", "DequantizeLinear", "BatchNormalization"):
            return self._elementwise(node, first, inputs)
        return self._rules[node.operator](node, first, inputs)

    def _integers(self, node: Node, index: int) -> list[int] | None:
        """The constant whole numbers of an input; None where it is left out."""
        if index >= len(node.inputs) or not node.inputs[index]:
            return None
        tensor = self._constants[node.inputs[index]]
        _require(tensor.dtype == INT64 and len(tensor.shape) == 1 and tensor.shape[0] <= 1024)
        return tensor.integers()

    def _needed(self, node: Node, index: int) -> list[int]:
        found = self._integers(node, index)
        if not found:
            raise ValueError
        return found

    @staticmethod
    def _elementwise(node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        """Others are of one number, or one for each along an axis."""
        axis = _axis(node, "axis", 1, len(first)) if (first and "Quantize" in node.operator) or len(first) > 1 else 0
        for other in inputs[1:]:
            _require(math.prod(other) == 1 or other == first[axis : axis + 1])
        return first

    def _conv(self, node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        weight, group = inputs[1], _whole(node, "group", 1)
        _require(3 <= len(first) == len(weight) <= 5)
        _require(first[1] == weight[1] * group and weight[0] % group == 0)
        _require(len(inputs) < 3 or inputs[2] == weight[:1])
        kernel = _list(node, "kernel_shape", weight[2:])
        _require(kernel == weight[2:])
        shape = (first[0], weight[0], *_windows(node, first[2:], kernel))
        self._work += math.prod(shape) * math.prod(weight[1:])
        return shape

    def _pool(self, node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        _require(3 <= len(first) <= 5)
        kernel = _list(node, "kernel_shape", ())
        shape = (*first[:2], *_windows(node, first[2:], kernel))
        self._work += math.prod(shape) * math.prod(kernel)
        return shape

    def _matmul(self, node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        second = inputs[1]
        _require(len(first) >= 2 and len(second) >= 2 and first[-1] == second[-2])
        shape = (*_broadcast([first[:-2], second[:-2]]), first[-2], second[-1])
        self._work += math.prod(shape) * first[-1]
        return shape

    def _attention(self, node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        """Of (B, L, E) queries, (B, S, E) keys and (B, S, V) values."""
        keys, values = inputs[1], inputs[2]
        _require(len(first) == len(keys) == len(values) == 3)
        heads = _whole(node, "q_num_heads", 1)
        _require(heads == _whole(node, "kv_num_heads", 1) and first[2] % heads == values[2] % heads == 0)
        _require(first[0] == keys[0] == values[0] and first[2] == keys[2] and keys[1] == values[1])
        scores = first[0] * first[1] * keys[1]
        _require(scores * heads <= MAX_INPUT)
        self._work += scores * (first[2] + values[2])
        return (*first[:2], values[2])

    def _concat(self, node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        axis = _axis(node, "axis", 0, len(first))
        total = 0
        for shape in inputs:
            _require(len(shape) == len(first))
            _require(shape[:axis] + shape[axis + 1 :] == first[:axis] + first[axis + 1 :])
            total += shape[axis]
        return (*first[:axis], total, *first[axis + 1 :])

    def _pad(self, node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        pads = self._needed(node, 1)
        _require(len(pads) == 2 * len(first) and all(0 <= pad <= 1024 for pad in pads))
        _require(len(inputs) < 3 or inputs[2] in ((), (1,)))
        half = len(first)
        return tuple(side + pads[at] + pads[at + half] for at, side in enumerate(first))

    def _axes(self, node: Node, rank: int) -> list[int]:
        found = self._integers(node, 1)
        axes = [at + rank if at < 0 else at for at in (list(_list(node, "axes", ())) if found is None else found)]
        _require(0 < len(axes) == len(set(axes)) and all(0 <= at < rank for at in axes))
        return axes

    def _mean(self, node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        axes = self._axes(node, len(first))
        if _whole(node, "keepdims", 1):
            return tuple(1 if at in axes else side for at, side in enumerate(first))
        return tuple(side for at, side in enumerate(first) if at not in axes)

    def _squeeze(self, node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        axes = self._axes(node, len(first))
        _require(all(first[at] == 1 for at in axes))
        return tuple(side for at, side in enumerate(first) if at not in axes)

    def _unsqueeze(self, node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        count = len(self._integers(node, 1) or ())
        axes, sides = self._axes(node, len(first) + count), iter(first)
        return tuple(1 if at in axes else next(sides) for at in range(len(first) + count))

    def _reshape(self, node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        asked, count = self._needed(node, 1), math.prod(first)
        _require(len(asked) <= 8 and asked.count(-1) <= 1 and min(asked) >= -1)
        sides = [first[at] if side == 0 else side for at, side in enumerate(asked)]
        rest = math.prod(side for side in sides if side > 0)
        shape = tuple(count // rest if side < 0 else side for side in sides)
        _require(math.prod(shape) == count and (0 not in asked or not _whole(node, "allowzero", 0)))
        return shape

    def _resize(self, node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        sizes = self._integers(node, 3)
        if sizes is None:
            scales = self._constants[node.inputs[2]]
            _require(scales.dtype == FLOAT32 and scales.shape == (len(first),) and scales.field in (4, 9))
            sizes = [_scaled(side, scale) for side, scale in zip(first, scales.floats(), strict=True)]
        else:
            _require(not node.inputs[2])
        _require(not node.inputs[1] and len(sizes) == len(first) and sizes[0] == first[0])
        _require(all(0 < side <= 1 << 16 for side in sizes))
        return tuple(sizes)

    def _slice(self, node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        starts, ends = self._needed(node, 1), self._needed(node, 2)
        axes = self._integers(node, 3) or list(range(len(starts)))
        steps = self._integers(node, 4) or [1] * len(starts)
        _require(len(starts) == len(ends) == len(axes) == len(steps) and 0 not in steps)
        shape = list(first)
        axes = [at + len(first) if at < 0 else at for at in axes]
        _require(len(set(axes)) == len(axes))
        for start, end, at, step in zip(starts, ends, axes, steps, strict=True):
            _require(0 <= at < len(first) and abs(step) <= 1 << 16)
            # Python's slices clamp as ONNX's do, but for the end of one that runs backwards past the beginning.
            last = None if step < 0 and end < -first[at] else end
            shape[at] = len(range(first[at])[start:last:step])
        return tuple(shape)

    def _split(self, node: Node, first: Shape) -> list[Shape]:
        axis, sizes = _axis(node, "axis", 0, len(first)), self._integers(node, 1)
        if sizes is None:  # equal parts, of which the last may be smaller
            count = _whole(node, "num_outputs", len(node.outputs))
            part = -(-first[axis] // count)
            sizes = [min(part, first[axis] - part * at) for at in range(count)]
        _require(len(sizes) == len(node.outputs))
        _require(min(sizes) > 0 and sum(sizes) == first[axis])
        return [(*first[:axis], size, *first[axis + 1 :]) for size in sizes]

    @staticmethod
    def _space_to_depth(node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        block = _whole(node, "blocksize", 1)
        batch, channels, height, width = first
        _require(height % block == width % block == 0)
        return batch, channels * block * block, height // block, width // block

    @staticmethod
    def _transpose(node: Node, first: Shape, inputs: list[Shape]) -> Shape:
        order = _list(node, "perm", tuple(range(len(first)))[::-1])
        _require(sorted(order) == list(range(len(first))))
        return tuple(first[at] for at in order)


def _output_type(node: Node, inputs: Sequence[Known]) -> int:
    """The type of a node's outputs; its inputs have the types that its operator computes with."""
    kind, *rest = [each[0] for each in inputs]
    if node.operator == "DequantizeLinear":
        _require(kind in (UINT8, INT8, INT32) and rest[0] in FLOATS and rest[1:] in ([], [kind]))
        return rest[0]
    _require(kind in _DATA)
    if node.operator == "QuantizeLinear":
        _require(kind in FLOATS and rest[0] == kind and rest[1:] in ([], [UINT8], [INT8]))
        return rest[1] if len(rest) > 1 else UINT8
    if node.operator == "Cast":
        _require(_whole(node, "to", 0) in FLOATS)
        return _whole(node, "to", 0)
    others = rest[1:] if node.operator == "Pad" else [] if node.operator in _SHAPED else rest
    _require(all(each in (kind, 0) for each in others))
    _require(kind in FLOATS or node.operator in _MOVED)
    return kind


def _broadcast(shapes: Sequence[Shape]) -> Shape:
    rank = max(map(len, shapes))
    result = [1] * rank
    for shape in shapes:
        for at, side in enumerate(shape, rank - len(shape)):
            _require(side == result[at] or side == 1 or result[at] == 1)
            result[at] = max(result[at], side)
    return tuple(result)


def _windows(node: Node, sides: Shape, kernel: Shape) -> Shape:
    """How many windows fit on each axis."""
    count = len(sides)
    strides, dilations = _list(node, "strides", (1,) * count), _list(node, "dilations", (1,) * count)
    pads = _list(node, "pads", (0,) * (2 * count))
    _require(len(kernel) == len(strides) == len(dilations) == count and len(pads) == 2 * count)
    shape = []
    for at, side in enumerate(sides):
        reach, whole = dilations[at] * (kernel[at] - 1) + 1, side + pads[at] + pads[at + count]
        _require(pads[at] < reach and pads[at + count] < reach <= whole)
        shape.append((whole - reach) // strides[at] + 1)
    return tuple(shape)


def _require(condition: bool) -> None:
    """An assertion that does not go with `python -O`; who asked for the shapes says what was wrong."""
    if not condition:
        raise ValueError


def _scaled(side: int, scale: float) -> int:
    _require(0 < scale <= 64)
    return math.floor(side * scale)


def _whole(node: Node, name: str, default: int) -> int:
    found = node.attributes.get(name, default)
    assert isinstance(found, int)  # by the table of the language
    return found


def _list(node: Node, name: str, default: Shape) -> Shape:
    found = node.attributes.get(name, default)
    assert isinstance(found, tuple)  # by the table of the language
    return found


def _axis(node: Node, name: str, default: int, rank: int) -> int:
    axis = _whole(node, name, default)
    _require(-rank <= axis < rank)
    return axis % rank
