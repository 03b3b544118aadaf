"""A camera on this machine: MJPEG over HTTP, frames that carry their number, killed and started again at will."""

from __future__ import annotations

import socket
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

import cv2
import numpy as np

from yowo_deploy.arrays import Frame

_BITS, _SIDE = 16, 8

_Server = TypeVar("_Server", bound="_LocalServer")


def numbered(number: int, width: int = _BITS * _SIDE, height: int = 48) -> Frame:
    """A frame with its number in black and white squares, which no codec mistakes."""
    frame = np.full((height, width, 3), 90, np.uint8)
    for bit in range(_BITS):
        frame[:_SIDE, bit * _SIDE : (bit + 1) * _SIDE] = 255 * (number >> bit & 1)
    return frame


def number_in(frame: Frame) -> int:
    """What `numbered` wrote."""
    squares = frame[_SIDE // 2, _SIDE // 2 : _BITS * _SIDE : _SIDE, 1] > 127
    return int(np.sum(squares * 2 ** np.arange(_BITS)))


class LocalCamera:
    """Frame after frame to everyone who is connected.

    Attributes:
        sent: frames made so far, whether or not somebody saw them: a camera's time goes on.
        accepted: viewers who connected so far.
        silent: while it is set, connections stay open and nothing is sent.
        greeting: what is said to who connects, before the first frame; b"" to accept and say nothing.
    """

    damage: Callable[[int, bytes], bytes] | None = None  # of the n-th picture that was sent to someone
    greeting = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"

    def __init__(self, fps: float = 100, make: Callable[[int], Frame] = numbered, silent: bool = False) -> None:
        self._seconds, self._make = 1 / fps, make
        self.sent, self.accepted, self.seen, self.silent = 0, 0, 0, threading.Event()
        if silent:
            self.silent.set()
        self._port = 0
        self._viewers: list[socket.socket] = []
        self._listener: socket.socket | None = None
        self.start()

    @property
    def url(self) -> str:
        """With a password, which must appear nowhere."""
        return f"http://user:s3cret@127.0.0.1:{self._port}/live?token=s3cret"

    def start(self) -> None:
        """Begin to accept viewers, on the port of last time."""
        self._listener = socket.create_server(("127.0.0.1", self._port))
        self._port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True).start()
        threading.Thread(target=self._send, args=(self._listener,), daemon=True).start()

    def kill(self) -> None:
        """Drop every viewer and accept no other."""
        listener, self._listener = self._listener, None
        for each in [listener, *self._viewers]:
            if each is not None:
                with suppress(OSError):
                    each.shutdown(socket.SHUT_RDWR)
                each.close()
        self._viewers = []

    def __enter__(self) -> LocalCamera:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                viewer = listener.accept()[0]
                with suppress(OSError):  # hung up already, as the one who only looked whether we are there
                    viewer.sendall(self.greeting)
                    self._viewers.append(viewer)
                self.accepted += 1

    def _send(self, listener: socket.socket) -> None:
        while self._listener is listener:
            if not self.silent.is_set():
                picture = cv2.imencode(".jpg", self._make(self.sent))[1].tobytes()
                self.sent += 1
                if self.damage is not None and self._viewers:
                    picture, self.seen = self.damage(self.seen, picture), self.seen + 1
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture)
                for viewer in list(self._viewers):
                    try:
                        viewer.sendall(head + picture + b"\r\n")
                    except OSError:  # gone
                        with suppress(ValueError):
                            self._viewers.remove(viewer)
                        viewer.close()
            time.sleep(self._seconds)


class _LocalServer(ABC):
    """Answers each who connects, in a thread of its own."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def __enter__(self: _Server) -> _Server:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                threading.Thread(target=self._serve, args=(self._listener.accept()[0],), daemon=True).start()

    def _serve(self, viewer: socket.socket) -> None:
        with suppress(OSError), viewer:
            self._answer(viewer)

    @abstractmethod
    def _answer(self, viewer: socket.socket) -> None:
        """Say everything; the connection is closed behind it, also where the viewer hangs up."""


class LocalFiles(_LocalServer):
    """A web server for given bytes; it may break off.

    Attributes:
        cuts: for each of the next answers, the share of the file after which the connection is closed.
        answers: connections on which something was asked.
    """

    def __init__(self, content: bytes) -> None:
        self._content, self.cuts, self.answers = content, list[float](), 0
        super().__init__()

    @property
    def url(self) -> str:
        """Of the one file."""
        return f"http://{self._address}/film"

    def _answer(self, viewer: socket.socket) -> None:
        if not viewer.recv(4096):
            return  # only looked whether we are there
        self.answers += 1
        share = self.cuts.pop(0) if self.cuts else 1.0
        head = b"HTTP/1.0 200 OK\r\nContent-Length: %d\r\n\r\n" % len(self._content)
        viewer.sendall(head + self._content[: int(share * len(self._content))])
        viewer.shutdown(socket.SHUT_WR)
        viewer.recv(1)


_SDP = "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\nm=video 0 RTP/AVP 33\r\na=control:track\r\n"
_SAYS = {
    "OPTIONS": "Public: DESCRIBE, SETUP, PLAY\r\n",
    "SETUP": "Transport: RTP/AVP/TCP;interleaved=0-1\r\nSession: 1\r\n",
}


class LocalRtsp(_LocalServer):
    """An MPEG transport stream by RTSP, once to each who asks: RTP inside the connection, as cameras do it."""

    def __init__(self, stream: bytes) -> None:
        self._stream = stream
        super().__init__()

    @property
    def url(self) -> str:
        """With a password, which must appear nowhere."""
        return f"rtsp://user:s3cret@{self._address}/live"

    def _answer(self, viewer: socket.socket) -> None:
        with viewer.makefile("rb") as lines:
            while words := lines.readline().decode().split():
                fields = dict(iter(lambda: lines.readline().decode().strip().split(": ", 1), [""]))
                body = _SDP if words[0] == "DESCRIBE" else ""
                kind = f"Content-Type: application/sdp\r\nContent-Length: {len(body)}\r\n" if body else ""
                said = f"RTSP/1.0 200 OK\r\nCSeq: {fields['CSeq']}\r\n{kind}{_SAYS.get(words[0], '')}\r\n{body}"
                viewer.sendall(said.encode())
                if words[0] == "PLAY":
                    return self._play(viewer)

    def _play(self, viewer: socket.socket) -> None:
        size = 7 * 188
        for number, start in enumerate(range(0, len(self._stream), size)):
            times = number.to_bytes(2, "big") + (900 * number).to_bytes(4, "big")
            packet = bytes([0x80, 33]) + times + bytes(4) + self._stream[start : start + size]
            viewer.sendall(b"$\0" + len(packet).to_bytes(2, "big") + packet)
