"""Frame by frame gives what the clip gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import check_clips
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.spec import ModelSpec

law = settings(max_examples=100, deadline=None)


def spec_of(clip_length: int, frame_stride: int) -> ModelSpec:
    return ModelSpec(("walk",), ((1.0, 1.0),), clip_length, frame_stride, input_size=(3, 2), stride=1)


def planes(number: int) -> Float:
    """The frame of a number: every value tells the frame and where it stands in it."""
    return (100 * number + np.arange(18, dtype=np.float32)).reshape(3, 2, 3)


def clip_of(numbers: list[int]) -> Float:
    return np.stack([planes(number) for number in numbers], axis=1)


@law
@given(st.integers(1, 6), st.integers(1, 4), st.lists(st.booleans(), max_size=25))
def test_every_push_returns_the_last_frames_with_the_first_repeated_before_it(
    clip_length: int, frame_stride: int, resets: list[bool]
) -> None:
    buffer = ClipBuffer(spec_of(clip_length, frame_stride))
    first = 0
    for now, new_video in enumerate(resets):
        if new_video:
            buffer.reset()
            first = now
        clip = buffer.push(planes(now))
        wanted = [max(first, now - back * frame_stride) for back in reversed(range(clip_length))]
        assert clip.shape == (3, clip_length, 2, 3)
        assert clip.dtype == np.float32
        assert np.array_equal(clip, clip_of(wanted))


def test_bytes_stay_bytes() -> None:
    buffer = ClipBuffer(spec_of(3, 2).replace(input_type="uint8"))
    for now in range(9):
        given = np.full((3, 2, 3), 20 + now, np.uint8)
        clip = buffer.push(given)
    assert clip.dtype == np.uint8 and clip.flags.c_contiguous and clip[0, :, 0, 0].tolist() == [24, 26, 28]


@law
@given(st.integers(1, 6), st.integers(1, 4), st.integers(1, 25))
def test_primed_with_the_end_of_the_video_it_wraps_round(clip_length: int, frame_stride: int, frames: int) -> None:
    spec = spec_of(clip_length, frame_stride)
    buffer = ClipBuffer(spec)
    for before in range(spec.clip_span - 1, 0, -1):
        buffer.push(planes(-before % frames))
    for now in range(frames):
        wanted = [(now - back * frame_stride) % frames for back in reversed(range(clip_length))]
        assert np.array_equal(buffer.push(planes(now)), clip_of(wanted))


@law
@given(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4), st.lists(st.booleans(), max_size=20))
def test_as_many_clips_as_are_held_stay_as_they_are(
    clip_length: int, frame_stride: int, held: int, resets: list[bool]
) -> None:
    spec = spec_of(clip_length, frame_stride)
    buffer, alone = ClipBuffer(spec, held), ClipBuffer(spec)
    clips, wanted = [], []
    for now, new_video in enumerate(resets):
        if new_video:
            buffer.reset()
            alone.reset()
            clips, wanted = [], []  # a reset gives back what was held
        clips.append(buffer.push(planes(now)))
        wanted.append(alone.push(planes(now)).copy())
        for clip, expected in zip(clips[-held:], wanted[-held:], strict=True):
            assert np.array_equal(clip, expected)


@pytest.mark.parametrize("held", [1, 3])
@pytest.mark.parametrize("frame_stride", [1, 2])
def test_a_clip_is_a_view_without_gaps_so_that_an_engine_reads_it_in_place(frame_stride: int, held: int) -> None:
    spec = spec_of(3, frame_stride)
    buffer = ClipBuffer(spec, held)
    clips = [buffer.push(planes(number)) for number in range(50)]
    assert all(clip.flags.c_contiguous and not clip.flags.owndata for clip in clips)
    batches = [clip[None] for clip in clips]
    assert all(check_clips(batch, spec) is batch for batch in batches)  # what every engine calls first
    assert len({clip.__array_interface__["data"][0] for clip in clips}) <= held * frame_stride * 9


def test_the_buffer_keeps_its_own_copy_of_a_frame() -> None:
    buffer = ClipBuffer(spec_of(2, 1))
    frame = planes(0)
    buffer.push(frame)
    frame[:] = -1
    assert np.array_equal(buffer.push(planes(1)), clip_of([0, 1]))
