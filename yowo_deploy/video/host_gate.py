"""What stands between FFmpeg and the network, so that a stream reaches the hosts that were named and no others.

FFmpeg follows redirects and the addresses in playlists to any host. HTTP goes through a proxy on this machine, which
sees the host of each request; RTSP through a relay, which reads the server's replies.
"""

from __future__ import annotations

import os
import re
import select
import socket
import ssl
import threading
from base64 import b64encode
from collections import Counter
from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit
from urllib.request import getproxies, proxy_bypass

from yowo_deploy.closing import Closing

PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
_CONNECT_S = 10.0
_MAX_HEAD = 1 << 16
_HEAD_ENDS = re.compile(rb"\n\r*\n")
_STATUS = re.compile(rb"RTSP/\d\.\d (\d{3})(?: |$)|[A-Z_]{1,20} [^ ]+ RTSP/")

Filter = Callable[[bytes], bytes]


class _RefusedError(Exception):
    """A host that was not named, or a reply that cannot be judged."""


class _Listener(Closing):
    """A server on this machine that handles each connection in a thread of its own."""

    def __init__(self, handle: Callable[[socket.socket], None]) -> None:
        self._handle = handle
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._accept, name="host gate", daemon=True).start()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._socket.accept()[0],), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        with suppress(OSError, ValueError, _RefusedError), client:
            self._handle(client)

    def close(self) -> None:
        """Accept no more; connections that are open go on until one side ends."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


class HttpGate:
    """The proxy of all sources of this process: FFmpeg's options are the same for all of them, see `capture_options`.

    What one source may reach, the others may too. A proxy that the environment names is asked in turn.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._hosts: Counter[str] = Counter()
        self._listener: _Listener | None = None
        self.refused, self.refusals = "", 0

    def enter(self, hosts: Iterable[str]) -> str:
        """Let these hosts be reached until `leave`; the option for FFmpeg."""
        with self._lock:
            if self._listener is None:
                self._listener = _Listener(self._handle)
                # FFmpeg passes by its proxy for hosts in this variable. The C library's copy goes, Python's stays.
                os.unsetenv("no_proxy")
            self._hosts.update(hosts)
            return f"http_proxy;http://127.0.0.1:{self._listener.port}"

    def leave(self, hosts: Iterable[str]) -> None:
        """Take `enter` back."""
        with self._lock:
            self._hosts.subtract(hosts)
            self._hosts += Counter()
            if not self._hosts and self._listener is not None:
                self._listener.close()
                self._listener = None
                if "no_proxy" in os.environ:
                    os.putenv("no_proxy", os.environ["no_proxy"])

    def _handle(self, client: socket.socket) -> None:
        head = _read_head(client)
        method, target, version = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ")
        tunnel = method == "CONNECT"
        parts = urlsplit(f"//{target}" if tunnel else target)
        host = (parts.hostname or "").lower()
        with self._lock:
            if host not in self._hosts:
                self.refused, self.refusals = host, self.refusals + 1
                client.sendall(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
                raise _RefusedError
        scheme = "https" if tunnel else "http"
        other = getproxies().get(scheme)
        if other and not proxy_bypass(host):
            proxy = urlsplit(other)
            with socket.create_connection((proxy.hostname or "", proxy.port or 80), _CONNECT_S) as upstream:
                first, rest = head.split(b"\r\n", 1)
                upstream.sendall(first + b"\r\n" + _authorization(proxy) + rest)
                _pump(client, upstream)
            return
        with socket.create_connection((host, parts.port or PORTS[scheme]), _CONNECT_S) as upstream:
            if tunnel:
                client.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            else:
                path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
                upstream.sendall(f"{method} {path} {version}\r\n".encode("latin-1") + head.split(b"\r\n", 1)[1])
            _pump(client, upstream)


HTTP_GATE = HttpGate()


class Target(NamedTuple):
    """A server of RTSP."""

    host: str
    port: int
    tls: bool


class RtspRelay(_Listener):
    """The way to one camera: what it sends is passed on, but for redirects to hosts that were not named.

    Attributes:
        refused: such a host; "" while there was none.
    """

    def __init__(self, target: Target, hosts: Iterable[str]) -> None:
        self._target, self._hosts, self.refused = target, frozenset(hosts), ""
        super().__init__(self._relay)

    def _relay(self, client: socket.socket) -> None:
        with socket.create_connection(self._target[:2], _CONNECT_S) as plain:
            upstream: socket.socket = plain
            if self._target.tls:  # unverified, as FFmpeg does it: cameras sign their certificates themselves
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                upstream = context.wrap_socket(plain, server_hostname=self._target.host)
            with upstream:
                _pump(client, upstream, _Replies(self._redirected).feed)

    def _redirected(self, location: str) -> str:
        """A place that a server leads to, by way of this relay."""
        parts = urlsplit(location)
        host = (parts.hostname or "").lower()
        if host not in self._hosts or parts.scheme not in ("rtsp", "rtsps"):
            self.refused = host or location[:60]
            raise _RefusedError
        self._target = Target(host, parts.port or PORTS[parts.scheme], parts.scheme == "rtsps")
        return parts._replace(scheme="rtsp", netloc=f"127.0.0.1:{self.port}").geturl()


class _Replies:
    """What a server of RTSP sends, message by message: packets between, replies and requests with their bodies."""

    def __init__(self, redirected: Callable[[str], str]) -> None:
        self._redirected, self._held, self._body = redirected, b"", 0

    def feed(self, data: bytes) -> bytes:
        """What may go on to the client by now."""
        self._held += data
        passed = []
        while self._held:
            if not self._body:
                if not (head := self._next_head()):
                    break
                passed.append(head)
            take, self._held = self._held[: self._body], self._held[self._body :]
            self._body -= len(take)
            passed.append(take)
            if self._body:
                break
        return b"".join(passed)

    def _next_head(self) -> bytes:
        """Of a message, taken from what is held; b"" while it is incomplete. The length of its body is noted."""
        if self._held[:1] == b"$":
            head = self._held[:4] if len(self._held) >= 4 else b""
            self._body = int.from_bytes(head[2:4], "big")
            self._held = self._held[len(head) :]
            return head
        found = _HEAD_ENDS.search(self._held)
        if found is None:
            if len(self._held) > _MAX_HEAD:
                raise _RefusedError
            return b""
        head, self._held = self._held[: found.end()], self._held[found.end() :]
        return self._judged(head.replace(b"\r", b"").rstrip(b"\n").split(b"\n"))

    def _judged(self, lines: list[bytes]) -> bytes:
        status = _STATUS.match(lines[0])
        names = [line.partition(b":")[0].strip().lower() for line in lines[1:]]
        if status is None or any(line.startswith(b"$") for line in lines) or names.count(b"content-length") > 1:
            raise _RefusedError
        redirects = (status[1] or b"").startswith(b"3")
        if redirects and names.count(b"location") != 1:
            raise _RefusedError
        for at, name in enumerate(names, 1):
            value = lines[at].partition(b":")[2].strip()
            if name == b"content-length":
                if not value.isdigit():
                    raise _RefusedError
                self._body = int(value)
            if name == b"location" and redirects:
                lines[at] = b"Location: " + self._redirected(value.decode("latin-1")).encode("latin-1")
        return b"\r\n".join(lines) + b"\r\n\r\n"


def _authorization(proxy: SplitResult) -> bytes:
    if not proxy.username:
        return b""
    pair = f"{unquote(proxy.username)}:{unquote(proxy.password or '')}".encode()
    return b"Proxy-Authorization: Basic " + b64encode(pair) + b"\r\n"


def _read_head(client: socket.socket) -> bytes:
    client.settimeout(_CONNECT_S)
    head = b""
    while b"\r\n\r\n" not in head:
        if len(head) > _MAX_HEAD or not (more := client.recv(4096)):
            raise _RefusedError
        head += more
    return head


def _pump(client: socket.socket, upstream: socket.socket, judged: Filter = bytes) -> None:
    """Pass on what both sides send until one of them ends."""
    client.settimeout(None)
    upstream.settimeout(None)
    while True:
        waiting = isinstance(upstream, ssl.SSLSocket) and upstream.pending()
        ready = [upstream] if waiting else select.select([client, upstream], [], [])[0]
        for side in ready:
            data = side.recv(1 << 16)
            if not data:
                return
            if side is client:
                upstream.sendall(data)
            elif passed := judged(data):
                client.sendall(passed)
