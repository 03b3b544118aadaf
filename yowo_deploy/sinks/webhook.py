"""Events as signed HTTP requests."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import socket
from base64 import b64encode
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from time import time
from typing import NamedTuple
from urllib.parse import quote

import cv2

from yowo_deploy.arrays import Frame
from yowo_deploy.errors import InputError
from yowo_deploy.json_text import to_json
from yowo_deploy.result import Result
from yowo_deploy.sinks.http_request import Endpoint, is_public, request
from yowo_deploy.sinks.jsonl import Messages
from yowo_deploy.sinks.messages import Addressed, Json
from yowo_deploy.sinks.outbox import Outbox, Queued

SIGNATURE = "X-Yowo-Signature"
SNAPSHOT_SIDE, SNAPSHOT_QUALITY = 640, 80  # pixels of the longer side: 60 kB, of which 1,000 may wait


class Post(NamedTuple):
    """A request that waits.

    Attributes:
        key: of the message, the same at every try.
    """

    key: str
    body: bytes
    kind: str


class Webhook(Queued):
    """Posts bodies to one address, in order, from a thread of its own; may be shared by several `WebhookSink`s.

    Each request has `Idempotency-Key`, and with a secret `X-Yowo-Signature: t=UNIX,v1=HEX`: HMAC-SHA256 over the time,
    a dot and the body. Status 2xx is accepted; 408, 425, 429, 5xx and silence are tried again after 1 to 30 s or
    what Retry-After asks; any other status drops the message. Redirects are not followed.

    Args:
        url: http:// or https://. Only scheme, host and port appear in messages.
        secret: for the signature; bytes that are no UTF-8 as Python has them in `os.environ`.
        private: allow hosts that the internet does not reach: private, loopback, link-local.
        report: receives a line when requests begin to fail, and when they succeed again.
        clock, wait: Unix time, and what waits between two tries; for tests.

    Raises:
        InputError: the address is not valid, or private.
    """

    def __init__(
        self,
        url: str,
        secret: str = "",
        private: bool = False,
        report: Callable[[str], object] = lambda text: None,
        clock: Callable[[], float] = time,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._endpoint, self._secret, self._clock = (
            Endpoint.parse(url, "the webhook", private),
            secret.encode("utf-8", "surrogateescape"),
            clock,
        )
        if not private and not _may_be_public(self._endpoint.host):
            raise InputError(
                f"{self._endpoint.shown} is a private address: allow it with --webhook-private or private=True"
            )
        self._outbox = Outbox[Post](
            f"webhook {self._endpoint.shown}", self._send, lambda post: post.kind == "update", report, wait=wait
        )

    def post(self, message: Json) -> None:
        """Queue a message; never waits. Of an update the number of the frame is part of the key."""
        part = f":{message.get('frame', 0)}" if message["type"] == "update" else ""
        key = f"{message['id']}:{message['type']}{part}"
        self._outbox.put(Post(key, to_json(message).encode(), message["type"]))

    def _send(self, post: Post) -> None:
        now = self._clock()
        headers = {"Idempotency-Key": quote(post.key, safe=":")}  # the name of a zone may be in it, in any script
        if self._secret:
            headers[SIGNATURE] = signature(self._secret, int(now), post.body)
        request(self._endpoint, "POST", self._endpoint.path, post.body, headers, clock=self._clock)


class WebhookSink:
    """Posts each message of a source to a webhook.

    Args:
        webhook: its address, or one that several sinks share, which then stays open.
        events: makes the messages; `Events()` by default.
        source: name of the camera in messages; the results' own by default.
        snapshot: add the frame with its boxes to messages of type new and end, as "snapshot", a JPEG in base64.
        secret, private, report: see `Webhook`; for an address.

    Raises:
        InputError: the address is not valid, or private.
    """

    def __init__(
        self,
        webhook: str | Webhook,
        events: Messages | None = None,
        source: str | None = None,
        snapshot: bool = False,
        secret: str = "",
        private: bool = False,
        report: Callable[[str], object] = lambda text: None,
    ) -> None:
        self._own = isinstance(webhook, str)
        self._webhook = Webhook(webhook, secret, private, report) if isinstance(webhook, str) else webhook
        self._messages, self._snapshot = Addressed(events, source), snapshot

    @property
    def counts(self) -> Counter[str]:
        """Messages by outcome, see `Outbox`."""
        return self._webhook.counts

    def write(self, frame: Frame, result: Result) -> None:
        """Queue the messages of this result, see `Sink.write`."""
        for message in self._messages.push(result):
            if self._snapshot and message["type"] != "update":
                message["snapshot"] = jpeg(result.plot(frame))
            self._webhook.post(message)

    def __enter__(self) -> WebhookSink:
        return self

    def __exit__(self, *_: object) -> None:
        for message in self._messages.close():
            self._webhook.post(message)
        if self._own:
            self._webhook.close()


def signature(secret: bytes, time_s: int, body: bytes) -> str:
    """The value of `X-Yowo-Signature`: HMAC-SHA256 with `secret` over `time_s` (Unix time), a dot and the body."""
    signed = hmac.new(secret, f"{time_s}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={time_s},v1={signed}"


def jpeg(image_bgr: Frame) -> str:
    """A picture as JPEG in base64, its longer side 640 pixels at most."""
    height, width = image_bgr.shape[:2]
    scale = min(1.0, SNAPSHOT_SIDE / max(height, width))
    size_wh = max(1, round(width * scale)), max(1, round(height * scale))
    small = image_bgr if scale == 1 else cv2.resize(image_bgr, size_wh, interpolation=cv2.INTER_AREA)
    content = cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, SNAPSHOT_QUALITY])[1]
    return b64encode(content.tobytes()).decode()


def _may_be_public(host: str) -> bool:
    """False for an address of numbers that is private; names are looked up when there is something to send."""
    try:
        ipaddress.ip_address(host)
    except ValueError:
        with suppress(OSError):  # 127.1, 0x7f000001 and so on, as resolvers read them
            return is_public(socket.inet_ntoa(socket.inet_aton(host)))
        return host != "localhost"
    return is_public(host)
