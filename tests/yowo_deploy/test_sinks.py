"""Where results go: whole when the block ends well, absent when it does not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from yowo_deploy.boxes import Detections
from yowo_deploy.detector import Result
from yowo_deploy.errors import OutputError, VideoError
from yowo_deploy.preprocess import Frame
from yowo_deploy.sinks import JsonSink, Sink, VideoSink
from yowo_deploy.video import VideoReader

SIZE = (64, 48)


class Unplottable(Result):
    """A result that cannot be drawn."""

    def plot(self) -> Frame:
        raise RuntimeError("no plot today")


def result(number: int, kind: type[Result] = Result) -> Result:
    found = Detections(
        np.array([[8, 8, 40, 40]], np.float32),
        np.array([0.5], np.float32),
        np.array([0]),
        np.array([[0.5]], np.float32),
    )
    frame = np.full((SIZE[1], SIZE[0], 3), 10 * number % 250, np.uint8)
    return kind(number, frame, found if number % 2 else Detections.empty(1), ("歩く\n",), {})


def json_sink(folder: Path) -> Sink:
    return JsonSink(folder / "out.jsonl")


def video_sink(folder: Path) -> Sink:
    return VideoSink(folder / "out.webm", 25, SIZE)


both = pytest.mark.parametrize("sink", [json_sink, video_sink])


def test_every_result_is_one_line_of_json(tmp_path: Path) -> None:
    results = [result(number) for number in range(5)]
    with JsonSink(tmp_path / "out.jsonl") as sink:
        for each in results:
            sink.write(each)
    lines = (tmp_path / "out.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"frame": each.frame_index, "detections": each.summary()} for each in results
    ]


def test_every_result_is_one_frame_with_its_boxes_drawn(tmp_path: Path) -> None:
    results = [result(number) for number in range(80)]  # more than wait for the encoder at once
    with VideoSink(tmp_path / "out.webm", 25, SIZE) as sink:
        for each in results:
            sink.write(each)
    with VideoReader(tmp_path / "out.webm") as reader:
        frames = list(reader)
    assert len(frames) == len(results)
    for frame, each in zip(frames, results, strict=True):
        plain, drawn = (np.abs(frame.astype(int) - wanted).mean() for wanted in (each.frame, each.plot()))
        assert drawn < plain if len(each.detections) else drawn == plain < 5  # half of the step between two frames


@both
def test_nothing_is_written_is_a_whole_file_too(sink: Callable[[Path], Sink], tmp_path: Path) -> None:
    with sink(tmp_path):
        assert not [file for file in tmp_path.iterdir() if not file.name.startswith(".")]
    [file] = tmp_path.iterdir()
    assert file.stem == "out"


@both
def test_a_block_that_fails_leaves_no_file(sink: Callable[[Path], Sink], tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="breaks off"), sink(tmp_path) as opened:
        for number in range(40):
            opened.write(result(number))
        raise VideoError("breaks off")
    assert list(tmp_path.iterdir()) == []


@both
def test_a_folder_that_cannot_be_written_is_said_at_once(sink: Callable[[Path], Sink], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        sink(tmp_path / "file")


def test_what_the_encoder_raises_is_raised_at_the_end_and_leaves_no_file(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no plot today"), video_sink(tmp_path) as sink:
        sink.write(result(0, Unplottable))
    assert list(tmp_path.iterdir()) == []


def test_no_more_is_taken_once_the_encoder_has_failed(tmp_path: Path) -> None:
    written = 0
    with pytest.raises(RuntimeError, match="no plot today"), video_sink(tmp_path) as sink:
        for _ in range(10_000):
            sink.write(result(0, Unplottable))
            written += 1
    assert written < 100  # what waits for the encoder, 32, and what passed before it had begun
    assert list(tmp_path.iterdir()) == []
