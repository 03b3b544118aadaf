"""Hostile requests are refused within bounds, and the next good one is answered."""

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import struct
import threading
import tracemalloc
import zlib
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from starlette.requests import ClientDisconnect

from tests.waiting import NEVER_S, wait_until
from tests.yowo_deploy.serving.calls import STREAM_INFER, Running, binary
from yowo_deploy.arrays import Frame
from yowo_deploy.backends.base import Backend
from yowo_deploy.errors import InputError
from yowo_deploy.serving import app, run
from yowo_deploy.serving.bodies import Bodies
from yowo_deploy.serving.metrics import MOST, Metrics, MetricsServer
from yowo_deploy.serving.models import STREAM_INPUTS, STREAM_OUTPUTS
from yowo_deploy.serving.refusal import Refusal
from yowo_deploy.serving.server import Http, Server, listen, server
from yowo_deploy.serving.tensors import HEADER, parse_request
from yowo_deploy.spec import ModelSpec

LIMIT = 16 << 20
GOOD: dict[str, Any] = {
    "inputs": [{"name": "frame", "shape": [1, 2, 3], "datatype": "UINT8", "data": [1, 2, 3, 4, 5, 6]}],
    "parameters": {"sequence_id": 1, "sequence_start": True, "sequence_end": True},
}


def changed(**frame: Any) -> bytes:
    """The good request with another frame."""
    return json.dumps({**GOOD, "inputs": [{**GOOD["inputs"][0], **frame}]}).encode()


def without(name: str) -> bytes:
    """The good request whose frame lacks a field."""
    [frame] = GOOD["inputs"]
    return json.dumps({**GOOD, "inputs": [{key: value for key, value in frame.items() if key != name}]}).encode()


BAD = [
    b"",
    b"\0",
    b"\xff\xfe{}",
    b"[" * 100_000,
    b'{"inputs":' * 50_000,
    b"[]",
    b"3",
    b"null",
    b"{}",
    b'{"inputs": 3}',
    b'{"inputs": [3]}',
    b'{"inputs": []}',
    b'{"inputs": NaN}',
    b'{"inputs": ' + b"9" * 100_000 + b"}",
    json.dumps({**GOOD, "inputs": GOOD["inputs"] * 2}).encode(),
    json.dumps({**GOOD, "outputs": 3}).encode(),
    json.dumps({**GOOD, "outputs": [{"name": "other"}]}).encode(),
    json.dumps({**GOOD, "outputs": [{"name": ["boxes"]}]}).encode(),
    json.dumps({**GOOD, "outputs": [{"name": "boxes", "parameters": {"classification": 3}}]}).encode(),
    json.dumps({**GOOD, "parameters": [1]}).encode(),
    json.dumps({**GOOD, "parameters": {}}).encode(),
    json.dumps({**GOOD, "id": 3}).encode(),
    json.dumps({**GOOD, "id": "x" * 257}).encode(),
    *(without(name) for name in ("name", "shape", "datatype", "data")),
    changed(name="other"),
    changed(name=["frame"]),
    changed(name="frame/../../etc"),
    changed(datatype="FP32"),
    changed(datatype=None),
    changed(shape=[1, 2]),
    changed(shape=[1, 2, 4]),
    changed(shape=[0, 2, 3]),
    changed(shape=[-1, -2, 3]),
    changed(shape=[True, 2, 3]),
    changed(shape=[1.0, 2, 3]),
    changed(shape=[10**30, 10**30, 3]),
    changed(shape=[1 << 20, 1 << 20, 3]),
    changed(shape="123"),
    changed(data=[1, 2, 3, 4, 5]),
    changed(data=[1, 2, 3, 4, 5, 256]),
    changed(data=[1, 2, 3, 4, 5, -1]),
    changed(data=[1, 2, 3, 4, 5, 6.5]),
    changed(data=[1, 2, 3, 4, 5, 10**40]),
    changed(data=[1, 2, 3, 4, 5, "6"]),
    changed(data=[True] * 6),
    changed(data=[[1, 2], [3], [4, 5, 6]]),
    changed(data={"a": 1}),
    changed(data=json.loads("[" * 90 + "1" + "]" * 90)),
    changed(data=json.loads("[" * 900 + "1" + "]" * 900)),
    changed(data=[[1, 2, 3], 4, 5, 6]),
    changed(data=[[]] * 6),
    changed(data=[1, 2, 3, 4, 5, True]),
    changed(parameters={"binary_data_size": 6}),
    changed(parameters={"binary_data_size": -1}),
    changed(parameters={"binary_data_size": "6"}),
    changed(parameters={"binary_data_size": 10**30}),
    changed(parameters={"shared_memory_region": "/dev/shm/x"}),
    changed(parameters=3),
]


def test_two_hundred_hostile_requests_change_nothing(running: Running, frames: list[Frame]) -> None:
    asked = 0
    for body in BAD:
        for headers in ({}, {HEADER: str(len(body))}, {HEADER: str(len(body) + 1)}, {HEADER: "-1"}):
            answer = running.ask(STREAM_INFER, body, headers)
            assert answer.status == 400 and "Traceback" not in answer.error and ".py" not in answer.error, body[:99]
            asked += 1
    assert asked > 200 and len(running.service.sequences) == 0
    assert running.push(frames[0], start=True).status == 200


def test_bytes_that_belong_to_nothing_are_refused(running: Running, frames: list[Frame]) -> None:
    path, body, headers = binary({"frame": frames[0]}, sequence_id=1, sequence_start=True)
    for wrong in (body + b"\0", body[:-1], body[: int(headers[HEADER])], body[1:]):
        assert running.ask(path, wrong, headers).status == 400


@pytest.mark.parametrize(
    "data",
    [["a" * 2000] + [0] * 29_999, ["a"] * 30_000, [{"a": 1}] * 100_000, json.loads("[" + "[]," * 300_000 + "1]")],
    ids=["text", "texts", "objects", "lists"],
)
def test_no_data_takes_much_more_than_its_body(data: Any) -> None:
    body = changed(shape=[100, 100, 3], data=data)
    tracemalloc.start()
    try:
        with pytest.raises(Refusal):
            parse_request(body, None, STREAM_INPUTS, STREAM_OUTPUTS)
        assert tracemalloc.get_traced_memory()[1] < 20 << 20
    finally:
        tracemalloc.stop()


@settings(max_examples=200)
@given(st.data())
def test_any_change_of_a_request_is_read_or_refused(data: st.DataObject) -> None:
    _, body, headers = binary({"frame": np.zeros((2, 3, 3), np.uint8)}, sequence_id=1)
    changed = bytearray(body)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(changed) - 1))
        changed[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=4))
    length = data.draw(st.one_of(st.none(), st.integers(0, 400), st.just(int(headers[HEADER]))))
    try:
        found = parse_request(changed, length, STREAM_INPUTS, STREAM_OUTPUTS)
    except Refusal as refusal:
        assert refusal.status == 400
    else:
        assert found.inputs["frame"].dtype == np.uint8 and found.inputs["frame"].shape[2] == 3


def flood(chunks: int, size: int) -> Iterator[bytes]:
    for _ in range(chunks):
        yield b"\0" * size


def test_a_body_that_says_it_is_too_long_is_413(running: Running) -> None:
    assert running.ask(STREAM_INFER, b"\0" * (LIMIT + 1)).status == 413


def test_chunks_without_an_end_are_413(running: Running) -> None:
    assert running.ask(STREAM_INFER, flood(40, 1 << 20)).status == 413


def test_a_flood_of_small_chunks_is_read_as_far_as_it_goes(running: Running, frames: list[Frame]) -> None:
    assert running.ask(STREAM_INFER, flood(20_000, 1)).status == 400
    assert running.push(frames[0], start=True).status == 200


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_bomb_is_413_and_never_unpacked(encoding: str, running: Running) -> None:
    pack = zlib.compressobj(9, zlib.DEFLATED, 31 if encoding == "gzip" else 15)
    bomb = b"".join(pack.compress(b"\0" * (1 << 20)) for _ in range(256)) + pack.flush()
    assert len(bomb) < 1 << 19
    tracemalloc.start()
    try:
        answer = running.ask(STREAM_INFER, bomb, {"Content-Encoding": encoding})
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert answer.status == 413 and most < 4 * LIMIT  # of 256 MiB


@pytest.mark.parametrize(
    "packed",
    [
        b"no gzip",
        gzip.compress(b"{}", mtime=0)[:-1],
        gzip.compress(b"{}", mtime=0) + b"x",
        gzip.compress(b"{}", mtime=0) * 2,
        b"",
    ],
)
def test_what_is_not_one_whole_gzip_is_400(packed: bytes, running: Running) -> None:
    assert running.ask(STREAM_INFER, packed, {"Content-Encoding": "gzip"}).status == 400


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Encoding": "br"},
        {"Content-Encoding": "gzip, gzip"},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "multipart/form-data; boundary=x"},
    ],
)
def test_other_types_and_encodings_are_415(headers: dict[str, str], running: Running) -> None:
    answer = running.ask(STREAM_INFER, json.dumps(GOOD).encode(), headers)
    assert answer.status == 415 and answer.error


def test_a_client_killed_in_the_middle_of_a_body_leaves_nothing(running: Running, frames: list[Frame]) -> None:
    head = f"POST {STREAM_INFER} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 9000000\r\n\r\n".encode()
    bodies = running.service._bodies
    for _ in range(5):
        with socket.create_connection(("127.0.0.1", running.port)) as line:
            line.sendall(head + b"\0" * 4_000_000)
            wait_until(lambda: bodies._held > 0)
        wait_until(lambda: bodies._held == 0)
    assert running.push(frames[0], start=True).status == 200


def test_what_is_no_http_is_refused(running: Running, frames: list[Frame]) -> None:
    for sent in (b"\x16\x03\x01\x02\0\x01\0", b"GET / HTTP/9.9\r\n\r\n", b"A" * 100_000, b"POST / HTTP/1.1\r\nHost: x"):
        with socket.create_connection(("127.0.0.1", running.port)) as line:
            line.sendall(sent)
            line.shutdown(socket.SHUT_WR)
            with suppress(ConnectionError):
                line.recv(1000)
    assert running.push(frames[0], start=True).status == 200


CHUNKED = f"POST {STREAM_INFER} HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()


@pytest.mark.parametrize(
    "begin", [b"GET /", b"GET / HTTP/1.1\r\nHost: x\r\nX: ", CHUNKED + b"0\r\nX: ", CHUNKED + b"1;x="]
)
def test_a_head_without_an_end_closes_its_connection(begin: bytes, running: Running, frames: list[Frame]) -> None:
    with socket.create_connection(("127.0.0.1", running.port)) as line, pytest.raises(ConnectionError):
        line.sendall(begin)
        while True:
            line.sendall(b"a" * 65536)
    assert running.push(frames[0], start=True).status == 200


@pytest.mark.parametrize("host", ["a..b", "a" * 70])
def test_a_host_that_none_is_called_is_one_line(host: str) -> None:
    counted = Metrics(dict, None, None, None)
    for listening in (listen, lambda *place: MetricsServer(counted, *place)):
        with pytest.raises(InputError, match=f"cannot listen on {host}, port 0"):
            listening(host, 0)


def test_an_answer_does_not_wait_for_the_client() -> None:
    with listen("127.0.0.1", 0) as listener, socket.create_connection(listener.getsockname()):
        accepted, _ = listener.accept()
        assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        accepted.close()


class Chunks:
    """What a server hands over of a body; after the last chunk it waits, as for a client that sends nothing more."""

    def __init__(self, *chunks: bytes, then: str = "wait") -> None:
        self._left, self._then = list(chunks), then

    async def __call__(self) -> dict[str, Any]:
        if self._left:
            chunk = self._left.pop(0)
            return {"type": "http.request", "body": chunk, "more_body": bool(self._left) or self._then != "end"}
        if self._then == "gone":
            return {"type": "http.disconnect"}
        await asyncio.Event().wait()
        raise AssertionError


async def read(bodies: Bodies, receive: Callable[[], Any], **headers: str) -> bytes:
    sent = [(name.encode(), value.encode()) for name, value in headers.items()]
    async with bodies.read({"type": "http", "headers": sent}, receive) as body:
        return bytes(body)


def status_of(bodies: Bodies, receive: Callable[[], Any], **headers: str) -> int:
    with pytest.raises(Refusal) as caught:
        asyncio.run(read(bodies, receive, **headers))
    assert bodies._held == 0
    return caught.value.status


def test_a_body_that_never_ends_is_408() -> None:
    assert status_of(Bodies(seconds=0.01), Chunks(b"{")) == 408


def test_a_client_that_asks_before_it_sends_is_answered_at_once() -> None:
    assert status_of(Bodies(limit=10), Chunks(), expect="100-continue", **{"content-length": "11"}) == 413


@pytest.mark.parametrize("length", ["x", "-1", "9" * 20, "1.5"])
def test_a_length_that_is_none_is_413(length: str) -> None:
    assert status_of(Bodies(limit=10), Chunks(b"", then="end"), **{"content-length": length}) == 413


def test_all_bodies_together_have_a_bound() -> None:
    bodies = Bodies(limit=100, held=150)

    async def both() -> int:
        async with bodies.read({"type": "http", "headers": []}, Chunks(b"\0" * 100, then="end")) as body:
            assert len(body) == 100
            with pytest.raises(Refusal) as caught:
                await read(bodies, Chunks(b"\0" * 100, then="end"))
        assert await read(bodies, Chunks(b"\0" * 100, then="end")) == b"\0" * 100
        return caught.value.status

    assert asyncio.run(both()) == 503 and bodies._held == 0


def test_a_client_that_is_gone_is_no_refusal() -> None:
    bodies = Bodies()
    with pytest.raises(ClientDisconnect):
        asyncio.run(read(bodies, Chunks(b"abc", then="gone")))
    assert bodies._held == 0


GET = b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n"


def until_closed(line: socket.socket) -> bytes:
    """What the server sends before it closes the connection."""
    line.settimeout(NEVER_S)
    return b"".join(iter(lambda: line.recv(1 << 16), b""))


@pytest.mark.parametrize("sent", [b"", b"G", b"\r\n", GET, GET + b"\r\n" + GET], ids=range(5))
def test_connections_that_send_no_whole_head_are_closed(
    running: Running, monkeypatch: pytest.MonkeyPatch, sent: bytes
) -> None:
    """uvicorn counts them among the 128 that there may be, and waits for ever."""
    monkeypatch.setattr("yowo_deploy.serving.server.HEAD_S", 0.2)
    with socket.create_connection(("127.0.0.1", running.port)) as line:
        line.settimeout(NEVER_S)
        with suppress(ConnectionError):  # closed before it was sent
            line.sendall(sent)
            while line.recv(1 << 16):
                continue


@pytest.fixture
def figures(capsys: pytest.CaptureFixture[str]) -> Iterator[int]:
    """The port of figures, each connection to which holds a thread; nothing may be written to stderr."""
    with MetricsServer(Metrics(dict, None, None, None), "127.0.0.1", 0) as server:
        yield server.port
    assert capsys.readouterr().err == ""


def test_silent_connections_to_the_figures_are_closed(monkeypatch: pytest.MonkeyPatch, figures: int) -> None:
    monkeypatch.setattr("yowo_deploy.serving.metrics.WHOLE_S", 0.2)
    with socket.create_connection(("127.0.0.1", figures)) as line:
        assert until_closed(line) == b""


def test_bytes_that_trickle_to_the_figures_do_not_put_off_the_end(
    monkeypatch: pytest.MonkeyPatch, figures: int
) -> None:
    monkeypatch.setattr("yowo_deploy.serving.metrics.WHOLE_S", 0.2)
    assert is_closed_while_bytes_trickle(figures, b"a")


def test_connections_to_the_figures_are_bounded(monkeypatch: pytest.MonkeyPatch, figures: int) -> None:
    """One more is closed at once, and the places are there again when others go, politely or not."""
    monkeypatch.setattr("yowo_deploy.serving.metrics.WHOLE_S", 10 * NEVER_S)
    before = threading.active_count()
    for polite in (True, False):
        wait_until(lambda: threading.active_count() == before)
        lines = [socket.create_connection(("127.0.0.1", figures)) for _ in range(MOST)]
        with socket.create_connection(("127.0.0.1", figures)) as line:
            assert until_closed(line) == b""
        for each in lines:
            if not polite:
                each.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            each.close()

    def answered() -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", figures)) as line:
            line.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
            return until_closed(line).startswith(b"HTTP/1.0 200")
        return False

    wait_until(answered)


def test_bytes_that_trickle_in_do_not_put_off_the_end_of_a_head(
    running: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yowo_deploy.serving.server.HEAD_S", 0.2)
    assert is_closed_while_bytes_trickle(running.port)


def is_closed_while_bytes_trickle(port: int, some: bytes = b"A: b\r\n") -> bool:
    """Some bytes a time until the connection is gone; 64 kB, which end it too, would take 10,000."""
    with socket.create_connection(("127.0.0.1", port)) as line:
        line.settimeout(0.05)
        sent, gone = 0, False
        while not gone and sent < 400:
            try:
                line.sendall(some if sent else GET)
                sent += 1
                gone = line.recv(1) == b""
            except TimeoutError:
                continue
            except ConnectionError:
                gone = True
    return gone


def test_an_application_that_is_run_from_python_has_the_bounds_of_the_command(
    spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Backend], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("yowo_deploy.serving.server.HEAD_S", 0.2)
    made = list[Server]()
    monkeypatch.setattr("yowo_deploy.serving.server.server", lambda each: (made.append(server(each)), made[0])[1])
    serving = threading.Thread(target=run, args=(app(numpy_backend(spec)),), kwargs={"port": 0})
    serving.start()
    wait_until(lambda: bool(made) and made[0].started)
    port = made[0].servers[0].sockets[0].getsockname()[1]
    try:
        assert is_closed_while_bytes_trickle(port)
    finally:
        made[0].should_exit = True
        serving.join()


def test_only_heads_have_to_come_in_that_time(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    """No body, no answer and no pause after it."""
    seen, made = list[Http](), Http.connection_made
    monkeypatch.setattr(Http, "connection_made", lambda self, transport: (made(self, transport), seen.append(self)))
    path, body, headers = binary({"frame": np.zeros((8, 8, 3), np.uint8)}, sequence_id=1, sequence_start=True)
    with closing(running.connection()) as line:
        for number in (1, 2):
            line.putrequest("POST", path)
            for name, value in {**headers, "Content-Length": str(len(body))}.items():
                line.putheader(name, value)
            line.endheaders()
            wait_until(lambda: bool(seen) and seen[0]._deadline is None)
            line.send(body)
            answer = line.getresponse()
            assert (answer.status, bool(answer.read())) == (200, True), number
            assert len(seen) == 1 and seen[0]._deadline is None
