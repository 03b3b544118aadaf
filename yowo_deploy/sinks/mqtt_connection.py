"""A connection to an MQTT broker that comes back by itself."""

from __future__ import annotations

import ssl
import sys
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from secrets import token_hex
from typing import Any
from urllib.parse import unquote, urlsplit

import paho.mqtt.client as paho
from paho.mqtt.enums import CallbackAPIVersion

from yowo_deploy.errors import InputError, OutputError, reason_of
from yowo_deploy.plain_text import shown

KEEPALIVE_S = 15  # after one and a half of it the broker tells that this end is gone
CONNECT_S = 5.0
LONGEST_PAUSE_S = 30  # between two tries to connect
MOST_QUEUED = 1_000
POLL_S = 0.2
_PORTS = {"mqtt": 1883, "mqtts": 8883}


@dataclass(frozen=True)
class BrokerAddress:
    """Of a broker, and what topics begin with.

    Attributes:
        ca: file of certificates to trust in place of the system's.
    """

    scheme: str
    host: str
    port: int
    prefix: str
    user: str = field(repr=False, default="")
    password: str = field(repr=False, default="")
    ca: str | None = None

    @classmethod
    def parse(cls, url: str, password: str | None = None, ca: str | None = None) -> BrokerAddress:
        """Of `mqtt://user:password@host:1883/prefix`, or `mqtts://` for TLS.

        Args:
            password: in place of that of the address.

        Raises:
            InputError: it is none; the message does not repeat it.
        """
        expected = "expected mqtt://host:1883/prefix, other characters as %XX"
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
            host.encode("idna")  # as it is looked up
        except ValueError as error:
            raise InputError(f"the broker's address is not understood: {expected}") from error
        prefix = unquote(parts.path).strip("/") or "yowo"
        odd = parts.query or parts.fragment or port == 0 or not url.isprintable()
        if parts.scheme not in _PORTS or not host or odd:
            raise InputError(f"the broker's address is not understood: {expected}")
        if any(sign in prefix for sign in "+#@") or not prefix.isprintable() or len(prefix.encode()) > 200:
            raise InputError("the prefix of topics has a +, #, @ or control character, or is too long: give another")
        given = unquote(parts.password or "") if password is None else password
        user = unquote(parts.username or "")
        if not _fits(user) or not _fits(given):
            raise InputError("the user or the password of the broker is longer than 65,535 bytes, or not UTF-8")
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], prefix, user, given, ca)

    @property
    def shown(self) -> str:
        """Scheme, host and port, for messages."""
        return f"{self.scheme}://{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def _fits(text: str) -> bool:
    """Whether MQTT can send it as a string."""
    try:
        return len(text.encode()) < 1 << 16 and "\0" not in text
    except UnicodeEncodeError:
        return False


class Connection:
    """A client that says "online" in a retained topic while it is there, and whose broker says "offline" after it.

    Args:
        available: the topic.
        listened: a topic whose messages go to `on_message`.
        on_connect: called at each connection, in the client's thread.
        report: receives a line when the connection fails or is lost, and when it is back.

    Raises:
        OutputError: the broker refuses the user, or its certificate is not trusted. A broker that is not there is
            reported, and waited for.
    """

    def __init__(
        self,
        address: BrokerAddress,
        available: str,
        listened: str,
        on_connect: Callable[[], object],
        on_message: Callable[[bytes], None],
        report: Callable[[str], object],
    ) -> None:
        self._address, self._available, self._listened = address, available, listened
        self._on_connect, self._report, self._in_trouble = on_connect, report, False
        self._connected, self._answered, self._acked = threading.Event(), threading.Event(), threading.Condition()
        self._acknowledged, self._refusal, self._opened, self._closing = set[int](), "", False, False
        client = self._client = paho.Client(CallbackAPIVersion.VERSION2, f"yowo-{token_hex(8)}")
        client.connect_timeout = CONNECT_S
        client.max_queued_messages_set(MOST_QUEUED)
        client.reconnect_delay_set(1, LONGEST_PAUSE_S)
        client.will_set(available, "offline", qos=1, retain=True)
        if address.user:
            client.username_pw_set(address.user, address.password)
        client.on_connect, client.on_disconnect = self._connect_answered, self._disconnected
        client.on_connect_fail, client.on_publish = self._connect_failed, self._published
        client.on_message = lambda client, data, message: on_message(bytes(message.payload))
        self._open()

    @property
    def connected(self) -> bool:
        """Whether the broker has accepted the connection, and it is not lost."""
        return self._connected.is_set()

    def publish(self, topic: str, payload: str, retain: bool = False) -> int | None:
        """Send at QoS 1 without waiting; returns the number of the message, None where the queue is full."""
        given = self._client.publish(topic, payload.encode(), qos=1, retain=retain)
        return None if given.rc == paho.MQTT_ERR_QUEUE_SIZE else given.mid

    def deliver(self, topic: str, payload: str, retain: bool, give_up: Callable[[], bool]) -> bool:
        """Send at QoS 1 and wait, over lost connections, until the broker has it; returns whether it has."""
        while not self._connected.wait(POLL_S):
            if give_up():
                return False
        with self._acked:
            self._acknowledged.clear()
        number = self.publish(topic, payload, retain)
        with self._acked:
            while number is not None and number not in self._acknowledged:
                if give_up():
                    return False
                self._acked.wait(POLL_S)
        return number is not None

    def close(self) -> None:
        """Say "offline" and leave, within a few seconds."""
        self._closing = True
        if self.connected:
            left = self._client.publish(self._available, b"offline", qos=1, retain=True)
            with self._acked:
                self._acked.wait_for(lambda: left.mid in self._acknowledged, 1.0)
        self._client.disconnect()
        ending = threading.Thread(target=self._client.loop_stop, daemon=True)  # it waits for a broker that is stuck
        ending.start()
        ending.join(CONNECT_S)

    def _open(self) -> None:
        address, client = self._address, self._client
        if address.scheme == "mqtts":
            try:
                client.tls_set(ca_certs=address.ca)
            except OSError as error:
                raise OutputError(f"cannot read {address.ca}, the certificates to trust: {reason_of(error)}") from error
        try:
            client.connect(address.host, address.port, KEEPALIVE_S)
        except ssl.SSLError as error:
            raise OutputError(f"{address.shown}: {_tls_reason(error)}") from error
        except OSError as error:
            self._trouble(f"{reason_of(error)}; trying again")
            client.connect_async(address.host, address.port, KEEPALIVE_S)
        client.loop_start()
        if not self._in_trouble and self._answered.wait(CONNECT_S) and self._refusal:
            self.close()
            raise OutputError(f"{address.shown}: {self._refusal}")
        self._opened = True
        if self._refusal:  # it came late
            self._trouble(f"{self._refusal}; trying again")

    def _connect_answered(self, client: paho.Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        if code.is_failure:
            self._refusal = _refusal(str(code))
            if self._opened:
                self._trouble(f"{self._refusal}; trying again")
            self._answered.set()
            return
        client.publish(self._available, b"online", qos=1, retain=True)
        client.subscribe(self._listened, qos=1)
        self._on_connect()
        self._refusal = ""
        self._connected.set()
        self._answered.set()
        if self._in_trouble:
            self._in_trouble = False
            self._report(f"{self._address.shown}: connected")

    def _disconnected(self, client: paho.Client, data: Any, flags: Any, code: Any, properties: Any) -> None:
        self._connected.clear()
        if not self._closing and not self._refusal:
            self._trouble("the connection is lost; trying again")

    def _connect_failed(self, client: paho.Client, data: Any) -> None:
        error = sys.exc_info()[1]  # the library calls this while it handles it
        reason = (
            _tls_reason(error) if isinstance(error, ssl.SSLError) else reason_of(error) if error else "no connection"
        )
        self._trouble(f"{reason}; trying again")

    def _published(self, client: paho.Client, data: Any, mid: int, code: Any, properties: Any) -> None:
        with self._acked:
            self._acknowledged.add(mid)
            self._acked.notify_all()

    def _trouble(self, text: str) -> None:
        """Report the first failure since the last connection."""
        if not self._in_trouble:
            self._in_trouble = True
            self._report(shown(f"{self._address.shown}: {text}"))


def _refusal(said: str) -> str:
    if said in ("Not authorized", "Bad user name or password"):
        return "the broker refuses the user or the password: check the address and YOWO_MQTT_PASSWORD"
    return f"the broker refuses the connection: {said}"


def _tls_reason(error: BaseException) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate of the broker is not trusted: {error.verify_message}; name its CA with --mqtt-ca"
    return f"no TLS: {reason_of(error)}"
