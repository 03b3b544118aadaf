"""Checkpoints made by hand to crash, hang or fill a reader, each with its verdict; no PyTorch is needed."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Iterator

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


def checkpoint_files() -> dict[str, tuple[bytes, str]]:
    """By name: the file, and what its refusal says. Each pickle in a zip, and bare where that is refused as well."""
    found: dict[str, tuple[bytes, str]] = {}
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
        "half a zip": (zipped[: len(zipped) // 2], _DAMAGED),
        "a zip without an end": (zipped[:-22], _DAMAGED),
    }
    return found
