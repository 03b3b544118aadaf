"""MP4 and MOV files of a few kB that claim any number of frames are refused before FFmpeg makes room for them."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from yowo_deploy.errors import VideoError
from yowo_deploy.video.mov_claims import refuse_absurd_tables
from yowo_deploy.video.reader import open_video

PICTURE = bytes(cv2.imencode(".jpg", np.full((48, 64, 3), 90, np.uint8))[1])
FTYP = struct.pack(">I4s4sI4s", 20, b"ftyp", b"isom", 512, b"isom")


def box(kind: bytes, *contents: bytes) -> bytes:
    content = b"".join(contents)
    return struct.pack(">I", 8 + len(content)) + kind + content


def numbers(*values: int) -> bytes:
    return struct.pack(f">{len(values)}I", *values)


def header(samples: int, edits: int = 0, kind: bytes = b"vide", tracks: int = 1, more: bytes = b"") -> bytes:
    """A moov whose tracks have so many samples of one size, shown whole so many times."""
    sides = struct.pack(">HHIIIH", 64, 48, 0x480000, 0x480000, 0, 1)
    entry = box(b"jpeg", bytes(6) + b"\0\1" + bytes(16) + sides + bytes(32) + struct.pack(">Hh", 24, -1))
    tables = [
        box(b"stsd", numbers(0, 1), entry),
        box(b"stts", numbers(0, 1, samples, 1)),
        box(b"stsz", numbers(0, len(PICTURE), samples)),
        box(b"stsc", numbers(0, 1, 1, samples, 1)),
        box(b"stco", numbers(0, 1, len(FTYP) + 8)),
    ]
    inside = box(b"vmhd", numbers(1, 0, 0)), box(b"dinf", box(b"dref", numbers(0, 1), box(b"url ", numbers(1))))
    media = box(b"mdhd", numbers(0, 0, 0, 25, samples, 0)), box(b"hdlr", bytes(8) + kind + bytes(13))
    matrix = numbers(65536, 0, 0, 0, 65536, 0, 0, 0, 1 << 30)
    track_head = numbers(7, 0, 0, 1, 0, 40 * samples) + bytes(16) + matrix + numbers(64 << 16, 48 << 16)
    shown = box(b"edts", box(b"elst", numbers(0, edits), numbers(40 * samples, 0, 65536) * edits)) if edits else b""
    track = box(b"tkhd", track_head), shown, box(b"mdia", *media, box(b"minf", *inside, box(b"stbl", *tables)))
    movie = numbers(0, 0, 0, 1000, 40 * samples, 65536) + bytes(12) + matrix + bytes(24) + numbers(2)
    return box(b"moov", box(b"mvhd", movie), box(b"trak", *track) * tracks, more)


def written(folder: Path, moov: bytes, pictures: int = 1) -> Path:
    path = folder / "film.mp4"
    path.write_bytes(FTYP + box(b"mdat", PICTURE * pictures) + moov)
    return path


def fragmented(count: int, runs: int, flags: int = 0) -> bytes:
    size = numbers(0, 1, 1, 1, 1, 0)
    run = box(b"trun", numbers(flags, count))
    fragment = box(b"tfhd", numbers(0x20000, 1)), run * runs
    return header(0, more=box(b"mvex", box(b"trex", size))) + box(b"moof", box(b"traf", *fragment))


def packed(moov: bytes) -> bytes:
    inner = numbers(len(moov)) + zlib.compress(moov)
    return box(b"moov", box(b"cmov", box(b"dcom", b"zlib"), box(b"cmvd", inner)))


@pytest.mark.parametrize("edits", [0, 1, 3])
@pytest.mark.parametrize("form", [bytes, packed])
def test_a_file_that_claims_what_it_has_is_read(form: type[bytes], edits: int, tmp_path: Path) -> None:
    with open_video(written(tmp_path, form(header(10, edits)), pictures=10)) as reader:
        assert len(list(reader)) == 10 * max(1, edits)


@pytest.mark.parametrize(
    "moov",
    [
        header(1 << 24),
        header(1 << 22, tracks=50),
        header(1 << 22, kind=b"soun"),
        header(1 << 24)[8:],  # FFmpeg reads tracks outside of it
        packed(header(1 << 24)),
        packed(bytes(1 << 25)),
        fragmented(1 << 24, 1),
        fragmented(1 << 16, 500),
    ],
    ids=["samples", "tracks", "sound", "no header", "packed", "packed zeros", "fragment", "fragments"],
)
def test_a_file_that_claims_more_than_it_has_is_refused(moov: bytes, tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="which it cannot hold"):
        open_video(written(tmp_path, moov))


def test_few_samples_may_be_missing_of_a_file_that_was_cut_off(tmp_path: Path) -> None:
    refuse_absurd_tables(written(tmp_path, header(10_000)))


def test_an_edit_list_that_shows_a_video_thousands_of_times_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="200000 frames by an edit list of 100, which it cannot hold"):
        open_video(written(tmp_path, header(100, 2000), pictures=100))


def test_old_sound_has_more_samples_than_bytes(tmp_path: Path) -> None:
    sound = header(1, kind=b"soun").replace(numbers(0, len(PICTURE), 1), numbers(0, 1, 4 * len(PICTURE)))
    refuse_absurd_tables(written(tmp_path, sound, pictures=2))


def test_a_number_in_a_table_is_no_table(tmp_path: Path) -> None:
    moov = box(b"moov", header(1)[8:], box(b"stco", numbers(0, 4, 1 << 31, 0x7374737A, 1, 1 << 30)))
    refuse_absurd_tables(written(tmp_path, moov))
