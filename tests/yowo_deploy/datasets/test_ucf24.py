"""UCF101-24 in its two layouts: tubes and pixels as they are meant, whatever is missing named."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yowo_deploy.datasets import open_dataset, split_present
from yowo_deploy.errors import DatasetError
from yowo_deploy.video.suffixes import VIDEO_SUFFIXES

ANNOTATIONS: dict[str, Any] = {
    "Biking/v_Biking_g01_c01": {
        "label": 2,
        "numf": 9,
        "annotations": [
            {"label": 2, "sf": 3, "ef": 5, "boxes_xywh": [[11, 21, 30, 40], [12, 22, 30, 40]]},
            {"label": 2, "sf": 0, "ef": 1, "boxes_xywh": [[1, 1, 5, 6]]},
        ],
    },
    "Diving/v_Diving_g02_c03": {
        "label": 5,
        "numf": 4,
        "annotations": [{"label": 5, "sf": 0, "ef": 1, "boxes_xywh": [[1, 1, 2, 2]]}],
    },
}


@pytest.fixture
def with_json(tmp_path: Path) -> Path:
    (tmp_path / "pyannot.json.gz").write_bytes(gzip.compress(json.dumps(ANNOTATIONS).encode()))
    (tmp_path / "testlist01.txt").write_text("Diving/v_Diving_g02_c03\n")
    return tmp_path


@pytest.fixture
def with_labels(tmp_path: Path, write_pictures: Callable[..., None]) -> Path:
    write_pictures(tmp_path / "rgb-images" / "Biking" / "v_Biking_g01_c01", range(1, 6))
    labels = tmp_path / "labels" / "Biking" / "v_Biking_g01_c01"
    labels.mkdir(parents=True)
    for frame in (1, 2, 4):
        (labels / f"{frame:05d}.txt").write_text(f"3 {frame} 10 60 100\n3 200 10 260 {100 + frame}\n")
    lines = [f"data/labels/Biking/v_Biking_g01_c01/{frame:05d}.txt\n" for frame in (1, 2, 2, 4)]
    (tmp_path / "trainlist.txt").write_text("".join(lines))
    return tmp_path


def test_the_json_counts_frames_from_zero_and_pixels_from_one(with_json: Path) -> None:
    dataset = open_dataset("ucf24", with_json)
    [video] = dataset.videos("train")
    assert (video.name, video.group) == ("Biking_v_Biking_g01_c01", "Biking_v_Biking_g01")
    assert [(t.class_id, t.frames.tolist(), t.xyxy.tolist()) for t in video.tubes] == [
        (2, [3, 4], [[10, 20, 40, 60], [11, 21, 41, 61]]),
        (2, [0], [[0, 0, 5, 6]]),
    ]
    assert video.size_wh == (320, 240)
    assert [video.name for video in dataset.videos("test")] == ["Diving_v_Diving_g02_c03"]


@pytest.mark.parametrize(
    "place", ["videos/Diving/{}.avi", *("Diving/{}" + suffix for suffix in VIDEO_SUFFIXES), "{}.MP4"]
)
def test_videos_are_found_wherever_they_lie(place: str, with_json: Path) -> None:
    path = with_json / place.format("v_Diving_g02_c03")
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    dataset = open_dataset("ucf24", with_json)
    assert [video.path for video in dataset.videos("test")] == [path]
    assert split_present(dataset.videos("test"))[1] == 0
    with pytest.raises(DatasetError, match=r"none of the 1 videos exists: .*v_Biking_g01_c01\.avi not found"):
        split_present(dataset.videos("train"))


def test_labels_without_persons_become_tubes_by_overlap(with_labels: Path) -> None:
    [video] = open_dataset("ucf24", with_labels).videos("train")
    assert video.path == with_labels / "rgb-images" / "Biking" / "v_Biking_g01_c01"
    assert [(tube.class_id, tube.frames.tolist(), tube.xyxy[:, 0].tolist()) for tube in video.tubes] == [
        (2, [0, 1], [1, 2]),
        (2, [0, 1], [200, 200]),
        (2, [3], [4]),
        (2, [3], [200]),
    ]
    assert video.annotated_frames().tolist() == [0, 1, 3]


def test_a_list_that_is_missing_is_named(with_labels: Path) -> None:
    with pytest.raises(DatasetError, match=r"testlist01\.txt not found, needed for split 1"):
        open_dataset("ucf24", with_labels).videos("test")
    with pytest.raises(DatasetError, match=r"trainlist02\.txt not found, needed for split 2"):
        open_dataset("ucf24", with_labels, 2).videos("train")


def test_a_class_of_another_data_set_is_refused(with_labels: Path) -> None:
    label = with_labels / "labels" / "Biking" / "v_Biking_g01_c01" / "00001.txt"
    label.write_text("25 0 0 5 5\n")
    with pytest.raises(DatasetError, match=r"00001\.txt:1: class '25' is not known"):
        open_dataset("ucf24", with_labels).videos("train")


def test_lists_may_name_files(with_json: Path) -> None:
    (with_json / "testlist01.txt").write_text("Diving/v_Diving_g02_c03.avi\n")
    assert [video.name for video in open_dataset("ucf24", with_json).videos("test")] == ["Diving_v_Diving_g02_c03"]
    (with_json / "testlist01.txt").write_text("".join(f"{name}\n" for name in ANNOTATIONS))
    dataset = open_dataset("ucf24", with_json)
    assert len(dataset.videos("test")) == 2
    with pytest.raises(DatasetError, match=r"no annotated video is in the train split that .*testlist01\.txt makes"):
        dataset.videos("train")


def test_pictures_that_do_not_begin_with_number_one_are_refused(with_labels: Path) -> None:
    (with_labels / "rgb-images" / "Biking" / "v_Biking_g01_c01" / "00001.png").unlink()
    with pytest.raises(DatasetError, match="begins with picture 2, expected 1"):
        open_dataset("ucf24", with_labels).videos("train")


@pytest.mark.parametrize("field", ["sf", "label"])
@pytest.mark.parametrize("value", [0.6, True, "1_0", None])
def test_no_number_is_cut_to_fit(field: str, value: Any, with_json: Path) -> None:
    broken = json.loads(json.dumps(ANNOTATIONS))
    broken["Diving/v_Diving_g02_c03"]["annotations"][0][field] = value
    (with_json / "pyannot.json.gz").write_bytes(gzip.compress(json.dumps(broken).encode()))
    with pytest.raises(DatasetError, match="expected a whole number"):
        open_dataset("ucf24", with_json).videos("test")


@pytest.mark.parametrize("start", [-1, 1e30])
def test_a_tube_that_begins_before_its_video_is_refused(start: float, with_json: Path) -> None:
    broken = json.loads(json.dumps(ANNOTATIONS))
    broken["Diving/v_Diving_g02_c03"]["annotations"][0]["sf"] = start
    (with_json / "pyannot.json.gz").write_bytes(gzip.compress(json.dumps(broken).encode()))
    with pytest.raises(DatasetError):
        open_dataset("ucf24", with_json).videos("test")


def test_both_real_layouts_say_the_same_of_the_same_video(data_dir: Path) -> None:
    json_side = {video.name: video for video in open_dataset("ucf24", data_dir / "ucf24").videos("test")}
    release = open_dataset("ucf24", data_dir / "ucf24_lite" / "data" / "ucf-24-lite")
    [video] = release.videos("test")
    [whole] = json_side[video.name].tubes
    assert len(json_side) == 910 and sum(video.path.exists() for video in json_side.values()) == 9
    for tube in video.tubes:
        assert tube.class_id == whole.class_id
        np.testing.assert_array_equal(tube.xyxy, whole.xyxy[np.searchsorted(whole.frames, tube.frames)])
