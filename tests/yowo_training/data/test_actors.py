"""Pasted actors: where they lie, what they leave of the clip below them, and what becomes of the boxes."""

from __future__ import annotations

from dataclasses import replace
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets import AnnotatedVideo
from yowo_deploy.errors import DatasetError
from yowo_deploy.spec import ModelSpec
from yowo_training.data.actors import (
    LARGEST,
    SMALLEST,
    Actors,
    Placement,
    Silhouettes,
    draw_placement,
    paste,
    still_seen,
)
from yowo_training.data.clip_sampler import FrameCache, batches, sample
from yowo_training.loss import IGNORED, UNKNOWN
from yowo_training.recipes import find_recipe

SIZE = (80, 60)  # of the videos here: a mask has a value for each pixel
INPUT = (128, 96)
SPEC = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=4, input_size=INPUT)
RECIPE = replace(find_recipe("yowo-tiny"), batch=3, jitter=0.0, colour=0.0, train_strides=(1,), paste=1.0)
FRAMES = 6


def square(at: int, value: int) -> np.ndarray:
    """A frame of nothing but a square of 16 pixels, which walks."""
    frame = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
    frame[20:36, at : at + 16] = value
    return frame


def write_walker(path: Path, class_id: int, first: int, value: int) -> AnnotatedVideo:
    """A bright square that walks by two pixels a frame, its tube around it."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 10, SIZE)
    for index in range(FRAMES):
        writer.write(square(first + 2 * index, value))
    writer.release()
    left = first + 2 * np.arange(FRAMES)
    boxes = np.stack([left, np.full(FRAMES, 20), left + 16, np.full(FRAMES, 36)], axis=1).astype(np.float32)
    return AnnotatedVideo(path.stem, path.stem, path, FRAMES, (Tube(class_id, np.arange(FRAMES), boxes),))


def write_silhouettes(path: Path, videos: list[AnnotatedVideo]) -> Silhouettes:
    """The squares, as masks."""
    masks = []
    for video in videos:
        for left, top, right, bottom in video.tubes[0].xyxy.astype(int):
            mask = np.zeros((60, 80), np.uint8)
            mask[top:bottom, left:right] = 1
            masks.append(np.packbits(mask.reshape(-1)))
    names, starts = np.array([video.name for video in videos]), FRAMES * np.arange(len(videos) + 1)
    np.savez_compressed(path, videos=names, starts=starts, masks=np.stack(masks))
    return Silhouettes(path)


@pytest.fixture
def videos(tmp_path: Path) -> list[AnnotatedVideo]:
    return [write_walker(tmp_path / "a.mkv", 0, 4, 120), write_walker(tmp_path / "b.mkv", 1, 40, 240)]


@pytest.fixture
def silhouettes(videos: list[AnnotatedVideo], tmp_path: Path) -> Silhouettes:
    return write_silhouettes(tmp_path / "masks.npz", videos)


def test_silhouettes_come_back_frame_by_frame(videos: list[AnnotatedVideo], silhouettes: Silhouettes) -> None:
    masks = silhouettes.of("b", [0, 3, 5, 9])
    for mask, frame in zip(masks, (0, 3, 5, 5), strict=True):
        left, top, right, bottom = videos[1].tubes[0].xyxy[frame].astype(int)
        assert set(np.unique(mask).tolist()) == {0, 255} and (mask > 0).sum() == 16 * 16
        assert mask[top:bottom, left:right].all()
    assert "a" in silhouettes and "c" not in silhouettes


@pytest.mark.parametrize(
    "fault",
    ["text", "absent", "starts", "masks", "names", "falling", "floats", "twice", "one name", "no bytes"],
)
def test_what_is_no_file_of_silhouettes_is_refused(silhouettes: Silhouettes, tmp_path: Path, fault: str) -> None:
    with np.load(tmp_path / "masks.npz") as archive:
        content = dict(archive)
    path = tmp_path / "bad.npz"
    if fault == "absent":
        del content["starts"]
    if fault == "starts":
        content["starts"] = content["starts"][:-1]
    if fault == "falling":
        content["starts"] = np.array([0, 2 * FRAMES, 2 * FRAMES])  # nothing is left of the second
    if fault == "masks":
        content["masks"] = content["masks"][:, :-1]
    if fault == "floats":
        content["starts"] = content["starts"].astype(float)
    if fault == "twice":
        content["videos"][:] = "a"
    if fault == "one name":
        content["videos"] = np.array("a")
    if fault == "no bytes":
        content["masks"] = content["masks"].astype(float)
    if fault == "names":
        content["videos"] = content["videos"].astype(object)  # an array of objects needs pickle, which runs code
    np.savez(path, **content)
    if fault == "text":
        path.write_text("frames")
    with pytest.raises(DatasetError, match=r"bad\.npz"):
        Silhouettes(path)


@pytest.mark.parametrize("gains", [(1.0, 1.0), (-1.0, 1.0), (2.0, 2.0), (-0.5, 0.5)])
def test_the_box_of_a_pasted_actor_is_the_box_of_his_mask(gains: tuple[float, float]) -> None:
    placement = Placement(gains, (-8.0 + (120 if gains[0] < 0 else 0), 4.0))
    host, donor = [np.zeros((90, 120, 3), np.uint8)] * 2, [square(20, 200), square(24, 200)]
    masks = np.stack([frame[..., 0] // 200 * np.uint8(255) for frame in donor])
    made, covered = paste(host, donor, masks, placement)
    [box] = placement.boxes(np.array([[24, 20, 40, 36]], np.float32))
    rows, columns = np.nonzero(covered)
    assert [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1] == box.tolist()
    inside = made[-1][covered]
    assert (inside.max() == 200) and (np.abs(np.median(inside) - 200) == 0)


def test_a_mirrored_actor_is_the_mirror_image() -> None:
    picture = np.arange(60 * 80, dtype=np.uint16).astype(np.uint8).reshape(60, 80)
    as_it_is = Placement((1.0, 1.0), (0.0, 0.0)).warped(picture, SIZE, SIZE)
    mirrored = Placement((-1.0, 1.0), (80.0, 0.0)).warped(picture, SIZE, SIZE)
    np.testing.assert_array_equal(as_it_is, picture)
    np.testing.assert_array_equal(mirrored, picture[:, ::-1])


def test_a_mask_lies_where_the_frame_lies_whatever_its_resolution() -> None:
    frame = np.zeros((240, 320), np.uint8)
    frame[80:160, 120:200] = 255
    placement = Placement((0.5, 0.5), (30.0, 20.0))
    fine = placement.warped(frame, (320, 240), (320, 240)) > 127
    coarse = placement.warped(frame[::4, ::4].copy(), (320, 240), (320, 240)) > 127
    assert fine.sum() == 40 * 40 and coarse.sum() == 40 * 40
    np.testing.assert_array_equal(fine, coarse)


def test_frames_outside_the_mask_are_unchanged_and_the_hosts_are_not_written_to() -> None:
    rng = np.random.default_rng(0)
    host = list(rng.integers(0, 255, (3, 60, 80, 3), np.uint8))
    before, donor = np.stack(host).copy(), list(rng.integers(0, 255, (3, 60, 80, 3), np.uint8))
    masks = np.zeros((3, 60, 80), np.uint8)
    masks[:2, 10:20, 10:20] = 255
    made, covered = paste(host, donor, masks, Placement((1.0, 1.0), (5.0, 7.0)))
    np.testing.assert_array_equal(np.stack(host), before)
    for frame, under, over in zip(made[:2], before, donor, strict=False):
        np.testing.assert_array_equal(frame[17:27, 15:25], over[10:20, 10:20])
        outside = np.ones((60, 80), bool)
        outside[17:27, 15:25] = False
        np.testing.assert_array_equal(frame[outside], under[outside])
    np.testing.assert_array_equal(made[2], before[2])  # nobody is in that frame
    assert not covered.any()


def test_a_placed_box_lies_in_the_frame_and_touches_the_edges_that_it_touched() -> None:
    frame_wh, host_wh = (320, 240), (160, 200)
    boxes = np.array([[60, 50, 120, 200], [0, 40, 90, 240], [200, 100, 320, 240], [0, 0, 320, 240]], np.float32)
    heights = []
    for seed in range(60):
        for box in boxes:
            placement = draw_placement(np.random.default_rng(seed), box, frame_wh, host_wh)
            left, top, right, bottom = placement.boxes(box[None])[0].tolist()
            assert left >= -1e-3 and top >= -1e-3 and right <= 160 + 1e-3 and bottom <= 200 + 1e-3
            mirrored = placement.gains_xy[0] < 0
            if box[3] == 240 and box[1] > 0:
                assert bottom == pytest.approx(200, abs=1e-3)
            if (box[0] == 0) != (box[2] == 320):
                at_left = (box[0] == 0) != mirrored
                assert (left if at_left else right) == pytest.approx(0 if at_left else 160, abs=1e-3)
            heights.append(placement.gains_xy[1] * 240 / 200)
    assert SMALLEST <= min(heights) < 0.5 and 0.9 < max(heights) <= LARGEST


@pytest.mark.parametrize(("columns", "seen"), [(0, True), (9, True), (10, False), (16, False)])
def test_a_person_of_whom_too_little_is_left_is_ignored(columns: int, seen: bool) -> None:
    covered = np.zeros((60, 80), bool)
    covered[:, 20 : 20 + columns] = True
    boxes = np.array([[20, 10, 36, 40], [50, 10, 60, 40]], np.float32)
    assert still_seen(boxes, np.array([1, UNKNOWN]), covered).tolist() == [1 if seen else IGNORED, UNKNOWN]


def test_every_clip_has_its_own_people_and_the_pasted_one(
    videos: list[AnnotatedVideo], silhouettes: Silhouettes
) -> None:
    actors, seen = Actors.among(videos, silhouettes), set()
    for seed in range(40):
        clip, boxes = sample(videos[0], SPEC, RECIPE, np.random.default_rng(seed), FrameCache(), None, (), actors)
        assert len(boxes) == 2 and boxes[0, 0] in (0, IGNORED)
        seen.add(int(boxes[1, 0]))
        value = (120, 240)[int(boxes[1, 0])] / 255
        cx, cy, w, h = boxes[1, 1:] * np.tile(INPUT, 2)
        inner = clip[0, -1, round(cy - h / 4) : round(cy + h / 4), round(cx - w / 4) : round(cx + w / 4)]
        np.testing.assert_allclose(inner, value, atol=0.02)  # he is there in the key frame,
        x = [np.nonzero(np.abs(frame - value) < 0.02)[1].mean() for frame in clip[0]]
        if boxes[1, 0] == 1:
            steps = np.diff(x)
            assert (steps >= -1e-6).all() or (steps <= 1e-6).all()  # and walks through all frames, one way
    assert seen == {0, 1}


def test_a_batch_depends_on_seed_and_place_alone(videos: list[AnnotatedVideo], silhouettes: Silhouettes) -> None:
    recipe = replace(RECIPE, paste=0.6, mosaic=0.4, jitter=0.2, zoom=0.7)
    whole = list(islice(batches(videos, SPEC, recipe, 3, silhouettes=silhouettes), 3))
    later = next(batches(videos, SPEC, recipe, 3, first=2, silhouettes=silhouettes))
    without = next(batches(videos, SPEC, recipe, 3, first=2))
    assert torch.equal(whole[2].clips, later.clips) and not torch.equal(without.clips, later.clips)
    assert all(torch.equal(one, other) for one, other in zip(whole[2].targets, later.targets, strict=True))


def test_nobody_is_cut_out_whose_action_is_unknown(videos: list[AnnotatedVideo], silhouettes: Silhouettes) -> None:
    stranger = replace(videos[0].tubes[0], class_id=UNKNOWN)
    both = replace(videos[1], tubes=(stranger, *videos[1].tubes, *videos[0].tubes))
    [left] = Actors.among([replace(videos[0], tubes=(stranger,)), both], silhouettes).videos
    assert left.name == "b" and [tube.class_id for tube in left.tubes] == [1]
    with pytest.raises(DatasetError, match="no training video"):
        Actors.among([replace(video, name=f"other/{video.name}") for video in videos], silhouettes)
