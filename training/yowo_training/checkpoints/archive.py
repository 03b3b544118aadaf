"""The gate of PyTorch's files: the zip directory and the pickle are walked before torch reads either.

`torch.load(weights_only=True)` runs no code, but small files can crash it (tuples nested a million deep), hang it (a
tuple of itself, doubled, as a key) and make it take terabytes (HARDENING, "Checkpoints").
"""

from __future__ import annotations

import io
import os
import pickletools
import struct
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yowo_deploy.errors import ModelFileError, foreign
from yowo_deploy.model_files.checksum import DIGITS, ZIP_MARK, checksum, has_checksum, refuse_another

MAX_MEMBERS = 100_000
MAX_PICKLE = 64 << 20  # bytes; a training state of ResNet-101 has 0.3 MB
MAX_OPERATIONS = 1_000_000
MAX_DEPTH = 64
MAX_VALUES = 2_000_000  # with every reference to a value counted as the value

# Written by torch.save for tensors and plain values, and by numpy for a scalar (official AVA checkpoints).
_WRITTEN = """
    PROTO STOP MARK NONE NEWTRUE NEWFALSE BININT BININT1 BININT2 LONG1 BINFLOAT BINUNICODE SHORT_BINSTRING
    BINSTRING EMPTY_DICT EMPTY_LIST EMPTY_TUPLE TUPLE TUPLE1 TUPLE2 TUPLE3 APPEND APPENDS SETITEM SETITEMS
    GLOBAL REDUCE NEWOBJ BUILD BINPERSID BINPUT LONG_BINPUT BINGET LONG_BINGET
"""
_ALLOWED = frozenset(_WRITTEN.split())
_TAKES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3, "REDUCE": 2, "NEWOBJ": 2, "BINPERSID": 1}
_FILLS = {"APPEND": 1, "SETITEM": 2, "BUILD": 1}


@dataclass(frozen=True)
class Content:
    """A file that was walked.

    Attributes:
        stream: its bytes, for `torch.load`.
        classes: full names of the classes and functions that its pickle refers to.
        checked: it records its checksum, as those of others and of older versions do not.
    """

    stream: io.BytesIO
    classes: frozenset[str]
    checked: bool


def checked_content(file: Path, sha256: str | None = None) -> Content:
    """A file of `torch.save`, read once and walked.

    Args:
        sha256: that it must have; None for any.

    Raises:
        ModelFileError: it is damaged, or holds what torch.save does not write.
    """
    with foreign(f"{file} cannot be read as a checkpoint, it is damaged, truncated or not one", ModelFileError):
        stream = io.BytesIO(file.read_bytes())
        refuse_another(file, stream.getbuffer(), sha256)
        checked = has_checksum(file, stream.getbuffer(), ZIP_MARK)
        if stream.getvalue()[:2] == b"PK":
            classes = _check_zip(file, stream, checked)
        else:  # before PyTorch 1.6: magic number, version and machine, the values, the keys of storages
            classes = set().union(*(_check_pickle(file, stream) for _ in range(5)))
        stream.seek(0)
        return Content(stream, frozenset(classes), checked)


def add_checksum(path: Path) -> None:
    """Append its checksum to a zip archive without a comment, as the comment."""
    with path.open("r+b") as stream:
        size = len(ZIP_MARK) + DIGITS
        content = stream.read()[:-2] + size.to_bytes(2, "little") + ZIP_MARK
        stream.seek(-2, os.SEEK_END)
        stream.write(content[-2 - len(ZIP_MARK) :] + checksum(content, len(content)))


def _check_zip(file: Path, content: io.BytesIO, checked: bool) -> set[str]:
    """One directory at the end of the file, members that are as large as they say, of names that differ, undamaged."""
    with zipfile.ZipFile(content) as archive:
        members = archive.infolist()
        names = {member.filename.lower() for member in members}  # torch's reader takes capitals for small letters
        unpacked = sum(member.file_size for member in members)
        size = content.getbuffer().nbytes
        if unpacked > size or not 0 < len(members) <= MAX_MEMBERS:
            raise ModelFileError(f"{file} unpacks to {unpacked} bytes from {size}: not written by torch.save")
        strange = [
            each for each in members if each.compress_type or each.file_size != each.compress_size or each.flag_bits & 1
        ]
        pickles = [each for each in members if each.filename.lower().endswith(".pkl")]
        # What two readers could find in two places must be in one: no comment, nothing before the first member.
        apart = archive.start_dir > size or min(each.header_offset for each in members)
        apart = apart or len(archive.comment) != checked * (len(ZIP_MARK) + DIGITS)
        unlike = f"{file} has a directory that torch.save does not write: {_other_archive(names)}"
        if strange or apart or len(names) < len(members) or len(pickles) != 1:
            raise ModelFileError(unlike)
        if (pickled_bytes := pickles[0].file_size) > MAX_PICKLE:
            said = f"{pickled_bytes >> 20} MiB that are no tensors, expected up to {MAX_PICKLE >> 20}"
            raise ModelFileError(f"{file} holds {said}: if its weights are numpy arrays, save them as tensors")
        pickled = io.BytesIO(archive.read(pickles[0]))
        # Torch's own reader passes over the checksums of members.
        if not checked and (damaged := archive.testzip()):
            raise ModelFileError(f"{file} is damaged in {damaged}: copy it again")
        if not checked and size < _FAR and not _fits_together(content.getvalue()):
            raise ModelFileError(unlike)
    return _check_pickle(file, pickled)


def _other_archive(names: set[str]) -> str:
    """What an archive of others is, by the names in it, and what to do with it."""
    if any("/code/" in name or name.endswith(("constants.pkl", "/archive_format")) for name in names):
        return "it is a program (TorchScript, torch.export), not weights: where it was made, save `model.state_dict()`"
    inner = [name for name in sorted(names) if name.endswith((".pt", ".pth", ".ckpt", ".safetensors"))]
    return f"unpack it, {inner[0][:60]} is in it" if inner else "damaged, or made to deceive"


_LOCAL, _CENTRAL, _END = struct.Struct("<4s5H3I2H"), struct.Struct("<4s6H3I5H2I"), struct.Struct("<4s4H2IH")
_END_64, _LOCATOR, _FAR = struct.Struct("<4sQ4s2I4Q"), struct.Struct("<4sIQI"), 0xFFFFFFFF
_VERSIONS = (b"\x1e\x03\x2d\x00", b"\x2d\x00\x2d\x00")  # of zip64, as PyTorch and Python write it
_STREAMED = 8  # flag: checksum and sizes stand behind the data


def _fits_together(content: bytes) -> bool:
    """Whether every byte of an archive without comment but members' data is what its others say, so that any flipped
    bit is noticed: members follow each other from the first byte to the directory, which repeats their headers.
    """
    end = len(content) - _END.size
    *_, count, size, start, _ = _END.unpack_from(content, end)
    last = end
    if content[end - _LOCATOR.size :].startswith(b"PK\6\7"):
        last = end - _LOCATOR.size - _END_64.size
        versions = content[last + 12 : last + 16]
        made = _END_64.pack(b"PK\6\6", 44, versions, 0, 0, count, count, size, start)
        made += _LOCATOR.pack(b"PK\6\7", 0, last, 1)
        if content[last:end] != made or versions not in _VERSIONS:
            return False
    if start + size != last or content[end:] != _END.pack(b"PK\5\6", 0, 0, count, count, size, start, 0):
        return False
    at, entry, without_copy = 0, start, set()
    for _ in range(count):
        mark, made_by, *copied, crc, packed, unpacked, name, extra, comment, disk, inner, outer, offset = (
            _CENTRAL.unpack_from(content, entry)
        )
        without_copy.add((made_by, inner, outer))
        title = content[entry + _CENTRAL.size : entry + _CENTRAL.size + name]
        if (mark, extra, comment, disk, offset) != (b"PK\1\2", 0, 0, 0, at) or packed != unpacked:
            return False
        at = _behind_member(content, at, copied, (crc, packed, unpacked), title)
        entry += _CENTRAL.size + name
        if at < 0:
            return False
    return (at, entry) == (start, last) and len(without_copy) == 1


def _behind_member(content: bytes, at: int, copied: list[int], sizes: tuple[int, int, int], title: bytes) -> int:
    """Where the next member begins; -1 where this one is not as the directory says."""
    mark, *found, crc, packed, unpacked, name, extra = _LOCAL.unpack_from(content, at)
    streamed = bool(copied[1] & _STREAMED)
    known = (crc, packed, unpacked) == sizes or (streamed and (crc, packed, unpacked) == (0, 0, 0))
    at += _LOCAL.size
    padding = content[at + name : at + name + extra]
    padded = b"FB" + (extra - 4).to_bytes(2, "little") + b"Z" * (extra - 4) if extra >= 4 else b""
    if mark != b"PK\3\4" or found != copied or not known or content[at : at + name] != title or padding != padded:
        return -1
    at += name + extra + sizes[1]
    behind = [struct.pack(form, b"PK\7\x08", *sizes) for form in ("<4s3I", "<4sI2Q")] if streamed else [b""]
    return next((at + len(each) for each in behind if content[at : at + len(each)] == each), -1)


class _Item:
    """A value on the stack of the pickle's machine: how deep it nests, and how many values it holds."""

    __slots__ = ("depth", "held", "key", "size")

    def __init__(self, depth: int = 0, size: int = 1, key: bool = True) -> None:
        self.depth, self.size, self.key, self.held = depth, size, key, False


_MARK = _Item()


def _check_pickle(file: Path, stream: io.BytesIO) -> set[str]:
    """Walk the operations of one pickle without making any value; the names of classes that it refers to.

    Raises:
        ModelFileError: an operation that torch.save does not write; too many, too deep, or too much; a key that is
            no number or text; a value that is filled after it was put into another.
    """
    stack: list[_Item] = []
    memo: dict[int, _Item] = {}
    classes: set[str] = set()
    for count, (code, argument, _) in enumerate(pickletools.genops(stream)):
        if code.name == "PROTO" and argument != 2:
            raise ModelFileError(
                f"{file} is pickled by protocol {argument}, PyTorch's is 2: save it again with torch.save "
                "and its default protocol"
            )
        if code.name == "GLOBAL":
            classes.add(str(argument).replace(" ", ".").replace("__builtin__.", "builtins."))
        if code.name not in _ALLOWED or count > MAX_OPERATIONS:
            raise ModelFileError(f"{file} holds more than tensors and plain values: refused, and no code in it was run")
        _step(code.name, argument, stack, memo)
        if stack and (stack[-1].depth > MAX_DEPTH or stack[-1].size > MAX_VALUES):
            raise ModelFileError(f"{file} nests its values {MAX_DEPTH} deep or more: not written by torch.save")
    return classes


def _step(name: str, argument: Any, stack: list[_Item], memo: dict[int, _Item]) -> None:
    """One operation, on the stack of items."""
    if name in ("PROTO", "STOP"):
        return
    if name == "MARK":
        stack.append(_MARK)
    elif name in ("BINPUT", "LONG_BINPUT"):
        memo[argument] = stack[-1]
    elif name in ("BINGET", "LONG_BINGET"):
        stack.append(memo[argument])
    elif name in ("APPENDS", "SETITEMS", "TUPLE"):
        last = len(stack) - 1 - stack[::-1].index(_MARK)
        taken = stack[last + 1 :]
        del stack[last:]
        if name == "TUPLE":
            stack.append(_holding(taken))
        else:
            _fill(stack[-1], taken, name == "SETITEMS")
    elif name in _TAKES:
        taken = stack[-_TAKES[name] :]
        if len(taken) < _TAKES[name] or _MARK in taken:
            raise ValueError("too little on the stack")
        del stack[-_TAKES[name] :]
        stack.append(_holding(taken))
    elif name in _FILLS:
        taken = stack[-_FILLS[name] :]
        del stack[-_FILLS[name] :]
        _fill(stack[-1], taken, name == "SETITEM")
    else:
        plain = name not in ("EMPTY_DICT", "EMPTY_LIST", "EMPTY_TUPLE", "GLOBAL")
        stack.append(_Item(key=plain))


def _holding(taken: list[_Item]) -> _Item:
    """A new value of others."""
    for each in taken:
        each.held = True
    return _Item(1 + max((each.depth for each in taken), default=0), 1 + sum(each.size for each in taken), False)


def _fill(target: _Item, taken: list[_Item], keyed: bool) -> None:
    """Put others into a value."""
    if target is _MARK or target.key or target.held or target in taken or _MARK in taken:
        raise ValueError("a value that cannot be filled any more")
    if keyed and (len(taken) % 2 or not all(each.key for each in taken[::2])):
        raise ValueError("a key that is neither number nor text")
    made = _holding(taken)
    target.depth, target.size = max(target.depth, made.depth), target.size + made.size
