"""Interlaced videos: OpenCV 5 gives noise in place of their frames, and says that it read them."""

from __future__ import annotations

from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yowo_deploy.arrays import Frame
from yowo_deploy.video.interlaced import InterlacedCheck
from yowo_deploy.video.reader import VideoReader

av: Any = pytest.importorskip("av")
X264 = {"x264-params": "tff=1:interlaced=1:bframes=0"}
FIELDS = {"flags": "+ilme+ildct"}
FRAMES, WH = 12, (64, 48)
NEAR = 12.0  # mean difference that a lossy codec may make of these pictures: 2 to 4; noise makes over 60


def picture(number: int) -> Frame:
    """Two ramps that move, BGR."""
    across, down = np.arange(WH[0]) * 3, np.arange(WH[1]) * 2 + number * 6
    return np.stack(np.broadcast_arrays(np.uint8(40), down[:, None] % 256, across[None]), -1).astype(np.uint8)


def packed(path: Path, codec: str, options: dict[str, str], numbers: Iterable[int], pix_fmt: str = "yuv420p") -> Path:
    """A video of those pictures, each at its time."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = *WH, pix_fmt
        for number in numbers:
            frame = av.VideoFrame.from_ndarray(picture(number), format="bgr24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


@pytest.mark.parametrize(
    ("name", "codec", "options", "pix_fmt"),
    [
        ("a.mp4", "libx264", X264, "yuv420p"),
        ("a.ts", "libx264", X264, "yuv420p"),
        ("a.mpg", "mpeg2video", FIELDS, "yuv420p"),
        ("a.avi", "mpeg4", FIELDS, "yuv420p"),
        ("a.mov", "prores_ks", FIELDS, "yuv422p10le"),
        ("progressive.mp4", "libx264", {}, "yuv420p"),
    ],
)
def test_every_frame_is_the_picture_that_was_encoded(
    name: str, codec: str, options: dict[str, str], pix_fmt: str, tmp_path: Path
) -> None:
    path = packed(tmp_path / name, codec, options, range(FRAMES), pix_fmt)
    with VideoReader(path) as reader:
        frames = [frame.copy() for frame in reader]
    with VideoReader(path) as reader:
        part = list(reader.window(3, 6))
    with VideoReader(path) as reader:
        begins = reader.start_at(5, 5 / 25)
        rest = list(reader)
    assert [len(frames), len(part), begins, len(rest)] == [FRAMES, 4, True, FRAMES - 5]
    for number, frame in [*enumerate(frames), *enumerate(part, 3), *enumerate(rest, 5)]:
        assert np.abs(frame.astype(int) - picture(number)).mean() < NEAR, number
    assert reader.fps == 25


@pytest.mark.parametrize("first", [{}, X264])
def test_a_recording_may_change_between_progressive_and_interlaced(first: dict[str, str], tmp_path: Path) -> None:
    parts = []
    for place, options in enumerate([first, X264 if not first else {}, first]):
        numbers = range(place * FRAMES, (place + 1) * FRAMES)
        parts.append(packed(tmp_path / f"{place}.ts", "libx264", options | {"bf": "0"}, numbers).read_bytes())
    (tmp_path / "all.ts").write_bytes(b"".join(parts))
    with VideoReader(tmp_path / "all.ts") as reader:
        frames = [frame.copy() for frame in reader]
    assert len(frames) == 3 * FRAMES
    for number, frame in enumerate(frames):
        assert np.abs(frame.astype(int) - picture(number)).mean() < NEAR, number


def test_pictures_that_repeat_are_no_reason_to_change_the_decoder(tmp_path: Path) -> None:
    path = packed(tmp_path / "a.mkv", "ffv1", {}, range(3), "bgr0")
    check = InterlacedCheck(path, 0)
    assert [check.found(picture(0), number) for number in range(5)] == [None] * 5
    check.close()
