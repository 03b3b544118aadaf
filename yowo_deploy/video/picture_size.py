"""The size of a picture by its header, read before any decoder makes room for it; PNG without what libpng warns of."""

from __future__ import annotations

import re
import struct
import zlib

MAX_PIXELS = 8192 * 4320  # 8K: 106 MB a frame; a decoder holds a dozen of half of that, those ahead of the engine wait
_PNG = b"\x89PNG\r\n\x1a\n"
MOST_CHUNKS = 100_000  # of a PNG; the largest that is read has a third in pieces of 8 KiB
MOST_SCANS = 100  # of a progressive JPEG, each of which goes through the whole picture; encoders make a dozen
_SCANS = re.compile(rb"\xff(?:\xda|(\xd9)|([\x01-\xcf\xdb-\xfe]))")
_FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}  # markers of JPEG before a size (ITU-T T.81, table B.1)


def picture_size(packed: bytes) -> tuple[int, int]:
    """(width, height) of a PNG, JPEG, BMP or WebP; (0, 0) of another picture, or of one whose header is cut off."""
    if packed.startswith(_PNG):
        return _big(packed[16:20]), _big(packed[20:24])
    if packed.startswith(b"BM"):
        wide = 4 if _little(packed[14:18]) > 12 else 2
        sides = (packed[18 + wide * side : 18 + wide * (side + 1)] for side in (0, 1))
        width, height = (int.from_bytes(side, "little", signed=wide == 4) for side in sides)
        return abs(width), abs(height)  # a negative height: from top to bottom
    if packed.startswith(b"RIFF") and packed[8:12] == b"WEBP":
        return _webp(packed[12:16], packed[20:30])
    return _jpeg(packed) if packed.startswith(b"\xff\xd8") else (0, 0)


def plain_png(packed: bytes) -> bytes:
    """A PNG's pixels alone, palette, transparency and orientation with them; another picture as it is.

    libpng writes lines of its own to stderr about colour profiles and texts that it does not like, one a frame.

    Raises:
        ValueError: a chunk is damaged or cut off.
    """
    if not packed.startswith(_PNG):
        return packed
    at, kept = len(_PNG), [_PNG]
    for _ in range(MOST_CHUNKS):
        if at >= len(packed):
            break
        (length,) = struct.unpack_from(">I", packed, at)
        chunk = packed[at : at + 12 + length]
        if zlib.crc32(chunk[4:-4]) != _big(chunk[-4:]) or len(chunk) < 12 + length:
            raise ValueError("a chunk of it is damaged or cut off")
        kept += [chunk] * (chunk[4:5].isupper() or chunk[4:8] in (b"tRNS", b"eXIf"))
        at += len(chunk)
        if chunk[4:8] == b"IEND":
            break
    else:
        raise ValueError(f"it has more than {MOST_CHUNKS} chunks")
    return b"".join(kept)


def refuse_scans(packed: bytes) -> None:
    """Raise a ValueError where a JPEG has more scans than `MOST_SCANS`: 100 kB of them take minutes to decode."""
    at, scans = packed.find(b"\xff\xda"), 0
    while packed.startswith(b"\xff\xd8") and (found := _SCANS.search(packed, at)) and not found[1]:
        scans += found[2] is None
        if scans > MOST_SCANS:
            raise ValueError(f"it has more than {MOST_SCANS} scans")
        at = found.end() + _big(packed[found.end() : found.end() + 2])


def _webp(kind: bytes, content: bytes) -> tuple[int, int]:
    """RFC 9649, 2.5 to 2.7."""
    if kind == b"VP8X":
        return 1 + _little(content[4:7]), 1 + _little(content[7:10])
    if kind == b"VP8L":
        bits = _little(content[1:5])
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    return _little(content[6:8]) & 0x3FFF, _little(content[8:10]) & 0x3FFF


def _jpeg(packed: bytes) -> tuple[int, int]:
    """The largest size that a segment before the first scan states."""
    at, found = 2, (0, 0)
    while 0 <= (at := packed.find(b"\xff", at)) < len(packed) - 9:  # decoders pass over what stands between segments
        marker = packed[at + 1]
        if marker in (0x00, 0xFF):  # fills
            at += 1
            continue
        if marker == 0xDA:
            break
        if marker in _FRAMES:
            size = _big(packed[at + 7 : at + 9]), _big(packed[at + 5 : at + 7])
            found = max(found, size, key=lambda each: each[0] * each[1])
        alone = marker == 0x01 or 0xD0 <= marker <= 0xD8
        at += 2 if alone else 2 + max(2, _big(packed[at + 2 : at + 4]))
    return found


def _big(content: bytes) -> int:
    return int.from_bytes(content, "big")


def _little(content: bytes) -> int:
    return int.from_bytes(content, "little")
