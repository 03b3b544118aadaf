"""Events in Frigate: tested with a stand-in made from its documentation; no Frigate was run."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import pytest

from tests.waiting import NEVER_S, wait_until
from tests.yowo_deploy.sinks.receiver import Answer, Got, Receiver
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.events import Events
from yowo_deploy.result import Result
from yowo_deploy.sinks import FrigateSink, frigate, outbox
from yowo_deploy.sinks.frigate import Frigate

CANARY = "s3cr3t-canary"
MadeUp = Callable[..., Result]
BODY = {"sub_label", "score", "duration", "include_recording", "draw"}  # of EventsCreateBody


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine takes its time to send what waits."""
    monkeypatch.setattr(outbox, "CLOSE_S", NEVER_S)


class StandIn:
    """Create and end of manual events as https://docs.frigate.video/integrations/api describes them.

    Attributes:
        events: id -> camera, label, and whether it goes on.
    """

    def __init__(self, *cameras: str) -> None:
        self._cameras, self.events = cameras, dict[str, tuple[str, str, bool]]()

    def __call__(self, number: int, got: Got) -> Answer:
        if created := re.fullmatch(r"/api/events/([^/]+)/([^/]+)/create", got.path):
            camera, label = map(unquote, created.groups())
            body = got.json
            assert got.method == "POST" and set(body) <= BODY
            assert isinstance(body["duration"], int | None) and 0 <= body["score"] <= 1
            for drawn in body.get("draw", {}).get("boxes", []):
                assert all(0 <= side <= 1 for side in drawn["box"]) and isinstance(drawn["score"], int)
            if camera not in self._cameras:
                return Answer(404, json.dumps({"success": False, "message": "not a valid camera"}).encode())
            event = f"{1000 + number}.5-abc"
            self.events[event] = (camera, label, body["duration"] is None)
            answer = {"success": True, "message": "Successfully created event.", "event_id": event}
            return Answer(200, json.dumps(answer).encode())
        ended = re.fullmatch(r"/api/events/([^/]+)/end", got.path)
        assert ended and got.method == "PUT" and isinstance(got.json, dict)
        event = unquote(ended[1])
        camera, label, _ = self.events[event]
        self.events[event] = (camera, label, False)
        return Answer(200, b'{"success": true, "message": "Event successfully ended."}')


def write(sink: FrigateSink, *results: Result) -> None:
    for each in results:
        sink.write(each.frame, each)


def quick() -> Events:
    return Events(min_frames=1, update_frames=2)


def test_each_event_is_created_and_ended_once(made_up: MadeUp) -> None:
    stand_in = StandIn("front door")
    with Receiver(stand_in) as receiver, FrigateSink(receiver.url, "front door", quick()) as sink:
        write(sink, *(made_up(number, {0: [0.9, 0, 0], 1: [0, 0.8, 0]}) for number in range(4)))
        wait_until(lambda: len(stand_in.events) == 2)
        assert {each[1:] for each in stand_in.events.values()} == {("歩く\n", True), ("run $5", True)}
        write(sink, made_up(4, {1: [0, 0.8, 0]}))
        wait_until(lambda: sum(on for _, _, on in stand_in.events.values()) == 1)
    assert len(receiver.got) == 4 and sink.counts == {"sent": 4}
    assert not any(on for _, _, on in stand_in.events.values())
    box = receiver.got[0].json["draw"]["boxes"][0]
    assert box == {"box": [8 / 64, round(8 / 48, 4), 0.5, round(32 / 48, 4)], "score": 90}


def test_an_unknown_camera_is_one_line_and_its_ends_are_not_sent(made_up: MadeUp) -> None:
    notes: list[str] = []
    with Receiver(StandIn("other")) as receiver:
        with FrigateSink(receiver.url + "/api/", "door", quick(), notes.append) as sink:
            write(sink, made_up(0, {0: [0.9, 0, 0]}), made_up(1, {1: [0.9, 0, 0]}))
        assert len(receiver.got) == 2 and sink.counts == {"refused": 4}
    assert notes == [f"Frigate {receiver.url}: a message was refused: status 404"]


def test_what_failed_for_a_while_is_created_once_and_ended(made_up: MadeUp) -> None:
    stand_in, statuses = StandIn("door"), iter([502, 503, 0, 502, 0])
    pauses: list[float] = []

    def answer(number: int, got: Got) -> Answer:
        status = next(statuses)
        return Answer(status) if status else stand_in(number, got)

    with Receiver(answer) as receiver, Frigate(receiver.url, wait=pauses.append) as shared:
        with FrigateSink(shared, "door", quick()) as sink:
            write(sink, made_up(0, {0: [0.9, 0, 0]}))
        wait_until(lambda: shared.waiting == 0)
    assert [on for _, _, on in stand_in.events.values()] == [False]
    assert pauses == [1, 2, 1] and shared.counts == {"sent": 2}


@pytest.mark.parametrize("body", [b"", b"[]", b"<html>", b"{}"])
def test_another_server_is_named(body: bytes, made_up: MadeUp) -> None:
    notes: list[str] = []
    with (
        Receiver(lambda *_: Answer(200, body)) as receiver,
        FrigateSink(receiver.url, "door", quick(), notes.append) as sink,
    ):
        write(sink, made_up(0, {0: [0.9, 0, 0]}))
    assert "the answer has no event_id, is this the address of Frigate?" in notes[0]


@pytest.mark.parametrize(("camera", "event"), [("\udcff", "a"), ("door", "\ud800")])
def test_halves_of_characters_in_names_end_no_thread(camera: str, event: str, made_up: MadeUp) -> None:
    answer, notes = json.dumps({"event_id": event}).encode(), list[str]()
    with Receiver(lambda *_: Answer(200, answer)) as receiver:
        with FrigateSink(receiver.url, camera, quick(), notes.append) as sink:
            write(sink, made_up(0, {0: [0.9, 0, 0]}))
        assert sink.counts == {"sent": 2} and not notes
        assert len(receiver.got) == 2


def test_the_camera_is_made_of_the_source_and_no_secret_is_shown(made_up: MadeUp) -> None:
    stand_in, notes = StandIn("yard.avi"), list[str]()
    with Receiver(stand_in) as receiver:
        url = receiver.url.replace("//", f"//user:{CANARY}@")
        with FrigateSink(url, None, quick(), notes.append) as sink:
            write(sink, made_up(0, {0: [0.9, 0, 0]}))
            assert CANARY not in repr([sink, vars(sink), vars(sink._frigate)])
        with FrigateSink(url, CANARY[:0] or "elsewhere", quick(), notes.append) as sink:
            write(sink, made_up(0, {0: [0.9, 0, 0]}))
    assert len(stand_in.events) == 1 and notes and CANARY not in "".join(notes)
    with pytest.raises(InputError, match="the address of Frigate is not an address"):
        FrigateSink("frigate:5000")


def test_ten_thousand_requests_leave_nothing_behind(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    def answer(endpoint: object, method: str, *_: object) -> bytes:
        sent.append(method)
        return b'{"event_id": "1.5-a"}'

    monkeypatch.setattr(frigate, "request", answer)
    shared = Frigate("http://frigate:5000")
    with shared, FrigateSink(shared, "door", Events(min_frames=1)) as sink:
        for number in range(5_000):
            write(sink, made_up(number, {number: [0.9, 0, 0]}))
            if number % 100 == 99:
                wait_until(lambda: shared.waiting == 0)
    assert sent.count("POST") == sent.count("PUT") == 5_000
    assert shared._ids == {} and shared.waiting == 0
