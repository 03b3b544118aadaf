"""The graph in an ONNX file: read field by field, and written anew from what was read.

Our graphs are plain: no functions, no subgraphs, no sparse weights, no weights in other files.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass

from yowo_deploy.errors import ModelFileError
from yowo_deploy.model_files.finite import is_finite
from yowo_deploy.model_files.protobuf import BYTES, FIXED32, VARINT, Buffer, Fields, Wire, field, header, signed

Attribute = float | int | str | tuple[int, ...]

FLOAT32, UINT8, INT8, INT32, INT64, FLOAT16, BFLOAT16 = 1, 2, 3, 6, 7, 10, 16  # onnx.proto's numbers of types
FLOATS = (FLOAT32, FLOAT16, BFLOAT16)
_EXPONENTS = {FLOAT32: 0x7F800000, FLOAT16: 0x7C00, BFLOAT16: 0x7F80}  # the bits of them
SIZES = {FLOAT32: 4, UINT8: 1, INT8: 1, INT32: 4, INT64: 8, FLOAT16: 2, BFLOAT16: 2}
_FLOAT, _INT, _STRING, _INTS = 1, 2, 3, 7  # types of attributes
_EXTERNAL = 1  # where a tensor's values are: in another file

MAX_NODES = 8_000  # ResNet-101 in INT8 has 1,500, streaming included
_MAX_NAME = 1024


def _table(once: Mapping[int, int], repeated: Mapping[int, int] | None = None) -> dict[int, bool]:
    """For `Wire.fields`, of wire types by number."""
    return {n << 3 | kind: False for n, kind in once.items()} | {n << 3 | k: True for n, k in (repeated or {}).items()}


# Messages of onnx.proto: what our exporter writes, and what is refused with its reason below.
_MODEL = _table(
    {1: VARINT, 2: BYTES, 3: BYTES, 4: BYTES, 5: VARINT, 6: BYTES, 7: BYTES}, {8: BYTES, 14: BYTES, 25: BYTES}
)
_GRAPH = _table({2: BYTES, 10: BYTES}, dict.fromkeys((1, 5, 11, 12, 13, 15, 16), BYTES))
_NODE = _table(dict.fromkeys((3, 4, 6, 7), BYTES), dict.fromkeys((1, 2, 5, 9), BYTES))
_ATTRIBUTE = _table(
    {1: BYTES, 2: FIXED32, 3: VARINT, 4: BYTES, 5: BYTES, 6: BYTES, 13: BYTES, 20: VARINT, 22: BYTES},
    {8: VARINT, 10: BYTES, 11: BYTES, 23: BYTES},
)
_TENSOR = _table(
    {2: VARINT, 4: BYTES, 5: BYTES, 7: BYTES, 8: BYTES, 9: BYTES, 12: BYTES, 14: VARINT},
    {1: VARINT, 13: BYTES, 16: BYTES},
)
_VALUE = _table({1: BYTES, 2: BYTES, 3: BYTES}, {4: BYTES})
_TYPE, _TENSOR_TYPE = _table({1: BYTES, 6: BYTES}), _table({1: VARINT, 2: BYTES})
_SHAPE, _SIDE = _table({}, {1: BYTES}), _table({1: VARINT, 2: BYTES, 3: BYTES})
_PAIR = _table({1: BYTES, 2: BYTES})
_OPSET = _table({1: BYTES, 2: VARINT})
# Of each message that has any, by the identity of its table.
_REFUSED: dict[int, dict[int, str]] = {
    id(_MODEL): {
        25: "defines functions of its own; our graphs have none",
    },
    id(_GRAPH): {
        15: "holds sparse weights; our graphs have none",
    },
    id(_ATTRIBUTE): {
        5: "holds a tensor in an attribute; our graphs have none",
        6: "nests graphs in its nodes; ours do not",
        10: "holds tensors in an attribute; our graphs have none",
        11: "nests graphs in its nodes; ours do not",
        22: "holds sparse weights; our graphs have none",
        23: "holds sparse weights; our graphs have none",
    },
    id(_TENSOR): {
        13: "keeps weights in other files, ours are one file",
    },
}


@dataclass(frozen=True)
class Node:
    """One operator of the standard domain; an input that is left out is "".

    Attributes:
        notes: the bytes of its metadata, which no engine is given.
    """

    operator: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Attribute]
    notes: tuple[Buffer, ...] = ()

    def note(self, key: str) -> str:
        """An entry of its metadata, or ""."""
        return self.noted().get(key, "")

    def noted(self) -> dict[str, str]:
        """Its metadata; entries that are damaged are left out."""
        found = {}
        for each in self.notes:
            with suppress(ValueError, IndexError):
                entry = dict(Wire(2).fields(each, _PAIR))
                found[_name(entry.get(1))] = _text(entry.get(2))
        return found


@dataclass(frozen=True)
class Tensor:
    """A weight or a constant.

    Attributes:
        dtype: one of `SIZES`.
        field: of onnx.proto, in which the values stand: 9 raw, 4 floats, 5 and 7 varints.
        values: as many as the shape needs, bytes of the file.
    """

    name: str
    dtype: int
    shape: tuple[int, ...]
    field: int
    values: Buffer

    def integers(self) -> list[int]:
        """The values of an int64 tensor."""
        if self.field == 9:
            return list(struct.unpack(f"<{len(self.values) // 8}q", self.values))
        return [signed(each) for each in Wire(len(self.values)).numbers(self.values)]

    def floats(self) -> list[float]:
        """The values of a float32 tensor."""
        return list(struct.unpack(f"<{len(self.values) // 4}f", self.values))


@dataclass(frozen=True)
class Value:
    """An input or output of the graph; a side that is not fixed is -1, and `shape` None where it is not given."""

    name: str
    dtype: int
    shape: tuple[int, ...] | None


@dataclass(frozen=True)
class Graph:
    """What an engine is given of a file."""

    ir_version: int
    opset: int
    nodes: list[Node]
    tensors: list[Tensor]
    inputs: list[Value]
    outputs: list[Value]

    def parts(self, notes: str | None = None, beside: Callable[[Tensor], str] | None = None) -> Iterable[Buffer]:
        """The bytes of an ONNX file of this graph, in pieces: those of weights are views of the file that was read.

        Args:
            notes: of the nodes' metadata, entries whose keys begin so come along; none by default.
            beside: the name of the file that holds the values of a tensor in place of this one; "" for those that
                stand in it, which all do by default.
        """
        made: dict[tuple[str, type, Attribute], bytes] = {}
        pieces: list[Buffer] = [field(1, _node(each, notes, made)) for each in self.nodes]
        pieces.append(field(2, "graph"))
        for tensor in self.tensors:
            head = b"".join(field(1, side) for side in tensor.shape) + field(2, tensor.dtype) + field(8, tensor.name)
            if beside and (place := beside(tensor)):
                entry = field(1, "location") + field(2, place)
                pieces.append(field(5, head + field(13, entry) + field(14, _EXTERNAL)))
                continue
            head += header(tensor.field, len(tensor.values))
            pieces += [header(5, len(head) + len(tensor.values)) + head, tensor.values]
        pieces += [
            field(number, _value(each)) for number, some in ((11, self.inputs), (12, self.outputs)) for each in some
        ]
        yield field(1, self.ir_version) + field(8, field(1, "") + field(2, self.opset))
        yield header(7, sum(map(len, pieces)))
        yield from pieces


def read_graph(content: memoryview) -> tuple[Graph, dict[str, str]]:
    """A file's graph and metadata.

    Raises:
        ModelFileError: it is well formed and holds what our graphs do not; the message lacks the name of the file.
        ValueError, IndexError: it is no ONNX file, or is cut off.
    """
    return _Reader().model(content)


class _Reader:
    def __init__(self) -> None:
        self._wire = Wire(400_000)  # ResNet-101 in INT8 has 60,000
        self._attributes: dict[bytes, tuple[str, Attribute]] = {}  # most occur many times over

    def _fields(self, message: Buffer | int, known: Mapping[int, bool]) -> Fields:
        assert not isinstance(message, int)  # its tag is in the table as one of bytes
        found = self._wire.fields(message, known)
        if reasons := _REFUSED.get(id(known)):
            for number, _ in found:
                if number in reasons:
                    raise ModelFileError(f"{reasons[number]}, so it is refused")
        return found

    def model(self, content: memoryview) -> tuple[Graph, dict[str, str]]:
        metadata: dict[str, str] = {}
        version = opset = 0
        graph: Buffer | int | None = None
        for number, value in self._fields(content, _MODEL):
            if number == 1:
                version = _number(value, 100)
            if number == 7:
                graph = value
            if number == 8:
                entry = dict(self._fields(value, _OPSET))
                if _text(entry.get(1)) in ("", "ai.onnx"):
                    if opset:
                        raise ModelFileError("imports the standard operators twice, so it is refused")
                    opset = _number(entry.get(2, 0), 100)
            if number == 14:
                entry = dict(self._fields(value, _PAIR))
                key = _text(entry.get(1))
                if key in metadata:  # readers differ in which of two they take
                    raise ModelFileError(f"has the metadata {key[:60]!r} twice, so it is refused")
                metadata[key] = _text(entry.get(2))
        if graph is None or not opset:
            raise ModelFileError("is not an ONNX file: it holds no graph")
        nodes, tensors, inputs, outputs = self._graph(graph)
        if len({value.name for value in outputs}) < len(outputs):
            raise ModelFileError("outputs a value twice, so it is refused")
        return Graph(version, opset, nodes, tensors, inputs, outputs), metadata

    def _graph(self, graph: Buffer | int) -> tuple[list[Node], list[Tensor], list[Value], list[Value]]:
        nodes: list[Node] = []
        tensors: list[Tensor] = []
        inputs: list[Value] = []
        outputs: list[Value] = []
        for number, value in self._fields(graph, _GRAPH):
            if number == 1:
                if len(nodes) == MAX_NODES:
                    raise ModelFileError(f"has more than {MAX_NODES} nodes, so it is refused")
                assert not isinstance(value, int)
                nodes.append(self._node(bytes(value)))
            if number == 5:
                tensors.append(self._tensor(value))
            if number in (11, 12):
                (inputs if number == 11 else outputs).append(self._value(value))
        if not nodes:
            raise ModelFileError("is not an ONNX file: it holds no graph")
        return nodes, tensors, inputs, outputs

    def _node(self, message: bytes) -> Node:
        operator = name = ""
        inputs: list[str] = []
        outputs: list[str] = []
        attributes: dict[str, Attribute] = {}
        notes: list[Buffer] = []
        for number, value in self._fields(message, _NODE):
            if number == 1:
                inputs.append(_name(value))
            elif number == 2:
                outputs.append(_name(value))
            elif number == 3:
                name = _name(value)
            elif number == 4:
                operator = _name(value)
            elif number == 5:
                assert isinstance(value, bytes)
                if value not in self._attributes:
                    self._attributes[value] = self._attribute(value)
                key, content = self._attributes[value]
                if key in attributes:
                    raise ValueError("an attribute twice")
                attributes[key] = content
            elif number == 9 and not isinstance(value, int):
                notes.append(value)
            elif number == 7 and _name(value) not in ("", "ai.onnx"):
                domain = _name(value)[:60]
                raise ModelFileError(f"uses an operator of the domain {domain!r}, which no YOWO graph has: refused")
        return Node(operator, name, tuple(inputs), tuple(outputs), attributes, tuple(notes))

    def _attribute(self, message: Buffer | int) -> tuple[str, Attribute]:
        found = self._fields(message, _ATTRIBUTE)
        entry = dict(found)
        kind, name = entry.get(20), _name(entry.get(1))
        numbers = {number for number, _ in found} - {1, 13, 20}
        if kind == _INTS and numbers <= {8}:
            return name, tuple(signed(value) for number, value in found if number == 8 and isinstance(value, int))
        if kind == _INT and numbers <= {3}:
            return name, signed(_number(entry.get(3, 0)))
        if kind == _STRING and numbers <= {4}:
            return name, _name(entry.get(4))
        if kind == _FLOAT and numbers <= {2}:
            value = entry.get(2, b"\0\0\0\0")
            assert not isinstance(value, int)
            return name, float(struct.unpack("<f", value)[0])
        raise ModelFileError(f"holds an attribute of a type that no YOWO graph has ({name[:60]!r}), so it is refused")

    def _tensor(self, message: Buffer | int) -> Tensor:
        found = self._fields(message, _TENSOR)
        shape = tuple(_number(value, 1 << 31) for number, value in found if number == 1)
        entry = {number: value for number, value in found if number != 1}
        dtype, name = _number(entry.get(2, 0)), _name(entry.get(8))
        if entry.get(14, 0):
            raise ModelFileError("keeps weights in other files, ours are one file, so it is refused")
        held = [number for number in (4, 5, 7, 9) if number in entry]
        place = held[0] if held else 9
        values = entry.get(place, memoryview(b""))
        assert not isinstance(values, int)
        right = {4: (FLOAT32,), 5: (UINT8, INT8, INT32), 7: (INT64,), 9: SIZES}[place]
        count = len(self._wire.numbers(values)) if place in (5, 7) else len(values) / SIZES.get(dtype, 1)
        if len(held) > 1 or dtype not in right or len(shape) > 8 or count != math.prod(shape):
            raise ModelFileError(
                f"holds a tensor {name[:60]!r} of type {dtype} and shape {shape[:8]} with {len(values)} bytes "
                "of values, which do not fit: it is damaged"
            )
        if dtype in FLOATS and not is_finite(values, _EXPONENTS[dtype]):
            raise ModelFileError(
                f"has a weight that is NaN or infinite ({name[:60]!r}), which an activation can hide: export it again "
                "from a sound checkpoint"
            )
        return Tensor(name, dtype, shape, place, values)

    def _value(self, message: Buffer | int) -> Value:
        entry = dict(self._fields(message, _VALUE))
        name = _name(entry.get(1))
        if 2 not in entry:  # `show_values` leaves types to the engine
            return Value(name, 0, None)
        kind = dict(self._fields(entry[2], _TYPE))
        tensor = dict(self._fields(kind.get(1, memoryview(b"")), _TENSOR_TYPE))
        if 2 not in tensor:
            return Value(name, _number(tensor.get(1, 0)), None)
        sides = [dict(self._fields(side, _SIDE)) for _, side in self._fields(tensor[2], _SHAPE)]
        shape = tuple(_number(side[1], 1 << 31) if 1 in side else -1 for side in sides)
        return Value(name, _number(tensor.get(1, 0)), shape)


def _node(node: Node, notes: str | None, made: dict[tuple[str, type, Attribute], bytes]) -> bytes:
    """A node; `made` holds attributes of the nodes before."""
    pieces = [field(1, each) for each in node.inputs] + [field(2, each) for each in node.outputs]
    pieces += [field(3, node.name)] if node.name else []
    pieces.append(field(4, node.operator))
    for name, value in node.attributes.items():
        key = (name, type(value), value)  # 1 and 1.0 are equal
        if key not in made or not value:  # and so are both zeros
            made[key] = field(5, field(1, name) + _attribute(value))
        pieces.append(made[key])
    if notes is not None:
        kept = {key: text for key, text in node.noted().items() if key.startswith(notes)}
        pieces += [field(9, field(1, key) + field(2, text)) for key, text in kept.items()]
    return b"".join(pieces)


def _attribute(value: Attribute) -> bytes:
    if isinstance(value, float):
        return b"\x15" + struct.pack("<f", value) + field(20, _FLOAT)
    if isinstance(value, int):
        return field(3, value % (1 << 64)) + field(20, _INT)
    if isinstance(value, str):
        return field(4, value) + field(20, _STRING)
    return b"".join(field(8, each % (1 << 64)) for each in value) + field(20, _INTS)


def _value(value: Value) -> bytes:
    if not value.dtype:
        return field(1, value.name)
    sides = (field(1, side) if side >= 0 else field(2, f"side{at}") for at, side in enumerate(value.shape or ()))
    shape = b"" if value.shape is None else field(2, b"".join(field(1, side) for side in sides))
    return field(1, value.name) + field(2, field(1, field(1, value.dtype) + shape))


def _number(value: int | Buffer, limit: int = 1 << 64) -> int:
    assert isinstance(value, int)  # its tag is in the table as one of a varint
    if value > limit:
        raise ValueError("a number out of range")
    return value


def _text(value: int | Buffer | None) -> str:
    assert not isinstance(value, int)
    return "" if value is None else str(value, "utf-8")


def _name(value: int | Buffer | None) -> str:
    assert not isinstance(value, int)
    text = "" if value is None else str(value, "utf-8")
    if len(text) > _MAX_NAME:
        raise ModelFileError(f"holds a name of {len(text)} characters, so it is refused")
    return text
