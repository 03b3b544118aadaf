"""The annotated video: every frame once, whole when the block ends well, absent when it does not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from yowo_deploy.arrays import Frame
from yowo_deploy.result import Result
from yowo_deploy.sinks import VideoSink
from yowo_deploy.video.reader import VideoReader

SIZE = (64, 48)
SEEN = {3: [0.5, 0.0, 0.0]}


class Unplottable(Result):
    """A result that cannot be drawn."""

    def plot(self, frame_bgr: Frame | None = None) -> Frame:
        raise RuntimeError("no plot today")


def test_every_result_is_one_frame_with_its_boxes_drawn(made_up: Callable[..., Result], tmp_path: Path) -> None:
    results = [made_up(number, SEEN if number % 2 else {}) for number in range(80)]  # more than wait at once
    with VideoSink(tmp_path / "out.webm", 25, SIZE) as sink:
        for each in results:
            sink.write(each.frame, each)
    with VideoReader(tmp_path / "out.webm") as reader:
        frames = list(reader)
    assert len(frames) == len(results)
    for frame, each in zip(frames, results, strict=True):
        plain, drawn = (np.abs(frame.astype(int) - wanted).mean() for wanted in (each.frame, each.plot()))
        assert drawn < plain if len(each.detections) else drawn == plain < 5  # half of the step between two frames


def test_where_frames_were_dropped_the_one_before_stays(made_up: Callable[..., Result], tmp_path: Path) -> None:
    results = [made_up(number) for number in (2, 3, 7, 8, 0, 1)]  # two were dropped first, three later; a new video
    with VideoSink(tmp_path / "out.webm", 25, SIZE) as sink:
        for each in results:
            sink.write(each.frame, each)
    assert sink.encode_ms > 0
    with VideoReader(tmp_path / "out.webm") as reader:
        shown = [round(float(frame.mean()) / 10) for frame in reader]  # each as bright as ten times its number
    assert shown == [2, 3, 3, 3, 3, 7, 8, 0, 1]


def test_boxes_are_drawn_on_the_frame_that_is_given(made_up: Callable[..., Result], tmp_path: Path) -> None:
    white = np.full((SIZE[1], SIZE[0], 3), 255, np.uint8)
    with VideoSink(tmp_path / "out.webm", 25, SIZE) as sink:
        sink.write(white, made_up(0, SEEN))
    with VideoReader(tmp_path / "out.webm") as reader:
        [frame] = reader
    assert frame[-4:].mean() > 250  # below the box


def test_a_frame_of_another_size_is_drawn_on_and_then_scaled(made_up: Callable[..., Result], tmp_path: Path) -> None:
    one, other = made_up(0, SEEN), np.full((96, 128, 3), 255, np.uint8)
    with VideoSink(tmp_path / "out.webm", 25, SIZE) as sink:
        sink.write(one.frame, one)
        sink.write(other, made_up(1, SEEN))
    with VideoReader(tmp_path / "out.webm") as reader:
        first, second = reader
    drawn = cv2.resize(made_up(1, SEEN).plot(other), SIZE, interpolation=cv2.INTER_AREA)
    assert first.shape == second.shape and np.abs(second.astype(int) - drawn).mean() < 5


def test_what_the_encoder_raises_is_raised_at_the_end_and_leaves_no_file(
    made_up: Callable[..., Result], tmp_path: Path
) -> None:
    bad = made_up(0, kind=Unplottable)
    with pytest.raises(RuntimeError, match="no plot today"), VideoSink(tmp_path / "out.webm", 25, SIZE) as sink:
        sink.write(bad.frame, bad)
    assert list(tmp_path.iterdir()) == []


def test_no_more_is_taken_once_the_encoder_has_failed(made_up: Callable[..., Result], tmp_path: Path) -> None:
    written, bad = 0, made_up(0, kind=Unplottable)
    with pytest.raises(RuntimeError, match="no plot today"), VideoSink(tmp_path / "out.webm", 25, SIZE) as sink:
        for _ in range(10_000):
            sink.write(bad.frame, bad)
            written += 1
    assert written < 100  # what waits for the encoder, 32, and what passed before it had begun
    assert list(tmp_path.iterdir()) == []
