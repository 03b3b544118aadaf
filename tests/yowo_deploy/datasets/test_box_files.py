"""Names are data: what text and csv files have as syntax may stand in them (RFC 4180; UCF101's own lists)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pytest

from yowo_deploy.datasets.box_files import read_excluded, read_label_map, read_list, read_table
from yowo_deploy.datasets.box_table import frame_of
from yowo_deploy.datasets.class_names import parted
from yowo_deploy.datasets.formats.box_rows import Options
from yowo_deploy.datasets.importer import import_annotations, recognise
from yowo_deploy.errors import DatasetError
from yowo_deploy.metrics.detections_log import DetectionsFile
from yowo_deploy.metrics.frame_ap import FrameBoxes

NAMES = ["a,b", 'say "x"', "100% %s %d", "#1 cam", "[1] {2}", "a;b", "it's", "a\u2028b\u0085c\x0cd", "# a"]


@pytest.mark.parametrize("name", NAMES)
def test_videos_of_a_csv_may_be_called_anything(name: str, tmp_path: Path) -> None:
    file = tmp_path / "a.csv"
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerow([name, "902", "0.1", "0.2", "0.5", "0.6", "1", "0"])
    assert read_table(file, truth=True).videos == (name,)
    if name.isprintable():  # data.json refuses other names
        assert recognise(file) == "ava"
        assert import_annotations(file, "ava", Options(fps=1.0))[0].videos[0].name == name
    with file.open("w", newline="", encoding="utf-8") as stream:
        csv.writer(stream).writerow([name, "902"])
    assert read_excluded(file) == {(name, 902)}


def test_spreadsheets_write_semicolons_and_decimal_commas(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("\ufeffyard, left;1;0,1;0,2;0,5;0,9;1;0\r\n", encoding="utf-8")
    assert recognise(tmp_path / "a.csv") == "ava"
    [video] = import_annotations(tmp_path / "a.csv", "ava", Options(fps=1.0))[0].videos
    assert video.name == "yard, left"
    assert np.allclose(video.tubes[0].xyxy, [[0.1, 0.2, 0.5, 0.9]])


def test_a_hash_begins_a_comment_and_may_begin_a_name(tmp_path: Path) -> None:
    file = tmp_path / "detections.txt"
    file.write_text("# done 3 frames missing in 7\n#1_00001 1 0.5 1 2 3 4\n#note\n# 1 0.5 1 2 3 4\n")
    table = read_table(file, truth=False)
    assert (table.videos, len(table)) == (("#1",), 1)


@pytest.mark.parametrize("name", NAMES)
def test_detections_that_are_saved_are_resumed_and_scored_whatever_the_video_is_called(
    name: str, tmp_path: Path
) -> None:
    file = tmp_path / "detections.txt"
    boxes = FrameBoxes(np.array([4]), np.array([0]), np.array([[1, 2, 9, 8]], np.float32), np.array([0.5], np.float32))
    DetectionsFile(file, "stamp").add(name, boxes, 2)
    found, missing = DetectionsFile(file, "stamp").done[name]
    assert (found.frame.tolist(), found.xyxy.tolist(), missing) == ([4], [[1, 2, 9, 8]], 2)
    assert read_table(file, truth=False).frame.tolist() == [5]


def test_lists_have_a_name_a_line(tmp_path: Path) -> None:
    """With blanks, as folders of one's own have them, or UCF101's number of the class behind them."""
    file = tmp_path / "trainlist01.txt"
    file.write_text("Sit Down/v_Sit Down_g01.avi 3\r\nWalk/v_Walk_g01.avi 12\r\n\r\n")
    assert read_list(file) == ({"Sit Down_v_Sit Down_g01", "Walk_v_Walk_g01"}, set())
    file.write_text("labels/Sit Down/a b/00002.txt\n")
    assert read_list(file) == ({"Sit Down_a b"}, {("Sit Down_a b", 2)})
    (tmp_path / "labels" / "Sit Down" / "a b").mkdir(parents=True)
    (tmp_path / "labels" / "Sit Down" / "a b" / "00002.txt").write_text("1 1 2 3 4\n")
    assert read_table(file, truth=True).videos == ("Sit Down_a b",)


def test_class_lists_have_a_name_a_line(tmp_path: Path) -> None:
    (tmp_path / "classes.txt").write_text("walk, run\r\n#2\n\n[x]\n100%\u2028\x0cx", encoding="utf-8", newline="")
    assert list(read_label_map(tmp_path / "classes.txt").values()) == ["walk, run", "#2", "[x]", "100%\u2028\x0cx"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("walk, wave", ["walk", "wave"]),
        ("open (e.g., a window, a car door)", ["open (e.g., a window, a car door)"]),
        (
            "carry/hold (an object), open (e.g., a window), walk",
            ["carry/hold (an object)", "open (e.g., a window)", "walk"],
        ),
        ("walk,, walk ,", ["walk"]),
        ("", []),
        ("a, (b, c), [d, e", ["a", "(b, c)", "[d", "e"]),
        ("," * 300_000 + "a", ["a"]),  # minutes, where each comma looks for its bracket
    ],
)
def test_commas_in_brackets_part_nothing(text: str, expected: list[str]) -> None:
    assert parted(text) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("walk_video_00012", ("walk_video", 12)),
        ("a/b/7", ("a_b", 7)),
        ("a__7", ("a_", 7)),
        ("00012", ("", 12)),
        ("_3", ("", 3)),
        ("walk", ("walk", 0)),
        ("walk_", ("walk_", 0)),
        ("1" * 200_000 + "a", ("1" * 200_000 + "a", 0)),  # minutes, where each digit looks for the end
    ],
)
def test_a_frame_is_the_number_at_the_end_of_its_name(name: str, expected: tuple[str, int]) -> None:
    assert frame_of(name) == expected


@pytest.mark.parametrize("row", ["a 1 0.5 1_0 2 30 4", "a 1 0_5 1 2 30 4"])
def test_an_underscore_is_no_part_of_a_number(row: str, tmp_path: Path) -> None:
    """Python's own `float`, and numpy, take `1_0` for ten."""
    (tmp_path / "found.txt").write_text(f"{row}\n")
    with pytest.raises(DatasetError, match=r"found\.txt:1: .*expected numbers"):
        read_table(tmp_path / "found.txt", truth=False)
