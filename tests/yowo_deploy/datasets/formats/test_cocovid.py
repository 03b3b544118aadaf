"""CocoVID of other tools: converters of MOTChallenge (CenterTrack, ByteTrack: `convert_mot_to_coco.py`), and TAO.

Right values: COCO's format page (`iscrowd`), the converters' own lines (frame_id from 1, category -1 of people to
ignore, `val_half` that counts anew), MMTracking's documentation of CocoVID (frame_id from 0).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yowo_deploy.datasets.data_json import Annotations
from yowo_deploy.datasets.formats.box_rows import Options
from yowo_deploy.datasets.importer import import_annotations
from yowo_deploy.errors import DatasetError


def coco(first_id: int, first_picture: int | None, count: int = 4, videos: int = 1, **video: Any) -> dict[str, Any]:
    """Of videos v1, v2 of `count` frames, with one person who walks."""
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    for number in range(1, videos + 1):
        for frame in range(count):
            image = {"id": len(images) + 1, "video_id": number, "frame_id": first_id + frame}
            if first_picture is not None:
                image["file_name"] = f"v{number}/img1/{first_picture + frame:06d}.jpg"
            images.append(image)
            box = {"id": len(boxes) + 1, "image_id": image["id"], "category_id": 1, "track_id": 1}
            boxes.append(box | {"bbox": [1, 2, 30, 40], "iscrowd": 0})
    rows = [{"id": number, "file_name": f"v{number}"} | video for number in range(1, videos + 1)]
    return {"videos": rows, "images": images, "annotations": boxes, "categories": [{"id": 1, "name": "walk"}]}


def read(folder: Path, content: dict[str, Any]) -> tuple[Annotations, list[str]]:
    (folder / "a.json").write_text(json.dumps(content))
    return import_annotations(folder / "a.json", "cocovid", Options())


def frames(data: Annotations) -> list[list[int]]:
    return [tube.frames.tolist() for video in data.videos for tube in video.tubes]


@pytest.mark.parametrize(
    ("first_id", "first_picture", "expected", "said"),
    [
        (0, 0, 0, ""),  # MMTracking
        (0, 1, 0, ""),
        (1, 1, 0, "begin at 1: taken as the first frame"),  # CenterTrack, ByteTrack
        (1, 0, 0, "begin at 1: taken as the first frame"),
        (1, None, 0, "begin at 1: taken as the first frame"),
        (1, 2, 1, ""),  # frames from 0, of which the first was not looked at
        (5, 5, 5, "begin at 5: counted from 0"),
        (5, None, 5, "begin at 5: counted from 0"),
    ],
)
@pytest.mark.parametrize("videos", [1, 2])
def test_where_frame_numbers_begin_without_the_videos(
    first_id: int, first_picture: int | None, expected: int, said: str, videos: int, tmp_path: Path
) -> None:
    found, notes = read(tmp_path, coco(first_id, first_picture, videos=videos))
    assert frames(found) == [list(range(expected, expected + 4))] * videos
    assert [video.judged for video in found.videos if video.judged is not None] == [] or expected
    assert [note for note in notes if "frame numbers" in note and said in note] == notes[: bool(said)]


@pytest.mark.parametrize("of_file", [False, True])
def test_pictures_numbers_place_frame_numbers_that_count_anew(
    of_file: bool, tmp_path: Path, write_pictures: Callable[..., None], write_video: Callable[..., None]
) -> None:
    """ByteTrack's `val_half` of a sequence of 12 has frame_id 1 for 000007.jpg, which is frame 6."""
    if of_file:
        write_video(tmp_path / "v1.avi", frames=12)
    else:
        write_pictures(tmp_path / "v1" / "img1", range(1, 13), "{:06d}.jpg")
    found, notes = read(tmp_path, coco(1, 7))
    assert frames(found) == [[6, 7, 8, 9]]
    assert "frame numbers are those of the pictures, +5 (v1)" in notes


def test_a_folder_that_begins_with_another_number_counts_from_there(
    tmp_path: Path, write_pictures: Callable[..., None]
) -> None:
    write_pictures(tmp_path / "v1" / "img1", range(101, 113), "{:06d}.jpg")
    assert frames(read(tmp_path, coco(0, 101))[0]) == [[0, 1, 2, 3]]
    assert frames(read(tmp_path, coco(103, 103))[0]) == [[2, 3, 4, 5]]


def test_one_video_that_begins_at_0_says_that_all_do(tmp_path: Path) -> None:
    content = coco(1, None, videos=2)
    for image in content["images"][4:]:
        image["frame_id"] -= 1
    found, notes = read(tmp_path, content)
    assert frames(found) == [[1, 2, 3, 4], [0, 1, 2, 3]] and not notes


def test_one_video_that_begins_at_1_says_that_all_do_where_pictures_have_the_same_numbers(tmp_path: Path) -> None:
    content = coco(1, 1, videos=2)
    for image in content["images"][4:]:
        image["frame_id"] += 6
        image["file_name"] = f"v2/img1/{image['frame_id']:06d}.jpg"
    assert frames(read(tmp_path, content)[0]) == [[0, 1, 2, 3], [6, 7, 8, 9]]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"iscrowd": 1}, "1 areas to ignore (iscrowd)"),
        ({"ignore": 1}, "1 areas to ignore (ignore)"),
        ({"ignore": True}, "1 areas to ignore (ignore)"),
        ({"category_id": -1}, "1 areas to ignore (category_id -1)"),
    ],
)
def test_areas_to_ignore_are_nobody_and_counted(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    content = coco(0, 0)
    content["annotations"].append(
        {"id": 9, "image_id": 1, "category_id": 1, "track_id": 2, "bbox": [0, 0, 9, 9]} | change
    )
    found, notes = read(tmp_path, content)
    assert len(found.videos[0].tubes) == 1 and notes == [f"left out: {said}"]


def test_a_category_of_minus_1_that_is_declared_is_one(tmp_path: Path) -> None:
    content = coco(0, 0)
    content["categories"] = [{"id": -1, "name": "walk"}]
    for row in content["annotations"]:
        row["category_id"] = -1
    assert len(read(tmp_path, content)[0].videos[0].tubes) == 1


def test_names_and_frame_numbers_may_have_other_fields(tmp_path: Path) -> None:
    """`file_name` alone names a video in ByteTrack's; TAO numbers frames by `frame_index`."""
    content = coco(0, 0)
    for image in content["images"]:
        image["frame_index"] = image.pop("frame_id")
    found, _ = read(tmp_path, content)
    assert ([video.name for video in found.videos], frames(found)) == (["v1"], [[0, 1, 2, 3]])
    content["videos"][0]["file_name"] = "yard.mp4"
    assert [video.name for video in read(tmp_path, content)[0].videos] == ["yard"]


def test_pictures_of_a_sequence_are_found_below_its_folder(tmp_path: Path, write_pictures: Callable[..., None]) -> None:
    """`file_name` of the images, MOT17-02/img1/000001.jpg, names the folder; that of the video one without pictures."""
    write_pictures(tmp_path / "v1" / "img1", range(1, 13), "{:06d}.jpg")
    [video] = read(tmp_path, coco(1, 1))[0].videos
    assert (video.path, video.size_wh) == (tmp_path / "v1" / "img1", (64, 48))


def test_a_person_may_be_named_among_the_attributes(tmp_path: Path) -> None:
    """As CVAT and Datumaro write it; two people who stand in one place would be one by overlap."""
    content = coco(0, None)
    others = [row | {"id": 9 + row["id"]} for row in content["annotations"]]
    content["annotations"] += others
    for row, person in zip(content["annotations"], [3] * 4 + [5] * 4, strict=True):
        del row["track_id"]
        row["attributes"] = {"occluded": False, "track_id": person}
    found, notes = read(tmp_path, content)
    assert [tube.tracker_id for tube in found.videos[0].tubes] == [3, 5] and not notes


def test_an_empty_table_is_reported_as_such(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="video_id 1 is not there, expected none: that table is empty"):
        read(tmp_path, coco(0, None) | {"videos": []})


@pytest.mark.parametrize("word", [False, 0, "0", "false", "False", None])
def test_what_is_not_to_be_ignored_is_somebody(word: Any, tmp_path: Path) -> None:
    content = coco(0, None)
    for row in content["annotations"]:
        row["iscrowd"] = word
    assert frames(read(tmp_path, content)[0]) == [[0, 1, 2, 3]]
