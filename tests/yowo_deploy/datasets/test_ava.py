"""AVA: seconds become frames of the file at hand, a box carries all its labels, exclusions are kept to."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yowo_deploy.datasets import open_dataset
from yowo_deploy.errors import DatasetError
from yowo_deploy.video.suffixes import VIDEO_SUFFIXES

ROWS = """film,0902,0.1,0.2,0.5,0.9,12,0
film,0902,0.1,0.2,0.5,0.9,17,0
film,0903,0.1,0.2,0.5,0.9,12,0
film,0904,0.6,0.2,0.9,0.9,80,1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "ava_val_v2.2.csv").write_text(ROWS)
    return tmp_path


def test_a_box_is_there_once_for_each_of_its_labels(folder: Path, write_pictures: Callable[..., None]) -> None:
    write_pictures(folder / "frames" / "film", range(1, 100), "film_{:06d}.png")
    [video] = open_dataset("ava", folder).videos("test")
    assert video.path == folder / "frames" / "film"
    boxes, class_id = video.at(60)  # 902 s, where frames begin at 900 s with 30 a second
    assert class_id.tolist() == [11, 16]
    assert boxes == pytest.approx(np.array([[0.1, 0.2, 0.5, 0.9]] * 2))
    assert video.at(120)[1].tolist() == [79] and video.size_wh == (1, 1)
    assert video.annotated_frames().tolist() == [60, 90, 120]


@pytest.mark.parametrize("suffix", [*VIDEO_SUFFIXES, ".MKV"])
def test_a_film_is_found_under_every_suffix_of_a_video(
    suffix: str, folder: Path, write_video: Callable[..., None]
) -> None:
    path = folder / "films" / f"film{suffix}"
    write_video(path.with_suffix(".avi"))
    path.with_suffix(".avi").rename(path)
    [video] = open_dataset("ava", folder).videos("test")
    assert video.path == path


def test_frames_that_a_row_names_are_judged_but_the_excluded_ones(folder: Path) -> None:
    """So does AVA's evaluator: what is found in frames that no row of the truth names does not count."""
    (folder / "ava_val_excluded_timestamps_v2.2.csv").write_text("film,0903\nfilm,1798\n")
    (folder / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").write_text('item {\n  name: "sit"\n  id: 12\n}\n')
    with (folder / "ava_val_v2.2.csv").open("a") as stream:
        stream.write("film,0906\nfilm,1798\nbare,0905.5\n")
    film, bare = open_dataset("ava", folder).videos("test")
    assert film.judged_frames().tolist() == [902 * 30, 904 * 30, 906 * 30]  # no file: the whole film is assumed
    assert film.judged_s == (902, 904, 906) and film.annotated_frames().tolist() == [902 * 30]  # class 80 is left out
    assert (bare.name, bare.judged_frames().tolist(), bare.judged_s, bare.tubes) == ("bare", [27165], (905.5,), ())


def test_classes_that_the_official_evaluation_leaves_out_are_left_out_to_test(folder: Path) -> None:
    (folder / "ava_action_list_v2.2_for_activitynet_2019.pbtxt").write_text('item {\n  name: "sit"\n  id: 12\n}\n')
    (folder / "ava_train_v2.2.csv").write_text(ROWS)
    dataset = open_dataset("ava", folder)
    assert dataset.judged_classes == (11,)
    assert {tube.class_id for video in dataset.videos("test") for tube in video.tubes} == {11}
    assert {tube.class_id for video in dataset.videos("train") for tube in video.tubes} == {11, 16, 79}


def test_what_is_missing_is_named(folder: Path) -> None:
    with pytest.raises(DatasetError, match=r"ava_train_v2.2\.csv not found, needed for the train split"):
        open_dataset("ava", folder).videos("train")
    with pytest.raises(DatasetError, match="AVA has one split, not 2"):
        open_dataset("ava", folder, 2)


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ("film,0897,0.1,0.2,0.5,0.9,12,0", "ava_val_v2.2.csv:5: the second is not in 902 to 1798"),
        ("film,1e30,0.1,0.2,0.5,0.9,12,0", "ava_val_v2.2.csv:5: the frame's number is not"),
        ("film,0905,20,10,50,40,12,0", "ava_val_v2.2.csv:5: a corner is not in 0 to 1"),
        ("film,0905,0.1,0.2,0.5,0.9,81,0", "ava_val_v2.2.csv:5: class '81' is not known"),
    ],
)
def test_a_row_that_cannot_be_is_named(row: str, expected: str, folder: Path) -> None:
    with (folder / "ava_val_v2.2.csv").open("a") as stream:
        stream.write(row + "\n")
    with pytest.raises(DatasetError, match=expected):
        open_dataset("ava", folder).videos("test")
