"""Network addresses and the FFmpeg options that limit what OpenCV opens."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import cv2

from yowo_deploy.closing import Closing
from yowo_deploy.errors import InputError, VideoError
from yowo_deploy.plain_text import redacted
from yowo_deploy.video.host_gate import HTTP_GATE, PORTS, RtspRelay, Target

# OpenCV reads these when it opens something, and from the environment alone.
_VARIABLE = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
# FFmpeg would follow a playlist or an address inside a container (HARDENING, "Video").
FILES_ONLY = "protocol_whitelist;file"
# By TCP no packet gets lost: a line that is too slow makes frames late, not wrong.
_RTSP = (
    "protocol_whitelist;rtsp,rtsps,rtp,udp,tcp,tls|format_whitelist;rtsp,sdp,rtp,mpegts|rtsp_transport;tcp"
    "|allowed_media_types;video"
)
_FORMATS = "mpjpeg,mjpeg,jpeg_pipe,mov,mp4,matroska,webm,avi,flv,mpegts,mpeg,ogg,asf,h264,hevc,hls"
_HTTP = f"protocol_whitelist;http,https,httpproxy,tcp,tls,crypto|format_whitelist;{_FORMATS}"
_OPTIONS = {"rtsp": _RTSP, "rtsps": _RTSP, "http": _HTTP, "https": _HTTP}

_TURN = threading.Lock()
_FREE = threading.Condition()
_holding: list[str] = []
_before: list[str | None] = []


@contextlib.contextmanager
def capture_options(value: str) -> Iterator[None]:
    """Whatever OpenCV opens inside the block gets these options.

    Threads that want the same share the block: a camera that does not answer keeps no other camera waiting. Who wants
    others waits, and then goes first. The application's own value is back when the last one leaves.
    """
    with _TURN, _FREE:
        _FREE.wait_for(lambda: not _holding or _holding[0] == value)
        if not _holding:
            _before.append(os.environ.get(_VARIABLE))
            os.environ[_VARIABLE] = value
        _holding.append(value)
    try:
        yield
    finally:
        with _FREE:
            _holding.pop()
            if not _holding:
                _restore(_before.pop())
                _FREE.notify_all()


@contextlib.contextmanager
def silent_opencv() -> Iterator[None]:
    """Keep OpenCV's own warnings about files off stderr; the caller raises an error in their place."""
    level = cv2.utils.logging.setLogLevel(0)
    try:
        yield
    finally:
        cv2.utils.logging.setLogLevel(level)


def _restore(value: str | None) -> None:
    if value is None:
        del os.environ[_VARIABLE]
    else:
        os.environ[_VARIABLE] = value


@dataclass(frozen=True)
class Address:
    """Of a stream.

    Attributes:
        url: all of it; passwords may be in it, so it is shown nowhere.
        shown: scheme, host and path: what may stand in names and messages.
        options: for `capture_options`: protocols and formats of this kind of address and no others.
        hosts: that a redirect or a playlist may lead to, its own among them.
    """

    url: str = field(repr=False)
    shown: str
    options: str
    host: str
    port: int
    hosts: frozenset[str] = frozenset()

    @classmethod
    def parse(cls, text: str, allow_hosts: Iterable[str] = ()) -> Address:
        """An address that begins with rtsp://, rtsps://, http:// or https://.

        Args:
            allow_hosts: others that it may lead to.

        Raises:
            InputError: it begins otherwise, or has no host; the message says nothing of what may be a password.
        """
        try:
            parts = urlsplit(text)
            host, port = parts.hostname, parts.port
            (host or "").encode("idna")  # as it is looked up
        except ValueError as error:
            raise InputError("invalid stream address: expected rtsp://host:port/path") from error
        if parts.scheme not in _OPTIONS:
            allowed = ", ".join(f"{scheme}://" for scheme in _OPTIONS)
            raise InputError(f"{parts.scheme}:// addresses are not supported, expected {allowed}, a file or a webcam")
        if not host or not text.isprintable() or " " in text:
            raise InputError(f"invalid stream address without a host: expected {parts.scheme}://host:port/path")
        if port == 0:
            raise InputError(f"invalid stream address with port 0: expected {parts.scheme}://host:port/path")
        if "@" in parts.path + parts.query + parts.fragment:
            raise InputError("invalid stream address, @ behind the host: before it write / as %2F, ? as %3F, # as %23")
        inside = f"[{host}]" if ":" in host else host
        # Recorders take name and password within the path, as /user=admin&password=secret&channel=1.
        named = redacted(f"{parts.scheme}://{inside}{f':{port}' if port else ''}{parts.path}")
        hosts = frozenset(each.lower() for each in (host, *allow_hosts))
        return cls(text, named, _OPTIONS[parts.scheme], host, port or PORTS[parts.scheme], hosts)

    def reach(self, timeout_s: float) -> None:
        """Connect to the host and hang up, outside of `capture_options`: most dead cameras are found so.

        Raises:
            VideoError: it cannot be reached; the reason is in the message.
        """
        scheme = urlsplit(self.url).scheme
        if scheme.startswith("http") and getproxies().get(scheme) and not proxy_bypass(self.host):
            return  # FFmpeg asks the proxy, which may reach what we cannot
        try:
            socket.create_connection((self.host, self.port), timeout_s).close()
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            raise VideoError(f"{self.shown} cannot be reached: {reason}") from error


class Way(Closing):
    """The way that FFmpeg takes to an address, open until it is closed: no other hosts can be reached by it.

    Attributes:
        url, options: for OpenCV.
    """

    def __init__(self, address: Address) -> None:
        self._hosts, self.url, parts = address.hosts, address.url, urlsplit(address.url)
        self._closed, self._refusals = False, HTTP_GATE.refusals
        self._relay: RtspRelay | None = None
        if parts.scheme.startswith("rtsp"):
            self._relay = RtspRelay(Target(address.host, address.port, parts.scheme == "rtsps"), address.hosts)
            user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
            self.url = parts._replace(scheme="rtsp", netloc=f"{user}127.0.0.1:{self._relay.port}").geturl()
            self.options = address.options
        else:
            self.options = f"{address.options}|{HTTP_GATE.enter(address.hosts)}"

    @property
    def refused(self) -> str:
        """A host that it led to and that was not named; "" if there was none."""
        if self._relay is not None:
            return self._relay.refused
        return HTTP_GATE.refused if HTTP_GATE.refusals > self._refusals else ""

    def close(self) -> None:
        """What is read meanwhile breaks off."""
        if not self._closed:
            self._closed = True
            if self._relay is not None:
                self._relay.close()
            else:
                HTTP_GATE.leave(self._hosts)
