"""Events as signed posts: what arrives, how often, and what is never shown."""

from __future__ import annotations

import base64
import json
import os
import re
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import jsonschema
import numpy as np
import pytest

from tests.waiting import NEVER_S, wait_until
from tests.yowo_deploy.sinks.receiver import Answer, Receiver
from yowo_deploy.detection.receivers import Receivers
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.events import Events
from yowo_deploy.result import Result
from yowo_deploy.sinks import WebhookSink, outbox, webhook
from yowo_deploy.sinks.jsonl import EVENTS_SCHEMA
from yowo_deploy.sinks.webhook import Webhook

CANARY = "s3cr3t-canary"
MadeUp = Callable[..., Result]


@pytest.fixture(autouse=True)
def _patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A loaded machine takes its time to send what waits."""
    monkeypatch.setattr(outbox, "CLOSE_S", NEVER_S)


def quick() -> Events:
    return Events(min_frames=1, update_frames=2)


def write(sink: WebhookSink, made_up: MadeUp, frames: int = 5) -> None:
    for number in range(frames):
        each = made_up(number, {0: [0.9, 0, 0]})
        sink.write(each.frame, each)


def verify_of(project_root: Path) -> Callable[[bytes, str, bytes], bool]:
    """The function that docs/alerts.md gives to receivers."""
    text = (project_root / "docs" / "alerts.md").read_text(encoding="utf-8")
    [code] = [each for each in re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL) if "hmac" in each]
    names: dict[str, Any] = {}
    exec(code, names)
    return names["is_genuine"]  # type: ignore[no-any-return]


def test_each_message_arrives_once_signed_and_valid(made_up: MadeUp, project_root: Path) -> None:
    with Receiver() as receiver:
        with WebhookSink(receiver.url + "/hook?a=b", quick(), "door", secret=CANARY, private=True) as sink:
            write(sink, made_up)
        assert [got.path for got in receiver.got] == ["/hook?a=b"] * 4 and sink.counts == {"sent": 4}
        schema = json.loads(EVENTS_SCHEMA.read_text(encoding="utf-8"))
        genuine = verify_of(project_root)
        for got in receiver.got:
            jsonschema.validate(got.json, schema)
            assert got.json["source"] == "door" and got.headers["Content-Type"] == "application/json"
            signed = got.headers["X-Yowo-Signature"]
            assert genuine(CANARY.encode(), signed, got.body)
            assert not genuine(b"another", signed, got.body) and not genuine(CANARY.encode(), signed, got.body + b" ")
            older = re.sub(r"t=\d+", "t=1000000000", signed)
            assert not genuine(CANARY.encode(), older, got.body)
    event = receiver.got[0].json["id"]
    keys = [got.headers["Idempotency-Key"] for got in receiver.got]
    assert keys == [f"{event}:new", f"{event}:update:2", f"{event}:update:4", f"{event}:end"]


def test_the_key_of_a_message_is_a_header_in_every_script() -> None:
    """The id of an alert of several people ends with the name of their zone."""
    with Receiver() as receiver, Webhook(receiver.url, private=True) as hook:
        for name in ("\u5165\u53e3", "door"):
            hook.post({"id": f"7-0-{name}", "type": "new"})
        hook.close()
        assert hook.counts == {"sent": 2}
    assert [got.headers["Idempotency-Key"] for got in receiver.got] == ["7-0-%E5%85%A5%E5%8F%A3:new", "7-0-door:new"]


def test_the_signature_is_that_of_its_time() -> None:
    """By another implementation: printf '7.{}' | openssl dgst -sha256 -hmac key."""
    expected = "77bc83bd1f40422311e47918b203449aecf84b02c1568bb1b570ac2a474cc2d8"
    assert webhook.signature(b"key", 7, b"{}") == f"t=7,v1={expected}"


def test_a_secret_may_be_any_bytes_of_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(os.environb, b"SECRET_OF_BYTES", b"\xffkey")
    secret = Receivers(webhook="https://h", webhook_secret_env="SECRET_OF_BYTES").secret()
    with Webhook("https://host/", secret) as made:
        assert made._secret == b"\xffkey"


def test_a_message_is_tried_again_with_the_same_key_and_a_new_time(made_up: MadeUp) -> None:
    times = iter(range(1000, 2000))
    statuses = iter([503, 429, 408, 200, 200, 400, 200])
    pauses: list[float] = []

    def answer(number: int, got: Any) -> Answer:
        status = next(statuses)
        return Answer(status, headers={"Retry-After": "17"} if status == 429 else {})

    with Receiver(answer) as receiver:
        shared = Webhook(receiver.url, CANARY, True, clock=lambda: next(times), wait=pauses.append)
        with shared, WebhookSink(shared, quick()) as sink:
            write(sink, made_up, 5)
            wait_until(lambda: shared.waiting == 0)
        keys = [got.headers["Idempotency-Key"].partition(":")[2] for got in receiver.got]
        signatures = {got.headers["X-Yowo-Signature"] for got in receiver.got}
    assert keys == ["new"] * 4 + ["update:2", "update:4", "end"]
    assert len(signatures) == 7 and len({got.headers["Idempotency-Key"] for got in receiver.got[:4]}) == 1
    assert pauses == [1, 17, 4]
    assert shared.counts == {"sent": 3, "refused": 1}


def test_a_snapshot_is_a_jpeg_of_the_frame_with_its_boxes(made_up: MadeUp) -> None:
    with Receiver() as receiver:
        with WebhookSink(receiver.url, quick(), private=True, snapshot=True) as sink:
            write(sink, made_up)
        kinds = {got.json["type"]: got.json.get("snapshot") for got in receiver.got}
    assert kinds["update"] is None and kinds["new"]
    picture = cv2.imdecode(np.frombuffer(base64.b64decode(kinds["new"]), np.uint8), cv2.IMREAD_COLOR)
    assert picture.shape == (48, 64, 3)
    first = made_up(0, {0: [0.9, 0, 0]})
    assert abs(picture.astype(int) - first.plot()).mean() < abs(picture.astype(int) - first.frame).mean()
    large = webhook.jpeg(np.zeros((1080, 1920, 3), np.uint8))
    assert cv2.imdecode(np.frombuffer(base64.b64decode(large), np.uint8), 1).shape == (360, 640, 3)


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "10.0.0.1", "[::1]", "169.254.169.254", "127.1", "0x7f000001", "2130706433"]
)
def test_a_private_address_must_be_allowed(host: str) -> None:
    with pytest.raises(InputError, match="is a private address: allow it with --webhook-private"):
        WebhookSink(f"http://{host}/{CANARY}")


def test_a_receiver_that_is_away_is_one_line_and_no_secret_is_in_any(made_up: MadeUp) -> None:
    told: list[str] = []
    with Receiver() as receiver:
        pass
    url = receiver.url.replace("//", f"//user:{CANARY}@") + f"/{CANARY}?{CANARY}"
    shared = Webhook(url, CANARY, True, told.append)
    with WebhookSink(shared, quick()) as sink:
        write(sink, made_up, 50)
    wait_until(lambda: bool(told))
    shared.close()
    assert len(told) == 1 and told[0].startswith(f"webhook {receiver.url}: no answer: Connection refused; trying again")
    plain = quick()
    expected = sum(len(plain.push(made_up(number, {0: [0.9, 0, 0]}))) for number in range(50)) + len(plain.close())
    assert shared.counts == {"unsent": expected}
    everything = repr([told, sink, vars(sink), shared, shared._endpoint, shared._outbox])
    assert CANARY not in everything and "c3VjcjN0" not in everything


def test_ten_thousand_messages_leave_nothing_behind(made_up: MadeUp, monkeypatch: pytest.MonkeyPatch) -> None:
    """A message has more than 500 bytes: kept, the second half would take 2.5 MB."""
    sent: list[str] = []
    monkeypatch.setattr(webhook, "request", lambda *given, **_: sent.append(given[4]["Idempotency-Key"][-3:]))
    shared = Webhook("https://host.example/", CANARY)
    sizes = []
    tracemalloc.start()
    with shared, WebhookSink(shared, Events(min_frames=1)) as sink:
        for number in range(5_000):
            each = made_up(number, {number: [0.9, 0, 0]})
            sink.write(each.frame, each)
            if number % 100 == 99:
                wait_until(lambda: shared.waiting == 0)
            if number in (2_499, 4_999):
                sizes.append(tracemalloc.get_traced_memory()[0])
    tracemalloc.stop()
    assert len(sent) == 10_000 and sizes[1] - sizes[0] < 500_000
