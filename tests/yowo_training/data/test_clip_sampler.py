"""Training clips: the right frames of the right video, every video once an epoch, the same for the same seed."""

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
from yowo_deploy.preprocess.frames import normalise
from yowo_deploy.spec import ModelSpec
from yowo_training.data import clip_sampler as clips_module
from yowo_training.data.actors import Silhouettes
from yowo_training.data.clip_sampler import WORKERS, FrameCache, batches, sample
from yowo_training.loss import IGNORED, UNKNOWN
from yowo_training.recipes import find_recipe

SPEC = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=4, input_size=(64, 64))
RECIPE = replace(find_recipe("yowo-tiny"), batch=3, jitter=0.0, colour=0.0, train_strides=(2,))
FRAMES = 12


def write_video(path: Path, frames: int, annotated: int, class_id: int = 1) -> AnnotatedVideo:
    """Frame k is grey of value 20 k; one tube over the whole picture's middle."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 64))
    for index in range(frames):
        writer.write(np.full((64, 64, 3), 20 * index, np.uint8))
    writer.release()
    box = np.tile(np.array([16, 16, 48, 48], np.float32), (annotated, 1))
    return AnnotatedVideo(path.stem, path.stem, path, annotated, (Tube(class_id, np.arange(annotated), box),))


def brightness(clip: np.ndarray) -> list[int]:
    """Which frame each frame of a clip is."""
    return np.rint(clip.mean(axis=(0, 2, 3)) * 255 / 20).astype(int).tolist()


def test_a_clip_ends_at_its_key_frame_with_the_stride_and_repeats_the_first_frame(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.avi", FRAMES, FRAMES)
    rng = np.random.default_rng(0)
    for _ in range(20):
        clip, boxes = sample(video, SPEC, RECIPE, rng, FrameCache())
        shown = brightness(clip)
        assert shown == [max(0, shown[-1] - 2 * back) for back in (3, 2, 1, 0)]
        np.testing.assert_allclose(boxes, [[1, 0.5, 0.5, 0.5, 0.5]], atol=1e-6)


def test_a_file_shorter_than_its_annotation_ends_at_its_last_frame(tmp_path: Path) -> None:
    video = write_video(tmp_path / "short.avi", 3, FRAMES)
    last = replace(video, tubes=(Tube(0, np.array([5]), np.array([[16, 16, 48, 48]], np.float32)),))
    recipe = replace(RECIPE, train_strides=(1,))
    with pytest.raises(DatasetError, match="ends before"):
        sample(
            replace(last, tubes=(Tube(0, np.array([11]), last.tubes[0].xyxy),)),
            SPEC,
            recipe,
            np.random.default_rng(0),
            FrameCache(),
        )
    clip, _ = sample(
        replace(last, tubes=(Tube(0, np.array([4]), last.tubes[0].xyxy),)),
        SPEC,
        recipe,
        np.random.default_rng(0),
        FrameCache(),
    )
    assert brightness(clip)[-1] == 2


def test_what_a_file_no_longer_has_is_not_drawn(tmp_path: Path) -> None:
    video = write_video(tmp_path / "short.avi", 6, 1000)
    recipe = replace(RECIPE, train_strides=(1,))
    for cache in (FrameCache(), FrameCache(0)):
        rng = np.random.default_rng(0)
        for _ in range(5):
            clip, boxes = sample(video, SPEC, recipe, rng, cache)
            assert brightness(clip)[-1] < 6 and len(boxes) == 1


def test_colours_change_alike_in_all_frames(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.avi", FRAMES, FRAMES)
    [tube] = video.tubes
    video = replace(video, tubes=(replace(tube, frames=tube.frames[8:], xyxy=tube.xyxy[8:]),))  # the bright ones
    for seed in range(5):
        plain, coloured = (
            sample(video, SPEC, replace(RECIPE, colour=colour), np.random.default_rng(seed), FrameCache())[0]
            for colour in (0.0, 0.3)
        )
        gains = coloured / plain
        assert np.ptp(gains, axis=(1, 2, 3)).max() < 0.02 and 0.5 < gains.min() < gains.max() < 1.5
        assert np.ptp(gains.mean(axis=(1, 2, 3))) > 0.01


def test_every_epoch_takes_every_video_once_and_a_seed_gives_the_same_batches(tmp_path: Path) -> None:
    videos = [write_video(tmp_path / f"{index}.avi", FRAMES, FRAMES, class_id=index % 2) for index in range(3)]
    seen = [batch.targets for batch in islice(batches(videos, SPEC, RECIPE, seed=5), 2)]
    for targets in seen:
        assert sorted(int(rows[0, 0]) for rows in targets) == [0, 0, 1]
    first, second = (next(batches(videos, SPEC, RECIPE, seed=5)) for _ in range(2))
    assert torch.equal(first.clips, second.clips) and first.epoch == 0
    other = next(batches(videos, SPEC, RECIPE, seed=6))
    assert not torch.equal(first.clips, other.clips)


def test_frames_are_normalised_as_at_run_time(tmp_path: Path) -> None:
    spec = SPEC.replace(mean=(0.1, 0.2, 0.3), std=(0.5, 0.6, 0.7), clip_length=1)
    video = write_video(tmp_path / "a.avi", 1, 1)
    clip, _ = sample(video, spec, RECIPE, np.random.default_rng(0), FrameCache())
    np.testing.assert_array_equal(clip[:, 0], normalise(np.zeros((64, 64, 3), np.uint8), spec))


def test_a_batch_holds_the_clips_that_are_made_one_by_one(tmp_path: Path) -> None:
    videos, recipe = [write_video(tmp_path / "a.avi", FRAMES, FRAMES)], replace(RECIPE, jitter=0.2, colour=0.3)
    made = list(islice(batches(videos, SPEC, recipe, seed=5), 3))  # two are begun before the first is taken
    pairs = (pair for batch in made for pair in zip(batch.clips, batch.targets, strict=True))
    for place, (clip, boxes) in enumerate(pairs):
        alone, rows = sample(videos[0], SPEC, recipe, np.random.default_rng((5, place)), FrameCache())
        np.testing.assert_array_equal(clip.numpy(), alone)
        np.testing.assert_array_equal(boxes.numpy(), rows)


@pytest.mark.parametrize("limit", [0, 64 * 64 * 3, 1 << 30])
def test_a_cache_of_any_size_gives_the_same_frames(tmp_path: Path, limit: int) -> None:
    videos = [write_video(tmp_path / f"{index}.avi", FRAMES, FRAMES) for index in range(3)]
    cache = FrameCache(limit)
    for first, last in ((0, 3), (5, 9), (8, 40)):
        for video in videos:
            shown = [round(float(frame.mean()) / 20) for frame in cache.window(video, first, last)]
            assert shown == list(range(first, min(last + 1, FRAMES)))


def test_nothing_annotated_is_an_error(tmp_path: Path) -> None:
    video = replace(write_video(tmp_path / "a.avi", 2, 2), tubes=())
    with pytest.raises(DatasetError, match="no annotated video"):
        next(batches([video], SPEC, RECIPE, seed=0))


def test_boxes_measured_in_another_picture_are_the_same_targets(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.avi", FRAMES, FRAMES)
    [tube] = video.tubes
    halved = replace(video, size_wh=(32, 32), tubes=(replace(tube, xyxy=tube.xyxy / 2),))
    (clip, boxes), (other_clip, other_boxes) = (
        sample(each, SPEC, RECIPE, np.random.default_rng(0), FrameCache()) for each in (video, halved)
    )
    np.testing.assert_array_equal(clip, other_clip)
    np.testing.assert_allclose(boxes, other_boxes, atol=1e-6)


def test_processes_share_the_batches_of_one_and_a_run_goes_on_anywhere(tmp_path: Path) -> None:
    videos = [write_video(tmp_path / f"{index}.avi", FRAMES, FRAMES, class_id=index % 2) for index in range(5)]
    recipe = replace(RECIPE, batch=4, jitter=0.2)
    whole = [batch.clips for batch in islice(batches(videos, SPEC, recipe, seed=1), 4)]
    half = replace(recipe, batch=2)
    for rank in (0, 1):
        shares = islice(batches(videos, SPEC, half, seed=1, share=(rank, 2)), 4)
        for together, own in zip(whole, shares, strict=True):
            torch.testing.assert_close(own.clips, together[2 * rank : 2 * rank + 2], rtol=0, atol=0)
    later = next(batches(videos, SPEC, recipe, seed=1, first=3))
    torch.testing.assert_close(later.clips, whole[3], rtol=0, atol=0)
    assert later.epoch == 15 // 5


@pytest.mark.parametrize(("share", "expected"), [(0.0, {0, 1, 2}), (1.0, {3, 4, 5, 6, 7, 8, 9, 10, 11})])
def test_frames_with_nobody_in_them_are_shown_as_often_as_asked_for(
    share: float, expected: set[int], tmp_path: Path
) -> None:
    video = replace(write_video(tmp_path / "a.avi", FRAMES, 3), frames=FRAMES)
    rng, seen = np.random.default_rng(0), set()
    for _ in range(40):
        clip, boxes = sample(video, SPEC, replace(RECIPE, negatives=share), rng, FrameCache())
        seen.add(brightness(clip)[-1])
        assert len(boxes) == (share == 0)
    assert seen <= expected and len(seen) > 1


def test_the_cache_stops_growing_at_its_limit(tmp_path: Path) -> None:
    videos = [write_video(tmp_path / f"{index}.avi", FRAMES, FRAMES) for index in range(4)]
    one = FRAMES * 64 * 64 * 3
    cache = FrameCache(2 * one)
    for _ in islice(batches(videos, SPEC, RECIPE, seed=0, cache=cache), 8):
        assert cache.held_bytes <= 2 * one + WORKERS * one  # what the threads decode at the moment it is full
    assert cache.held_bytes >= 2 * one


def test_memory_of_a_batch_is_taken_again_only_when_nothing_looks_into_it(tmp_path: Path) -> None:
    videos = [write_video(tmp_path / f"{index}.avi", FRAMES, FRAMES) for index in range(4)]
    made = batches(videos, SPEC, RECIPE, seed=0)
    places, kept = set(), []
    for number in range(12):
        clips = next(made).clips
        assert all(clip.data_ptr() != clips.data_ptr() for clip, _ in kept)
        if number < 2:
            kept.append((clips[0], clips[0].clone()))  # a view alone keeps it
        places.add(clips.data_ptr())
    assert len(places) < 12
    assert all(torch.equal(view, copy) for view, copy in kept)


def test_a_cache_takes_a_third_of_what_is_free(monkeypatch: pytest.MonkeyPatch) -> None:
    assert FrameCache()._limit > 0
    monkeypatch.setattr(clips_module, "free_memory_bytes", lambda: 6 << 30)
    assert FrameCache()._limit == 2 << 30
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert FrameCache()._limit == 1 << 29
    monkeypatch.setattr(clips_module, "free_memory_bytes", lambda: None)
    assert FrameCache()._limit == 2 << 30


def write_square(path: Path, corner: tuple[int, int], class_id: int) -> AnnotatedVideo:
    """A black video with a bright square of 24 pixels, which is the box."""
    x, y = corner
    frame = np.zeros((64, 64, 3), np.uint8)
    frame[y : y + 24, x : x + 24] = 255
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 10, (64, 64))
    for _ in range(6):
        writer.write(frame)
    writer.release()
    box = np.tile(np.array([x, y, x + 24, y + 24], np.float32), (6, 1))
    return AnnotatedVideo(path.stem, path.stem, path, 6, (Tube(class_id, np.arange(6), box),))


MOSAIC = replace(RECIPE, train_strides=(1,), mosaic=1.0, zoom=0.7)


def test_in_a_mosaic_every_box_lies_on_its_person(tmp_path: Path) -> None:
    places = [(4, 8), (30, 6), (20, 30), (36, 36)]
    videos = [write_square(tmp_path / f"{n}.mkv", place, n % 2) for n, place in enumerate(places)]
    spec, boxes_seen = SPEC.replace(input_size=(128, 128)), []
    for seed in range(30):
        clip, boxes = sample(videos[0], spec, MOSAIC, np.random.default_rng(seed), FrameCache(), None, videos)
        boxes_seen.append(len(boxes))
        covered = np.zeros((128, 128), bool)
        for cx, cy, w, h in boxes[:, 1:] * 128:
            left, top, right, bottom = cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2
            inner = clip[0, -1, round(top) + 2 : round(bottom) - 2, round(left) + 2 : round(right) - 2]
            assert inner.size == 0 or inner.mean() > 0.95
            covered[max(0, round(top) - 2) : round(bottom) + 2, max(0, round(left) - 2) : round(right) + 2] = True
        assert clip[0, -1][~covered].max() < 0.2  # and nobody is without a box
    assert min(boxes_seen) >= 2 and max(boxes_seen) <= 4 and len(set(boxes_seen)) > 1


def test_a_mosaic_depends_on_seed_and_place_alone(tmp_path: Path) -> None:
    videos = [write_square(tmp_path / f"{n}.mkv", (4 + 8 * n, 8), n % 2) for n in range(4)]
    recipe = replace(MOSAIC, mosaic=0.5, jitter=0.2, colour=0.3, late_starts=0.5)
    whole = list(islice(batches(videos, SPEC, recipe, seed=3), 3))
    later = next(batches(videos, SPEC, recipe, seed=3, first=2))
    assert torch.equal(whole[2].clips, later.clips)
    assert all(torch.equal(one, other) for one, other in zip(whole[2].targets, later.targets, strict=True))
    assert not torch.equal(later.clips, next(batches(videos, SPEC, recipe, seed=4, first=2)).clips)


def test_a_person_of_whom_the_crop_shows_too_little_is_ignored_and_one_outside_is_gone(tmp_path: Path) -> None:
    inside, edge = write_square(tmp_path / "a.mkv", (20, 20), 1), np.array([[40, 20, 64, 44]], np.float32)
    [tube] = inside.tubes
    both = replace(inside, tubes=(tube, Tube(0, np.arange(6), np.tile(edge, (6, 1)))))
    classes: set[float] = set()
    recipe = replace(RECIPE, train_strides=(1,), zoom=0.4)
    for seed in range(60):
        _, boxes = sample(both, SPEC, recipe, np.random.default_rng(seed), FrameCache())
        assert len(boxes) in (1, 2) and (boxes[:, 3:] > 0).all()
        classes |= set(boxes[:, 0].tolist())
    assert classes == {0.0, 1.0, float(IGNORED)}


def test_key_frames_are_those_with_targets(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.avi", FRAMES, FRAMES)
    [tube] = video.tubes
    early = replace(tube, frames=tube.frames[:3], xyxy=tube.xyxy[:3], class_id=UNKNOWN)
    mixed = replace(video, tubes=(early, replace(tube, class_id=IGNORED)))
    for seed in range(10):
        clip, boxes = sample(mixed, SPEC, RECIPE, np.random.default_rng(seed), FrameCache())
        assert brightness(clip)[-1] < 3 and sorted(boxes[:, 0].tolist()) == [IGNORED, UNKNOWN]
    with pytest.raises(DatasetError, match="no annotated video"):
        next(batches([replace(video, tubes=mixed.tubes[1:])], SPEC, RECIPE, seed=0))


@pytest.mark.parametrize(("late_starts", "expected"), [(0.0, False), (1.0, True)])
def test_clips_begin_in_the_middle_as_they_do_at_the_start(tmp_path: Path, late_starts: float, expected: bool) -> None:
    video = write_video(tmp_path / "a.avi", FRAMES, FRAMES)
    recipe, repeated = replace(RECIPE, train_strides=(1,), late_starts=late_starts), []
    for seed in range(40):
        shown = brightness(sample(video, SPEC, recipe, np.random.default_rng(seed), FrameCache())[0])
        assert shown == [max(shown[0], shown[-1] - back) for back in (3, 2, 1, 0)]
        repeated.append(shown[0] > 0 and shown[0] == shown[1])
    assert any(repeated) == expected


def test_half_of_the_clips_of_a_reversible_action_are_played_backwards_under_its_other_name(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.avi", FRAMES, FRAMES, class_id=0)
    recipe = replace(RECIPE, train_strides=(1,), backwards=(("run", "sit"), ("wave", "wave")))
    seen = []
    for seed in range(40):
        clip, boxes = sample(video, SPEC, recipe, np.random.default_rng(seed), FrameCache())
        shown, backwards = brightness(clip), boxes[0, 0] == 1
        last = FRAMES - 1
        forwards = [max(0, shown[-1] - back) for back in (3, 2, 1, 0)]
        assert shown == ([min(last, shown[-1] + back) for back in (3, 2, 1, 0)] if backwards else forwards)
        seen.append(backwards)
    assert 10 < sum(seen) < 30


def test_people_without_an_action_stay_so_backwards_and_other_actions_are_not_played_so(tmp_path: Path) -> None:
    video = write_video(tmp_path / "a.avi", FRAMES, FRAMES, class_id=0)
    [tube] = video.tubes
    recipe = replace(RECIPE, train_strides=(1,), backwards=(("run", "sit"),))

    def classes(*others: int) -> set[tuple[float, ...]]:
        shown = replace(video, tubes=(tube, *(replace(tube, class_id=other) for other in others)))
        drawn = (sample(shown, SPEC, recipe, np.random.default_rng(seed), FrameCache())[1] for seed in range(20))
        return {tuple(boxes[:, 0].tolist()) for boxes in drawn}

    assert classes(UNKNOWN, IGNORED) == {(0.0, UNKNOWN, IGNORED), (1.0, UNKNOWN, IGNORED)}
    assert classes(1) == {(0.0, 1.0)}


def test_scenes_without_a_box_are_background_and_take_pasted_actors(tmp_path: Path) -> None:
    empty = replace(write_video(tmp_path / "empty.avi", FRAMES, FRAMES), tubes=())
    shown = write_video(tmp_path / "shown.avi", FRAMES, FRAMES)
    batch = next(batches([empty, shown, shown], SPEC, RECIPE, seed=0))
    assert sorted(len(rows) for rows in batch.targets) == [0, 1, 1] and batch.clips.isfinite().all()
    ends = {brightness(sample(empty, SPEC, RECIPE, np.random.default_rng(n), FrameCache())[0])[-1] for n in range(40)}
    assert ends == set(range(FRAMES))
    masks = np.packbits(np.ones((FRAMES, 60 * 80), bool), axis=1)
    np.savez(tmp_path / "masks.npz", videos=["shown"], starts=[0, FRAMES], masks=masks)
    pasting, silhouettes = replace(RECIPE, paste=1.0), Silhouettes(tmp_path / "masks.npz")
    pasted = next(batches([empty, shown, shown], SPEC, pasting, seed=0, silhouettes=silhouettes))
    assert sorted(int((rows[:, 0] == 1).sum()) for rows in pasted.targets)[0] == 1


def test_empty_scenes_alone_are_no_training_data(tmp_path: Path) -> None:
    empty = replace(write_video(tmp_path / "empty.avi", FRAMES, FRAMES), tubes=())
    with pytest.raises(DatasetError, match="no annotated video"):
        next(batches([empty], SPEC, RECIPE, seed=0))
