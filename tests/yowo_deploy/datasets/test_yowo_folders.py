"""Boxes in official folders: of published labels in pixels of 320x240 (the official code divides by them), of one's own
in pixels of the pictures that lie beside them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from yowo_deploy.datasets.data_json import Annotations
from yowo_deploy.datasets.formats.box_rows import Options
from yowo_deploy.datasets.importer import import_annotations
from yowo_deploy.errors import DatasetError

Write = Callable[..., None]


def folders(
    folder: Path, write_pictures: Write, size_wh: tuple[int, int] | None, box: str, action: str = "walk"
) -> None:
    """A video of four pictures, the first two with a box, and a listed one with nobody."""
    lines = []
    for name in ("a_c01", "a_c02"):
        place = folder / "labels" / action / name
        place.mkdir(parents=True)
        for frame in range(1, 5):
            (place / f"{frame:05d}.txt").write_text(f"1 {box}\n" if frame < 3 and name == "a_c01" else "")
            lines.append(f"labels/{action}/{name}/{frame:05d}.txt\n")
        if size_wh:
            write_pictures(folder / "rgb-images" / action / name, range(1, 5), size_wh=size_wh)
    (folder / "trainlist.txt").write_text("".join(lines))


def read(folder: Path, kind: str = "yowo-folders") -> tuple[Annotations, list[str]]:
    return import_annotations(folder, kind, Options())


@pytest.mark.parametrize(
    ("size_wh", "box", "expected", "said"),
    [
        ((640, 480), "20 40 140 200", (640, 480), "taken as pixels of the pictures, 640x480, not of 320x240"),
        ((640, 480), "20 40 600 400", (640, 480), "taken as pixels of the pictures, 640x480, not of 320x240"),
        ((640, 480), "20 40 641 400", (640, 480), "taken as pixels of the pictures, 640x480, not of 320x240"),
        ((160, 120), "20 40 300 200", (320, 240), "taken as pixels of 320x240, though the pictures are of 160x120"),
        ((160, 120), "20 40 140 110", (160, 120), "taken as pixels of the pictures, 160x120, not of 320x240"),
        (None, "20 40 140 200", (320, 240), "taken as pixels of 320x240, though the pictures are of unknown size"),
        ((320, 240), "20 40 140 200", (320, 240), ""),
    ],
)
def test_in_which_pixels_boxes_are(
    size_wh: tuple[int, int] | None,
    box: str,
    expected: tuple[int, int],
    said: str,
    tmp_path: Path,
    write_pictures: Write,
) -> None:
    folders(tmp_path, write_pictures, size_wh, box)
    found, notes = read(tmp_path)
    [video] = found.videos
    assert video.size_wh == expected
    assert video.tubes[0].xyxy[0].tolist() == list(map(float, box.split()))
    assert ([said in note for note in notes if "pixels" in note] == [True]) if said else "pixels" not in str(notes)


def test_published_labels_stay_in_their_pixels(tmp_path: Path, write_pictures: Write) -> None:
    folders(tmp_path, write_pictures, (640, 480), "20 40 140 200", "Diving")
    (tmp_path / "trainlist.txt").rename(tmp_path / "trainlist01.txt")
    (tmp_path / "testlist01.txt").write_text("labels/Diving/a_c01/00001.txt\n")
    assert read(tmp_path, "ucf24")[0].videos[0].size_wh == (320, 240)


def test_listed_videos_with_nobody_are_told(tmp_path: Path, write_pictures: Write) -> None:
    folders(tmp_path, write_pictures, (320, 240), "20 40 140 200")
    assert read(tmp_path)[1] == ["left out: 1 videos without a box, the first: walk_a_c02"]


def test_lists_beside_those_of_the_splits_are_not_read(tmp_path: Path, write_pictures: Write) -> None:
    """The release has a list of the test videos for its video-mAP beside that of their frames; a Mac adds `._NAME`."""
    folders(tmp_path, write_pictures, (320, 240), "20 40 140 200")
    expected = read(tmp_path)
    (tmp_path / "._trainlist.txt").write_bytes(b"\x00\x05\x16\x07\n")
    (tmp_path / "trainlist_video.txt").write_text("walk/a_c01\n")
    found = read(tmp_path)
    assert (found[0].members, found[1]) == (expected[0].members, expected[1])


def test_fractions_of_the_picture_are_refused(tmp_path: Path, write_pictures: Write) -> None:
    folders(tmp_path, write_pictures, (640, 480), "0.2 0.4 0.6 0.9")
    with pytest.raises(DatasetError, match=r"00001\.txt:1: no corner is above 1: expected pixels"):
        read(tmp_path)


def test_pictures_that_cannot_be_read_are_reported_with_the_reason(tmp_path: Path, write_pictures: Write) -> None:
    folders(tmp_path, write_pictures, (640, 480), "20 40 140 200")
    sorted((tmp_path / "rgb-images" / "walk" / "a_c01").iterdir())[2].unlink()
    [note] = [each for each in read(tmp_path)[1] if each.startswith("1 videos cannot be read, the first: ")]
    assert note.endswith("holds 3 pictures numbered 1 to 4: missing or duplicate files")
