"""Checkpoints made by hand to crash, hang or fill a reader, each with its verdict; no PyTorch is needed."""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable, Iterator

from yowo_deploy.spec import METADATA_KEY

_HEAD, _END = b"\x80\x02", b"."
_DAMAGED, _MORE, _DIRECTORY = "cannot be read as a checkpoint", "holds more than tensors", "directory that torch.save"


def text(value: str) -> bytes:
    """BINUNICODE."""
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def entry(key: bytes, value: bytes) -> bytes:
    """A pickle of a dict with one entry."""
    return _HEAD + b"}(" + key + value + b"u" + _END


def archive(
    pickled: bytes, more: dict[str, bytes] | None = None, name: str = "c/data.pkl", packed: bool = False
) -> bytes:
    """A zip as torch.save writes it."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as made:
        made.writestr(name, pickled)
        made.writestr("c/version", b"3\n")
        made.writestr("c/byteorder", b"little")
        for each, content in (more or {}).items():
            made.writestr(each, content)
    return stream.getvalue()


def _pickles() -> Iterator[tuple[str, bytes, str]]:
    nested = b")" + b"\x85" * 2_000_000
    yield "tuple two million deep as a key", entry(nested, b"N"), "nests its values"
    yield "tuple two million deep as a value", entry(text("a"), nested), "nests its values"
    yield "tuple 65 deep", entry(text("a"), b")" + b"\x85" * 65), "nests its values"
    yield "tuple as a key", entry(b")", b"N"), _DAMAGED
    yield "lists two million deep", entry(text("a"), b"]" * 2_000_000 + b"a" * 1_999_999), "nests|more than"
    doubled = b")" + b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(60))
    yield "tuple doubled sixty times", entry(text("a"), doubled), "nests its values"
    yield "tuple doubled sixty times as a key", entry(doubled, b"N"), "nests its values"
    ring = b"]q\x00h\x00a"
    yield "list of itself", entry(text("a"), ring), _DAMAGED
    late = b"}q\x00\x85}q\x01\x85\x86" + b"h\x00" + text("a") + b"h\x01s"
    yield "dict filled after it was held", entry(text("a"), late), _DAMAGED
    for name, code in {
        "a class of a module": b"cos\nsystem\n", "code": b"cposix\nsystem\n" + text("true") + b"\x85R",
        "eval": b"c__builtin__\neval\n" + text("1") + b"\x85R",
    }.items():  # fmt: skip
        yield name, entry(text("a"), code), _MORE
    for name, code in {
        "stack global": text("os") + text("system") + b"\x93", "new object": b"cos\nsystem\n)\x81",
        "set": b"\x8f", "bytes": b"B\x01\0\0\0a", "long of 4 bytes": b"\x8b\x01\0\0\0\x01", "extension": b"\x82\x01",
        "pop": b"N0", "duplicate": b"N2", "text protocol": b"I1\n", "persistent text": b"Pa\n", "float text": b"F1.0\n",
    }.items():  # fmt: skip
        yield name, entry(text("a"), code), f"{_MORE}|{_DAMAGED}"
    yield "a million operations", _HEAD + b"(" + b"N" * 1_000_001 + b"t" + _END, f"{_MORE}|nests"
    yield "no end", _HEAD + b"}", _DAMAGED
    yield "nothing", b"", _DAMAGED
    yield "an unknown operation", _HEAD + b"\xff.", _DAMAGED
    yield "too little on the stack", _HEAD + b"\x87" + _END, _DAMAGED
    yield "a memo that is not there", _HEAD + b"h\x05" + _END, _DAMAGED
    yield "setitems without a mark", _HEAD + b"}u" + _END, _DAMAGED
    yield "a text longer than the file", _HEAD + b"X\xff\xff\xff\x7fa" + _END, _DAMAGED
    yield "a list", _HEAD + b"]" + _END, "holds a list, expected"
    yield "a number", _HEAD + b"K\x05" + _END, "holds a int, expected"
    yield "an empty dict", _HEAD + b"}" + _END, "holds 0 entries"
    for spec in (b"K\x01", b"N", text("{}"), text("[" * 100_000), text("\x1b[31m"), text('{"a": 1e999}')):
        yield f"spec {spec[:20]!r}", entry(text(METADATA_KEY), spec), "spec"
    tensor = b"ctorch._utils\n_rebuild_tensor_v2\n(("
    tensor += text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu")
    for count in (b"\x8a\x08\0\0\0\0\0\0\0\x40", b"J\xff\xff\xff\xff", b"K\x04"):
        huge = tensor + count + b"tQK\x00" + count + b"\x85K\x01\x85\x89ccollections\nOrderedDict\n)RtR"
        yield f"tensor of {count!r}", entry(text("a"), huge), "cannot be read|holds|smaller"


def _changed(zipped: bytes, place: int, content: bytes) -> bytes:
    """An archive with other bytes in the first entry of its directory."""
    at = zipped.index(b"PK\x01\x02") + place
    return zipped[:at] + content + zipped[at + len(content) :]


def safetensors_files() -> dict[str, bytes]:
    """By name: files whose header lies; all are refused."""

    def made(header: bytes, data: bytes = b"\0" * 4, length: int | None = None) -> bytes:
        return struct.pack("<Q", len(header) if length is None else length) + header + data

    def one(**changes: object) -> bytes:
        return json.dumps({"dtype": "F32", "shape": [1], "data_offsets": [0, 4]} | changes).encode()

    spec = json.dumps({METADATA_KEY: "[" * 100_000, "config": "{}"}).encode()
    return {
        "header longer than the file": made(b'{"a":%s}' % one(), length=10**6),
        "header of 2^63": made(b"{}", length=(1 << 63) - 1),
        "header of nothing": made(b"{}", length=0),
        "overlapping": made(b'{"a":%s,"b":%s}' % (one(), one())),
        "negative offsets": made(b'{"a":%s}' % one(data_offsets=[-4, 4])),
        "reversed offsets": made(b'{"a":%s}' % one(data_offsets=[4, 0])),
        "a hole": made(b'{"a":%s,"b":%s}' % (one(), one(data_offsets=[8, 12])), b"\0" * 12),
        "2^64 numbers": made(b'{"a":%s}' % one(shape=[1 << 32, 1 << 32])),
        "NaN numbers": made(b'{"a":%s}' % one(shape=[float("nan")])),
        "unknown type": made(b'{"a":%s}' % one(dtype="Q4")),
        "a name twice": made(b'{"a":%s,"a":%s}' % (one(), one())),
        "metadata twice": made(b'{"__metadata__":{},"__metadata__":{"a":"b"},"a":%s}' % one()),
        "metadata of numbers": made(b'{"__metadata__":{"%s":5},"a":%s}' % (METADATA_KEY.encode(), one())),
        "metadata that is a list": made(b'{"__metadata__":[1],"a":%s}' % one()),
        "spec nested deep": made(b'{"__metadata__":%s,"a":%s}' % (spec, one())),
        "nested deep": made(b'{"a":' * 20_000 + b"1" + b"}" * 20_000),
        "more behind it": made(b'{"a":%s}' % one(), b"\0" * 400),
        "UTF-16": made('{"a":1}'.encode("utf-16")),
        "100,000 names of nothing": made(
            json.dumps(
                dict.fromkeys((f"t{n}" for n in range(100_000)), json.loads(one(shape=[0], data_offsets=[0, 0])))
            ).encode(),
            b"",
        ),
    }


def checkpoint_files() -> dict[str, tuple[bytes | Callable[[], bytes], str]]:
    """By name: the file, and what its refusal says. Each pickle in a zip, and bare where that is refused as well.

    Every worker of pytest-xdist collects all names: what takes a second to make is made by its test.
    """
    found: dict[str, tuple[bytes | Callable[[], bytes], str]] = {}
    for name, pickled, verdict in _pickles():
        found[name] = (archive(pickled), verdict)
    good = entry(text("a"), b"N")
    zipped = archive(good)
    found |= {
        "two pickles": (archive(good, {"d/data.pkl": good}), _DIRECTORY),
        "the same in capitals": (archive(good, {"C/DATA.PKL": good}), _DIRECTORY),
        "a module": (archive(good, {"c/constants.pkl": good}), _DIRECTORY),
        "no pickle": (archive(good, name="c/other"), _DIRECTORY),
        "packed": (archive(good + b"\0" * 1000, packed=True), "unpacks to"),
        "packed storage": (archive(good, {"c/data/0": b"\0" * 4_000_000}, packed=True), "unpacks to"),
        "something before it": (b"PK\x03\x04" + b"\0" * 99 + zipped, f"{_DIRECTORY}|{_DAMAGED}"),
        "something behind it": (zipped + b"more", f"{_DIRECTORY}|{_DAMAGED}|holds"),
        "an old bare pickle": (good, _DAMAGED),
        "an old pickle two million deep": (entry(b")" + b"\x85" * 2_000_000, b"N"), "nests its values"),
        "an absolute name": (archive(good, name="/c/data.pkl"), _DAMAGED),
        "a name that leads out": (archive(good, name="../c/data.pkl"), _DAMAGED),
        "a name with a nul": (archive(good, name="c/data.pkl\0.txt"), f"{_DAMAGED}|holds 1"),
        "a wrong checksum of a member": (_changed(zipped, 16, b"\1\2\3\4"), _DAMAGED),
        "a member elsewhere": (_changed(zipped, 42, b"\0\0\0\x80"), f"{_DIRECTORY}|{_DAMAGED}"),
        "60,000 members": (lambda: archive(good, {f"c/data/{n}": b"" for n in range(60_000)}), _DAMAGED + "|holds"),
        "300 MB of nothing": (lambda: archive(good, {"c/data/0": b"\0" * 300_000_000}, packed=True), "unpacks to"),
        "a tar": (b"a" * 257 + b"ustar" + b"\0" * 600, _DAMAGED),
        "an old file of one pickle five times": (b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19." + good * 4, _DAMAGED),
        "half a zip": (zipped[: len(zipped) // 2], _DAMAGED),
        "a zip without an end": (zipped[:-22], _DAMAGED),
    }
    return found
