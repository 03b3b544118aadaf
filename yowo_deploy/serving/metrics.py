"""Figures for Prometheus."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from socketserver import ThreadingMixIn
from time import monotonic
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, Metric
from prometheus_client.registry import Collector

from yowo_deploy.closing import Closing
from yowo_deploy.errors import InputError, reason_of
from yowo_deploy.plain_text import escaped
from yowo_deploy.result import Result

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
WHOLE_S = 10.0  # for a request, and as long for its answer
MOST = 16  # connections at once: there are few scrapers
_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """What an application counts, in a registry of its own.

    Args:
        drops: of the sources, by name and reason; read when figures are asked for.
        sequences, open_tubes, viewers: as of now; None where there are none.
        messages: to receivers of alerts, by receiver and outcome.

    Attributes:
        registry: all figures.
    """

    def __init__(
        self,
        drops: Callable[[], Mapping[tuple[str, str], int]],
        sequences: Callable[[], float] | None,
        open_tubes: Callable[[], float] | None,
        viewers: Callable[[], float] | None,
        messages: Callable[[], Mapping[tuple[str, str], int]] | None = None,
    ) -> None:
        registry = self.registry = CollectorRegistry()
        self._frames = Counter("yowo_frames", "Frames with a result.", ["origin"], registry=registry)
        self._refused = Counter("yowo_requests_refused", "Requests without an answer.", ["reason"], registry=registry)
        self._stages = Histogram(
            "yowo_stage_seconds", "Time of a frame in a stage.", ["stage"], buckets=_SECONDS, registry=registry
        )
        self._whole = Histogram(
            "yowo_frame_seconds", "From a frame's arrival to its result.", buckets=_SECONDS, registry=registry
        )
        for name, text, value in (
            ("yowo_sequences", "Live sequences.", sequences),
            ("yowo_open_tubes", "People who are followed now.", open_tubes),
            ("yowo_viewers", "Open pages.", viewers),
        ):
            if value is not None:
                Gauge(name, text, registry=registry).set_function(value)
        registry.register(_Counts("yowo_frames_dropped", "Frames without a result.", ("source", "reason"), drops))
        if messages is not None:
            text = "Messages of alerts."
            registry.register(_Counts("yowo_messages", text, ("receiver", "outcome"), messages))

    def observe(self, result: Result, origin: str = "sequence") -> None:
        """Count a result of a sequence, or of a source."""
        self._frames.labels(origin).inc()
        for stage, milliseconds in result.speed.items():
            self._stages.labels(stage).observe(milliseconds / 1000)
        self._whole.observe(result.latency_ms / 1000)

    def refuse(self, reason: str) -> None:
        """Count a request without an answer."""
        self._refused.labels(reason).inc()

    def text(self) -> bytes:
        """All figures in Prometheus' format."""
        return generate_latest(self.registry)

    def answer(self, environ: dict[str, Any], start_response: Callable[..., object]) -> list[bytes]:
        """A WSGI application. prometheus_client's own ends in a traceback for some Accept headers."""
        content = self.text()
        start_response("200 OK", [("Content-Type", CONTENT_TYPE), ("Content-Length", str(len(content)))])
        return [content]


class MetricsServer(Closing):
    """Answers `GET /metrics` on a port of its own, `MOST` connections at once, each in a thread and for `WHOLE_S`.

    Raises:
        InputError: the port cannot be had.
    """

    def __init__(self, metrics: Metrics, host: str, port: int) -> None:
        try:
            self._server = _Server(host, port, metrics.answer)
        except (OSError, UnicodeError) as error:  # no host is called so
            reason = reason_of(error)
            raise InputError(f"cannot listen on {host}, port {port}: {reason}; choose another port") from error
        self.port: int = self._server.server_port
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Free the port."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingMixIn, WSGIServer):
    """As prometheus_client's own, whose threads have no bound."""

    daemon_threads = True

    def __init__(self, host: str, port: int, application: Callable[..., Iterable[bytes]]) -> None:
        self.address_family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._places = threading.Semaphore(MOST)
        super().__init__((host, port), _Handler)
        self.set_app(application)

    def process_request(self, request: Any, client_address: Any) -> None:
        """See socketserver."""
        if not self._places.acquire(blocking=False):
            self.shutdown_request(request)
            return
        try:
            super().process_request(request, client_address)
        except RuntimeError:  # no thread can be started, which would give the place back
            self._places.release()
            raise

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        """See socketserver."""
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()


class _Handler(WSGIRequestHandler):
    def setup(self) -> None:
        """See socketserver."""
        super().setup()
        self.rfile = io.BufferedReader(_Until(self.connection, monotonic() + WHOLE_S))

    def handle(self) -> None:
        """See socketserver; a client that is late or gone gets no answer, and no traceback."""
        with suppress(OSError):
            super().handle()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: stderr is the application's."""


class _Until(io.RawIOBase):
    """What a connection sends until then; a time-out between two bytes alone would let them trickle for ever."""

    def __init__(self, connection: socket.socket, end: float) -> None:
        self._connection, self._end = connection, end

    def readable(self) -> bool:
        """See io."""
        return True

    def readinto(self, buffer: Any) -> int:
        """See io; the time that is left is that of the answer as well."""
        left = self._end - monotonic()
        if left <= 0:
            raise TimeoutError
        self._connection.settimeout(left)
        return self._connection.recv_into(buffer)


class _Counts(Collector):
    """Counters that others keep, by two labels."""

    def __init__(
        self, name: str, text: str, labels: tuple[str, str], read: Callable[[], Mapping[tuple[str, str], int]]
    ) -> None:
        self._family, self._read = (name, text, labels), read

    def collect(self) -> Iterator[Metric]:
        name, text, labels = self._family
        family = CounterMetricFamily(name, text, labels=labels)
        for key, count in self._read().items():
            family.add_metric([escaped(each) for each in key], count)  # a name may be no UTF-8
        yield family
