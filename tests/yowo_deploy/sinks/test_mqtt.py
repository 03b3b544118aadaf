"""Events and counts by MQTT, with a real broker that dies and comes back."""

from __future__ import annotations

import gc
import importlib
import json
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from urllib.parse import quote

import pytest

from tests.waiting import NEVER_S, wait_until
from yowo_deploy.errors import InputError, OutputError
from yowo_deploy.postprocess.events import Events
from yowo_deploy.postprocess.rules import Rule, Rules
from yowo_deploy.postprocess.zones import Zone, Zones
from yowo_deploy.result import Result
from yowo_deploy.sinks import MqttSink, outbox
from yowo_deploy.sinks.mqtt import MqttBroker

pytest.importorskip("paho")

from tests.yowo_deploy.sinks.broker import Broker, Subscriber, mosquitto

CANARY = "s3cr3t-canary"
MadeUp = Callable[..., Result]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine takes its time to send what waits."""
    monkeypatch.setattr(outbox, "CLOSE_S", NEVER_S)
    monkeypatch.setattr(importlib.import_module("yowo_deploy.sinks.mqtt_connection"), "CONNECT_S", NEVER_S)


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Broker]:
    with Broker(tmp_path) as running:
        yield running


def ticking() -> Callable[[], float]:
    """A clock that goes a second on each time it is read: counts are never held back."""
    ticks = count()
    return lambda: float(next(ticks))


def write(sink: MqttSink, *results: Result) -> None:
    for each in results:
        sink.write(each.frame, each)


def quick() -> Events:
    return Events(min_frames=1, update_frames=4)


def test_a_source_is_told_from_its_first_frame_to_its_end(broker: Broker, made_up: MadeUp) -> None:
    with Subscriber(broker.port) as heard, MqttBroker(broker.url, clock=ticking()) as shared:
        with MqttSink(shared, "front door", quick()) as sink:
            write(sink, *(made_up(number, {0: [0.9, 0, 0], 4: [0.8, 0, 0]}) for number in range(6)))
            wait_until(lambda: shared.waiting == 0)
            heard.wait_for("yard/available", "online")
            heard.wait_for("yard/front_door/all", "2")
            heard.wait_for("yard/front_door/歩く", "2")
            heard.wait_for("yard/front_door/歩く/active", "2")
            heard.wait_for("yard/front_door/run_5", "0")
            write(sink, made_up(6, {4: [0.0, 0.9, 0]}))
            heard.wait_for("yard/front_door/歩く/active", "0")
            heard.wait_for("yard/front_door/run_5", "1")
        heard.wait_for("yard/front_door/run_5", "0")
        heard.wait_for("yard/front_door/run_5/active", "0")
        wait_until(lambda: sum('"end"' in text for text in heard.values("yard/events")) == 3)
        kinds = [json.loads(text)["type"] for text in heard.values("yard/events")]
        assert Counter(kinds) == {"new": 3, "update": 2, "end": 3}
        assert all(json.loads(text)["source"] == "front_door" for text in heard.values("yard/events"))
        assert shared.counts["sent"] and set(shared.counts) == {"sent"}
    with Subscriber(broker.port) as heard:
        heard.wait_for("yard/available", "offline")


def test_zones_count_the_people_of_all_sources(broker: Broker, made_up: MadeUp) -> None:
    gate = Zones([Zone("by the gate", ((0.3, 0.0), (0.4, 0.0), (0.4, 1.0), (0.3, 1.0)))])  # where person 0 stands
    with Subscriber(broker.port) as heard, MqttBroker(broker.url, clock=ticking()) as shared:
        with MqttSink(shared, "a", zones=gate.fresh()) as first, MqttSink(shared, "b", zones=gate.fresh()) as second:
            for number in range(3):
                write(first, made_up(number, {0: [0.9, 0, 0], 4: [0.9, 0, 0]}))
                write(second, made_up(number, {0: [0, 0.9, 0]}))
            heard.wait_for("yard/by_the_gate/all", "2")
            heard.wait_for("yard/by_the_gate/歩く", "1")
            heard.wait_for("yard/a/歩く", "2")
        heard.wait_for("yard/by_the_gate/all", "0")
        sink = MqttSink(shared, "by_the_gate", zones=gate.fresh())
        with pytest.raises(InputError, match="zone 'by the gate' has the name and topics of the camera"):
            write(sink, made_up(0))


def test_alerts_of_rules_have_topics_of_their_names(broker: Broker, made_up: MadeUp) -> None:
    rules = Rules([Rule("fell down", actions=("sit",))], ("歩く\n", "run $5", "sit"))
    with Subscriber(broker.port) as heard, MqttBroker(broker.url, clock=ticking()) as shared:
        with MqttSink(shared, "door", rules) as sink:
            write(sink, made_up(0, {0: [0, 0, 0.9]}))
            heard.wait_for("yard/door/fell_down/active", "1")
        heard.wait_for("yard/door/fell_down/active", "0")
        wait_until(lambda: len(heard.values("yard/events")) == 2)
        assert [json.loads(text)["rule"] for text in heard.values("yard/events")] == ["fell down"] * 2
        heard.wait_for("yard/door/sit", "0")
        assert heard.values("yard/door/sit/active") == []


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGSTOP])
def test_a_broker_that_dies_or_hangs_costs_no_event_and_doubles_none(
    kind: signal.Signals, broker: Broker, made_up: MadeUp
) -> None:
    told: list[str] = []
    with Subscriber(broker.port) as heard, MqttBroker(broker.url, report=told.append, clock=ticking()) as shared:
        with MqttSink(shared, "door", Events(min_frames=2, update_frames=5)) as sink:
            for number in range(240):
                if number == 80:
                    wait_until(lambda: len(heard.values("yard/events")) > 3)
                    broker.stop() if kind == signal.SIGTERM else broker.pause()
                if number == 160:
                    assert shared.waiting > 10  # they wait, and the stream does not
                    broker.start() if kind == signal.SIGTERM else broker.pause(signal.SIGCONT)
                people = {number // 10: [0.9, 0, 0], 100 + number // 7: [0, 0.9, 0]}
                write(sink, made_up(number, people))
            wait_until(lambda: shared.waiting == 0)

        def ids_of(kind: str) -> list[str]:
            """Each once: a broker that ends before it confirms a message gets it again, same id and type (QoS 1)."""
            messages = map(json.loads, heard.values("yard/events"))
            return list(dict.fromkeys(each["id"] for each in messages if each["type"] == kind))

        wait_until(lambda: len(ids_of("end")) == 24 + 35)
        messages, ids = [json.loads(text) for text in heard.values("yard/events")], ids_of("new")
        assert sorted(ids_of("end")) == sorted(ids)
        order = [(each["id"], each["type"]) for each in messages]
        assert all(order.index((each, "new")) < order.index((each, "end")) for each in ids)
        assert shared.counts["full"] == shared.counts["unsent"] == 0
        heard.wait_for("yard/available", "online")
    if kind == signal.SIGTERM:
        url = f"mqtt://127.0.0.1:{broker.port}"
        assert told[0].startswith(f"{url}: the connection is lost") and told[-1] == f"{url}: connected"


def test_events_that_are_over_leave_no_memory(broker: Broker, made_up: MadeUp) -> None:
    with MqttBroker(broker.url) as shared:
        with MqttSink(shared, "door", quick(), events_format="frigate") as sink:

            def play(first: int, end: int) -> int:
                """Each frame ends an event and begins one; how many pieces of memory are held after the last."""
                for number in range(first, end):
                    write(sink, made_up(number, {number: [0.9, 0, 0]}))
                    if number % 100 == 0:
                        wait_until(lambda: shared.waiting < 100)
                wait_until(lambda: shared.waiting == 0)
                gc.collect()
                return sys.getallocatedblocks()

            play(0, 300)
            before = play(300, 600)
            assert play(600, 1600) - before < 500  # of 1,000 events more, each with an id of its own
        assert shared.counts["sent"] > 3_200 and set(shared.counts) == {"sent"}


def test_discovery_comes_at_each_connection_and_when_home_assistant_starts(broker: Broker, made_up: MadeUp) -> None:
    with Subscriber(broker.port) as heard, MqttBroker(broker.url) as shared, MqttSink(shared, "door") as sink:
        write(sink, made_up(0))

        def found() -> list[str]:
            return [text for topic, text, _ in heard.got if topic.startswith("homeassistant/device/yowo_door_")]

        wait_until(lambda: len(found()) == 1)
        shared.publish("homeassistant/status", "online", False)
        wait_until(lambda: len(found()) == 2)
        broker.stop()
        broker.start()
        wait_until(lambda: len(found()) >= 3)
        device = json.loads(found()[0])
        assert len(set(found())) == 1 and device["avty_t"] == "yard/available"
        assert {each["p"] for each in device["cmps"].values()} == {"binary_sensor", "sensor"}
        topics = {topic for topic, _, _ in heard.got}
        wait_until(lambda: {each["stat_t"] for each in device["cmps"].values()} <= {got[0] for got in heard.got})
        assert all(each["uniq_id"] == name for name, each in device["cmps"].items()), topics


def test_a_publisher_that_is_killed_is_offline(broker: Broker, project_root: Path) -> None:
    code = (
        "import sys, threading; from yowo_deploy.sinks.mqtt import MqttBroker\n"
        "MqttBroker(sys.argv[1]); threading.Event().wait()"
    )
    with Subscriber(broker.port) as heard:
        publisher = subprocess.Popen([sys.executable, "-c", code, broker.url], cwd=project_root)
        heard.wait_for("yard/available", "online")
        publisher.kill()
        publisher.wait()
        heard.wait_for("yard/available", "offline")


def test_a_wrong_password_is_one_clear_line_and_a_right_one_is_shown_nowhere(tmp_path: Path, made_up: MadeUp) -> None:
    mosquitto()
    users = tmp_path / "users"
    subprocess.run(["mosquitto_passwd", "-b", "-c", users, "door", CANARY], check=True)
    told: list[str] = []
    with Broker(tmp_path, "allow_anonymous false", f"password_file {users}") as broker:
        address = f"127.0.0.1:{broker.port}"
        for url, password in ((f"mqtt://door:{CANARY}-no@{address}/yard", None), (f"mqtt://door@{address}", "no")):
            with pytest.raises(OutputError) as caught:
                MqttSink(url, "door", password=password, report=told.append)
            assert str(caught.value) == (
                f"mqtt://{address}: the broker refuses the user or the password: "
                "check the address and YOWO_MQTT_PASSWORD"
            )
        assert told == []
        for url, password in ((f"mqtt://door:{CANARY}@{address}/yard", None), (f"mqtt://door@{address}/yard", CANARY)):
            with Subscriber(broker.port, user="door", password=CANARY) as heard:
                with MqttSink(url, "door", quick(), password=password, report=told.append) as sink:
                    write(sink, made_up(0, {0: [0.9, 0, 0]}), made_up(1, {0: [0.9, 0, 0]}))
                    broker.stop()
                    broker.start()
                heard.wait_for("yard/available", "offline")
                assert told and CANARY not in "".join([*told, repr(sink), repr(vars(sink)), repr(heard.got)])


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """Of this machine, signed by itself."""
    key, file = tmp_path / "key.pem", tmp_path / "cert.pem"
    named = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    made = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        key,
        "-out",
        file,
        "-days",
        "2",
        *named,
    ]
    subprocess.run(made, check=True, capture_output=True)
    return file


def test_a_wrong_certificate_is_one_clear_line_and_its_own_is_trusted(tmp_path: Path, certificate: Path) -> None:
    lines = "allow_anonymous true", f"certfile {certificate}", f"keyfile {certificate.parent / 'key.pem'}"
    with Broker(tmp_path, *lines) as broker:
        url = broker.url.replace("mqtt:", "mqtts:")
        with pytest.raises(OutputError) as caught:
            MqttBroker(url)
        assert str(caught.value) == (
            f"mqtts://127.0.0.1:{broker.port}: the certificate of the broker is not trusted: "
            "self-signed certificate; name its CA with --mqtt-ca"
        )
        with pytest.raises(OutputError, match=r"cannot read .*none.pem, the certificates to trust"):
            MqttBroker(url, ca=str(tmp_path / "none.pem"))
        with MqttBroker(url, ca=str(certificate)) as shared:
            assert shared.connected


def test_a_broker_that_is_not_there_yet_is_waited_for(broker: Broker, made_up: MadeUp) -> None:
    broker.stop()
    told: list[str] = []
    with MqttBroker(broker.url, report=told.append) as shared:
        with MqttSink(shared, "door", quick()) as sink:
            write(sink, made_up(0, {0: [0.9, 0, 0]}))
        assert told == [f"mqtt://127.0.0.1:{broker.port}: Connection refused; trying again"]
        broker.start()
        with Subscriber(broker.port) as heard:
            heard.wait_for("yard/available", "online")
            wait_until(lambda: len(heard.values("yard/events")) == 2)
        wait_until(lambda: len(told) == 2)


def test_closing_without_a_broker_ends_and_counts_what_is_lost(
    broker: Broker, made_up: MadeUp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox, "CLOSE_S", 0.0)
    broker.stop()
    with MqttSink(broker.url, "door", quick(), discover=False) as sink:
        write(sink, made_up(0, {0: [0.9, 0, 0]}))
    assert sink.counts["unsent"] > 0 and sink.counts["sent"] == 0


def test_frigates_form_has_what_blueprints_read(broker: Broker, made_up: MadeUp) -> None:
    with Subscriber(broker.port) as heard:
        with MqttSink(broker.url, "door", quick(), events_format="frigate") as sink:
            write(sink, *(made_up(number, {0: [0.9, 0, 0]}) for number in range(8)))
        wait_until(lambda: len(heard.values("yard/events")) == 3)
        new, update, end = (json.loads(text) for text in heard.values("yard/events"))
    assert [each["type"] for each in (new, update, end)] == ["new", "update", "end"]
    assert update["before"] == new["after"] and end["before"] == update["after"]
    for each in (new, update, end):
        after = each["after"]
        assert after["camera"] == "door" and after["label"] == "歩く\n" and after["id"] == new["after"]["id"]
        assert after["start_time"] == new["after"]["start_time"] > 1e9  # Unix time, not seconds of the video
    assert end["after"]["end_time"] >= end["after"]["start_time"] and update["after"]["end_time"] is None


def test_frames_and_messages_are_in_the_statistics(broker: Broker, made_up: MadeUp) -> None:
    with Subscriber(broker.port) as heard, MqttBroker(broker.url, clock=ticking()) as shared:
        with MqttSink(shared, "door") as sink:
            write(sink, *(made_up(number) for number in range(60)))
        wait_until(lambda: bool(heard.values("yard/stats")))
        stats = json.loads(heard.values("yard/stats")[0])
    assert stats["fps"].keys() == {"door"} and stats["dropped"] == {} and stats["sent"] >= 0


@pytest.mark.parametrize(
    "url",
    [
        *(
            "http://host/x",
            "host",
            "mqtt://",
            f"mqtt://u:{CANARY}@/x",
            "mqtt://host:99999/x",
            "mqtt://h/x?y=1",
            "mqtt://h:0",
        ),
        f"mqtt://u:{CANARY}@host..yard/x",
        *("mqtt://host/a+b", "mqtt://host/a%23", f"mqtt://u:{CANARY}/y@host/x", "mqtt://host/" + "x" * 300),
    ],
)
def test_what_is_no_broker_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InputError, match=r"broker's address|prefix of topics") as caught:
        MqttBroker(url)
    assert CANARY not in str(caught.value)


@pytest.mark.parametrize("odd", ["u" * 70_000, "\udcff", "a\0b"], ids=["long", "no UTF-8", "nul"])
def test_a_user_or_a_password_that_mqtt_cannot_send_is_refused(odd: str) -> None:
    for url, password in ((f"mqtt://{quote(odd, errors='surrogateescape')}@host/x", None), ("mqtt://u@host/x", odd)):
        if password is None and odd == "\udcff":
            continue  # an address has %XX of UTF-8
        with pytest.raises(InputError, match="longer than 65,535 bytes, or not UTF-8") as caught:
            MqttBroker(url, password)
        assert len(str(caught.value)) < 200


def test_an_unknown_form_is_refused() -> None:
    with pytest.raises(InputError, match="events format 'xml' is not known, expected yowo or frigate"):
        MqttSink("mqtt://host", events_format="xml")  # type: ignore[arg-type]
