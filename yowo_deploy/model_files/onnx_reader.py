"""What an ONNX file says about itself, read from its bytes. Needs no onnx package, and is the gate before any parser.

The checker and the runtimes can be crashed or hung by small crafted files (HARDENING, "ONNX"), so a file is walked
here first: a plain graph of known operators, all weights inside, nothing nested, nothing absurdly large.
"""

from __future__ import annotations

import json
import math
import mmap
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.errors import ModelFileError, SpecError
from yowo_deploy.model_files.onnx_writer import field, header
from yowo_deploy.spec import METADATA_KEY, ModelSpec

COST_KEY = "yowo_cost"  # metadata: parameters and multiply-adds by part, JSON
STREAMING_KEY = "yowo_streaming"  # metadata: frames looked at and bytes kept by a stream, of a streaming file, JSON
PRECISION_KEY = "yowo_precision"  # metadata: how a file of lower precision came about, JSON

MAX_NODES = 20_000
MAX_BYTES = 2 << 30  # what one protobuf file can hold

# What our exporter and our rewrites write; anything else is not one of our graphs.
_NAMES = """
    Add Attention AveragePool BatchNormalization Cast Clip Concat Constant Conv DequantizeLinear
    DepthToSpace Div Exp Flatten Gather Gemm GlobalAveragePool HardSwish Identity LeakyRelu MatMul MaxPool Max
    Min Mul Neg Pad QuantizeLinear ReduceMean ReduceSum Relu Reshape Resize Shape Sigmoid Slice Softmax
    SpaceToDepth Split Squeeze Sub Sum Tanh Transpose Unsqueeze
"""
OPERATORS = frozenset(_NAMES.split())

# Field numbers of onnx.proto.
_MODEL_GRAPH, _MODEL_OPSETS, _MODEL_METADATA, _MODEL_FUNCTIONS = 7, 8, 14, 25
_GRAPH_NODE, _GRAPH_INITIALIZER, _GRAPH_OUTPUT, _GRAPH_SPARSE = 1, 5, 12, 15
_NODE_OPERATOR, _NODE_ATTRIBUTE, _NODE_DOMAIN = 4, 5, 7
_VALUE_NAME = 1
_ATTRIBUTE_TENSOR, _ATTRIBUTE_GRAPH, _ATTRIBUTE_TENSORS, _ATTRIBUTE_GRAPHS = 5, 6, 10, 11
_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES = 22, 23
_TENSOR_TYPE, _TENSOR_EXTERNAL, _TENSOR_LOCATION = 2, 13, 14
_TENSOR_DIMS, _TENSOR_FLOATS, _TENSOR_NAME, _TENSOR_RAW = 1, 4, 8, 9
_TENSOR_VALUES = {4, 5, 7, 9, 10, 11}  # floats, whole numbers of two sizes, raw, doubles, unsigned ones
_DTYPES = {1: "float32", 2: "uint8", 3: "int8", 6: "int32", 7: "int64", 10: "float16", 11: "float64", 16: "bfloat16"}
_FLOAT32, _FLOAT16 = 1, 10
_ENTRY_KEY, _ENTRY_VALUE = 1, 2
_OPSET_DOMAIN, _OPSET_VERSION = 1, 2

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@dataclass(frozen=True)
class OnnxFile:
    """The outside of an ONNX model.

    Attributes:
        opset: of the standard operators.
        operators: how often each occurs.
        dtypes: how many weights are of each type.
        metadata: the model's own key-value pairs.
    """

    opset: int
    operators: Counter[str]
    dtypes: Counter[str]
    metadata: dict[str, str]


def read_onnx_file(path: Path) -> OnnxFile:
    """Walk a file and refuse what is not a plain network.

    Raises:
        ModelFileError: no protobuf, or no graph in it; functions, subgraphs or external data; an operator that is
            not in `OPERATORS`; too large.
    """
    if path.stat().st_size > MAX_BYTES:
        raise ModelFileError(f"{path} is larger than {MAX_BYTES >> 30} GiB, more than one ONNX file can be")
    try:
        with path.open("rb") as stream:
            # Closed with the last view of it: a refusal's traceback still holds some.
            content = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        return _read_model(memoryview(content), path)
    except (IndexError, ValueError) as error:
        raise ModelFileError(f"{path} is not an ONNX file, or is cut off") from error


def read_spec(path: Path) -> ModelSpec:
    """The spec that an ONNX file carries, the file itself passed through the gate.

    Raises:
        ModelFileError: as `read_onnx_file`.
        SpecError: the file carries none, or a broken one.
    """
    metadata = read_onnx_file(path).metadata
    if METADATA_KEY not in metadata:
        raise SpecError(
            f"{path} carries no spec (metadata {METADATA_KEY!r}), so labels and anchors are unknown: "
            "write the file with `yowo-deploy export`"
        )
    return ModelSpec.from_json(metadata[METADATA_KEY])


def recorded_cost(metadata: Mapping[str, str]) -> dict[str, dict[str, int]]:
    """Parameters and multiply-adds ("macs") by part as the exporter recorded them; nothing where something else stands.

    The whole is under "total".
    """
    try:
        return {
            name: {key: int(part[key]) for key in ("parameters", "macs")}
            for name, part in json.loads(metadata[COST_KEY]).items()
        }
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
        return {}


def show_values(source: Path, names: Sequence[str], path: Path) -> None:
    """Write a file again with values of it as outputs behind its own, under their names and of their own types.

    The weights are copied from file to file: it takes no memory that grows with them.

    Args:
        source: an ONNX file that passes `read_onnx_file`.
        names: of values that nodes put out; outputs already are left out.
    """
    with source.open("rb") as stream, path.open("wb") as written:
        content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        for number, value in _fields(content):
            if number != _MODEL_GRAPH or isinstance(value, int):
                written.write(_again(number, value))
                continue
            shown = {
                _text(dict(_fields(_message(each)))[1]) for place, each in _fields(value) if place == _GRAPH_OUTPUT
            }
            outputs = b"".join(field(_GRAPH_OUTPUT, field(_VALUE_NAME, name)) for name in names if name not in shown)
            written.write(header(number, len(value) + len(outputs)))
            written.write(value)
            written.write(outputs)


def without_weights(source: Path) -> bytes:
    """An ONNX file whose weights keep their names, types and shapes and hold no values: it is as small as its graph.

    Args:
        source: an ONNX file that passes `read_onnx_file`.
    """
    with source.open("rb") as stream:
        content = memoryview(mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ))
        return b"".join(
            field(number, b"".join(_hollow(*each) for each in _fields(_message(value))))
            if number == _MODEL_GRAPH
            else _again(number, value)
            for number, value in _fields(content)
        )


def _hollow(number: int, value: int | memoryview) -> bytes:
    """A field of a graph; a weight without its values."""
    if number != _GRAPH_INITIALIZER:
        return _again(number, value)
    return field(number, b"".join(_again(*each) for each in _fields(_message(value)) if each[0] not in _TENSOR_VALUES))


def _again(number: int, value: int | memoryview) -> bytes:
    """A field as it was read."""
    return field(number, value if isinstance(value, int) else bytes(value))


def read_weights(path: Path) -> dict[str, NDArray[np.float32]]:
    """The float32 and float16 weights of an ONNX file by name, as float32, the file itself passed through the gate.

    Raises:
        ModelFileError: as `read_onnx_file`, or a weight has not the bytes that its shape needs.
    """
    read_onnx_file(path)
    content = memoryview(path.read_bytes())
    graph = next(_message(value) for number, value in _fields(content) if number == _MODEL_GRAPH)
    tensors = (_message(value) for number, value in _fields(graph) if number == _GRAPH_INITIALIZER)
    return dict(found for tensor in tensors if (found := _weight(tensor, path)) is not None)


def _weight(tensor: memoryview, path: Path) -> tuple[str, NDArray[np.float32]] | None:
    """Name and values of a tensor, or None where it is of whole numbers."""
    fields = dict(_fields(tensor))
    code = fields.get(_TENSOR_TYPE)
    if code not in (_FLOAT32, _FLOAT16):
        return None
    kind: np.dtype[np.floating] = np.dtype("<f4" if code == _FLOAT32 else "<f2")
    dims: list[int] = []
    for number, value in _fields(tensor):
        if number == _TENSOR_DIMS:
            dims += [value] if isinstance(value, int) else _packed(value)
    raw = fields.get(_TENSOR_RAW, fields.get(_TENSOR_FLOATS, b"") if kind.itemsize == 4 else b"")
    if isinstance(raw, int) or len(raw) != kind.itemsize * math.prod(dims):
        raise ModelFileError(f"{path}: a weight has {len(bytes(raw))} bytes, its shape {dims} needs others")
    return _text(fields[_TENSOR_NAME]), np.frombuffer(raw, kind).reshape(dims).astype(np.float32)


def _packed(numbers: memoryview) -> list[int]:
    found, at = [], 0
    while at < len(numbers):
        number, at = _varint(numbers, at)
        found.append(number)
    return found


def _read_model(model: memoryview, path: Path) -> OnnxFile:
    metadata: dict[str, str] = {}
    operators: Counter[str] = Counter()
    dtypes: Counter[str] = Counter()
    opset = 0
    for number, value in _fields(model):
        if number == _MODEL_FUNCTIONS:
            raise ModelFileError(f"{path} defines functions of its own; our graphs have none, so it is refused")
        if number == _MODEL_OPSETS:
            entry = dict(_fields(_message(value)))
            version = entry.get(_OPSET_VERSION, 0)
            if not _text(entry.get(_OPSET_DOMAIN, b"")) and isinstance(version, int):
                opset = version
        if number == _MODEL_METADATA:
            entry = dict(_fields(_message(value)))
            metadata[_text(entry.get(_ENTRY_KEY, b""))] = _text(entry.get(_ENTRY_VALUE, b""))
        if number == _MODEL_GRAPH:
            if operators:
                raise ModelFileError(f"{path} holds several graphs; ours hold one, so it is refused")
            _walk(_message(value), path, operators, dtypes)
    if not operators or not opset:
        raise ModelFileError(f"{path} is not an ONNX file: it holds no graph")
    return OnnxFile(opset, operators, dtypes, metadata)


def _walk(graph: memoryview, path: Path, operators: Counter[str], dtypes: Counter[str]) -> None:
    """Count nodes and weights, and refuse what is no part of our graphs."""
    for number, value in _fields(graph):
        if number == _GRAPH_NODE:
            operators[_checked_operator(_message(value), path)] += 1
        if number == _GRAPH_INITIALIZER:
            tensor = _message(value)
            _refuse_external(tensor, path)
            dtype = next((content for inner, content in _fields(tensor) if inner == _TENSOR_TYPE), 0)
            dtypes[_DTYPES.get(dtype, "other") if isinstance(dtype, int) else "other"] += 1
        if number == _GRAPH_SPARSE:
            raise ModelFileError(f"{path} holds sparse weights; our graphs have none, so it is refused")
        if operators.total() > MAX_NODES:
            raise ModelFileError(f"{path} has more than {MAX_NODES} nodes, so it is refused")


def _checked_operator(node: memoryview, path: Path) -> str:
    operator, domain = "", ""
    for number, value in _fields(node):
        if number == _NODE_OPERATOR:
            operator = _text(value)
        if number == _NODE_DOMAIN:
            domain = _text(value)
        if number == _NODE_ATTRIBUTE:
            for inner, content in _fields(_message(value)):
                if inner in (_ATTRIBUTE_GRAPH, _ATTRIBUTE_GRAPHS):
                    raise ModelFileError(f"{path} nests graphs in its nodes; ours do not, so it is refused")
                if inner in (_ATTRIBUTE_SPARSE, _ATTRIBUTE_SPARSES):
                    raise ModelFileError(f"{path} holds sparse weights; our graphs have none, so it is refused")
                if inner in (_ATTRIBUTE_TENSOR, _ATTRIBUTE_TENSORS):
                    _refuse_external(_message(content), path)
    if operator not in OPERATORS or domain not in ("", "ai.onnx"):
        raise ModelFileError(f"{path} uses the operator {domain}:{operator}, which no YOWO graph has, so it is refused")
    return operator


def _refuse_external(tensor: memoryview, path: Path) -> None:
    for number, value in _fields(tensor):
        if number == _TENSOR_EXTERNAL or (number == _TENSOR_LOCATION and value != 0):
            raise ModelFileError(f"{path} keeps weights in other files; export it as one file")


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Each field of a protobuf message: its number, and an int or the bytes of a string or message.

    A fixed-width number is an int too: parsers skip it where they expect text, so it must not pass for text here.
    """
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        if kind == _VARINT:
            number, at = _varint(message, at)
            yield key >> 3, number
            continue
        if kind == _BYTES:
            size, at = _varint(message, at)
        elif kind in (_FIXED64, _FIXED32):
            size = 8 if kind == _FIXED64 else 4
        else:
            raise ValueError(f"wire type {kind}")
        if at + size > len(message):
            raise IndexError("field reaches over the end")
        content = message[at : at + size]
        yield key >> 3, content if kind == _BYTES else int.from_bytes(content, "little")
        at += size


def _varint(message: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return value, at
        shift += 7
        if shift > 63:
            raise ValueError("varint too long")


def _message(value: int | memoryview) -> memoryview:
    if isinstance(value, int):
        raise ValueError("a number where a message was expected")
    return value


def _text(value: int | memoryview | bytes) -> str:
    if isinstance(value, int):
        raise ValueError("a number where text was expected")
    return bytes(value).decode()
