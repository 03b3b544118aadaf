"""Events, counts of people and Home Assistant's discovery by MQTT."""

from __future__ import annotations

import importlib
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from importlib.util import find_spec
from time import monotonic
from typing import Any, NamedTuple

from yowo_deploy.arrays import Frame
from yowo_deploy.errors import InputError, MissingExtraError
from yowo_deploy.json_text import to_json
from yowo_deploy.postprocess.rules import Rules
from yowo_deploy.postprocess.zones import Zones
from yowo_deploy.result import Result
from yowo_deploy.sinks.home_assistant import DISCOVERY, discovery
from yowo_deploy.sinks.jsonl import Messages
from yowo_deploy.sinks.messages import EVENTS_FORMATS, Addressed, EventsFormat, FrigateForm, level_of, name_of
from yowo_deploy.sinks.outbox import Outbox, Queued, Retry

COUNTS_EVERY_S = 0.5  # at most; people appear and disappear faster
STATS_EVERY_S = 30.0


class _Message(NamedTuple):
    """What waits to be published; without a payload it is the newest value of the topic."""

    topic: str
    payload: str | None
    expendable: bool


class MqttBroker(Queued):
    """A connection that several `MqttSink`s may share, with the queue of their messages.

    `<prefix>/available` is "online" or, by last will, "offline". While the broker is away, 1,000 messages wait in
    order, updates give way to new and end, and counts are sent anew when it is back. All messages are sent at QoS 1: a
    broker that dies before it confirms a message gets it twice, with the same "id" and "type".

    Args:
        url: `mqtt://user:password@host:1883/prefix`, `mqtts://` for TLS; the prefix is "yowo" by default.
        password: in place of that of the address; neither appears in messages.
        ca: file of certificates to trust in place of the system's.
        report: receives a line when the connection fails or is lost, and when it is back.
        clock: seconds, for the pace of counts and statistics.

    Raises:
        InputError: the address is not valid.
        MissingExtraError: paho-mqtt is not installed.
        OutputError: the broker refuses the user, or its certificate is not trusted.
    """

    def __init__(
        self,
        url: str,
        password: str | None = None,
        ca: str | None = None,
        report: Callable[[str], object] = lambda text: None,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        if find_spec("paho") is None:
            raise MissingExtraError("paho-mqtt", "mqtt")
        library = importlib.import_module("yowo_deploy.sinks.mqtt_connection")
        address = library.BrokerAddress.parse(url, password, ca)
        self.prefix: str = address.prefix
        self.clock = clock
        self._lock = threading.RLock()
        self._counts: dict[str, Counter[object]] = {}
        self._values: dict[str, str] = {}  # of retained topics
        self._queued = set[str]()
        self._frames, self._stats_at = Counter[str](), clock()
        self._connection = library.Connection(
            address, self.topic("available"), f"{DISCOVERY}/status", self._send_retained, self._status, report
        )
        self._outbox = Outbox[_Message](address.shown, self._send, lambda each: each.expendable, report)

    @property
    def connected(self) -> bool:
        """Whether the broker is connected."""
        return bool(self._connection.connected)

    def topic(self, *levels: str) -> str:
        """A topic below the prefix."""
        return "/".join([self.prefix, *levels])

    def publish(self, topic: str, payload: str, expendable: bool) -> None:
        """Queue a message; never waits.

        Args:
            topic: whole, with the prefix.
            payload: text, mostly JSON.
            expendable: whether it may be dropped for another message when the queue is full.
        """
        self._outbox.put(_Message(topic, payload, expendable))

    def retain(self, topic: str, value: str) -> None:
        """Set a retained value; of values that change faster than they are sent, the newest is sent."""
        with self._lock:
            if self._values.get(topic) == value:
                return
            self._values[topic] = value
            if topic not in self._queued and self._outbox.put(_Message(topic, None, False)):
                self._queued.add(topic)

    def count(self, owner: object, counts: Mapping[str, int]) -> None:
        """Set the counts of one sink; a topic has the sum over all sinks."""
        with self._lock:
            for topic, number in counts.items():
                of_topic = self._counts.setdefault(topic, Counter())
                of_topic[owner] = number
                self.retain(topic, str(sum(of_topic.values())))

    def forget(self, owner: object) -> None:
        """Take the counts of one sink out of the sums."""
        with self._lock:
            for topic, of_topic in self._counts.items():
                if of_topic.pop(owner, None) is not None:
                    self.retain(topic, str(sum(of_topic.values())))

    def saw_frame(self, source: str) -> None:
        """Count a frame, for `<prefix>/stats`."""
        with self._lock:
            self._frames[source] += 1
            now = self.clock()
            if now - self._stats_at >= STATS_EVERY_S:
                self._send_stats(now - self._stats_at)
                self._stats_at = now

    def close(self) -> None:
        """Send what waits and leave, within a few seconds."""
        self._outbox.close()
        self._connection.close()

    def _send_stats(self, seconds: float) -> None:
        rates = {source: round(frames / seconds, 2) for source, frames in self._frames.items()}
        dropped = {reason: count for reason, count in dict(self.counts).items() if reason != "sent"}
        stats = {"fps": rates, "sent": self.counts["sent"], "waiting": self.waiting, "dropped": dropped}
        self._frames = Counter(dict.fromkeys(self._frames, 0))
        self.retain(self.topic("stats"), to_json(stats))

    def _send(self, message: _Message) -> None:
        payload = message.payload
        if payload is None:
            with self._lock:
                self._queued.discard(message.topic)
                payload = self._values[message.topic]
        retained = message.payload is None
        if not self._connection.deliver(message.topic, payload, retained, lambda: self._outbox.expired):
            raise Retry("the broker did not take a message")

    def _send_retained(self) -> None:
        """All values anew: a broker that was restarted may have forgotten them."""
        with self._lock:
            values = list(self._values.items())
        for topic, value in values:
            self._connection.publish(topic, value, retain=True)

    def _status(self, payload: bytes) -> None:
        if payload == b"online":  # of Home Assistant, which was restarted
            self._send_retained()


class MqttSink:
    """Publishes what one source shows.

    | topic | payload |
    |---|---|
    | `<prefix>/events` | each message of the events, as JSON |
    | `<prefix>/<source>/<action>` | number of people doing the action now; `all`: people in the picture |
    | `<prefix>/<source>/<action>/active` | number of events in progress; with `Rules`, `<rule>` for `<action>` |
    | `<prefix>/<zone>/<action>` | number of people doing the action in the zone, over all sources; `all` |
    | `<prefix>/stats` | frames per second, messages sent, waiting and dropped |
    | `homeassistant/device/<id>/config` | discovery |

    Counts are retained and change twice a second at most.

    Args:
        broker: its address, or one that several sinks share, which then stays open.
        source: name of the camera; by default made of the results' own.
        events: makes the messages; `Events()` by default.
        zones: finds the zones of people.
        events_format: "frigate": `{"type", "before", "after"}`, as Frigate publishes events.
        discover: announce the source to Home Assistant.
        password, ca, report: see `MqttBroker`; for an address.

    Raises:
        InputError: an unknown `events_format`; or see `MqttBroker`.
        MissingExtraError, OutputError: see `MqttBroker`.
    """

    def __init__(
        self,
        broker: str | MqttBroker,
        source: str | None = None,
        events: Messages | None = None,
        zones: Zones | None = None,
        events_format: EventsFormat = "yowo",
        discover: bool = True,
        password: str | None = None,
        ca: str | None = None,
        report: Callable[[str], object] = lambda text: None,
    ) -> None:
        if events_format not in EVENTS_FORMATS:
            raise InputError(f"events format {events_format!r} is not known, expected {' or '.join(EVENTS_FORMATS)}")
        self._source, self._zones, self._discover = source and level_of(source), zones, discover
        self._messages = Addressed(events, self._source)
        self._rules = events.names if isinstance(events, Rules) else None
        self._form = FrigateForm() if events_format == "frigate" else None
        self._active: dict[str, str] = {}  # events that go on, with their actions
        self._zeros: dict[str, int] | None = None
        self._counted_at = float("-inf")
        self._now_s: float | None = None
        self._own = isinstance(broker, str)
        self._broker = MqttBroker(broker, password, ca, report) if isinstance(broker, str) else broker

    @property
    def counts(self) -> Counter[str]:
        """Messages by outcome, see `Outbox`."""
        return self._broker.counts

    def write(self, frame: Frame, result: Result) -> None:
        """Queue messages and counts, see `Sink.write`."""
        if self._zeros is None:
            self._begin(result)
        self._now_s = result.timestamp
        self._publish(self._messages.push(result))
        people = self._people(result)
        self._broker.saw_frame(self._source or "")
        now = self._broker.clock()
        if now - self._counted_at >= COUNTS_EVERY_S:
            self._counted_at = now
            self._broker.count(self, {**(self._zeros or {}), **people, **self._going_on()})

    def __enter__(self) -> MqttSink:
        return self

    def __exit__(self, *_: object) -> None:
        self._publish(self._messages.close())
        self._broker.forget(self)
        if self._own:
            self._broker.close()

    def _begin(self, result: Result) -> None:
        """Know the names; announce them, with counts of 0."""
        source = self._source = self._source or level_of(result.source)
        zones = self._zones.names if self._zones else ()
        begun = result.names if self._rules is None else self._rules
        if same := [name for name in zones if level_of(name) == source]:
            raise InputError(f"zone {same[0]!r} has the name and topics of the camera: give it another name")
        labels = [level_of(name) for name in result.names]
        topic = self._broker.topic
        self._zeros = {
            topic(level, label): 0 for level in (source, *map(level_of, zones)) for label in (*labels, "all")
        }
        self._zeros |= {topic(source, level_of(name), "active"): 0 for name in begun}
        if self._discover:
            self._broker.retain(*discovery(self._broker.prefix, source, result.names, begun, zones))

    def _people(self, result: Result) -> Counter[str]:
        """People by topic: of the picture and of each zone."""
        found, topic = result.detections, self._broker.topic
        present = self._zones.push(result) if self._zones else {}
        persons = [None] * len(found) if found.tracker_id is None else found.tracker_id.tolist()
        counts = Counter[str]()
        for row, person in enumerate(persons):
            zones = present[person].zones if person in present else ()
            labels = [level_of(result.names[each]) for each in found.classes_above(row, result.label_threshold)]
            for place in (self._source or "", *map(level_of, zones)):
                counts.update(topic(place, label) for label in {*labels, "all"})
        return counts

    def _going_on(self) -> Counter[str]:
        return Counter(
            self._broker.topic(self._source or "", level_of(label), "active") for label in self._active.values()
        )

    def _publish(self, messages: Iterable[dict[str, Any]]) -> None:
        for message in messages:
            if not self._source:
                message = {**message, "source": level_of(message["source"])}
            if message["type"] == "end":
                self._active.pop(message["id"], None)
            else:
                self._active[message["id"]] = name_of(message)
            sent = self._form.of(message, self._now_s) if self._form else message
            self._broker.publish(self._broker.topic("events"), to_json(sent), message["type"] == "update")
