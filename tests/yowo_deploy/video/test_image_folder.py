"""A folder of pictures is a video: frames in the order of their numbers, or a reason why not."""

from __future__ import annotations

import os
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest

from yowo_deploy.errors import VideoError
from yowo_deploy.video.image_folder import ImageFolder
from yowo_deploy.video.reader import VideoReader, open_video


def write(folder: Path, *names: str, size_wh: tuple[int, int] = (6, 4)) -> None:
    for name in names:
        picture = np.full((size_wh[1], size_wh[0], 3), int("".join(filter(str.isdigit, name))), np.uint8)
        assert cv2.imwrite(str(folder / name), picture)


def test_frames_come_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    write(tmp_path, "a_10.png", "a_9.png", "b_8.bmp")
    (tmp_path / "notes.txt").write_text("no picture")
    with open_video(tmp_path) as reader:
        assert isinstance(reader, ImageFolder) and (reader.size_wh, reader.frames_declared) == ((6, 4), 3)
        assert [int(frame[0, 0, 0]) for frame in reader] == [8, 9, 10]


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ((), "is a folder without any picture"),
        (("1.png", "3.png"), "2 pictures numbered 1 to 3: missing or duplicate files"),
        (("a1.png", "b1.png", "2.png"), "3 pictures numbered 1 to 2: missing or duplicate files"),
        (("a1.png", "b1.png", "3.png"), "3 pictures numbered 1 to 3: missing or duplicate files"),
    ],
)
def test_a_folder_that_is_no_video_is_refused(names: tuple[str, ...], expected: str, tmp_path: Path) -> None:
    write(tmp_path, *names)
    with pytest.raises(VideoError, match=expected):
        open_video(tmp_path)


def test_a_name_without_a_number_is_refused(tmp_path: Path) -> None:
    write(tmp_path, "1.png")
    (tmp_path / "1.png").rename(tmp_path / "first.png")
    with pytest.raises(VideoError, match=r"first\.png: its name does not end with the number"):
        open_video(tmp_path)


def test_a_damaged_picture_or_one_of_another_size_is_named(tmp_path: Path) -> None:
    write(tmp_path, "1.png")
    write(tmp_path, "2.png", size_wh=(8, 4))
    with pytest.raises(VideoError, match=r"2\.png is 8x4"):
        list(open_video(tmp_path))
    (tmp_path / "2.png").write_bytes(b"not a picture")
    with pytest.raises(VideoError, match=r"2\.png cannot be read"):
        list(open_video(tmp_path))


def test_a_file_is_read_as_a_video(tmp_path: Path) -> None:
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, (16, 16))
    writer.write(np.zeros((16, 16, 3), np.uint8))
    writer.release()
    with open_video(path) as reader:
        assert isinstance(reader, VideoReader)


def test_a_window_is_the_same_frames_of_a_folder_and_of_a_file(tmp_path: Path) -> None:
    folder = tmp_path / "frames"
    folder.mkdir()
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*"MJPG"), 25, (16, 16))
    for number in range(6):
        writer.write(np.full((16, 16, 3), 20 * number, np.uint8))
        assert cv2.imwrite(str(folder / f"{number}.png"), np.full((16, 16, 3), 20 * number, np.uint8))
    writer.release()
    for first, last in ((0, 0), (0, 2), (1, 3), (4, 9), (7, 9)):
        seen = []
        for source in (folder, path):
            with open_video(source) as reader:
                seen.append([round(float(frame.mean()) / 20) for frame in reader.window(first, last)])
        assert seen[0] == seen[1] == list(range(first, min(last, 5) + 1))


def test_a_picture_of_absurd_size_is_refused_before_it_is_decoded(tmp_path: Path) -> None:
    header = b"IHDR" + (60000).to_bytes(4, "big") * 2 + b"\x08\x02\x00\x00\x00"
    chunk = len(header[4:]).to_bytes(4, "big") + header + zlib.crc32(header).to_bytes(4, "big")
    (tmp_path / "1.png").write_bytes(b"\x89PNG\r\n\x1a\n" + chunk)
    with pytest.raises(VideoError, match=r"1\.png is of 60000x60000, more than 35389440 pixels"):
        open_video(tmp_path)


@pytest.mark.parametrize("kind", [".jp2", ".tiff", ".pgm"])
def test_a_picture_of_another_kind_is_refused_before_it_is_decoded(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whose size nothing looks at: 400 bytes of JPEG 2000 make gigabytes."""
    (tmp_path / "1.png").write_bytes(bytes(cv2.imencode(kind, np.zeros((64, 64), np.uint8))[1]))
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(VideoError, match=r"1\.png cannot be read as a picture: expected JPEG, PNG, BMP or WebP"):
        open_video(tmp_path)


def test_hidden_files_are_no_pictures_and_names_may_be_no_utf_8(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """OpenCV's bindings crash on a name that Python holds as surrogates (PEP 383)."""
    folder = tmp_path / os.fsdecode(b"caf\xe9")
    folder.mkdir()
    for number in range(3):
        content = bytes(cv2.imencode(".png", np.full((4, 6, 3), 10 * number, np.uint8))[1])
        (folder / os.fsdecode(b"\xff%d.png" % number)).write_bytes(content)
        (folder / f"._{number}.png").write_bytes(bytes.fromhex("0005160700020000") + bytes(50))
    with open_video(folder) as reader:
        assert [int(frame[0, 0, 0]) for frame in reader] == [0, 10, 20]
    (folder / os.fsdecode(b"\xff1.png")).write_bytes(content[:40])
    with open_video(folder) as reader, pytest.raises(VideoError, match="cannot be read as a picture"):
        list(reader)
    assert capfd.readouterr().err == ""  # not OpenCV's words about it, either


def chunk(kind: bytes, content: bytes) -> bytes:
    return len(content).to_bytes(4, "big") + kind + content + zlib.crc32(kind + content).to_bytes(4, "big")


@pytest.mark.parametrize(
    "extra",
    [chunk(b"iCCP", b"sRGB\0\0" + zlib.compress(bytes(200))), chunk(b"tEXt", b"no end"), chunk(b"gAMA", b"\0" * 9),
     chunk(b"zTXt", b"a\0\0" + bytes(20)), chunk(b"cHRM", bytes(32)), chunk(b"acTL", bytes(3))],
)  # fmt: skip
def test_what_stands_beside_the_pixels_of_a_png_says_nothing_on_stderr(
    extra: bytes, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Adobe's editors write such profiles: libpng complained once a frame."""
    picture = np.arange(6 * 4 * 3, dtype=np.uint8).reshape(4, 6, 3)
    packed = cv2.imencode(".png", picture)[1].tobytes()
    (tmp_path / "1.png").write_bytes(packed[:33] + extra + packed[33:])
    (tmp_path / "2.png").write_bytes(packed[:33] + extra + packed[33:])
    with ImageFolder(tmp_path) as reader:
        assert all(np.array_equal(frame, picture) for frame in reader)
    assert capfd.readouterr() == ("", "")


def test_a_png_with_a_flipped_bit_is_named_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    packed = bytearray(cv2.imencode(".png", np.arange(72, dtype=np.uint8).reshape(4, 6, 3))[1].tobytes())
    for place in range(8 * packed.index(b"IDAT"), 8 * packed.index(b"IEND"), 7):
        packed[place // 8] ^= 1 << place % 8
        (tmp_path / "1.png").write_bytes(packed)
        with pytest.raises(VideoError, match="cannot be read as a picture"):
            ImageFolder(tmp_path)
        packed[place // 8] ^= 1 << place % 8
    assert capfd.readouterr() == ("", "")
