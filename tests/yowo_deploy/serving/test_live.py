"""What a page is told: every frame whole, the newest first, every bar once, and nothing that slows the engine."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect

from tests.local_camera import LocalCamera, number_in, numbered
from tests.waiting import wait_until
from tests.yowo_deploy.serving.calls import Running
from yowo_deploy.arrays import Frame
from yowo_deploy.backends.base import Backend, Engine
from yowo_deploy.detector import Detector
from yowo_deploy.postprocess.actions import Actions
from yowo_deploy.postprocess.events import Events
from yowo_deploy.result import Result
from yowo_deploy.serving import app
from yowo_deploy.serving.live import Seen, Watched, bars_of
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.sources import open_source

MadeUp = Callable[..., Result]
WALK, RUN = [0.8, 0.2, 0.0], [0.2, 0.6, 0.0]


@pytest.fixture
def watched() -> Watched:
    return Watched("yard", Events(0.5, 0.3, min_frames=2))


def unpacked(message: Any) -> tuple[Any, Frame | None]:
    """The JSON and the picture of a message."""
    length = int.from_bytes(message[:4], "little")
    jpeg = np.frombuffer(message[4 + length :], np.uint8)
    return json.loads(message[4 : 4 + length]), None if not len(jpeg) else np.asarray(cv2.imdecode(jpeg, 1), np.uint8)


def course(made_up: MadeUp, frames: int = 60) -> Iterator[Result]:
    """Two people who do one thing and then another; one of them leaves."""
    for number in range(frames):
        scores = {0: WALK if number % 40 < 20 else RUN}
        yield made_up(number, scores | ({1: RUN} if number < frames // 2 else {}))


def test_bars_are_the_actions_of_the_same_results_each_once(watched: Watched, made_up: MadeUp) -> None:
    actions, expected, found, seen = Actions(min_frames=2), list[Any](), list[Any](), Seen()
    for number, result in enumerate(course(made_up)):
        watched.publish(result)
        expected += bars_of(actions.push(result))
        if number % 7 == 0:  # a viewer that misses frames
            found += watched.message(seen)[0]["bars"]
    watched.end("ended")
    expected += bars_of(actions.close())
    head = watched.message(seen)[0]
    assert found + head["bars"] == expected and len(expected) == 4
    assert head["open"] == [] and head["state"] == "ended"
    late = watched.message(Seen())[0]
    assert late["bars"] == expected and {each["type"] for each in late["events"]} >= {"new", "end"}


def test_open_bars_say_what_ended_bars_will(watched: Watched, made_up: MadeUp) -> None:
    for result in course(made_up):
        watched.publish(result)
    following = watched.message(Seen())[0]["open"]
    assert [bar[:2] for bar in following] == [[0, 0], [0, 1], [0, 0]] and following[-1][4] is None
    watched.end("ended")
    ended = [bar for bar in watched.message(Seen())[0]["bars"] if bar[0] == 0]
    assert [(bar[1], bar[3]) for bar in ended] == [(bar[1], bar[3]) for bar in following]


def test_a_picture_is_made_once_and_only_for_who_looks(
    watched: Watched, made_up: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[int] = []
    encode = cv2.imencode
    monkeypatch.setattr(cv2, "imencode", lambda *given: made.append(1) or encode(*given))
    for result in course(made_up):
        watched.publish(result)
    assert not made
    first, second = Seen(), Seen()
    assert watched.message(first)[1] == watched.message(second)[1] != b"" and len(made) == 1
    assert watched.message(first)[1] == b"" and len(made) == 1


def test_a_wide_frame_is_sent_smaller_with_boxes_in_its_own_pixels(watched: Watched, made_up: MadeUp) -> None:
    watched.publish(replace(made_up(0, {0: WALK}), frame=np.zeros((100, 2000, 3), np.uint8)))
    head, jpeg = watched.message(Seen())
    assert cv2.imdecode(np.frombuffer(jpeg, np.uint8), 1).shape == (64, 1280, 3)
    assert head["size"] == [2000, 100] and head["people"][0][3:] == [8.0, 8.0, 40.0, 40.0]


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Sixty numbered frames in two fifths of a second."""
    file = tmp_path_factory.mktemp("film") / "film.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 150, (128, 48))
    for number in range(60):
        writer.write(numbered(number))
    writer.release()
    return file


@pytest.fixture
def showing(spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend], film: Path) -> Iterator[Running]:
    with Running(app(numpy_backend(spec), confidence=0.02, sources=[film])) as server:
        yield server


def viewer(server: Running, number: int = 0, **options: Any) -> ClientConnection:
    return connect(f"ws://127.0.0.1:{server.port}/watch/{number}", max_size=None, compression=None, **options)


def test_boxes_and_pixels_arrive_together_and_equal_the_detector(
    showing: Running, film: Path, spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend]
) -> None:
    with open_source(film) as source, Detector(numpy_backend(spec), confidence=0.02) as alone:
        expected = [alone.push(image, timestamp, index) for image, index, timestamp in source]
    actions = Actions(min_frames=2)
    bars, found, shown = [over for each in expected for over in actions.push(each)], list[Any](), 0
    with viewer(showing) as line:
        while True:
            head, image = unpacked(line.recv())
            line.send("1")
            found += head["bars"]
            if image is not None:
                shown += 1
                result = expected[head["frame"]]
                assert number_in(image) == head["frame"]
                boxes = np.array([each[3:] for each in head["people"]]).reshape(-1, 4)
                assert np.abs(boxes - result.detections.xyxy).max(initial=0) < 0.01
                assert [each[0] for each in head["people"]] == result.detections.tracker_id.tolist()
            if head["state"] == "ended":
                break
    assert shown > 0 and head["frame"] == 59
    assert found == bars_of(bars + actions.close()) and len(found) > 3


def test_a_viewer_that_does_not_answer_gets_two_messages_and_then_the_newest(
    watched: Watched, made_up: MadeUp, spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend]
) -> None:
    application = app(numpy_backend(spec))
    application.state.page._watched = [watched]
    with Running(application) as server, viewer(server) as line:
        wait_until(lambda: watched.viewers == 1)
        results = list(course(made_up, 500))
        watched.publish(results[0])
        first = [unpacked(line.recv())[0] for _ in range(2)]  # a frame, and at the latest after a second nothing new
        for result in results[1:]:
            watched.publish(result)  # returns at once, whatever the viewer does
        line.send("1")
        head, image = unpacked(line.recv())
        assert image is not None and head["frame"] == 499
        assert [each["number"] for each in first if "number" in each][-1] == 1
        assert [bar[0] for each in (*first, head) for bar in each["bars"]] == [1]  # who left, once


def test_a_viewer_that_goes_away_leaves_nothing(showing: Running) -> None:
    watched = showing.service.hub.watched[0]
    for _ in range(3):
        with viewer(showing) as line:
            line.recv()
            wait_until(lambda: watched.viewers == 1)
        wait_until(lambda: watched.viewers == 0)


@pytest.mark.parametrize(
    ("headers", "status"),
    [({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403), ({"Host": "evil.example"}, 400)],
)
def test_pages_of_others_may_not_watch(headers: dict[str, str], status: int, showing: Running) -> None:
    host, origin = headers.get("Host", "127.0.0.1"), headers.get("Origin")
    with socket.create_connection(("127.0.0.1", showing.port)) as raw, pytest.raises(InvalidStatus) as caught:
        connect(f"ws://{host}:{showing.port}/watch/0", sock=raw, origin=origin)
    assert caught.value.response.status_code == status


def test_a_source_that_is_not_there_is_no_watch(showing: Running) -> None:
    for number in (7, 10**4000):  # and "1000..." of more digits than Python reads
        with pytest.raises(InvalidStatus) as caught, viewer(showing, str(number) * 2):  # type: ignore[arg-type]
            pass
        assert caught.value.response.status_code == 403
    for query in ("?source=7", "?source=x", "?source=-1", "?source=99999999999999999999"):
        assert showing.ask(f"/stream.mjpg{query}").status == 404


def test_players_get_mjpeg_with_boxes(showing: Running) -> None:
    line = showing.connection()
    line.request("GET", "/stream.mjpg")
    answer = line.getresponse()
    assert answer.getheader("content-type") == "multipart/x-mixed-replace; boundary=frame"
    for _ in range(2):
        assert answer.readline() == b"--frame\r\n" and answer.readline() == b"Content-Type: image/jpeg\r\n"
        length = int(answer.readline().split()[1])
        assert answer.readline() == b"\r\n"
        assert cv2.imdecode(np.frombuffer(answer.read(length), np.uint8), 1).shape == (48, 128, 3)
        assert answer.readline() == b"\r\n"
    line.close()


def test_a_camera_that_hangs_up_is_shown_as_lost_and_goes_on(
    spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend]
) -> None:
    with LocalCamera() as camera, Running(app(numpy_backend(spec), sources=[camera.url])) as server:
        [watched] = server.service.hub.watched
        assert "s3cret" not in watched.name and b"s3cret" not in server.ask("/api/state").body
        wait_until(lambda: watched.message(Seen())[0]["state"] == "live")
        camera.kill()
        wait_until(lambda: watched.message(Seen())[0]["state"] == "lost")
        camera.start()
        wait_until(lambda: watched.message(Seen())[0]["state"] == "live")
        assert watched.message(Seen())[0]["source"]["reconnects"] >= 1


def test_a_file_that_is_not_there_ends_with_the_reason_and_no_folder(
    spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend], tmp_path: Path
) -> None:
    with Running(app(numpy_backend(spec), sources=[tmp_path / "none.mp4"])) as server:
        [watched] = server.service.hub.watched
        wait_until(lambda: watched.state == "ended")
        assert watched.name == "none.mp4" and str(tmp_path) not in watched.note


class Nan(Engine):
    """Answers with no number."""

    name = "nan"

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec

    def infer(self, clips: Any) -> Any:
        columns, rows = self.spec.grid_size
        return np.full((len(clips), self.spec.output_channels, rows, columns), np.nan, np.float32)


def test_nan_in_a_source_makes_the_model_not_ready(spec: ModelSpec, film: Path) -> None:
    with Running(app(Nan(spec), sources=[film])) as server:
        wait_until(lambda: server.ask("/v2/health/ready").status == 503)
        assert server.service.hub.watched[0].message(Seen())[1] == b""


def test_the_page_comes_from_here_alone(showing: Running) -> None:
    kinds = {"/": "text/html", "/app.js": "text/javascript", "/app.css": "text/css", "/icon.svg": "image/svg+xml"}
    for path, kind in kinds.items():
        answer = showing.ask(path)
        assert answer.status == 200 and answer.headers["content-type"].startswith(kind), path
        text = answer.body.decode()
        for outside in ("http://", "https://", "//cdn"):
            assert outside not in text.replace("http://www.w3.org/2000/svg", ""), path


def test_a_server_ends_although_players_and_pages_watch(
    spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend]
) -> None:
    with LocalCamera() as camera, Running(app(numpy_backend(spec), sources=[camera.url])) as server:
        player = server.connection()
        player.request("GET", "/stream.mjpg")
        player.getresponse().readline()
        threading.Thread(target=_watch_to_the_end, args=(server,)).start()
        wait_until(lambda: server.service.hub.watched[0].viewers == 2)
    player.close()


def _watch_to_the_end(server: Running) -> None:
    with suppress(ConnectionClosed), viewer(server) as line:
        while line.recv():
            line.send("1")
