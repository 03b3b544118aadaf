"""WebSockets, packed bodies and scrapers that are not what the libraries below expect; nothing of theirs on stderr."""

from __future__ import annotations

import gzip
import logging
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.waiting import NEVER_S
from tests.yowo_deploy.serving.calls import STREAM_INFER, Running
from tests.yowo_deploy.serving.test_hostile import Chunks, status_of, until_closed
from yowo_deploy.backends.base import Backend
from yowo_deploy.serving import app
from yowo_deploy.serving.bodies import Bodies
from yowo_deploy.serving.metrics import Metrics, MetricsServer
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.writer import VideoWriter

HOST = "Host: 127.0.0.1\r\n"
UPGRADE = (
    "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n"
)
MASK = b"\0\0\0\0"


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The server logs no error."""
    with caplog.at_level(logging.ERROR):
        yield
    assert not caplog.records


@pytest.mark.parametrize(
    "head",
    [
        f"POST /watch/0 HTTP/1.1\r\n{HOST}{UPGRADE}Content-Length: 5\r\n\r\nhello",
        f"GET /watch/0 HTTP/1.1\r\n{HOST}{UPGRADE}Content-Length: 5\r\n\r\nhel",
        f"GET /watch/0 HTTP/1.1\r\n{HOST}{UPGRADE}Transfer-Encoding: chunked\r\n\r\n",
        f"GET /watch/0 HTTP/1.1\r\n{HOST}{UPGRADE}X: {'a' * 9000}\r\n\r\n",
        f"GET /watch/0 HTTP/1.1\r\n{HOST}{UPGRADE}" + "X: a\r\n" * 300 + "\r\n",
    ],
    ids=["body", "body of a get", "chunks", "long line", "many lines"],
)
@pytest.mark.usefixtures("quiet")
def test_a_websocket_that_cannot_be_made_is_refused_and_its_connection_closed(head: str, running: Running) -> None:
    """They were left open for ever, and the end of the server was an AssertionError."""
    with socket.create_connection(("127.0.0.1", running.port)) as line:
        line.sendall(head.encode())
        assert until_closed(line).startswith(b"HTTP/1.1 400 ")


@pytest.mark.parametrize("head", [f"{HOST}Origin: http://evil.example\r\n", "Host: evil.example\r\n", ""])
@pytest.mark.usefixtures("quiet")
def test_a_websocket_of_another_page_is_refused_without_a_line(head: str, running: Running) -> None:
    with socket.create_connection(("127.0.0.1", running.port)) as line:
        line.sendall(f"GET /watch/0 HTTP/1.1\r\n{head}{UPGRADE}\r\n".encode())
        assert until_closed(line)[9:12] in (b"403", b"400")


@pytest.fixture
def film(tmp_path: Path, frames: list[object]) -> str:
    """A video whose name is no UTF-8."""
    made = tmp_path / "made.webm"
    with VideoWriter(made, 25, (64, 48)) as writer:
        for frame in frames:
            writer.write(frame)  # type: ignore[arg-type]
    return os.fspath(made.rename(tmp_path / os.fsdecode(b"\xff.webm")))


@pytest.fixture
def watching(spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend], film: str) -> Iterator[Running]:
    with Running(app(numpy_backend(spec), sources=[film])) as server:
        yield server


@pytest.mark.usefixtures("quiet")
def test_a_source_may_have_a_name_that_is_no_utf_8(watching: Running) -> None:
    answer = watching.ask("/api/state")
    assert answer.status == 200 and answer.json["sources"][0]["name"] == "\udcff.webm"
    assert watching.ask("/metrics").status == 200


@pytest.mark.parametrize("sent", [b"\x81\x82" + MASK + b"\xff\xfe", b"\x01\x81" + MASK + b"\xff\x80\x80" + MASK])
@pytest.mark.usefixtures("quiet")
def test_a_text_that_is_no_utf_8_makes_no_traceback(sent: bytes, watching: Running) -> None:
    with socket.create_connection(("127.0.0.1", watching.port)) as line:
        line.settimeout(NEVER_S)
        line.sendall(f"GET /watch/0 HTTP/1.1\r\n{HOST}{UPGRADE}\r\n".encode())
        assert line.recv(12) == b"HTTP/1.1 101"
        line.sendall(sent + b"\x88\x80" + MASK)
        until_closed(line)
    assert watching.ask("/v2/health/ready").status == 200


def test_what_stands_behind_the_end_of_a_packed_body_is_refused_at_once() -> None:
    """zlib keeps all of it, and copies it for each chunk more."""
    packed = gzip.compress(b"{}", mtime=0)
    for chunks in ((packed, b"x"), (packed + b"x",)):
        headers = {"content-encoding": "gzip"}
        assert status_of(Bodies(seconds=NEVER_S), Chunks(*chunks), **headers) == 400


def test_a_packed_body_that_unpacks_to_nothing_has_a_bound() -> None:
    begin, empty = gzip.compress(b"", mtime=0)[:10], b"\0\0\0\xff\xff"
    bodies = Bodies(limit=100, seconds=NEVER_S)
    assert status_of(bodies, Chunks(begin, *[empty * 10] * 3), **{"content-encoding": "gzip"}) == 413


def test_a_flood_behind_a_packed_body_is_answered(running: Running) -> None:
    def sent() -> Iterator[bytes]:
        yield gzip.compress(b"{}", mtime=0)
        yield from [b"x" * (1 << 20)] * 32

    assert running.ask(STREAM_INFER, sent(), {"Content-Encoding": "gzip"}).status == 400


@pytest.mark.parametrize("accept", ["application/openmetrics-text; version=a.b", "*/*", "\xff"])
def test_every_scraper_gets_the_figures_of_every_source(accept: str, capsys: pytest.CaptureFixture[str]) -> None:
    counted = Metrics(lambda: {("door\udcff\x1b", "overtaken"): 3}, None, None, None)
    with MetricsServer(counted, "127.0.0.1", 0) as server, socket.create_connection(("127.0.0.1", server.port)) as line:
        line.sendall(f"GET /metrics HTTP/1.1\r\nAccept: {accept}\r\n\r\n".encode("latin-1"))
        answer = until_closed(line)
    assert answer.startswith(b"HTTP/1.0 200") and b'source="door\\\\udcff\\\\u001b"} 3.0' in answer
    assert capsys.readouterr().err == ""
