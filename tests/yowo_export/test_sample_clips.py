"""Clips come from all videos and from little and much motion; what cannot be read is counted, never in silence."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from yowo_deploy.errors import InputError
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.preprocess.frames import preprocess
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.reader import FrameSource, open_video
from yowo_deploy.video.suffixes import VIDEO_SUFFIXES
from yowo_deploy.video.writer import VideoWriter
from yowo_export import sample_clips
from yowo_export.sample_clips import made_up_clips, take_clips

SPEC = ModelSpec(labels=("run",), anchors=((1.0, 2.0),), clip_length=4, frame_stride=2, input_size=(96, 64))


def motion(clip: np.ndarray) -> float:
    return float(np.abs(clip[:, -1] - clip[:, 0]).mean())


def test_a_clip_is_what_the_detector_would_see(videos: Path) -> None:
    found = [clip for clip, _ in take_clips([videos / "2.webm"], SPEC, 2)]
    buffer = ClipBuffer(SPEC)
    with open_video(videos / "2.webm") as video:
        seen = [buffer.push(preprocess(frame, SPEC)).copy() for frame in video]
    for clip in found:
        assert any(np.array_equal(clip, each) for each in seen)


def test_clips_come_from_every_video_and_from_little_to_much_motion(videos: Path) -> None:
    clips = take_clips([videos], SPEC, 6)
    assert clips.videos == 3 and clips.skipped == 0 and len(clips) == 6
    amounts = [motion(clip) for clip, _ in clips]
    assert amounts == sorted(amounts) and amounts[-1] > 10 * amounts[0]
    assert set(clips.sizes) == {(160, 120)}


def test_a_folder_is_searched_for_every_suffix_of_a_video(videos: Path, tmp_path: Path) -> None:
    for suffix in VIDEO_SUFFIXES:
        shutil.copy(videos / "2.webm", tmp_path / f"a{suffix}")
        shutil.copy(videos / "2.webm", tmp_path / f"b{suffix.upper()}")
    clips = take_clips([tmp_path], SPEC, 24)
    assert (clips.videos, clips.skipped) == (2 * len(VIDEO_SUFFIXES), 0)


def test_one_clip_alone_is_one_in_which_something_moves(videos: Path) -> None:
    for clips in (take_clips([videos / "2.webm"], SPEC, 1), made_up_clips(SPEC, 1)):
        [(clip, _)] = clips
        assert motion(clip) > 0


def test_frames_that_no_file_declares_are_counted(videos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = take_clips([videos / "2.webm"], SPEC, 3)

    def opened(path: Path, declared: int) -> FrameSource:
        source = open_video(path)
        source.frames_declared = declared
        return source

    for declared, count in ((0, 3), (22, 40)):  # not at all, or two more than there are: as many clips as frames
        monkeypatch.setattr(sample_clips, "open_video", partial(opened, declared=declared))
        found = take_clips([videos / "2.webm"], SPEC, count)
        assert len({key for _, key in found.places}) == len(found) == min(count, 20)
        assert declared or found.sha256() == expected.sha256()


def test_the_same_clips_are_made_for_another_filter(videos: Path) -> None:
    other = SPEC.replace(resize_filter="nearest")
    again = take_clips([videos], SPEC, 3).as_for(other)
    for (file, key), (clip, _) in zip(again.places, again, strict=True):
        buffer = ClipBuffer(other)
        with open_video(file) as video:
            seen = [buffer.push(preprocess(frame, other)).copy() for frame in video]
        np.testing.assert_array_equal(clip, seen[key])


def test_the_same_videos_give_the_same_clips_and_others_do_not(videos: Path) -> None:
    first, again, other = (take_clips([videos / name], SPEC, 3) for name in ("1.webm", "1.webm", "2.webm"))
    assert first.sha256() == again.sha256() != other.sha256()


def test_a_damaged_video_is_counted_and_the_others_are_used(videos: Path, tmp_path: Path) -> None:
    shutil.copy(videos / "1.webm", tmp_path / "a.webm")
    (tmp_path / "b.mp4").write_bytes(b"no video at all")
    found = take_clips([tmp_path], SPEC, 4)
    assert (found.videos, found.skipped) == (1, 1) and len(found) == 4


def test_a_video_of_one_frame_gives_one_clip(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "one.webm", 25, (160, 120)) as writer:
        writer.write(np.full((120, 160, 3), 77, np.uint8))
    found = take_clips([tmp_path / "one.webm"], SPEC, 5)
    assert len(found) == 1 and motion(next(iter(found))[0]) == 0


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [("empty", None, "no video"), ("bad", b"junk", "none of 1 videos can be read"), ("absent", b"", "not found")],
)
def test_no_video_is_an_error_that_says_so(name: str, content: bytes | None, said: str, tmp_path: Path) -> None:
    folder = tmp_path / name
    if name != "absent":
        folder.mkdir()
    if name == "bad":
        (folder / "x.avi").write_bytes(b"junk")
    with pytest.raises(InputError, match=said):
        take_clips([folder], SPEC, 4)


@pytest.mark.parametrize("count", [0, 10**9, 10**30])
def test_more_clips_than_memory_holds_are_refused(count: int, videos: Path) -> None:
    for take in (lambda: made_up_clips(SPEC, count), lambda: take_clips([videos], SPEC, count)):
        with pytest.raises(InputError, match=f"{count} clips, expected 1 to"):
            take()
