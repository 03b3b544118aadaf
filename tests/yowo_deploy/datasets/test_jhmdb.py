"""J-HMDB-21: its own annotations, and files that are none."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yowo_deploy.datasets import AnnotatedVideo, Split, open_dataset
from yowo_deploy.datasets.jhmdb import ANCHORS, Jhmdb21
from yowo_deploy.errors import DatasetError
from yowo_deploy.video.reader import VideoReader

SPLITS: tuple[Split, ...] = ("train", "test")
SMALL: dict[str, Any] = {
    "labels": ["walk", "sit"],
    "train_videos": [["walk/a_b_1"], ["sit/c_12"]],
    "test_videos": [["sit/c_12"], ["walk/a_b_1"]],
    "nframes": {"walk/a_b_1": 3, "sit/c_12": 2},
    "gttubes": {
        "walk/a_b_1": {"0": [[[1, 10, 20, 30, 40], [2, 11, 21, 31, 41], [3, 12, 22, 32, 42]]]},
        "sit/c_12": {"1": [[[1, 1, 2, 3, 4]], [[1, 5, 6, 7, 8], [2, 6, 7, 8, 9]]]},
    },
}


def write(folder: Path, content: bytes) -> None:
    (folder / "JHMDB-GT.json.gz").write_bytes(content)


def packed(values: Any) -> bytes:
    return gzip.compress(json.dumps(values).encode(), mtime=0)


def test_annotations_are_read_with_frames_from_zero(tmp_path: Path) -> None:
    write(tmp_path, packed(SMALL))
    dataset = Jhmdb21(tmp_path)
    assert dataset.labels == ("walk", "sit")
    [walk], [sit] = dataset.videos("train"), dataset.videos("test")
    assert (walk.name, walk.group, walk.frames) == ("walk/a_b_1", "walk/a_b", 3)
    assert walk.path == tmp_path / "videos" / "walk" / "a_b_1.avi"
    [tube] = walk.tubes
    assert (tube.class_id, tube.frames.tolist()) == (0, [0, 1, 2])
    assert tube.xyxy.tolist() == [[10, 20, 31, 41], [11, 21, 32, 42], [12, 22, 33, 43]]  # edges, not last pixels
    assert (tube.frames.dtype, tube.xyxy.dtype) == (np.int64, np.float32)
    assert [(each.class_id, each.frames.tolist(), each.xyxy.tolist()) for each in sit.tubes] == [
        (1, [0], [[1, 2, 4, 5]]),
        (1, [0, 1], [[5, 6, 8, 9], [6, 7, 9, 10]]),
    ]


def test_splits_count_from_one(tmp_path: Path) -> None:
    write(tmp_path, packed(SMALL))
    assert [video.name for video in Jhmdb21(tmp_path, 2).videos("train")] == ["sit/c_12"]
    for split in (0, 3, -1):
        with pytest.raises(DatasetError, match=f"no split {split}, expected 1 to 2"):
            Jhmdb21(tmp_path, split)


def test_the_folders_of_the_release_are_read_as_well(tmp_path: Path, write_pictures: Callable[..., None]) -> None:
    write_pictures(tmp_path / "rgb-images" / "walk" / "a_b_1", range(1, 4))
    (tmp_path / "labels" / "walk" / "a_b_1").mkdir(parents=True)
    (tmp_path / "labels" / "walk" / "a_b_1" / "00002.txt").write_text("20 10 20 30 40\n")
    (tmp_path / "testlist.txt").write_text("labels/walk/a_b_1/00002.txt\n")
    dataset = open_dataset("jhmdb21", tmp_path)
    [video] = dataset.videos("test")
    assert (video.name, video.group, video.size_wh) == ("walk_a_b_1", "walk_a_b", (320, 240))
    [tube] = video.tubes
    assert (dataset.labels[tube.class_id], tube.frames.tolist(), tube.xyxy.tolist()) == (
        "walk",
        [1],
        [[10, 20, 30, 40]],
    )


SOUND = packed(SMALL)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "cannot be read"),
        (b"not compressed", "cannot be read .*fetch it again"),
        (SOUND[:-20], "cannot be read"),
        (SOUND[:30] + bytes([SOUND[30] ^ 0xFF, SOUND[31] ^ 0xFF, SOUND[32] ^ 0xFF]) + SOUND[33:], "cannot be read"),
        (gzip.compress(b"\xff\xfe\x00", mtime=0), "cannot be read"),
        (gzip.compress(b"{", mtime=0), "cannot be read"),
        (packed([]), "lacks labels, train_videos, test_videos, nframes, gttubes; is it the J-HMDB-21"),
        (packed(None), "lacks labels"),
        (packed({**SMALL, "train_videos": 5}), "lacks train_videos"),
        (packed({name: SMALL[name] for name in SMALL if name != "labels"}), "lacks labels; is it"),
    ],
)
def test_a_broken_annotation_file_is_refused(content: bytes, expected: str, tmp_path: Path) -> None:
    write(tmp_path, content)
    with pytest.raises(DatasetError, match=expected):
        Jhmdb21(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"nframes": {}},
        {"gttubes": {}},
        {"gttubes": {"walk/a_b_1": []}},
        {"gttubes": {"walk/a_b_1": {"zero": [[[1, 2, 3, 4, 5]]]}}},
        {"gttubes": {"walk/a_b_1": {"0": [[[1, 2]]]}}},
        {"train_videos": [[5]]},
        {"test_videos": []},
    ],
)
def test_annotations_that_do_not_fit_together_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    write(tmp_path, packed({**SMALL, **change}))
    with pytest.raises(DatasetError, match="do not fit together"):
        [Jhmdb21(tmp_path).videos(split) for split in SPLITS]


@pytest.fixture(scope="module")
def real(data_dir: Path) -> dict[Split, Sequence[AnnotatedVideo]]:
    """Both sides of the first official split."""
    dataset = open_dataset("jhmdb21", data_dir / "jhmdb21")
    assert len(dataset.labels) == 21
    assert dataset.anchors == ANCHORS
    return {split: dataset.videos(split) for split in SPLITS}


def test_the_official_split_has_its_videos_once(real: dict[Split, Sequence[AnnotatedVideo]]) -> None:
    assert [len(real[split]) for split in SPLITS] == [660, 268]  # the data set's own figures
    names = [video.name for split in SPLITS for video in real[split]]
    assert len(set(names)) == len(names) == 928
    assert all(video.path.is_file() for split in SPLITS for video in real[split])


def test_boxes_are_tubes_in_pixels_of_the_frame(real: dict[Split, Sequence[AnnotatedVideo]]) -> None:
    for video in (video for split in SPLITS for video in real[split]):
        assert len(video.tubes) > 0
        for tube in video.tubes:
            assert np.all(np.diff(tube.frames) > 0)
            assert 0 <= tube.frames[0] <= tube.frames[-1] < video.frames
            assert 0 <= tube.class_id < 21
            assert np.all(tube.xyxy[:, :2] < tube.xyxy[:, 2:])
            assert np.all((tube.xyxy >= 0) & (tube.xyxy <= [320, 240, 320, 240]))


def test_the_annotations_fit_the_videos(real: dict[Split, Sequence[AnnotatedVideo]]) -> None:
    for video in real["test"][::90]:
        with VideoReader(video.path) as reader:
            assert reader.size_wh == (320, 240)
            assert len(list(reader)) == video.frames


def test_the_releases_truth_is_the_same_but_for_its_way_to_count_pixels(
    real: dict[Split, Sequence[AnnotatedVideo]], reference_dir: Path
) -> None:
    """Rows of `<class>_<name>_<frame from 1> <class from 1> <corners>`."""
    with gzip.open(reference_dir / "detections" / "jhmdb21_yowo" / "groundtruths.txt.gz", "rt") as stream:
        rows = [line.split() for line in stream]
    by_name = {video.name.replace("/", "_"): video for video in real["test"]}
    assert len(rows) == 9126
    for key, class_id, *corners in rows[::9]:
        name, _, frame = key.rpartition("_")
        boxes, class_ids = by_name[name].at(int(frame) - 1)
        assert class_ids.tolist() == [int(class_id) - 1]
        # Counted from 1, but never out of the frame.
        counted = np.minimum(boxes[0] + 1, [320, 240, 320, 240])
        assert counted.tolist() == [float(side) for side in corners]


@pytest.mark.parametrize(
    ("tube", "frames", "said"),
    [
        ([[1.6, 1, 2, 3, 4]], 2, "a whole frame"),
        ([1, 1, 2, 3, 4], 2, r"a tube of shape \(5,\)"),
        ([[1, 1, 2, 3, 4, 5]] * 5, 2, r"a tube of shape \(5, 6\)"),
        ([[1, 1, 2, 3, 4]], 2.5, "2.5, expected a whole number"),
        ([[1, 1, 2, 3, 4]], True, "True, expected a whole number"),
    ],
)
def test_no_number_is_cut_to_fit(tube: Any, frames: Any, said: str, tmp_path: Path) -> None:
    lengths, tubes = {**SMALL["nframes"], "sit/c_12": frames}, {**SMALL["gttubes"], "sit/c_12": {"1": [tube]}}
    write(tmp_path, packed({**SMALL, "nframes": lengths, "gttubes": tubes}))
    with pytest.raises(DatasetError, match=said):
        Jhmdb21(tmp_path).videos("test")
