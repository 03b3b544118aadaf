"""Requests leave for addresses that were checked, once, and nowhere else."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime, timezone
from email.utils import format_datetime
from typing import Any

import pytest

from tests.yowo_deploy.sinks.receiver import Answer, Receiver
from yowo_deploy.errors import InputError
from yowo_deploy.sinks.http_request import Endpoint, is_public, request
from yowo_deploy.sinks.outbox import Refused, Retry

CANARY = "s3cr3t-canary"


def asked(receiver: Receiver, **options: Any) -> bytes:
    endpoint = Endpoint.parse(receiver.url + f"/hook/{CANARY}?token={CANARY}", "the webhook", private=True)
    return request(endpoint, "POST", endpoint.path, b"{}", {}, **options)


@pytest.mark.parametrize(
    "address",
    [
        *(
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "169.254.169.254",
            "100.64.0.1",
            "0.0.0.0",
            "224.0.0.1",
        ),
        *("255.255.255.255", "192.0.2.1", "240.0.0.1", "::1", "::", "fe80::1", "fe80::1%eth0", "fd00::1", "ff02::1"),
        *("::127.0.0.1", "::ffff:0:127.0.0.1", "64:ff9b:1::7f00:1", "fec0::1"),
        *("::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2002:7f00:1::", "2001:db8::1"),
    ],
)
def test_an_address_that_the_internet_does_not_reach_is_not_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize(
    "address", ["1.1.1.1", "93.184.216.34", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::101:101"]
)
def test_others_are(address: str) -> None:
    assert is_public(address)


def resolving(*addresses: str) -> tuple[Callable[..., Any], list[str]]:
    """A resolver that gives these, one after the other, and what it was asked."""
    names: list[str] = []

    def resolve(host: str, port: int, **_: object) -> list[Any]:
        names.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (each, port)) for each in addresses]

    return resolve, names


@pytest.mark.parametrize("host", ["rebound.example", "2130706433", "0x7f.1", "localhost"])
def test_a_name_of_a_private_address_is_refused_and_nothing_is_sent(host: str) -> None:
    with Receiver() as receiver:
        port = receiver.url.rpartition(":")[2]
        endpoint = Endpoint.parse(f"http://{host}:{port}/", "the webhook")
        resolve, names = resolving("127.0.0.1")
        with pytest.raises(Refused, match=f"{host} is a private address"):
            request(endpoint, "POST", "/", b"", {}, resolve=resolve)
        assert names == [host] and receiver.got == []


def test_the_connection_goes_to_the_address_that_was_checked(monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that is public when it is checked and private when it is asked again gains nothing: it is asked once."""
    tried: list[Any] = []
    monkeypatch.setattr(socket, "create_connection", lambda address, timeout: tried.append(address) or 1 / 0)
    resolve, names = resolving("10.0.0.1", "93.184.216.34")
    with pytest.raises(Retry, match="division by zero"):
        request(Endpoint.parse("http://two.example/", "x"), "POST", "/", b"", {}, resolve=resolve)
    assert names == ["two.example"] and tried == [("93.184.216.34", 80)]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
def test_no_redirect_is_followed(status: int) -> None:
    with Receiver() as other, Receiver(lambda *_: Answer(status, headers={"Location": other.url})) as receiver:
        with pytest.raises(Refused, match=f"status {status}, a redirect, which is not followed"):
            asked(receiver)
        assert len(receiver.got) == 1 and other.got == []


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 413, 422])
def test_what_another_try_would_not_change_is_refused(status: int) -> None:
    with Receiver(lambda *_: Answer(status)) as receiver, pytest.raises(Refused, match=f"status {status}"):
        asked(receiver)


@pytest.mark.parametrize(
    ("status", "unreachable"), [(408, False), (429, True), (500, False), (502, True), (503, True), (504, True)]
)
def test_the_others_are_tried_again(status: int, unreachable: bool) -> None:
    with Receiver(lambda *_: Answer(status)) as receiver, pytest.raises(Retry, match=f"status {status}") as caught:
        asked(receiver)
    assert caught.value.unreachable == unreachable and caught.value.after_s is None


NOW = datetime(2026, 1, 1, tzinfo=timezone.utc)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("7", 7.0),
        ("0", 0.0),
        (format_datetime(NOW.replace(second=9), usegmt=True), 9.0),
        (format_datetime(NOW.replace(year=2025), usegmt=True), 0.0),
        ("9" * 50, 600.0),
        ("soon", None),
        ("-1", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(header: str, seconds: float | None) -> None:
    with Receiver(lambda *_: Answer(429, headers={"Retry-After": header})) as receiver, pytest.raises(Retry) as caught:
        asked(receiver, clock=NOW.timestamp)
    assert caught.value.after_s == seconds


def test_nobody_there_is_tried_again_without_a_secret_in_the_reason() -> None:
    with Receiver() as receiver:
        pass
    with pytest.raises(Retry, match="no answer: Connection refused") as caught:
        asked(receiver)
    assert caught.value.unreachable and CANARY not in str(caught.value)


def spoken_to(talk: Callable[[socket.socket], object]) -> str:
    """Why a request to a server failed that says what `talk` sends."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with server.accept()[0] as line, suppress(OSError):
                line.recv(1 << 16)
                talk(line)

        serving = threading.Thread(target=serve)
        serving.start()
        endpoint = Endpoint.parse(f"http://127.0.0.1:{server.getsockname()[1]}", "x", private=True)
        with pytest.raises(Retry) as caught:
            request(endpoint, "POST", "/", b"{}", {})
        serving.join()
    return str(caught.value)


def test_an_answer_that_the_library_cannot_read_is_no_answer() -> None:
    """What it raises ended the thread that sends, and with it the receiver."""
    sent = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\n"
    assert "no answer: " in spoken_to(lambda line: line.sendall(sent))


@pytest.mark.parametrize("bytes_", [b"a", b"HTTP/1.1 100 Continue\r\n\r\n"])
def test_an_answer_that_trickles_in_ends(bytes_: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("yowo_deploy.sinks.http_request.WHOLE_S", 0.2)

    def trickle(line: socket.socket) -> None:
        line.sendall(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 ")
        while True:
            line.sendall(bytes_)

    assert "no answer: " in spoken_to(trickle)


def test_a_user_in_the_address_becomes_basic_authorization() -> None:
    with Receiver(lambda *_: Answer(200, b"x" * 200_000)) as receiver:
        endpoint = Endpoint.parse(receiver.url.replace("//", "//us%40er:p%3Aw@"), "x", private=True)
        assert len(request(endpoint, "POST", "/a", b"{}", {})) == 1 << 16
    assert receiver.got[0].headers["Authorization"] == "Basic dXNAZXI6cDp3"
    assert "p:w" not in repr(endpoint) and "dXNA" not in repr(endpoint)


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://host/x", "host/x", "https:///x", "https://", "http://host:99999/", f"http://u:{CANARY}/x@host/"),
        *(
            "http://host/a b",
            "http://host/\r\nX: y",
            "http://[::1/",
            "http://höst/",
            "http://a..b/",
            "http://host:0/",
            "",
        ),
    ],
)
def test_what_is_no_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(InputError, match="the webhook is not an address: expected https://host/path") as caught:
        Endpoint.parse(url, "the webhook")
    assert CANARY not in str(caught.value)


def test_messages_show_scheme_host_and_port_alone() -> None:
    endpoint = Endpoint.parse(f"https://u:{CANARY}@hooks.example:8443/{CANARY}?{CANARY}", "x")
    assert endpoint.shown == "https://hooks.example:8443" and CANARY not in repr(endpoint)
    assert Endpoint.parse("http://[2606:4700::1111]/", "x").shown == "http://[2606:4700::1111]"
