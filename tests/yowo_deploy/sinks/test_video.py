"""The annotated video: every frame once, whole when the block ends well, absent when it does not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest

from yowo_deploy.arrays import Frame
from yowo_deploy.boxes import Tube
from yowo_deploy.errors import VideoError
from yowo_deploy.postprocess.zones import Zone
from yowo_deploy.result import Result
from yowo_deploy.sinks import VideoSink
from yowo_deploy.video.reader import VideoReader

SIZE = (64, 48)
SEEN = {3: [0.5, 0.0, 0.0]}


class Unplottable(Result):
    """A result that cannot be drawn."""

    def plot(self, frame_bgr: Frame | None = None, trail: int = 0, zones: Sequence[Zone] = ()) -> Frame:
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


@pytest.mark.parametrize("count", [1, 2, 5])
@pytest.mark.parametrize(("times", "fps"), [([0.0, 0.1, 0.25, 0.3, 0.4], 10), ([None] * 5, 25), ([3.0] * 5, 25)])
def test_rate_and_size_are_those_of_the_first_frames(
    made_up: Callable[..., Result], tmp_path: Path, count: int, times: list[float | None], fps: float
) -> None:
    with VideoSink(tmp_path / "out.webm") as sink:
        for number, timestamp in list(enumerate(times))[:count]:
            each = made_up(number, SEEN, timestamp=timestamp)
            sink.write(each.frame, each)
    with VideoReader(tmp_path / "out.webm") as reader:
        frames = list(reader)
        assert reader.fps == pytest.approx(fps if count > 1 else 25)
    assert len(frames) == count and {frame.shape for frame in frames} == {(SIZE[1], SIZE[0], 3)}


def test_alone_it_refuses_a_name_at_once_and_no_frames_at_the_end(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match=r"\.webm or \.mp4"):
        VideoSink(tmp_path / "out.avi")
    with pytest.raises(VideoError, match="no frame"), VideoSink(tmp_path / "out.webm"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_alone_it_raises_what_the_encoder_raises(made_up: Callable[..., Result], tmp_path: Path) -> None:
    bad, good = made_up(0, kind=Unplottable), made_up(1)
    with pytest.raises(RuntimeError, match="no plot today"), VideoSink(tmp_path / "out.webm") as sink:
        sink.write(bad.frame, bad)
        sink.write(good.frame, good)
    assert list(tmp_path.iterdir()) == []


def test_a_trail_is_drawn_on_request(made_up: Callable[..., Result], tmp_path: Path) -> None:
    boxes = np.array([[x, 4, x + 8, 12] for x in (2, 26, 50)], np.float32)
    each = made_up(0, tubes=(Tube(0, np.arange(3), boxes, tracker_id=0),))
    shown = []
    for trail in (0, 3):
        with VideoSink(tmp_path / f"{trail}.webm", trail=trail) as sink:
            sink.write(each.frame, each)
        with VideoReader(tmp_path / f"{trail}.webm") as reader:
            shown += [frame.astype(int) for frame in reader]
    assert np.abs(shown[0] - each.frame).max() < 20 < np.abs(shown[1] - each.frame)[7:10, 10:50].mean()


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
