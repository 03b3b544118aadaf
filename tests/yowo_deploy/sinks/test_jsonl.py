"""Lines of JSON: one a frame, one a message, valid by the schemas that are shipped."""

from __future__ import annotations

import json
import os
import re
import threading
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from yowo_deploy.errors import OutputError, VideoError
from yowo_deploy.postprocess.events import Events
from yowo_deploy.result import Result
from yowo_deploy.sinks import EventSink, JsonSink
from yowo_deploy.sinks.jsonl import EVENTS_SCHEMA, FRAMES_SCHEMA


def validator(schema: Path) -> Any:
    return jsonschema.Draft202012Validator(json.loads(schema.read_text(encoding="utf-8")))


def results(made_up: Callable[..., Result]) -> list[Result]:
    scores = [[0.9, 0.4, 0.0] if number < 20 else [0.1, 0.7, 0.0] for number in range(40)]
    return [
        made_up(number, {0: each, 4: [0.0, 0.0, 0.8]}, carried=number % 2 == 1) for number, each in enumerate(scores)
    ]


@pytest.mark.parametrize("timed", [True, False])
def test_every_line_is_valid_by_its_schema(made_up: Callable[..., Result], tmp_path: Path, timed: bool) -> None:
    unsaid: dict[str, Any] = {} if timed else {"timestamp": None, "source": ""}
    several = made_up(39, {2: [0.6, 0.5, 0], 3: [0.1, 0, 0]}, label_threshold=0.3, **unsaid)
    shown = [*results(made_up), several, made_up(40, **unsaid), made_up(41, {2: [0.6, 0, 0]}, **unsaid)]
    frames, events = tmp_path / "frames.jsonl", tmp_path / "events.jsonl"
    with JsonSink(frames) as one, EventSink(events, Events(min_frames=1, update_frames=3)) as other:
        for each in shown:
            one.write(each.frame, each)
            other.write(each.frame, each)
    for path, schema in ((frames, FRAMES_SCHEMA), (events, EVENTS_SCHEMA)):
        lines = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
        assert len(lines) >= 10
        for line in lines:
            validator(schema).validate(line)
            assert not validator(schema).is_valid(line | {"more": 1})
            assert not validator(schema).is_valid(line | {"v": 2})
        if path == frames:
            assert lines == [json.loads(each.to_json()) for each in shown]


def test_what_the_cpp_runtime_prints_is_valid_too() -> None:
    row = {"label": "a", "class_id": 0, "confidence": 0.5, "xyxy": [1.0, 2.0, 3.0, 4.5]}
    validator(FRAMES_SCHEMA).validate({"frame": 7, "detections": [row]})


def test_the_example_in_the_docs_is_valid_too(project_root: Path) -> None:
    [example] = re.findall(r"```json\n(.*?)```", (project_root / "docs" / "detect.md").read_text(), flags=re.DOTALL)
    validator(EVENTS_SCHEMA).validate(json.loads(example))


@pytest.mark.parametrize("error", [None, VideoError("breaks off")])
def test_what_goes_on_ends_with_the_block_well_or_not(error: VideoError | None, made_up: Callable[..., Result]) -> None:
    lines: list[str] = []
    with pytest.raises(VideoError) if error else nullcontext(), EventSink(lines.append, Events(min_frames=2)) as sink:
        for number in range(5):
            sink.write(made_up(number).frame, made_up(number, {0: [0.9, 0, 0]}))
        if error:
            raise error
    assert [json.loads(line)["type"] for line in lines] == ["new", "end"]


def test_who_reads_along_sees_each_line_at_once_and_keeps_it(made_up: Callable[..., Result], tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "out.jsonl"
    with pytest.raises(VideoError), JsonSink(path, followed=True) as sink:
        for number in range(3):
            sink.write(made_up(number).frame, made_up(number))
            assert len(path.read_text(encoding="utf-8").splitlines()) == number + 1
        raise VideoError("the camera is gone")
    assert len(path.read_text(encoding="utf-8").splitlines()) == 3
    with pytest.raises(OutputError, match="cannot write"):
        JsonSink(tmp_path, followed=True)


def test_a_pipe_is_written_into_and_stays_a_pipe(made_up: Callable[..., Result], tmp_path: Path) -> None:
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: read.extend(pipe.read_text().splitlines()), daemon=True)
    reader.start()
    with JsonSink(pipe) as sink:
        for number in range(3):
            sink.write(made_up(number).frame, made_up(number))
    reader.join()
    assert len(read) == 3 and pipe.is_fifo()
