"""What holds for every sink, and for several as one."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yowo_deploy.errors import OutputError, VideoError
from yowo_deploy.result import Result
from yowo_deploy.sinks import (
    AnnotationsSink,
    CallbackSink,
    EventSink,
    JsonSink,
    Sink,
    Sinks,
    TimelineSink,
    TubesSink,
    VideoSink,
)

SIZE = (64, 48)
MAKERS: dict[str, Callable[[Path], Sink]] = {
    "out.webm": lambda path: VideoSink(path, 25, SIZE),
    "out.jsonl": JsonSink,
    "events.jsonl": EventSink,
    "tubes.json": lambda path: TubesSink(path, "yard", ("a", "b", "c")),
    "time.png": lambda path: TimelineSink(path, "yard", ("a", "b", "c")),
    "data.json": lambda path: AnnotationsSink(path, "yard.avi", 25, SIZE, ("a", "b", "c")),
}
every_sink = pytest.mark.parametrize("name", MAKERS)


def made(folder: Path, name: str) -> Sink:
    if name == "time.png":
        pytest.importorskip("matplotlib")
    return MAKERS[name](folder / name)


def test_a_video_without_a_frame_is_none(tmp_path: Path) -> None:
    with pytest.raises(VideoError, match="no frame to write"), made(tmp_path, "out.webm"):
        pass
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", [name for name in MAKERS if name != "out.webm"])
def test_nothing_written_is_a_whole_file_too(name: str, tmp_path: Path) -> None:
    with made(tmp_path, name):
        assert not [file for file in tmp_path.iterdir() if not file.name.startswith(".")]
    assert [file.name for file in tmp_path.iterdir()] == [name]


@every_sink
def test_a_block_that_fails_leaves_no_file(name: str, made_up: Callable[..., Result], tmp_path: Path) -> None:
    before = set(threading.enumerate())
    with pytest.raises(VideoError, match="breaks off"), made(tmp_path, name) as opened:
        for number in range(40):
            each = made_up(number, {0: [0.9, 0, 0]})
            opened.write(each.frame, each)
        raise VideoError("breaks off")
    assert list(tmp_path.iterdir()) == []
    assert not set(threading.enumerate()) - before


@every_sink
def test_a_folder_that_cannot_be_written_is_said(name: str, made_up: Callable[..., Result], tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"), made(tmp_path / "file", name):
        pass
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


class Failing:
    """A sink that raises what it is given: in `write` of a frame, or at the end."""

    def __init__(self, at: int | None, error: BaseException, on_leaving: BaseException | None = None) -> None:
        self._at, self._error, self._on_leaving = at, error, on_leaving
        self.left_with: list[Any] = []

    def write(self, frame: object, result: Result) -> None:
        if result.frame_index == self._at:
            raise self._error

    def __enter__(self) -> Failing:
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        self.left_with.append(error)
        if self._on_leaving is not None:
            raise self._on_leaving


def test_one_that_fails_never_stops_the_others(made_up: Callable[..., Result], tmp_path: Path) -> None:
    seen: list[int] = []
    told: list[tuple[str, str]] = []
    writing, leaving = Failing(2, OSError(28, "No space left on device")), Failing(None, OSError(), ValueError("late"))
    worded = Failing(3, OSError(28, "No space left"), OutputError("cannot write a.json: No space left (0 MB free)"))
    with Sinks(lambda name, error: told.append((name, str(error)))) as sinks:
        sinks.add("full", writing)
        sinks.add("worded", worded)
        sinks.add("out.jsonl", JsonSink(tmp_path / "out.jsonl"))
        sinks.add("call", CallbackSink(lambda frame, result: seen.append(result.frame_index)))
        sinks.add("late", leaving)
        for number in range(6):
            each = made_up(number)
            sinks.write(each.frame, each)
            assert (("full", "[Errno 28] No space left on device") in told) == (number >= 2)  # at once
        assert len(sinks) == 3
    assert seen == list(range(6))
    assert len((tmp_path / "out.jsonl").read_text().splitlines()) == 6
    assert told[1:] == [("worded", "cannot write a.json: No space left (0 MB free)"), ("late", "late")]
    assert list(sinks.failures) == ["full", "worded", "late"]
    assert [type(error) for error in writing.left_with] == [OSError]  # left once, with its own error
    assert leaving.left_with == [None]


def test_an_interruption_is_no_failure_of_a_sink(made_up: Callable[..., Result]) -> None:
    sink = Failing(0, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt), Sinks() as sinks:
        sinks.add("any", sink)
        sinks.write(made_up(0).frame, made_up(0))
    assert [type(error) for error in sink.left_with] == [KeyboardInterrupt]
    assert sinks.failures == {}


def test_what_stops_the_stream_is_raised_and_blamed_on_no_sink(made_up: Callable[..., Result], tmp_path: Path) -> None:
    sinks = Sinks()
    with pytest.raises(VideoError, match="breaks off"), sinks:
        sinks.add("out.jsonl", JsonSink(tmp_path / "out.jsonl"))
        sinks.add("time", made(tmp_path, "tubes.json"))
        raise VideoError("breaks off")
    assert sinks.failures == {} and list(tmp_path.iterdir()) == []
