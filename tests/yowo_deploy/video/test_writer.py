"""What is written is read again, and what cannot be written leaves no file."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.yowo_deploy.video.films import film, write
from yowo_deploy.errors import MissingExtraError, OutputError, VideoError, YowoError
from yowo_deploy.video import writer as video_module
from yowo_deploy.video.reader import VideoReader
from yowo_deploy.video.writer import VideoWriter


@pytest.mark.parametrize(
    ("suffix", "size", "by_av"),
    [
        (".webm", (64, 48), False),
        (".webm", (48, 64), False),
        (".webm", (65, 49), False),
        (".webm", (65, 49), True),
        (".mp4", (64, 48), True),
        (".mp4", (65, 49), True),
    ],
)
def test_what_is_written_is_read_again(
    suffix: str, size: tuple[int, int], by_av: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if by_av:
        pytest.importorskip("av")
    else:
        monkeypatch.setitem(sys.modules, "av", None)  # as if PyAV were not installed
    frames = film(10, *size)
    with VideoReader(write(tmp_path / f"film{suffix}", frames)) as reader:
        found = list(reader)
    even = tuple(side - side % 2 for side in size)  # a pair of pixels shares its colour in both formats
    assert reader.size_wh == even
    assert reader.fps == pytest.approx(12.5)
    assert reader.frames_declared == len(found) == len(frames)
    for frame, wanted in zip(found, frames, strict=True):
        assert frame.shape == (even[1], even[0], 3)
        assert frame.dtype == np.uint8
        # Half of the step from one frame to the next: no other frame is as near.
        assert np.abs(frame.astype(int) - wanted[: even[1], : even[0]]).mean() < 5


def test_the_file_appears_when_the_block_ends(tmp_path: Path) -> None:
    path = tmp_path / "film.webm"
    with VideoWriter(path, 25, (64, 48)) as writer:
        writer.write(film(1, 64, 48)[0])
        assert not path.exists()
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_fails_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), VideoWriter(tmp_path / "film.webm", 25, (64, 48)) as writer:
        writer.write(film(1, 64, 48)[0])
        raise KeyboardInterrupt
    assert list(tmp_path.iterdir()) == []


def test_an_encoder_that_fails_at_the_end_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(encoder: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setitem(sys.modules, "av", None)  # as if PyAV were not installed
    monkeypatch.setattr(video_module._OpenCvVp8, "close", fail)
    with pytest.raises(OutputError, match="No space left"), VideoWriter(tmp_path / "film.webm", 25, (64, 48)) as writer:
        writer.write(film(1, 64, 48)[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("at", ["__init__", "write", "close"])
def test_what_an_encoder_raises_is_one_line_of_ours(at: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise ValueError("avcodec_open2 returned\n-22")

    monkeypatch.setitem(sys.modules, "av", None)  # as if PyAV were not installed
    monkeypatch.setattr(video_module._OpenCvVp8, at, fail)
    refused = pytest.raises(VideoError, match=r"film\.webm cannot be encoded: avcodec_open2 returned.*-22$")
    with refused, VideoWriter(tmp_path / "film.webm", 25, (64, 48)) as writer:
        writer.write(film(1, 64, 48)[0])
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "size", "error", "expected"),
    [
        ("film.avi", (64, 48), VideoError, r"expected a name that ends in \.webm or \.mp4"),
        ("film", (64, 48), VideoError, r"expected a name that ends in \.webm or \.mp4"),
        ("film.webm", (0, 0), VideoError, "cannot write frames of 0x0"),
        ("file/film.webm", (64, 48), OutputError, "cannot write"),
        ("film.mp4", (64, 48), MissingExtraError, r"PyAV.*yowo-deploy\[video\]"),
    ],
)
def test_a_video_that_cannot_be_written_leaves_nothing(
    name: str,
    size: tuple[int, int],
    error: type[YowoError],
    expected: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)  # as if PyAV were not installed
    (tmp_path / "file").touch()
    with pytest.raises(error, match=expected):
        VideoWriter(tmp_path / name, 25, size)
    assert [left.name for left in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize("by_av", [False, True])
@pytest.mark.parametrize("name", [b"caf\xe9/film.webm", b"caf\xe9.webm", b"a" * 250 + b".webm"])
def test_names_of_any_bytes_are_written_and_read(
    name: bytes, by_av: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name on Linux is bytes, at most 255 without / and NUL."""
    if by_av:
        pytest.importorskip("av")
    else:
        monkeypatch.setitem(sys.modules, "av", None)  # as if PyAV were not installed
    path = tmp_path / os.fsdecode(name)
    with VideoReader(write(path, film(4, 64, 48))) as reader:
        assert len(list(reader)) == 4
    assert os.listdir(path.parent) == [path.name]
