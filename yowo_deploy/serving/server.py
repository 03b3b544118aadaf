"""Run the application with uvicorn until SIGTERM or Ctrl-C."""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.protocols.websockets.websockets_sansio_impl import WebSocketsSansIOProtocol

from yowo_deploy.errors import InputError, reason_of

DRAIN_S = 5  # for requests at work when the server is told to end
MOST_CONNECTIONS = 128
HEAD_S = 10.0  # from when a connection is made, or its next request begins, until the head is there
MAX_HEAD = 64 << 10  # bytes of a connection that are neither a whole head nor body


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches an address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens there; port 0 is any free one.

    Raises:
        InputError: the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=MOST_CONNECTIONS)
    except (OSError, UnicodeError) as error:  # no host is called so
        raise InputError(f"cannot listen on {host}, port {port}: {reason_of(error)}; choose another port") from error
    # Connections inherit it: asyncio sets it on sockets of its own alone, and an answer's body would wait for the
    # client to acknowledge the head, which takes clients 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


class Server(uvicorn.Server):
    """Ends on SIGTERM and Ctrl-C as a program that has done its work: uvicorn's own raises the signal once more."""

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """See uvicorn; streams without an end are ended first."""
        assert isinstance(self.config.app, Starlette)
        self.config.app.state.page.end()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """See uvicorn; in another thread than the main one no signals come."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        kinds = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(kind, self.handle_exit) for kind in kinds]
        try:
            yield
        finally:
            for kind, handler in zip(kinds, before, strict=True):
                signal.signal(kind, handler)


class Http(HttpToolsProtocol):
    """Closes connections whose heads or trailers do not end, all of which the parser keeps, or do not come in time.

    uvicorn has a limit for the time between requests alone (`timeout_keep_alive`): connections that send nothing, or a
    byte now and then, would take the places of all others.
    """

    _unread = 0
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """See uvicorn."""
        super().connection_made(transport)
        self._await_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """See uvicorn."""
        self._has_head()
        super().connection_lost(exc)

    def _await_head(self) -> None:
        if self._deadline is None:
            self._deadline = self.loop.call_later(HEAD_S, self.transport.close)

    def _has_head(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def data_received(self, data: bytes) -> None:
        """See uvicorn."""
        if self.cycle is None or self.cycle.response_complete:
            self._await_head()
        self._unread += len(data)
        super().data_received(data)
        if self._unread > MAX_HEAD:
            self.transport.close()

    def on_headers_complete(self) -> None:
        """See uvicorn."""
        self._unread = 0
        self._has_head()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """See uvicorn."""
        self._unread = 0
        super().on_body(body)

    def handle_websocket_upgrade(self) -> None:
        """See uvicorn, which never answers what websockets refuses: a request with a body, or with too long a head.

        The connection stayed open, and the end of the server was a traceback.
        """
        super().handle_websocket_upgrade()
        made = self.transport.get_protocol()
        if isinstance(made, WebSockets) and not made.handshake_initiated:
            self.send_400_response("Invalid WebSocket request received.")


class WebSockets(WebSocketsSansIOProtocol):
    """Logs nothing about what clients do wrong."""

    def handle_text(self, event: Any) -> None:
        """As bytes: no text is read, and uvicorn logs a traceback for one that is no UTF-8."""
        self.handle_bytes(event)

    async def send(self, message: Any) -> None:
        """See uvicorn, which takes an answer that refuses a WebSocket for none."""
        await super().send(message)
        self.handshake_complete = self.handshake_complete or self.close_sent


def run(application: Starlette, host: str = "127.0.0.1", port: int = 8000) -> None:
    """Serve an `app` until SIGTERM or Ctrl-C, within the bounds of `yowo-deploy serve`.

    `uvicorn.run` has neither a limit for the time that the head of a request takes nor one of connections, and logs
    addresses, which may hold the token.

    Args:
        application: from `app`.
        host, port: where to listen; port 0 is any free one.

    Raises:
        InputError: the address is taken or not one of this machine.
    """
    with listen(host, port) as listener:
        server(application).run(sockets=[listener])


def server(application: Starlette) -> Server:
    """A server for the application: `run(sockets=[listen(...)])` serves until SIGTERM or Ctrl-C.

    Requests at work then have `DRAIN_S` seconds to end. Nothing but errors is logged: addresses may hold the token.
    """
    return Server(
        uvicorn.Config(
            application,
            http=Http,
            ws=WebSockets,
            ws_max_size=4096,
            ws_per_message_deflate=False,  # pictures are packed already
            access_log=False,
            log_config=None,  # which would close the handlers of the application around this
            log_level="error",
            server_header=False,
            proxy_headers=False,
            limit_concurrency=MOST_CONNECTIONS,
            timeout_graceful_shutdown=DRAIN_S,
        )
    )
