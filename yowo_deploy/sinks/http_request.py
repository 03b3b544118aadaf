"""One HTTP request to an address that was checked: no redirect, no proxy, and no private host unless allowed."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from time import time
from typing import Any
from urllib.parse import unquote, urlsplit

from yowo_deploy.errors import InputError, foreign
from yowo_deploy.sinks.outbox import Refused, Retry

TIMEOUT_S = 5.0  # of connecting, and of each read
WHOLE_S = 30.0  # of an answer, whose bytes may trickle in
LONGEST_ANSWER = 1 << 16
LONGEST_PAUSE_S = 600.0  # that Retry-After is followed
_PORTS = {"http": 80, "https": 443}
_TRANSLATED = ipaddress.ip_network("64:ff9b::/96")  # IPv4 within IPv6 (RFC 6052)
# IPv4 within IPv6 in the ways that end in this machine or its network (RFC 4291, 2765, 8215), and site-local addresses.
_WITHIN = [ipaddress.ip_network(each) for each in ("::/96", "::ffff:0:0:0/96", "64:ff9b:1::/48", "fec0::/10")]
_AGAIN = {408, 425, 429}  # the only 4xx that another try may change
_OVERLOADED = {429, 502, 503, 504}  # whatever the message is

Resolver = Callable[..., Sequence[tuple[Any, Any, int, str, tuple[Any, ...]]]]


@dataclass(frozen=True)
class Endpoint:
    """Where requests go.

    Attributes:
        path: with the query; like `authorization` it may be a secret and is in no message.
        shown: scheme, host and port, for messages.
        private: allow hosts that the internet does not reach.
    """

    scheme: str
    host: str
    port: int
    path: str = field(repr=False)
    authorization: str = field(repr=False, default="")
    private: bool = False

    @classmethod
    def parse(cls, url: str, what: str, private: bool = False) -> Endpoint:
        """Of an address `https://user:password@host:port/path`, where all but scheme and host may be absent.

        Args:
            what: names it in messages.

        Raises:
            InputError: it is none; the message does not repeat it.
        """
        try:
            parts = urlsplit(url)
            host, port = parts.hostname or "", parts.port
            host.encode("idna")
        except (ValueError, UnicodeError) as error:
            raise InputError(f"{what} is not an address: expected https://host/path") from error
        whole = url.isprintable() and url.isascii() and " " not in url and "@" not in parts.path
        if parts.scheme not in _PORTS or not host or port == 0 or not whole:
            raise InputError(f"{what} is not an address: expected https://host/path, other characters as %XX")
        path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        user = unquote(parts.username or ""), unquote(parts.password or "")
        basic = f"Basic {b64encode(':'.join(user).encode()).decode()}" if any(user) else ""
        return cls(parts.scheme, host, port or _PORTS[parts.scheme], path, basic, private)

    @property
    def shown(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + (f":{self.port}" if self.port != _PORTS[self.scheme] else "")


def request(
    endpoint: Endpoint,
    method: str,
    path: str,
    body: bytes,
    headers: Mapping[str, str],
    resolve: Resolver = socket.getaddrinfo,
    clock: Callable[[], float] = time,
) -> bytes:
    """Send one request and return the start of the answer's body, of a status of 2xx.

    The host is resolved once, and the connection goes to an address that was checked.

    Raises:
        Refused: the host is private, or the answer says that another try would change nothing.
        Retry: anything else that is not 2xx.
    """
    given = {**headers, "Content-Type": "application/json", "User-Agent": "yowo-deploy", "Connection": "close"}
    if endpoint.authorization:
        given["Authorization"] = endpoint.authorization
    try:
        with foreign("no answer", InputError, Refused), _connected(endpoint, resolve) as connected, _ended(connected):
            connection = http.client.HTTPSConnection if endpoint.scheme == "https" else http.client.HTTPConnection
            talk = connection(endpoint.host, endpoint.port, timeout=TIMEOUT_S)
            talk.sock = connected
            talk.request(method, path, body, given)
            with talk.getresponse() as answer:
                content = answer.read(LONGEST_ANSWER)
    except InputError as error:
        raise Retry(str(error)) from error
    _check(answer.status, answer.headers.get("Retry-After", ""), clock())
    return content


@contextmanager
def _ended(connection: socket.socket) -> Iterator[None]:
    """Hang up after `WHOLE_S`: a time-out between two bytes alone would let them trickle for ever."""

    def hang_up() -> None:
        with suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(WHOLE_S, hang_up)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _check(status: int, retry_after: str, now: float) -> None:
    if 200 <= status < 300:
        return
    if 300 <= status < 400:
        raise Refused(f"status {status}, a redirect, which is not followed: give the final address")
    if status < 500 and status not in _AGAIN:
        raise Refused(f"status {status}")
    raise Retry(f"status {status}", _seconds(retry_after, now), status in _OVERLOADED)


def _seconds(retry_after: str, now: float) -> float | None:
    """Of a Retry-After in seconds or as a date; None without one."""
    if retry_after.isascii() and retry_after.isdigit():
        return min(float(retry_after[:9]), LONGEST_PAUSE_S)
    try:
        return min(max(parsedate_to_datetime(retry_after).timestamp() - now, 0.0), LONGEST_PAUSE_S)
    except (TypeError, ValueError, OverflowError):
        return None


def _connected(endpoint: Endpoint, resolve: Resolver) -> socket.socket:
    """A connection to the first address of the host that takes one."""
    found = [str(each[4][0]) for each in resolve(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)]
    allowed = [each for each in found if endpoint.private or is_public(each)]
    if found and not allowed:
        raise Refused(f"{endpoint.host} is a private address, which must be allowed")
    failure: OSError = OSError("the name has no address")
    for address in allowed:
        try:
            plain = socket.create_connection((address, endpoint.port), TIMEOUT_S)
        except OSError as error:
            failure = error
            continue
        if endpoint.scheme == "http":
            return plain
        try:
            return ssl.create_default_context().wrap_socket(plain, server_hostname=endpoint.host)
        except BaseException:
            plain.close()
            raise
    raise failure


def is_public(address: str) -> bool:
    """Whether the internet reaches an address: not private, loopback, link-local, shared, reserved or multicast."""
    known = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(known, ipaddress.IPv6Address):
        inner = known.ipv4_mapped or known.sixtofour or (known.teredo and known.teredo[1])
        if known in _TRANSLATED:
            inner = ipaddress.IPv4Address(int(known) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner)) and not known.teredo
        if any(known in network for network in _WITHIN):
            return False
    return known.is_global and not known.is_multicast
