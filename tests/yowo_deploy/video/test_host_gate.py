"""Streams reach the hosts that were named: redirects and playlists that lead elsewhere, by servers on this machine."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable
from contextlib import suppress

import pytest

from tests.local_camera import LocalCamera, LocalRtsp, _LocalServer, number_in
from tests.waiting import NEVER_S
from tests.yowo_deploy.video.test_sources import encoded
from yowo_deploy.errors import VideoError
from yowo_deploy.video.host_gate import HTTP_GATE, RtspRelay, Target, _RefusedError, _Replies
from yowo_deploy.video.sources import open_source

OTHER = "localhost"  # another name than 127.0.0.1, by which the servers are named, for the same machine
LEADS = f"leads to the host {OTHER}: allow it with --allow-hosts"


class Says(_LocalServer):
    """One answer to every request; the requests are kept."""

    def __init__(self, answer: bytes | Callable[[str], bytes]) -> None:
        self._said, self.requests = answer, list[str]()
        super().__init__()

    @property
    def address(self) -> str:
        """Host and port."""
        return self._address

    @property
    def port(self) -> str:
        """Of this server."""
        return self._address.partition(":")[2]

    def _answer(self, viewer: socket.socket) -> None:
        while request := viewer.recv(4096).decode():
            self.requests.append(request.split("\r\n")[0])
            viewer.sendall(self._said if isinstance(self._said, bytes) else self._said(request))
            if not request.endswith("RTSP/1.0") and "CSeq" not in request:
                viewer.shutdown(socket.SHUT_WR)


def redirect(to: str) -> bytes:
    return f"HTTP/1.0 302 Found\r\nLocation: {to}\r\n\r\n".encode()


def body(content: bytes) -> bytes:
    return b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(content) + content


def playlist(*places: str) -> bytes:
    lines = "".join(f"#EXTINF:1,\n{place}\n" for place in places)
    return body(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n{lines}#EXT-X-ENDLIST\n".encode())


def first_of(url: str, *allowed: str) -> int:
    """The number in the first frame of a source."""
    with open_source(url, timeout_s=NEVER_S, allow_hosts=allowed) as source:
        return number_in(next(iter(source)).image)


@pytest.fixture(scope="module")
def film() -> bytes:
    return encoded("mpegts", [40 * number for number in range(30)])


@pytest.mark.parametrize("exempt", [None, "localhost,127.0.0.1", "*"])
def test_a_redirect_to_another_host_is_not_followed_unless_it_is_allowed(
    exempt: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if exempt is not None:
        monkeypatch.setenv("no_proxy", exempt)
    with LocalCamera() as camera, Says(redirect(camera.url.replace("127.0.0.1", OTHER))) as leads:
        seen = camera.accepted
        with pytest.raises(VideoError, match=LEADS) as refused:
            first_of(f"http://{leads.address}/live")
        assert camera.accepted == seen and "s3cret" not in str(refused.value)
        assert first_of(f"http://{leads.address}/live", OTHER) >= 0
        assert camera.accepted > seen
    assert os.environ.get("no_proxy") == exempt


def test_a_redirect_on_the_same_host_is_followed() -> None:
    with LocalCamera() as camera, Says(redirect(camera.url)) as leads:
        assert first_of(f"http://{leads.address}/live") >= 0


def test_a_playlist_leads_to_its_own_host_and_to_allowed_ones(film: bytes) -> None:
    with Says(body(film)) as segments:
        for host, allowed in (("127.0.0.1", ()), (OTHER, (OTHER,))):
            with Says(playlist(f"http://{host}:{segments.port}/1.ts")) as lists:
                assert first_of(f"http://{lists.address}/a.m3u8", *allowed) == 0
        seen = len(segments.requests)
        with Says(playlist(f"http://{OTHER}:{segments.port}/1.ts")) as lists, pytest.raises(VideoError, match=LEADS):
            first_of(f"http://{lists.address}/a.m3u8")
        assert len(segments.requests) == seen


def test_a_playlist_that_goes_on_elsewhere_ends_there(film: bytes) -> None:
    with Says(body(film)) as segments, Says(body(film)) as other:
        places = f"http://127.0.0.1:{segments.port}/1.ts", f"http://{OTHER}:{other.port}/2.ts"
        with (
            Says(playlist(*places)) as lists,
            open_source(f"http://{lists.address}/a.m3u8", timeout_s=NEVER_S, patience_s=0) as source,
        ):
            assert [number_in(timed.image) for timed, _ in zip(source, range(20), strict=False)] == [*range(20)]
        assert segments.requests and not other.requests


@pytest.mark.parametrize(
    "place", ["file:///etc/hostname", "concat:/etc/hostname", "subfile,,start,0,end,9,,:/etc/hostname", "data:,x",
              "rtsp://127.0.0.1/x", "tcp://127.0.0.1:{port}", "udp://127.0.0.1:{port}", "crypto:file:///etc/hostname"]
)  # fmt: skip
def test_a_playlist_leads_by_no_other_protocol(place: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        other.settimeout(0)
        there = place.format(port=other.getsockname()[1])
        with Says(playlist(there)) as lists, pytest.raises(VideoError, match="gives no video"):
            first_of(f"http://{lists.address}/a.m3u8")
        with pytest.raises(BlockingIOError):
            other.accept()


def rtsp_redirect(to: str, on: str = "DESCRIBE") -> Callable[[str], bytes]:
    def answer(request: str) -> bytes:
        sequence = request.lower().partition("cseq: ")[2].split("\r\n")[0]
        code, more = ("302 Found", f"Location: {to}\r\n") if request.startswith(on) else ("200 OK", "")
        return f"RTSP/1.0 {code}\r\nCSeq: {sequence}\r\n{more}\r\n".encode()

    return answer


@pytest.mark.parametrize("on", ["OPTIONS", "DESCRIBE"])
def test_a_redirect_by_rtsp_is_followed_to_named_hosts_alone(on: str, film: bytes) -> None:
    with LocalRtsp(film) as camera:
        with Says(rtsp_redirect(camera.url, on)) as leads:
            assert first_of(f"rtsp://user:s3cret@{leads.address}/live") in range(30)  # live: the first may be dropped
        elsewhere = camera.url.replace("127.0.0.1", OTHER)
        with Says(rtsp_redirect(elsewhere, on)) as leads:
            with pytest.raises(VideoError, match=LEADS) as refused:
                first_of(f"rtsp://{leads.address}/live")
            assert "s3cret" not in str(refused.value)
            assert first_of(f"rtsp://{leads.address}/live", OTHER) in range(30)


@pytest.mark.parametrize(
    ("sent", "passed"),
    [
        (b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n", b"RTSP/1.0 200 OK\r\nCSeq: 1\r\n\r\n"),
        (b"RTSP/1.0 200 OK\nContent-Length: 3\n\nabc$\0\0\2xy",
         b"RTSP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc$\0\0\2xy"),
        (b"RTSP/1.0 301 Moved\r\nlocation:rtsp://good/a?b\r\n\r\n",
         b"RTSP/1.0 301 Moved\r\nLocation: by relay\r\n\r\n"),
        (b"$\0\0\x0aRTSP/1.0 3", b"$\0\0\x0aRTSP/1.0 3"),
        (b"RTSP/1.0 302 Found\r\nLocation: rtsp://bad/\r\n\r\n", None),
        (b"RTSP/1.0 302 Found\r\n\r\n", None),
        (b"RTSP/1.0 302 Found\r\nLocation: rtsp://good/\r\nLocation: rtsp://bad/\r\n\r\n", None),
        (b"RTSP/1.0  302 Found\r\nLocation: rtsp://bad/\r\n\r\n", None),
        (b"RTSP/1.0 +302 Found\r\nLocation: rtsp://bad/\r\n\r\n", None),
        (b"\r\n\r\nRTSP/1.0 302 Found\r\nLocation: rtsp://bad/\r\n\r\n", None),
        (b"RTSP/1.0 200 OK\r\nContent-Length: 3\r\nContent-Length: 0\r\n\r\n", None),
        (b"RTSP/1.0 200 OK\r\nContent-Length: -3\r\n\r\n", None),
        (b"RTSP/1.0 200 OK\r\n$\0\0\2\r\n\r\n", None),
        (b"a" * 70_000, None),
    ],
)  # fmt: skip
@pytest.mark.parametrize("piece", [1, 7, 1 << 20])
def test_replies_of_rtsp_are_judged_whatever_pieces_they_come_in(piece: int, sent: bytes, passed: bytes | None) -> None:
    def redirected(location: str) -> str:
        if "bad" in location:
            raise _RefusedError
        return "by relay"

    replies, found = _Replies(redirected), b""
    with suppress(_RefusedError):
        for at in range(0, len(sent), piece):
            found += replies.feed(sent[at : at + piece])
        assert passed is not None
    assert b"bad" not in found and (passed is None or found == passed)


def test_a_gate_is_closed_with_the_last_source_and_reaches_no_host_that_left() -> None:
    with LocalCamera() as camera:
        with open_source(camera.url, timeout_s=NEVER_S) as source:
            next(iter(source))
            assert HTTP_GATE._listener is not None
        if source._thread is not None:
            source._thread.join()
    assert HTTP_GATE._listener is None and not HTTP_GATE._hosts


def test_a_relay_leads_to_a_server_of_another_port_on_a_named_host() -> None:
    with RtspRelay(Target("cam", 554, False), {"cam", "other"}) as relay:
        assert relay._redirected("rtsps://Other/b?c") == f"rtsp://127.0.0.1:{relay.port}/b?c"
        assert relay._target == Target("other", 322, True)
        for place in ("rtsp://third/", "http://cam/", "file:///etc/hostname", "rtsp:///x"):
            with pytest.raises(_RefusedError):
                relay._redirected(place)
