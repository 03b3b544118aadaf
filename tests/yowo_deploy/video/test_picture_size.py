"""Sizes of pictures by their headers are those that a decoder finds."""

from __future__ import annotations

import struct
import zlib

import cv2
import numpy as np
import pytest

from yowo_deploy.video.picture_size import MOST_CHUNKS, MOST_SCANS, picture_size, plain_png, refuse_scans


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".bmp", ".webp"])
@pytest.mark.parametrize("size_wh", [(1, 1), (7, 300), (640, 3), (321, 257)])
def test_the_header_states_the_size(suffix: str, size_wh: tuple[int, int]) -> None:
    picture = np.full((size_wh[1], size_wh[0], 3), 90, np.uint8)
    options = [[], [cv2.IMWRITE_WEBP_QUALITY, 101]] if suffix == ".webp" else [[]]  # lossless too
    options += [[cv2.IMWRITE_JPEG_PROGRESSIVE, 1]] if suffix == ".jpg" else []
    for each in options:
        assert picture_size(cv2.imencode(suffix, picture, each)[1].tobytes()) == size_wh


def test_scans_of_a_picture_are_bounded_and_those_of_what_stands_behind_it_are_not_its_own() -> None:
    """Each goes through the whole picture: 300 of 8192x4320 are 12 kB, and took three seconds."""
    packed = cv2.imencode(".jpg", np.zeros((30, 50, 3), np.uint8), [cv2.IMWRITE_JPEG_PROGRESSIVE, 1])[1].tobytes()
    at = packed.rindex(b"\xff\xda")
    last = packed[at:-2]
    refuse_scans(packed)
    refuse_scans(packed + packed * MOST_SCANS)
    refuse_scans(b"\x89PNG" + b"\xff\xda" * 1000)
    with pytest.raises(ValueError, match="more than 100 scans"):
        refuse_scans(packed[:at] + last * MOST_SCANS + packed[-2:])


def test_chunks_of_a_png_are_bounded() -> None:
    packed = cv2.imencode(".png", np.zeros((30, 50, 3), np.uint8))[1].tobytes()
    empty = struct.pack(">I4sI", 0, b"aaaa", zlib.crc32(b"aaaa"))
    assert len(plain_png(packed[:33] + empty * 1000 + packed[33:])) <= len(packed)
    with pytest.raises(ValueError, match="more than 100000 chunks"):
        plain_png(packed[:33] + empty * MOST_CHUNKS + packed[33:])


@pytest.mark.parametrize("content", [b"", b"\x89PNG", b"\xff\xd8\xff", b"BM", b"RIFF0000WEBP", b"GIF89a", bytes(99)])
def test_what_has_no_whole_header_has_no_size(content: bytes) -> None:
    assert picture_size(content) == (0, 0)


@pytest.mark.parametrize("between", [b"\0", b"ab\0c", b"\xff\xff", b"\xff\0"])
def test_what_stands_between_segments_is_passed_over_as_decoders_do(between: bytes) -> None:
    packed = cv2.imencode(".jpg", np.zeros((30, 50, 3), np.uint8))[1].tobytes()
    end = 4 + int.from_bytes(packed[4:6], "big")
    packed = packed[:end] + between + packed[end:]
    assert cv2.imdecode(np.frombuffer(packed, np.uint8), cv2.IMREAD_COLOR) is not None and picture_size(packed) == (
        50,
        30,
    )


def test_no_header_is_read_for_ever() -> None:
    assert picture_size(b"\xff\xd8" + b"\xff" * 100_000) == (0, 0)
    assert picture_size(b"\xff\xd8" + b"\xff\xe0\x00\x00" * 50_000) == (0, 0)
