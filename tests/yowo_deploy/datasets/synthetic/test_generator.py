"""The synthetic data set: what is written is read again, and only the order of frames parts the reversed pairs."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from yowo_deploy.arrays import Float, Frame
from yowo_deploy.datasets.base import AnnotatedVideo, Split
from yowo_deploy.datasets.registry import open_dataset
from yowo_deploy.datasets.synthetic import generator
from yowo_deploy.datasets.synthetic.generator import (
    ANNOTATIONS,
    SIZE_WH,
    Scene,
    Synthetic,
    labelled_boxes,
    make_scene,
    make_synthetic,
    render,
)
from yowo_deploy.datasets.synthetic.stick_figures import FIRST_LABELLED, FRAMES, LABELS, REVERSED
from yowo_deploy.errors import DatasetError, OutputError

SPLITS: tuple[Split, ...] = ("train", "test")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Six videos to train on and six to test on."""
    made = tmp_path_factory.mktemp("synthetic")
    make_synthetic(made, 6, 6, seed=1)
    return made


@pytest.fixture(scope="module")
def all_videos(folder: Path) -> list[AnnotatedVideo]:
    return [video for split in SPLITS for video in Synthetic(folder).videos(split)]


def scene_of(label: str, seed: int = 0) -> Scene:
    return make_scene(np.random.default_rng(seed), label)


def frames_of(path: Path) -> Iterator[Frame]:
    capture = cv2.VideoCapture(str(path), cv2.CAP_FFMPEG)
    while (read := capture.read())[0]:
        yield np.asarray(read[1], np.uint8)


def contents(folder: Path) -> dict[str, bytes]:
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def test_the_same_seed_gives_the_same_files_and_another_seed_others(folder: Path, tmp_path: Path) -> None:
    make_synthetic(tmp_path / "same", 6, 6, seed=1)
    make_synthetic(tmp_path / "other", 6, 6, seed=2)
    first, same, other = (contents(made) for made in (folder, tmp_path / "same", tmp_path / "other"))
    assert same == first
    assert other.keys() == first.keys()
    assert not [name for name in first if other[name] == first[name]]


def test_a_video_does_not_depend_on_how_many_are_made(folder: Path, tmp_path: Path) -> None:
    make_synthetic(tmp_path, 1, 2, seed=1)
    full = contents(folder)
    assert all(full[name] == content for name, content in contents(tmp_path).items() if name.endswith(".avi"))


def test_every_class_occurs_in_both_splits(folder: Path) -> None:
    for split in SPLITS:
        videos = Synthetic(folder).videos(split)
        assert len(videos) == 6
        assert {LABELS[tube.class_id] for video in videos for tube in video.tubes} == set(LABELS)


def test_train_and_test_share_no_video(folder: Path) -> None:
    paths = [{video.path.read_bytes() for video in Synthetic(folder).videos(split)} for split in SPLITS]
    assert not paths[0] & paths[1]


def test_every_labelled_frame_has_seven_before_it(all_videos: list[AnnotatedVideo]) -> None:
    for tube in (tube for video in all_videos for tube in video.tubes):
        assert tube.frames.tolist() == list(range(7, FRAMES))


def test_videos_decode_to_what_is_annotated(all_videos: list[AnnotatedVideo]) -> None:
    for video in all_videos:
        assert [frame.shape for frame in frames_of(video.path)] == [(SIZE_WH[1], SIZE_WH[0], 3)] * video.frames


def test_boxes_have_an_area_and_lie_in_the_frame(all_videos: list[AnnotatedVideo]) -> None:
    for tube in (tube for video in all_videos for tube in video.tubes):
        assert tube.xyxy.dtype == np.float32
        assert tube.xyxy.min() >= 0
        assert np.all(tube.xyxy <= SIZE_WH * 2)
        assert np.all(tube.xyxy[:, 2:] - tube.xyxy[:, :2] > 8)


def test_one_to_three_people_keep_clear_of_each_other(all_videos: list[AnnotatedVideo]) -> None:
    crowds = [len(video.tubes) for video in all_videos]
    assert min(crowds) >= 1
    assert 2 <= max(crowds) <= 3
    for video in all_videos:
        for one, other in itertools.combinations(video.tubes, 2):
            shared = np.minimum(one.xyxy, other.xyxy)[:, 2] - np.maximum(one.xyxy, other.xyxy)[:, 0]
            assert shared.max() <= 4.02  # as promised, and the rounding of two sides


@pytest.mark.parametrize(("backward", "forward"), REVERSED.items())
def test_a_reversed_action_is_the_film_played_backwards(backward: str, forward: str) -> None:
    scene = scene_of(forward)
    still = scene._replace(camera_xy=np.zeros_like(scene.camera_xy), people=scene.people[:1])
    film = list(render(still))[FIRST_LABELLED:]
    reversed_film = list(render(still._replace(people=(still.people[0]._replace(label=backward),))))[FIRST_LABELLED:]
    assert np.array_equal(reversed_film, film[::-1])
    assert not np.array_equal(reversed_film, film)


def test_all_but_the_action_is_drawn_without_regard_to_it() -> None:
    for seed in range(3):
        scenes = [scene_of(label, seed) for label in LABELS]
        for scene in scenes:
            assert np.array_equal(scene.camera_xy, scenes[0].camera_xy)
            assert np.array_equal(scene.backdrop, scenes[0].backdrop)
            assert scene.people[0]._replace(label="", ground_xy=(0, 0)) == scenes[0].people[0]._replace(
                label="", ground_xy=(0, 0)
            )


def test_the_first_person_does_what_was_asked_for() -> None:
    for seed, label in itertools.product(range(8), LABELS):
        assert scene_of(label, seed).people[0].label == label


@pytest.mark.parametrize("label", [label for label in LABELS if label not in ("sit_down", "stand_up")])  # no chair
def test_what_a_person_changes_in_the_picture_fills_the_box(label: str) -> None:
    scene = scene_of(label, seed=4)
    alone = scene._replace(people=scene.people[:1])
    boxes = np.clip(labelled_boxes(alone.people[0], alone.camera_xy), 0, SIZE_WH * 2)
    shown, empty = (list(render(s))[FIRST_LABELLED:] for s in (alone, alone._replace(people=())))
    for frame, nobody, box in zip(shown, empty, boxes, strict=True):
        rows, columns = np.nonzero((frame != nobody).any(axis=2))
        changed = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(changed, box, atol=1.5)  # a pixel that is half covered, and paint's rounding


def test_the_camera_moves_and_stays_on_the_backdrop() -> None:
    for seed in range(20):
        scene = scene_of("wave", seed)
        assert np.ptp(scene.camera_xy[:, 0]) > 0
        assert all(frame.shape == (SIZE_WH[1], SIZE_WH[0], 3) for frame in render(scene._replace(people=())))
        assert np.abs(scene.camera_xy).max() <= generator._MARGIN


def test_the_anchors_fit_boxes_they_were_not_made_from(all_videos: list[AnnotatedVideo]) -> None:
    boxes: Float = np.concatenate([tube.xyxy for video in all_videos for tube in video.tubes])
    cells = (boxes[:, 2:] - boxes[:, :2]) * np.array(Synthetic.anchor_grid) / np.array(SIZE_WH)
    anchors = np.array(Synthetic.anchors)
    shared = np.minimum(cells[:, None], anchors).prod(axis=2)
    ious = shared / (cells.prod(axis=1)[:, None] + anchors.prod(axis=1) - shared)
    assert ious.max(axis=1).mean() > 0.8  # 0.86 where they were made from; anchors in another unit are below 0.5


def test_it_opens_by_its_name(folder: Path) -> None:
    dataset = open_dataset("synthetic", folder)
    assert isinstance(dataset, Synthetic)
    assert dataset.labels == LABELS


def test_a_folder_left_half_way_cannot_be_opened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(scene: Scene) -> Iterator[Frame]:
        raise KeyboardInterrupt

    make_synthetic(tmp_path, 1, 0)
    monkeypatch.setattr(generator, "render", fails)
    with pytest.raises(KeyboardInterrupt):
        make_synthetic(tmp_path, 2, 0)
    with pytest.raises(DatasetError, match="not found"):
        Synthetic(tmp_path)


def _without(key: str) -> Callable[[str], str]:
    return lambda text: json.dumps({name: value for name, value in json.loads(text).items() if name != key})


@pytest.mark.parametrize(
    ("spoil", "expected"),
    [
        (lambda text: text[:-2], "is no JSON"),
        (lambda text: "[]", "has no .format."),
        (_without("videos"), "videos: null, expected a list"),
        (_without("tubes"), "tubes: null, expected a list"),
        (lambda text: text.replace('"class": "sit_down"', '"class": "fly"'), 'class "fly" is none of'),
        (lambda text: text.replace('"train": ["train_0000"', '"train": ["third"'), "video 'third' is not among"),
        (lambda text: text.replace('"boxes": [[', '"boxes": [[0], ['), "boxes are not lists of four numbers"),
        (lambda text: text.replace("train_0000.avi", "gone.avi"), "gone.avi not found"),
    ],
)
def test_broken_annotations_are_refused(
    folder: Path, tmp_path: Path, spoil: Callable[[str], str], expected: str
) -> None:
    text = (folder / ANNOTATIONS).read_text(encoding="utf-8")
    (tmp_path / "videos").symlink_to(folder / "videos")
    (tmp_path / ANNOTATIONS).write_text(text, encoding="utf-8")
    assert len(Synthetic(tmp_path).videos("train")) == 6
    (tmp_path / ANNOTATIONS).write_text(spoil(text), encoding="utf-8")
    with pytest.raises(DatasetError, match=expected):
        Synthetic(tmp_path)


def test_there_is_one_split_only(folder: Path) -> None:
    with pytest.raises(DatasetError, match="no split 2"):
        Synthetic(folder, 2)


def test_a_folder_that_cannot_be_made_is_an_output_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="choose another folder"):
        make_synthetic(tmp_path / "file" / "data")
