"""Refuse MP4 and MOV files whose tables claim far more frames than there can be, before FFmpeg makes room for them."""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.errors import VideoError, foreign
from yowo_deploy.video.container import MAX_FRAMES, MOV_BOXES, boxes, timescale

_MEDIA = (b"mdat", b"free", b"skip", b"wide", b"pnot")
MOST_READ = 1 << 28  # bytes of a box that is no media
UNPACKED = 1 << 24  # bytes of a compressed header, as QuickTime wrote them
# QuickTime counts samples of old sound, not bytes: 64 of them in 34.
SOUND = 8
REPEATS, FEW = 10, 20_000  # an edit list may show a track so many times, and so many frames more
_TABLE = re.compile(rb"stsz|stts|stss|elst|mdhd|mvhd", re.DOTALL)
_LEAST = {b"stsz": 20}


def refuse_absurd_tables(path: Path) -> None:
    """Look at the tables of an MP4 or MOV: 1 kB can claim a thousand million frames, or show a few for ever.

    FFmpeg reads boxes wherever they stand, so they are looked for everywhere but in media.

    Raises:
        VideoError: it claims more frames than it has bytes, or its edit list repeats them.
    """
    size = path.stat().st_size
    with foreign(f"{path} cannot be read", VideoError), path.open("rb") as stream:
        if stream.read(8)[4:8] not in MOV_BOXES:
            return
        fragments = 0
        for kind, begin, end in boxes(stream, 0, size):
            if kind in _MEDIA:
                continue
            stream.seek(begin)
            content = stream.read(min(end, size, begin + MOST_READ) - begin)
            if kind == b"moof":
                fragments += sum(_of_fragment(content))
            else:
                _refuse_header(path, content, size)
            if fragments > min(size, MAX_FRAMES):
                raise _absurd(path, f"{fragments} frames in fragments")


def _refuse_header(path: Path, content: bytes, size: int) -> None:
    if (packed := content.find(b"cmvd")) >= 0:
        inner = zlib.decompressobj().decompress(content[packed + 8 :], UNPACKED)
        if len(inner) == UNPACKED:
            raise _absurd(path, f"a header of more than {UNPACKED >> 20} MiB")
        content = content[:packed] + inner
    ticks = 1
    for track in re.split(rb"trak", content):
        found = _tables(track)
        ticks = timescale(found[b"mvhd"]) if b"mvhd" in found else ticks
        sizes = found.get(b"stsz", bytes(12))
        each, samples = _number(sizes, 4), _number(sizes, 8)
        sound = b"soun" in track and b"vide" not in track
        most = size * SOUND // max(1, each) if sound else min(size // max(1, each), MAX_FRAMES)
        if each and samples > max(most, FEW):  # few are no danger where a file was cut off
            raise _absurd(path, f"{samples} samples of {each} bytes")
        if b"elst" in found and samples <= MAX_FRAMES:
            shown = _shown(found, samples, ticks)
            if shown > REPEATS * samples + FEW:
                raise _absurd(path, f"{shown} frames by an edit list of {samples}")


def _tables(track: bytes) -> dict[bytes, bytes]:
    """The first box of each kind that matters, whole; what looks like one within a number is not as long as it says."""
    found: dict[bytes, bytes] = {}
    for hit in _TABLE.finditer(track):
        length = int.from_bytes(track[max(0, hit.start() - 4) : hit.start()], "big")
        if _LEAST.get(hit[0], 16) <= length <= len(track) - hit.start() + 4:
            found.setdefault(hit[0], track[hit.end() : hit.start() - 4 + length])
    return found


def _of_fragment(content: bytes) -> Iterator[int]:
    """Frames of the runs that say nothing of each frame, and so may claim any number."""
    for hit in re.finditer(rb"trun", content):
        run = content[hit.end() : hit.end() + 8]
        if not _number(run, 0) & 0xF00:
            yield _number(run, 4)


def _shown(found: dict[bytes, bytes], samples: int, ticks: int) -> int:
    """Frames that FFmpeg decodes for an edit list: of each part from the key frame before it on."""
    steps = _entries(found.get(b"stts", bytes(8)), np.dtype([("count", ">u4"), ("value", ">u4")]))
    ends = np.minimum(np.cumsum(steps["count"].astype(np.int64)), samples)
    durations = np.repeat(steps["value"].astype(np.int64), np.diff(ends, prepend=0))
    starts = np.cumsum(durations) - durations
    wide = "8" if found[b"elst"][:1] == b"\x01" else "4"
    kinds = np.dtype([("length", f">u{wide}"), ("first", f">i{wide}"), ("rate", ">u4")])
    edits = _entries(found[b"elst"], kinds)
    edits = edits[edits["first"] >= 0]
    if not len(starts) or not len(edits):
        return 0
    scale = max(1, timescale(found.get(b"mdhd", b""))) / max(1, ticks)
    first = edits["first"].astype(np.float64)
    begin = np.maximum(0, np.searchsorted(starts, first, "right") - 1)
    end = np.searchsorted(starts, first + edits["length"].astype(np.float64) * scale)
    if b"stss" in found:
        keys = np.sort(_entries(found[b"stss"], np.dtype([("key", ">u4")]))["key"].astype(np.int64)) - 1
        keys = np.concatenate([[0], keys])
        begin = np.minimum(begin, keys[np.searchsorted(keys, begin, "right") - 1])
    return int(np.maximum(0, end - begin).sum())


def _entries(table: bytes, kinds: np.dtype[np.void]) -> NDArray[np.void]:
    count = min(_number(table, 4), (len(table) - 8) // kinds.itemsize)
    return np.frombuffer(table[8 : 8 + count * kinds.itemsize], kinds)


def _number(content: bytes, at: int) -> int:
    return int.from_bytes(content[at : at + 4], "big")


def _absurd(path: Path, what: str) -> VideoError:
    return VideoError(f"{path} claims {what}, which it cannot hold: damaged, or made to fill memory; re-encode it")
