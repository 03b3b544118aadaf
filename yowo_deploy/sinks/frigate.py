"""Events in Frigate's database, by its HTTP interface."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import quote

from yowo_deploy.arrays import Frame
from yowo_deploy.errors import InputError, foreign
from yowo_deploy.json_text import to_json
from yowo_deploy.result import Result
from yowo_deploy.sinks.http_request import Endpoint, request
from yowo_deploy.sinks.jsonl import Messages
from yowo_deploy.sinks.messages import Addressed, Json, level_of, name_of
from yowo_deploy.sinks.outbox import Outbox, Queued, Refused


class _Change(NamedTuple):
    """A beginning or an end that waits.

    Attributes:
        create: body of the request that begins the event; None ends it.
    """

    key: str
    camera: str
    label: str
    create: bytes | None


class Frigate(Queued):
    """Creates and ends events in Frigate, in order, from a thread of its own; may be shared by several `FrigateSink`s.

    `POST /api/events/CAMERA/LABEL/create` with a duration of null, and `PUT /api/events/ID/end`. Frigate times both by
    its own clock when they arrive. Private addresses are allowed.

    Args:
        url: `http://frigate:5000`; only scheme, host and port appear in messages.
        report: receives a line when requests begin to fail, and when they succeed again.
        wait: what waits between two tries; for tests.

    Raises:
        InputError: the address is not valid.
    """

    def __init__(
        self,
        url: str,
        report: Callable[[str], object] = lambda text: None,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._endpoint = Endpoint.parse(url, "the address of Frigate", private=True)
        self._base = self._endpoint.path.rstrip("/").removesuffix("/api")
        self._ids: dict[str, str] = {}  # Frigate's, of the events that go on; used by the outbox's thread alone
        self._outbox = Outbox[_Change](f"Frigate {self._endpoint.shown}", self._send, report=report, wait=wait)

    def push(self, message: Json, size_wh: tuple[int, int]) -> None:
        """Queue a beginning or an end; never waits. Updates are left out: Frigate takes none."""
        if message["type"] == "update":
            return
        begins = message["type"] == "new"
        create = to_json(_creation(message, size_wh)).encode() if begins else None
        self._outbox.put(_Change(message["id"], message["source"], name_of(message), create))

    def _send(self, change: _Change) -> None:
        if change.create is None:
            self._end(change.key)
            return
        path = f"{self._base}/api/events/{_quoted(change.camera)}/{_quoted(change.label)}/create"
        answer = request(self._endpoint, "POST", path, change.create, {})
        try:
            with foreign("the answer has no event_id, is this the address of Frigate?"):
                self._ids[change.key] = str(json.loads(answer)["event_id"])
        except InputError as error:
            raise Refused(str(error)) from error

    def _end(self, key: str) -> None:
        if (event := self._ids.get(key)) is None:
            raise Refused("the end of an event whose beginning was not accepted")
        try:
            request(self._endpoint, "PUT", f"{self._base}/api/events/{_quoted(event)}/end", b"{}", {})
        except Refused:
            del self._ids[key]
            raise
        del self._ids[key]


class FrigateSink:
    """Begins and ends an event in Frigate for each event of a source.

    Args:
        frigate: its address, or one that several sinks share, which then stays open.
        camera: name of the camera in Frigate; by default made of the source's name.
        events: makes the messages; `Events()` by default.
        report: see `Frigate`; for an address.

    Raises:
        InputError: the address is not valid.
    """

    def __init__(
        self,
        frigate: str | Frigate,
        camera: str | None = None,
        events: Messages | None = None,
        report: Callable[[str], object] = lambda text: None,
    ) -> None:
        self._own = isinstance(frigate, str)
        self._frigate = Frigate(frigate, report) if isinstance(frigate, str) else frigate
        self._messages, self._camera = Addressed(events, camera), camera
        self._size_wh = (1, 1)

    @property
    def counts(self) -> Counter[str]:
        """Requests by outcome, see `Outbox`."""
        return self._frigate.counts

    def write(self, frame: Frame, result: Result) -> None:
        """Queue the events that begin or end, see `Sink.write`."""
        self._size_wh = frame.shape[1], frame.shape[0]
        self._push(self._messages.push(result))

    def __enter__(self) -> FrigateSink:
        return self

    def __exit__(self, *_: object) -> None:
        self._push(self._messages.close())
        if self._own:
            self._frigate.close()

    def _push(self, messages: list[Json]) -> None:
        for message in messages:
            source = message["source"] if self._camera else level_of(message["source"])
            self._frigate.push({**message, "source": source}, self._size_wh)


def _quoted(text: str) -> str:
    """As one part of a path; halves of characters, which JSON and names of files may have, as well."""
    return quote(text, safe="", errors="surrogatepass")


def _creation(message: Json, size_wh: tuple[int, int]) -> Json:
    """The body of a new event without an end. The box is drawn in the snapshot that Frigate takes of its own frame."""
    body = {"duration": None, "include_recording": True, "score": message.get("score", 0.0)}
    if len(box := message.get("box", ())) == 4:
        (x1, y1, x2, y2), (width, height) = box, size_wh
        shares = [x1 / width, y1 / height, (x2 - x1) / width, (y2 - y1) / height]
        drawn = {"box": [round(each, 4) for each in shares], "score": round(100 * body["score"])}
        body["draw"] = {"boxes": [drawn]}
    return body
