"""The wire format of protobuf, read strictly and written."""

from __future__ import annotations

from collections.abc import Mapping

Buffer = bytes | memoryview  # bytes are quicker to walk; what is large stays a view of its file
Fields = list[tuple[int, "int | Buffer"]]

VARINT, BYTES, FIXED32 = 0, 2, 5


class Wire:
    """Reads messages of which every field is known.

    A field that is not in the table of its message, of another wire type, of a tag over 32 bits or of a varint longer
    than needed ends the reading: parsers skip, cut or merge such fields each in their own way.

    Args:
        limit: of fields and packed numbers in all messages together, so that work is bounded whatever the bytes are.
    """

    def __init__(self, limit: int) -> None:
        self._left = limit

    def fields(self, message: Buffer, known: Mapping[int, bool]) -> Fields:
        """The fields of a message in their order: number, and an int or the bytes of a string, message or float.

        Args:
            known: by tag (number and wire type, in 32 bits: parsers keep no more, so that a longer one would be one
                field here and another there), whether the field may occur more than once.

        Raises:
            ValueError: a field as said above, or twice where it may occur once; IndexError: it is cut off.
        """
        found: Fields = []
        once: set[int] = set()
        at, end, left = 0, len(message), self._left
        while at < end:
            tag = message[at]
            at += 1
            if tag > 0x7F:
                tag, at = varint(message, at - 1)
            repeats = known.get(tag)
            if not repeats:
                if repeats is None or tag in once:
                    raise ValueError(f"field {tag >> 3} of type {tag & 7}" + (" again" if tag in once else ""))
                once.add(tag)
            kind = tag & 7
            if kind == FIXED32:
                size = 4
            else:
                size = message[at]  # most are of one byte, and calls are dear
                at += 1
                if size > 0x7F:
                    size, at = varint(message, at - 1)
            if kind == VARINT:
                found.append((tag >> 3, size))
            else:
                if size > end - at:
                    raise IndexError("field reaches over the end")
                found.append((tag >> 3, message[at : at + size]))
                at += size
            left -= 1
            if left < 0:
                raise ValueError("too many fields")
        self._left = left
        return found

    def numbers(self, packed: Buffer) -> list[int]:
        """Varints one behind the other; each counts as a field."""
        found, at = [], 0
        while at < len(packed):
            number, at = varint(packed, at)
            found.append(number)
            if len(found) > self._left:
                raise ValueError("too many numbers")
        self._left -= len(found)
        return found


def varint(message: Buffer, at: int) -> tuple[int, int]:
    """The number at a place, and the place behind it.

    Raises:
        ValueError: it is longer than needed, or than 64 bits; IndexError: it is cut off.
    """
    byte = message[at]
    if byte < 0x80:
        return byte, at + 1
    value, shift, start = byte & 0x7F, 7, at
    while byte > 0x7F:
        at += 1
        byte = message[at]
        value |= (byte & 0x7F) << shift
        shift += 7
        if at - start > 9:
            raise ValueError("varint of more than ten bytes")
    if not byte or value >> 64:
        raise ValueError("varint longer than needed, or of more than 64 bits")
    return value, at + 1


def signed(value: int) -> int:
    """An int64 as written in a varint."""
    return value - (1 << 64) if value >> 63 else value


def field(number: int, content: int | str | Buffer) -> bytes:
    """One field: its number and wire type, then a number (type 0), or length and bytes of anything else (type 2)."""
    if isinstance(content, int):
        return _varint(number << 3) + _varint(content)
    data = content.encode() if isinstance(content, str) else content
    if number < 16 and len(data) < 0x80:  # as most are
        return _SHORT[number << 7 | len(data)] + data
    return b"".join((_varint(number << 3 | BYTES), _varint(len(data)), data))


def header(number: int, size: int) -> bytes:
    """Tag and length: what precedes the bytes of a field of that size."""
    return _varint(number << 3 | BYTES) + _varint(size)


_SMALL = [bytes([value]) for value in range(0x80)]
_SHORT = [bytes([number << 3 | BYTES, size]) for number in range(16) for size in range(0x80)]  # headers


def _varint(value: int) -> bytes:
    return _SMALL[value] if value < 0x80 else bytes([value & 0x7F | 0x80]) + _varint(value >> 7)
