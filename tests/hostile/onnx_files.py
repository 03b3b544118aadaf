"""ONNX files made by hand to break a gate or an engine, each with its verdict; onnx is not needed."""

from __future__ import annotations

import functools
import math
import random
import struct
from collections.abc import Iterator

import numpy as np

from yowo_deploy.model_files.onnx_operators import OPERATOR_RULES
from yowo_deploy.model_files.onnx_writer import node, numbers, tensor, whole_number
from yowo_deploy.model_files.protobuf import field
from yowo_deploy.spec import METADATA_KEY, ModelSpec

SPEC = ModelSpec(labels=("walk",), anchors=((1.0, 2.0),), clip_length=2, input_size=(8, 4), stride=4)
_SPEC_TEXT = SPEC.to_json()
_FAR = 1 << 32
_UNREAD = "is not an ONNX file, or is cut off"


def varint(value: int, length: int = 0) -> bytes:
    """A varint, in more bytes than needed where `length` asks for it."""
    found = bytearray()
    while value > 0x7F or len(found) + 1 < length:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*found, value])


def tagged(tag: int, content: bytes, length: int = 0) -> bytes:
    """A field of bytes under any tag at all."""
    return varint(tag, length) + varint(len(content)) + content


def value_info(name: str, shape: tuple[int, ...], dtype: int = 1) -> bytes:
    """An input or output."""
    sides = b"".join(field(1, field(1, side % (1 << 64))) for side in shape)
    return field(1, name) + field(2, field(1, field(1, dtype) + field(2, sides)))


def real(name: str, value: float) -> bytes:
    """An attribute that is one float."""
    return field(1, name) + b"\x15" + struct.pack("<f", value) + field(20, 1)


def text(name: str, value: str) -> bytes:
    """An attribute that is a text."""
    return field(1, name) + field(4, value) + field(20, 3)


_CONV = node("Conv", ("clip", "kernel"), "with_time", numbers("strides", (2, 4, 4)))
_SQUEEZE = node("Squeeze", ("with_time", "time"), "raw")
_KERNEL = tensor("kernel", np.ones((SPEC.output_channels, 3, 2, 4, 4), np.float32))
_TIME = tensor("time", np.array([2]))
_ANSWER = (1, SPEC.output_channels, 1, 2)


def file(
    nodes: tuple[bytes, ...] = (_CONV, _SQUEEZE),
    tensors: tuple[bytes, ...] = (_KERNEL, _TIME),
    inputs: tuple[bytes, ...] = (value_info("clip", (1, *SPEC.clip_shape)),),
    more_graph: bytes = b"",
    more: bytes = b"",
    spec: str | None = None,
    answer: bytes | None = None,
) -> bytes:
    """A whole file: the good one, where nothing is given."""
    graph = b"".join(field(1, each) for each in nodes) + field(2, "graph")
    graph += _fields(5, tensors) + b"".join(field(11, each) for each in inputs)
    graph += field(12, answer or value_info("raw", _ANSWER)) + more_graph
    metadata = field(1, METADATA_KEY) + field(2, _SPEC_TEXT if spec is None else spec)
    return field(1, 8) + field(7, graph) + field(8, field(2, 17)) + field(14, metadata) + more


@functools.lru_cache(8)
def _fields(number: int, contents: tuple[bytes, ...]) -> bytes:
    return b"".join(field(number, each) for each in contents)


def _behind(*nodes: bytes, tensors: tuple[bytes, ...] = ()) -> bytes:
    """The good file with nodes before its own; they read "clip"."""
    return file((*nodes, _CONV, _SQUEEZE), (_KERNEL, _TIME, *tensors))


def _wire() -> Iterator[tuple[str, bytes, str]]:
    """What protobuf's readers take otherwise than a walker that is not strict."""
    loop = node("Loop", ("clip",), "y")
    graph = field(1, loop) + field(2, "evil")
    for bit in (32, 33, 40, 60):
        yield f"graph under a tag with bit {bit}", file(more=tagged((7 << 3 | 2) + (1 << bit), graph)), _UNREAD
        yield f"node under a tag with bit {bit}", file(more_graph=tagged((1 << 3 | 2) + (1 << bit), loop)), _UNREAD
        yield f"function under a tag with bit {bit}", file(more=tagged((25 << 3 | 2) + (1 << bit), b"")), _UNREAD
        operator = tagged((4 << 3 | 2) + (1 << bit), b"Loop")
        yield f"operator under a tag with bit {bit}", file((_CONV + operator, _SQUEEZE)), _UNREAD
        domain = tagged((7 << 3 | 2) + (1 << bit), b"evil")
        yield f"domain under a tag with bit {bit}", file((_CONV + domain, _SQUEEZE)), _UNREAD
        outside = tagged((13 << 3 | 2) + (1 << bit), field(1, "location") + field(2, "weights"))
        yield f"other file under a tag with bit {bit}", file(tensors=(_KERNEL + outside, _TIME)), _UNREAD
        spec = tagged((14 << 3 | 2) + (1 << bit), field(1, METADATA_KEY) + field(2, "{}"))
        yield f"spec under a tag with bit {bit}", file(more=spec), _UNREAD
    for length in range(2, 11):
        yield f"tag of {length} bytes", file(more=tagged(14 << 3 | 2, field(1, "a"), length)), _UNREAD
        yield f"length of {length} bytes", file(more=b"\x72" + varint(3, length) + field(1, "a")), _UNREAD
        number = b"\x10" + varint(17, length)
        yield f"number of {length} bytes", file(more=field(8, field(1, "a") + number)), _UNREAD
    yield "varint of eleven bytes", file(more=b"\x08" + b"\x80" * 10 + b"\x00"), _UNREAD
    yield "varint over 64 bits", file(more=b"\x08" + b"\xff" * 9 + b"\x02"), _UNREAD
    yield "endless varint", file(more=b"\xff" * 100), _UNREAD
    for kind in (0, 1, 2, 3, 4, 5, 6, 7):
        yield f"field 0 of type {kind}", file(more=varint(kind) + b"\x00" * 8), _UNREAD
    for kind in (0, 1, 3, 4, 5, 6, 7):
        yield f"graph of type {kind}", file(more=varint(7 << 3 | kind) + b"\x08" * 9), _UNREAD
        operator = varint(4 << 3 | kind) + b"Conv" + b"Conv"
        yield f"operator of type {kind}", file((node("NonZero", ("clip",), "raw") + operator,)), _UNREAD
    for number in (9, 10, 11, 12, 13, 15, 19, 20, 26, 100, (1 << 29) - 1):
        yield f"unknown field {number}", file(more=field(number, b"")), _UNREAD
    yield "two graphs", file(more=field(7, graph)), _UNREAD
    yield "two operators in a node", file((_CONV + field(4, "Loop"), _SQUEEZE)), _UNREAD
    yield "two values of a weight", file(tensors=(_KERNEL + field(9, b""), _TIME)), _UNREAD
    yield "functions", file(more=field(25, field(1, "f"))), "functions"
    yield "name that is no text", file((_CONV + field(3, b"\xff\xfe"), _SQUEEZE)), _UNREAD
    yield "a million empty fields", file(more_graph=field(13, b"") * 1_000_000), _UNREAD
    yield "a million empty inputs", file((_CONV + field(1, b"") * 1_000_000, _SQUEEZE)), _UNREAD
    yield "a million packed numbers", file(tensors=(_KERNEL, _TIME, field(2, 7) + field(7, b"\0" * 1_000_000))), _UNREAD


def _operators() -> Iterator[tuple[str, bytes, str]]:
    """Operators whose attributes or inputs no engine should see."""
    one = tensor("one", np.ones(1, np.float32))
    for name in ("Loop", "If", "Scan", "NonZero", "DepthToSpace", "Constant", "Einsum", "Expand", "", "conv", "Conv\0"):
        yield f"operator {name!r}", _behind(node(name, ("clip",), "y")), "uses the operator"
    yield "operator of 10 MB", _behind(node("A" * 10_000_000, ("clip",), "y")), "holds a name of"
    yield "other domain", _behind(node("Relu", ("clip",), "y") + field(7, "com.microsoft")), "of the domain"
    for name in ("Add", "Conv", "MatMul", "Concat", "Relu", "Squeeze", "Slice", "Attention", "Resize", "Split", "Clip"):
        yield f"{name} without inputs", _behind(node(name, (), "y")), "0 inputs"
        yield f"{name} of a left-out input", _behind(node(name, ("",) * 3, "y")), "inputs|no attribute"
        yield f"{name} without outputs", _behind(node(name, ("clip",), "y").replace(field(2, "y"), b"")), "0 outputs"
    yield "Relu of ten thousand inputs", _behind(node("Relu", ("clip",) * 10_000, "y")), "10000 inputs"
    pool = numbers("kernel_shape", (1, 2, 2))
    for bad in (0, -1, _FAR, _FAR + 1, (1 << 63) - 1, -(1 << 63)):
        many = tuple([bad % (1 << 64)] * 3)
        yield (
            f"pool strides of {bad}",
            _behind(node("MaxPool", ("clip",), "y", pool, numbers("strides", many))),
            "strides",
        )
        yield (
            f"pool kernel of {bad}",
            _behind(node("AveragePool", ("clip",), "y", numbers("kernel_shape", many))),
            "kern",
        )
        yield (
            f"pads of {bad}",
            _behind(node("MaxPool", ("clip",), "y", pool, numbers("pads", many * 2))),
            "pads" if bad else "",
        )
        dilations = numbers("dilations", many)
        yield f"dilations of {bad}", _behind(node("Conv", ("clip", "kernel"), "y", dilations)), "dilations"
        yield f"group of {bad}", _behind(node("Conv", ("clip", "kernel"), "y", whole_number("group", many[0]))), "group"
        block = whole_number("blocksize", many[0])
        yield f"blocks of {bad}", _behind(node("SpaceToDepth", ("clip",), "y", block)), "blocksize"
        yield (
            f"axis of {bad}",
            _behind(node("Softmax", ("clip",), "y", whole_number("axis", many[0]))),
            "" if bad in (0, -1) else "axis",
        )
        heads = (whole_number("q_num_heads", many[0]), whole_number("kv_num_heads", 1))
        yield f"attention of {bad} heads", _behind(node("Attention", ("clip",) * 3, "y", *heads)), "q_num_heads|take"
        yield f"type {bad}", _behind(node("Cast", ("clip",), "y", whole_number("to", many[0]))), "'to'|take"
        shape = tensor("shape", np.array([bad, 1]))
        yield (
            f"reshape to {bad}",
            _behind(node("Reshape", ("clip", "shape"), "y"), tensors=(shape,)),
            "" if bad == -1 else "Reshape",
        )
        pads = tensor("pads", np.full(10, bad))
        yield f"pad of {bad}", _behind(node("Pad", ("clip", "pads"), "y"), tensors=(pads,)), "Pad" if bad else ""
        sizes = tensor("sizes", np.full(5, bad))
        resize = node("Resize", ("clip", "", "", "sizes"), "y")
        yield f"resize to {bad}", _behind(resize, tensors=(sizes,)), "Resize"
        axes = tensor("axes", np.array([bad]))
        squeeze, cut = (
            node("Squeeze", ("clip", "axes"), "y"),
            node("Slice", ("clip", "axes", "axes", "axes", "axes"), "y"),
        )
        yield f"squeeze axis {bad}", _behind(squeeze, tensors=(axes,)), "" if bad == 0 else "Squeeze"
        yield f"slice of {bad}", _behind(cut, tensors=(axes,)), "without a number" if bad == -1 else "Slice"
    for value in (float("nan"), float("inf"), -float("inf")):
        yield f"slope of {value}", _behind(node("LeakyRelu", ("clip",), "y", real("alpha", value))), "alpha"
    yield (
        "scale of nan",
        _behind(
            node("Resize", ("clip", "", "scales"), "y"), tensors=(tensor("scales", np.full(5, np.nan, np.float32)),)
        ),
        "a weight that is NaN",
    )
    yield "pool without kernel", _behind(node("MaxPool", ("clip",), "y")), "no attribute 'kernel_shape'"
    yield "kernel of one number", _behind(node("MaxPool", ("clip",), "y", numbers("kernel_shape", (2,)))), "MaxPool"
    yield "strides as a number", _behind(node("MaxPool", ("clip",), "y", pool, whole_number("strides", 2))), "strides"
    yield "ceil mode", _behind(node("MaxPool", ("clip",), "y", pool, whole_number("ceil_mode", 1))), "ceil_mode"
    yield "automatic pads", _behind(node("MaxPool", ("clip",), "y", pool, text("auto_pad", "SAME_UPPER"))), "auto_pad"
    yield (
        "pool larger than its input",
        _behind(node("MaxPool", ("clip",), "y", numbers("kernel_shape", (99,) * 3))),
        "take",
    )
    nested = field(1, "body") + field(6, field(2, "inner")) + field(20, 5)
    yield "subgraph", _behind(node("Relu", ("clip",), "y", nested)), "nests graphs"
    yield (
        "tensor in an attribute",
        _behind(node("Relu", ("clip",), "y", field(1, "t") + field(5, one) + field(20, 4))),
        "attr",
    )
    yield "attribute of a function", _behind(node("Relu", ("clip",), "y", field(1, "t") + field(21, "x"))), _UNREAD
    yield (
        "whole numbers divided by zero",
        _behind(
            node("Div", ("number", "zero"), "y"),
            tensors=(tensor("number", np.array([1])), tensor("zero", np.array([0]))),
        ),
        "Div",
    )
    yield "added whole numbers", _behind(node("Add", ("time", "time"), "y")), "Add"
    yield "shape that is computed", _behind(node("Squeeze", ("clip", "clip"), "y")), "Squeeze"


def _graphs() -> Iterator[tuple[str, bytes, str]]:
    """Graphs that make much out of little, or do not hold together."""
    doubled = [node("Concat", (f"x{n}", f"x{n}"), f"x{n + 1}", whole_number("axis", 1)) for n in range(1, 21)]
    yield "doubled twenty times", _behind(node("Relu", ("clip",), "x1"), *doubled), "makes values of"
    through = [
        each
        for n in range(24)
        for each in (
            node("Identity", (f"x{n}",), f"y{n}"),
            node("Concat", (f"x{n}", f"y{n}"), f"x{n + 1}", whole_number("axis", 1)),
        )
    ]
    yield "doubled through identities", _behind(node("Relu", ("clip",), "x0"), *through), "makes values of"
    chain = [node("Add", (f"x{n}", f"x{n}"), f"x{n + 1}") for n in range(15_000)]
    yield "15,000 additions", _behind(node("Relu", ("clip",), "x0"), *chain), "more than 8000 nodes"
    pads = tensor("pads", np.array([0, 0, 0, 1024, 1024] * 2))
    yield (
        "padded to 12 million",
        _behind(node("Pad", ("clip", "pads"), "x"), node("Pad", ("x", "pads"), "y"), tensors=(pads,)),
        "makes values of",
    )
    sizes = tensor("sizes", np.array([1, 3, 2, 60_000, 60_000]))
    yield (
        "enlarged to 20 billion",
        _behind(node("Resize", ("clip", "", "", "sizes"), "y"), tensors=(sizes,)),
        "makes values of",
    )
    column, row = tensor("column", np.array([1, 6 * 32, 1])), tensor("row", np.array([1, 1, 6 * 32]))
    products = [node("MatMul", (f"x{n}", f"x{n}"), f"x{n + 1}") for n in range(1, 7000)]
    outer = (node("Reshape", ("clip", "column"), "c"), node("Reshape", ("clip", "row"), "r"))
    squares = _behind(*outer, node("MatMul", ("c", "r"), "x1"), *products, tensors=(column, row))
    yield "work without end", squares, "makes values of"
    yield (
        "broadcast of rows and columns",
        _behind(
            node("Reshape", ("clip", "column"), "c"),
            node("Reshape", ("clip", "row"), "r"),
            node("Concat", ("c",) * 1000, "high", whole_number("axis", 1)),
            node("Concat", ("r",) * 1000, "wide", whole_number("axis", 2)),
            node("Add", ("high", "wide"), "y"),
            tensors=(column, row),
        ),
        "makes values of",
    )
    clips = field(1, "clip") + field(2, field(1, field(1, 1) + field(2, _open_sides())))
    for what, more, tensors in (
        ("squares", (node("Reshape", ("clip", "high"), "h"), node("Reshape", ("clip", "wide"), "w"),
                     node("MatMul", ("h", "w"), "y")), {"high": (-1, 1), "wide": (1, -1)}),
        ("rows", (node("Reshape", ("clip", "wide"), "y"),), {"wide": (1, -1)}),
        ("turned", (node("Transpose", ("clip",), "y", numbers("perm", (1, 0, 2, 3, 4))),), {}),
        ("scores", (node("Reshape", ("clip", "long"), "q"), node("Attention", ("q", "q", "q"), "y",
                    whole_number("q_num_heads", 1), whole_number("kv_num_heads", 1))), {"long": (1, -1, 1)}),
        ("beside one", (node("Concat", ("clip", "one"), "y", whole_number("axis", 0)),), {"one": None}),
    ):  # fmt: skip
        held = [tensor(name, np.ones((1, *SPEC.clip_shape), np.float32) if shape is None else np.array(shape))
                for name, shape in tensors.items()]  # fmt: skip
        nodes, all_tensors = (*more, _CONV, _SQUEEZE), (_KERNEL, _TIME, *held)
        yield f"batch: {what}", file(nodes, all_tensors, (clips,)), "not in proportion|cannot take"
    for at in (1, 2, 4):
        sides = b"".join(field(1, field(1, s) if n != at else b"") for n, s in enumerate((1, *SPEC.clip_shape)))
        opened = field(1, "clip") + field(2, field(1, field(1, 1) + field(2, sides)))
        yield f"side {at} of the input open", file(inputs=(opened,)), "that is not the batch"
    yield "circle", _behind(node("Add", ("clip", "b"), "a"), node("Relu", ("a",), "b")), "reads 'b'"
    yield "a value twice", _behind(node("Relu", ("clip",), "y"), node("Relu", ("clip",), "y")), "twice"
    yield "the input again", _behind(node("Relu", ("clip",), "clip")), "twice"
    yield "a weight again", _behind(node("Relu", ("clip",), "kernel")), "twice"
    yield "no input", file(inputs=()), "takes 0 numbers"
    yield "no nodes", file(()), "holds no graph"
    yield "an output that nothing makes", file((_CONV,)), "outputs 'raw'"
    for side in (0, 1 << 31, 1 << 40, (1 << 64) - 1):
        clip = value_info("clip", (1, 3, 2, 4, side))
        yield f"input of side {side}", file(inputs=(clip,)), "numbers|twice, or without|cut off|take"
    yield "input of type text", file(inputs=(value_info("clip", (1, 3, 2, 4, 8), 8),)), "without type"
    weight = field(2, 1) + field(8, "w")
    for sides in ((1 << 40, 1 << 40), (1 << 31, 1 << 31, 1 << 31), (1 << 30,), (0, 1 << 31)):
        lying = b"".join(field(1, side) for side in sides) + weight + field(9, b"")
        yield f"weight of shape {sides}", file(tensors=(_KERNEL, _TIME, lying)), "do not fit|cut off|twice, or without"
    yield (
        "weight of nine axes",
        file(tensors=(_KERNEL, _TIME, field(1, 1) * 9 + weight + field(9, b"\0" * 4))),
        "do not fit",
    )
    yield (
        "weight of texts",
        file(tensors=(_KERNEL, _TIME, field(1, 1) + field(2, 8) + field(8, "w") + field(9, b"a"))),
        "fit",
    )
    yield (
        "weight in another file",
        file(tensors=(_KERNEL + field(14, 1) + field(13, field(1, "location") + field(2, "../secret")), _TIME)),
        "other files",
    )
    yield "weight in another place", file(tensors=(_KERNEL + field(14, 1), _TIME)), "other files"
    yield "sparse weight", file(more_graph=field(15, field(3, 1))), "sparse"


def _contradictions() -> Iterator[tuple[str, bytes, str]]:
    """What is there twice, of which readers may take either, and what shadows something else."""

    def noted(key: str, value: str) -> bytes:
        return field(14, field(1, key) + field(2, value))

    good, answer = file(), field(12, value_info("raw", _ANSWER))
    other_spec = SPEC.replace(labels=("run",)).to_json()
    yield "spec twice", file(more=noted(METADATA_KEY, other_spec)), "twice"
    yield "spec twice alike", file(more=noted(METADATA_KEY, _SPEC_TEXT)), "twice"
    yield "note twice", file(more=noted("note", "a") + noted("note", "b")), "twice"
    for opset in (9, 17):
        yield f"standard operators again, of {opset}", file(more=field(8, field(2, opset))), "operators twice"
        named = field(8, field(1, "ai.onnx") + field(2, opset))
        yield f"standard operators again by name, of {opset}", file(more=named), "operators twice"
    yield "operators of another domain", file(more=field(8, field(1, "com.other") + field(2, 1))), ""
    yield "output twice", file(more_graph=answer), "outputs a value twice"
    yield "input twice", file(inputs=(value_info("clip", (1, *SPEC.clip_shape)),) * 2), "twice"
    yield "weight twice", file(tensors=(_KERNEL, _KERNEL, _TIME)), "twice"
    for name in ("clip", "raw", "with_time"):
        yield f"weight named {name}", file(tensors=(_KERNEL, _TIME, tensor(name, np.ones(3, np.float32)))), "twice|too"
    shadowed = (value_info("clip", (1, *SPEC.clip_shape)), value_info("kernel", (SPEC.output_channels, 3, 2, 4, 4)))
    yield "weight that is an input too", file(inputs=shadowed), "a weight too"
    yield "output of negative sides", good.replace(answer, field(12, value_info("raw", (1, -6, -1, -2)))), _UNREAD
    yield "shape of a value that lies", file(more_graph=field(13, value_info("with_time", (1, -7, 1, 1, 2)))), ""
    for number in (0, 10**18):
        opset = good.replace(field(8, field(2, 17)), field(8, field(2, number)))
        yield f"opset {number}", opset, f"{_UNREAD}|holds no graph"
    yield "version of the format twice", file(more=field(1, 3)), _UNREAD
    yield "texts in a weight", file(tensors=(_KERNEL + field(6, "text") * 3, _TIME)), _UNREAD
    yield "piece of a weight", file(tensors=(_KERNEL + field(3, field(1, 0) + field(2, 1)), _TIME)), _UNREAD
    both = _KERNEL + field(4, b"\0" * 4)
    yield "weight in two forms", file(tensors=(both, _TIME)), "do not fit"
    place = field(13, field(1, "location") + field(2, "/proc/self/mem"))
    yield "weight in memory", file(tensors=(_KERNEL + place + place, _TIME)), "other files"
    for scale in (0.0, float("nan"), float("inf"), 1e-45, -1.0):
        tensors = (tensor("s", np.array(scale, np.float32)), tensor("z", np.array(0, np.uint8)))
        quantized = node("QuantizeLinear", ("clip", "s", "z"), "q"), node("DequantizeLinear", ("q", "s", "z"), "dq")
        verdict = "" if math.isfinite(scale) else "a weight that is NaN or infinite"
        yield f"scale of {scale} beside", _behind(*quantized, tensors=tensors), verdict
    many = tensor("s", np.ones(1_000_000, np.float32))
    yield "a million scales", _behind(node("QuantizeLinear", ("clip", "s"), "q"), tensors=(many,)), "cannot take"


def _answers() -> Iterator[tuple[str, bytes, str]]:
    """Raw outputs of another type, or of more or fewer clips than go in."""
    squeeze, said = node("Squeeze", ("with_time", "time"), "sound"), "raw output|expected float32 of as many clips"
    one = (tensor("s", np.array(1, np.float32)), tensor("z", np.array(0, np.uint8)))

    def ending(*nodes: bytes, of: bytes, clips: bytes = value_info("clip", (1, *SPEC.clip_shape))) -> bytes:
        return file((_CONV, squeeze, *nodes), (_KERNEL, _TIME, *one), (clips,), answer=of)

    for dtype in (10, 16):
        cast = node("Cast", ("sound",), "raw", whole_number("to", dtype))
        yield f"answer of type {dtype}", ending(cast, of=value_info("raw", _ANSWER, dtype)), said
    rounded = node("QuantizeLinear", ("sound", "s", "z"), "raw")
    yield "answer of bytes", ending(rounded, of=value_info("raw", _ANSWER, 2)), said
    doubled = node("Concat", ("sound", "sound"), "raw", whole_number("axis", 0))
    opened = field(1, "clip") + field(2, field(1, field(1, 1) + field(2, _open_sides())))
    yield "two answers for a clip", ending(doubled, of=value_info("raw", (2, *_ANSWER[1:]))), said
    yield "two answers for each clip", ending(doubled, of=field(1, "raw"), clips=opened), said
    mean, three = (
        node("ReduceMean", ("sound",), "raw", numbers("axes", (0,))),
        value_info("clip", (3, *SPEC.clip_shape)),
    )
    yield "one answer for three clips", ending(mean, of=value_info("raw", _ANSWER), clips=three), said


def _not_finite() -> Iterator[tuple[str, bytes, str]]:
    """Weights with one number that is none, which a ReLU can hide; and with the largest that is one."""
    for dtype, kind, least in ((1, "u4", 0x7F800000), (10, "u2", 0x7C00), (16, "u2", 0x7F80)):
        sign = 1 << np.dtype(kind).itemsize * 8 - 1
        for name, bits in (("largest", least - 1), ("infinity", least), ("NaN", least + 1), ("last NaN", sign - 1)):
            for below, at in ((0, 0), (sign, -1), (0, 40_000)):
                weights = np.zeros(70_001, kind)
                weights[at] = bits + below
                held = field(1, len(weights)) + field(2, dtype) + field(8, "w") + field(9, weights.tobytes())
                verdict = "" if name == "largest" else "a weight that is NaN or infinite"
                yield f"{name} of type {dtype} at {at}", file(tensors=(_KERNEL, _TIME, held)), verdict


def streaming_file(frames: int = 2, age: int = 1, keeps: bool = True) -> bytes:
    """One that adds to the answer of the newest frames the mean of a map of some frames before."""
    spec = SPEC.replace(streaming=True).to_json()
    kernel = tensor("kernel", np.ones((SPEC.output_channels, 3 * frames, 4, 4), np.float32))
    newest = value_info("frames", (1, 3 * frames, *SPEC.clip_shape[2:]))
    conv = node("Conv", ("frames", "kernel"), "sound", numbers("strides", (4, 4)))
    if not keeps:
        return file((conv, node("Identity", ("sound",), "raw")), (kernel,), (newest,), spec=spec)
    kept, mean = value_info(f"kept_0_0@{age}", (1, 1, 1, 1)), numbers("axes", (1, 2, 3))
    nodes = (
        conv,
        node("ReduceMean", ("frames",), "kept_0_0", mean),
        node("Add", ("sound", f"kept_0_0@{age}"), "sum"),
        node("Identity", ("sum",), "raw"),  # OpenVINO knows the value by both names
    )
    return file(nodes, (kernel,), (newest, kept), field(12, value_info("kept_0_0", (1, 1, 1, 1))), spec=spec)


def _accepted() -> Iterator[tuple[str, bytes, str]]:
    yield "the good file", file(), ""
    yield "its shapes said", file(more_graph=field(13, value_info("with_time", (1, 7, 1, 1, 2)))), ""
    clips = field(1, "clip") + field(2, field(1, field(1, 1) + field(2, _open_sides())))
    yield "an open batch", file(inputs=(clips,)), ""
    yield "with notes", file(more=field(14, field(1, "note") + field(2, "\x1b[31mred"))), ""
    constant = (tensor("held", np.full(_ANSWER, 96, np.float32)), _KERNEL, _TIME)
    nodes = (_CONV, node("Squeeze", ("with_time", "time"), "unread"), node("Identity", ("held",), "raw"))
    yield "one answer whatever goes in", file(nodes, constant, (clips,)), ""
    yield "without known names", file((_CONV + field(3, ""), _SQUEEZE)), ""
    yield "another operator beside", _behind(node("Relu", ("clip",), "y")), ""


@functools.cache
def onnx_files() -> dict[str, tuple[bytes, str]]:
    """By name: the file, and what its refusal says; "" where it is accepted."""
    every = [*_accepted(), *_wire(), *_operators(), *_graphs(), *_contradictions(), *_answers(), *_not_finite()]
    found = {name: (content, verdict) for name, content, verdict in every}
    assert len(found) == len(every)
    return found


def random_graphs(count: int, seed: int) -> Iterator[bytes]:
    """Files whose nodes are of the language, in any order, with inputs and attributes at random: half of them fit."""
    generator = random.Random(seed)
    lists = [(0, 2), (1,), (-1,), (0, 1, 0, -1), (1, 1, 1, 2, 2), (2, -1), (4, 4), (0, -1, 1), (3,), (1, 2), (-2,)]
    tensors = [tensor(f"i{at}", np.array(each)) for at, each in enumerate(lists)]
    weights = {"w1": (1,), "w3": (3,), "w33": (6, 3, 1, 2, 2), "w13": (3, 1, 2, 1, 1), "w2": (2, 2)}
    tensors += [tensor(name, np.ones(shape, np.float32)) for name, shape in weights.items()]
    tensors += [tensor("scales", np.array([1, 1, 0.5, 2, 1.3], np.float32)), tensor("byte", np.array([3], np.uint8))]
    constants = [f"i{at}" for at in range(len(lists))] + [*weights, "scales", "byte"]
    likes = ("Add", "Attention", "Concat", "Div", "MatMul", "Max", "Mul", "Sub", "Sum")  # values, not constants
    counts = {
        name: tuple(map(int, inputs.split(":")))
        for name, inputs, *_ in (line.split() for line in OPERATOR_RULES.strip().splitlines() if line[0] != " ")
    }
    all_tensors, operators = (_KERNEL, _TIME, *tensors), sorted(counts)
    for _ in range(count):
        made, nodes = ["clip"], []
        for at in range(generator.randint(1, 4)):
            operator = generator.choice(operators)
            more = generator.randint(counts[operator][0], min(5, counts[operator][1])) - 1
            others = (*made, *made, "") if operator in likes else (*made, *constants, *constants, "")
            inputs = [generator.choice(made), *(generator.choice(others) for _ in range(more))]
            nodes.append(node(operator, inputs, f"v{at}", *_attributes(generator, operator)))
            made.append(f"v{at}")
        clip = value_info("clip", (generator.choice((1, 2)), *SPEC.clip_shape))
        if generator.random() < 0.5:
            clip = field(1, "clip") + field(2, field(1, field(1, 1) + field(2, _open_sides())))
        yield file((*nodes, _CONV, _SQUEEZE), all_tensors, (clip,))


def _open_sides() -> bytes:
    """The shape of a clip with an open batch."""
    return field(1, field(2, "batch")) + b"".join(field(1, field(1, side)) for side in SPEC.clip_shape)


def _attributes(generator: random.Random, operator: str) -> list[bytes]:
    axis = whole_number("axis", generator.choice((0, 1, 2, -1, -5, 4)) % (1 << 64))
    count = generator.choice((2, 3, 3, 3))
    window = [numbers("kernel_shape", [generator.choice((1, 1, 2)) for _ in range(count)])]
    window += [numbers("strides", [generator.choice((1, 2)) for _ in range(count)])] * generator.randint(0, 1)
    window += [numbers("pads", [generator.choice((0, 0, 0, 1)) for _ in range(2 * count)])] * generator.randint(0, 1)
    few: dict[str, list[bytes]] = {
        "Attention": [whole_number(name, generator.choice((1, 1, 2))) for name in ("q_num_heads", "kv_num_heads")],
        "AveragePool": window, "Cast": [whole_number("to", generator.choice((1, 7, 10)))], "Concat": [axis],
        "Conv": [whole_number("group", generator.choice((1, 3)))], "MaxPool": window,
        "SpaceToDepth": [whole_number("blocksize", 2)],
        "Transpose": [numbers("perm", generator.sample(range(5), 5))] * generator.randint(0, 1),
    }  # fmt: skip
    rest = {"Softmax", "Split", "QuantizeLinear", "DequantizeLinear"}
    return few.get(operator, [axis] if operator in rest and generator.random() < 0.7 else [])


def mutants(content: bytes, count: int, seed: int) -> Iterator[bytes]:
    """A file spoiled in many ways: bits, bytes, lengths, pieces cut out, doubled or moved."""
    generator = random.Random(seed)
    for _ in range(count):
        spoiled = bytearray(content)
        for _ in range(generator.randint(1, 4)):
            at, length = generator.randrange(len(spoiled)), generator.randint(1, 16)
            piece = spoiled[at : at + length]
            match generator.randrange(6):
                case 0:
                    spoiled[at] ^= 1 << generator.randrange(8)
                case 1:
                    spoiled[at] = generator.choice((0, 1, 0x7F, 0x80, 0xFF))
                case 2:
                    del spoiled[at : at + length]
                case 3:
                    spoiled[at:at] = piece
                case 4:
                    spoiled[at:at] = varint(generator.getrandbits(generator.choice((7, 32, 33, 64))))
                case _:
                    spoiled[at:at] = generator.randbytes(length)
            if not spoiled:
                break
        yield bytes(spoiled)
