"""A run of `detect` on the page."""

from __future__ import annotations

import json
import os
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.yowo_deploy.serving.calls import Running
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.events import Events
from yowo_deploy.result import Result
from yowo_deploy.serving.recorded import Recording, recorded_app
from yowo_deploy.sinks import EventSink, JsonSink, Sinks, TubesSink, VideoSink

MadeUp = Callable[..., Result]


@pytest.fixture
def run(tmp_path: Path, made_up: MadeUp) -> Path:
    """Forty frames of two people, as `detect` writes them."""
    folder = tmp_path / "yard"
    folder.mkdir()
    results = [made_up(n, {0: [0.8, 0.1, 0] if n < 25 else [0.1, 0.7, 0], 3: [0, 0, 0.6]}) for n in range(40)]
    with Sinks() as sinks:
        sinks.add("json", JsonSink(folder / "detections.jsonl"))
        sinks.add("events", EventSink(folder / "events.jsonl", Events()))
        sinks.add("tubes", TubesSink(folder / "tubes.json", "yard.avi", results[0].names))
        sinks.add("video", VideoSink(folder / "yard.webm"))
        for result in results:
            sinks.write(result.frame, result)
    assert not sinks.failures
    return folder


@pytest.fixture
def server(run: Path) -> Iterator[Running]:
    with Running(recorded_app(run)) as running:
        yield running


def test_bars_are_the_tubes_and_events_come_once(run: Path, server: Running) -> None:
    data = server.ask("/api/recording").json
    tubes = json.loads((run / "tubes.json").read_text())["tubes"]
    fields = ("person", "class_id", "score", "first_time", "last_time")
    assert data["bars"] == [[each[name] for name in fields] for tube in tubes for each in tube["actions"]]
    assert len(data["bars"]) == 3 and len(data["events"]) == 3 and data["duration"] == 39 / 25
    assert len(data["times"]) == len(data["people"]) == 40 and data["people"][0][0][:2] == [0, 0]
    assert server.ask("/api/state").json["recording"] == {"data": "/api/recording", "video": "/api/video"}


def test_without_tubes_bars_are_made_of_the_lines(run: Path) -> None:
    with_tubes = Recording(run).data["bars"]
    (run / "tubes.json").unlink()
    assert [bar[:2] + bar[3:] for bar in Recording(run).data["bars"]] == [bar[:2] + bar[3:] for bar in with_tubes]


def test_the_video_is_sent_in_parts(run: Path, server: Running) -> None:
    whole = (run / "yard.webm").read_bytes()
    answer = server.ask("/api/video", headers={"Range": "bytes=10-19"})
    assert answer.status == 206 and answer.body == whole[10:20]


def test_a_foreign_host_is_refused_here_too(server: Running) -> None:
    assert server.ask("/api/recording", headers={"Host": "evil.example"}).status == 400


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"frame": 0}', '{"frame": 0, "detections": [{}]}', '{"frame": "x", "detections": []}',
     '{"frame": 0, "detections": [{"label": "a", "class_id": 99999999999, "confidence": 1, "xyxy": [0, 0, 1, 1]}]}',
     '{"frame": 0, "detections": [{"label": "a", "class_id": -3, "confidence": 1, "xyxy": [0, 0, 1, 1]}]}',
     '{"frame": 0, "detections": [{"label": "a", "class_id": 0, "confidence": NaN, "xyxy": [0, 0, 1, 1]}]}',
     '{"frame": 0, "time": 1e999, "detections": []}', '{"frame": 0, "detections": [' + "[]," * 3_000_000 + "[]]}"],
)  # fmt: skip
def test_a_damaged_run_is_named(text: str, tmp_path: Path) -> None:
    (tmp_path / "detections.jsonl").write_text(text + "\n")
    with pytest.raises(InputError, match="damaged"):
        Recording(tmp_path)


@pytest.mark.parametrize("make", [Path.mkdir, os.mkfifo, lambda path: path.symlink_to("nowhere")])
def test_what_is_no_file_is_no_video(make: Callable[[Path], None], run: Path) -> None:
    (run / "yard.webm").unlink()
    make(run / "yard.webm")
    with Running(recorded_app(run)) as server:
        assert server.ask("/api/video").status == 404


def test_a_run_of_a_video_whose_name_is_no_utf_8_is_shown(run: Path) -> None:
    event = {"id": "1-1-1", "source": "\udcff.mp4"}
    (run / "events.jsonl").write_text(json.dumps(event))
    with Running(recorded_app(run.rename(run.parent / "\udcff"))) as server:
        assert server.ask("/api/recording").json["events"] == [event]
        assert server.ask("/api/state").json["model"] == "\udcff"


def test_another_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no"):
        Recording(tmp_path)


def lines(*found: tuple[int, str], source: str = "a.mp4") -> str:
    """Frames with a person each, of a class by number and name."""
    box = {"confidence": 0.5, "xyxy": [0, 0, 9, 9], "tracker_id": 1}
    frames = [[{"class_id": kind, "label": label, **box}] for kind, label in found]
    each = [{"frame": n, "source": source, "detections": of} for n, of in enumerate(frames)]
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in each)


def test_a_class_of_a_high_number_takes_no_memory_for_those_before_it(tmp_path: Path) -> None:
    (tmp_path / "detections.jsonl").write_text(lines((10_000, "walk"), *[(3, "sit")] * 300))
    tracemalloc.start()
    try:
        data = Recording(tmp_path).data
        assert tracemalloc.get_traced_memory()[1] < 10 << 20
    finally:
        tracemalloc.stop()
    assert (data["labels"][3], data["labels"][10_000], len(data["labels"])) == ("sit", "walk", 10_001)
    assert [bar[1] for bar in data["bars"]] == [3]


def test_the_name_of_a_video_ends_no_line(tmp_path: Path) -> None:
    (tmp_path / "detections.jsonl").write_text(lines((0, "walk"), source="yard\u2028.mp4"), encoding="utf-8")
    assert Recording(tmp_path).data["labels"] == ["walk"]


def test_a_run_of_thousands_of_classes_is_none(tmp_path: Path) -> None:
    (tmp_path / "detections.jsonl").write_text(lines(*((kind, "a") for kind in range(1001))))
    with pytest.raises(InputError, match="more than 1000 of them"):
        Recording(tmp_path)
