"""Every part that looks for videos looks for the same suffixes, in upper and lower case."""

from __future__ import annotations

from pathlib import Path

import pytest

from yowo_deploy.datasets.formats.box_rows import Footage, Options
from yowo_deploy.video.sources import find_sources, left_out
from yowo_deploy.video.suffixes import PICTURE_SUFFIXES, VIDEO_SUFFIXES, is_picture, is_video

NAMES = [f"film{case(suffix)}" for suffix in VIDEO_SUFFIXES for case in (str.lower, str.upper)]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_of_videos_gives_each(name: str, tmp_path: Path) -> None:
    for file in (name, "film.txt", "film_0001.png"):
        (tmp_path / file).touch()
    assert find_sources(tmp_path) == [str(tmp_path / name)]


@pytest.mark.parametrize("name", ["film", "film.dat", "film.VID"])
def test_a_video_of_another_name_is_told_by_its_first_bytes(name: str, tmp_path: Path) -> None:
    """ISO 14496-12, 4.3: the first box of an MP4 file is `ftyp`."""
    (tmp_path / name).write_bytes(b"\x00\x00\x00\x18ftypisom" + bytes(100))
    for file in ("a.mp4", "notes.txt", "a.png", "._a.mp4"):
        (tmp_path / file).write_bytes(b"no video")
    found = find_sources(tmp_path)
    assert found == [str(tmp_path / file) for file in ("a.mp4", name)]
    assert left_out(tmp_path, found) == ["a.png", "notes.txt"]
    assert left_out(tmp_path / name, [str(tmp_path / name)]) == left_out("rtsp://cam/1", ["rtsp://cam/1"]) == []


def test_a_link_that_leads_nowhere_is_no_silence(tmp_path: Path) -> None:
    (tmp_path / "b.mp4").touch()
    (tmp_path / "a.mp4").symlink_to(tmp_path / "gone.mp4")
    assert find_sources(tmp_path) == [str(tmp_path / "a.mp4"), str(tmp_path / "b.mp4")]


@pytest.mark.parametrize("name", NAMES)
def test_annotations_find_their_video(name: str, tmp_path: Path) -> None:
    (tmp_path / "films").mkdir()
    (tmp_path / "films" / name).touch()
    footage = Footage(tmp_path, Options())
    for named in (name, "film", "film.mp4"):
        assert footage.find(named) == tmp_path / "films" / name


def test_a_name_is_a_video_a_picture_or_neither() -> None:
    assert all(is_video(name) and not is_picture(name) for name in NAMES)
    assert all(is_picture(Path(f"a/1{suffix}")) and not is_video(f"1{suffix}") for suffix in PICTURE_SUFFIXES)
    assert not any(is_video(name) or is_picture(name) for name in ("", "mp4", "film.mp4.txt", "film.mp4/1"))
