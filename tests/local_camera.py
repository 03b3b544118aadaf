"""A camera on this machine: MJPEG over HTTP, frames that carry their number, killed and started again at will."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress

import cv2
import numpy as np

from yowo_deploy.preprocess import Frame

_BITS, _SIDE = 16, 8


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
        silent: while it is set, connections stay open and nothing is sent.
        greeting: what is said to who connects, before the first frame; b"" to accept and say nothing.
    """

    greeting = b"HTTP/1.0 200 OK\r\nContent-Type: multipart/x-mixed-replace; boundary=frame\r\n\r\n"

    def __init__(self, fps: float = 100, make: Callable[[int], Frame] = numbered) -> None:
        self._seconds, self._make = 1 / fps, make
        self.sent, self.silent = 0, threading.Event()
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
                viewer.settimeout(2)
                viewer.sendall(self.greeting)
                self._viewers.append(viewer)

    def _send(self, listener: socket.socket) -> None:
        while self._listener is listener:
            if not self.silent.is_set():
                picture = cv2.imencode(".jpg", self._make(self.sent))[1].tobytes()
                self.sent += 1
                head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n" % len(picture)
                for viewer in list(self._viewers):
                    try:
                        viewer.sendall(head + picture + b"\r\n")
                    except OSError:  # gone, as the one who only looked whether we are there
                        with suppress(ValueError):
                            self._viewers.remove(viewer)
                        viewer.close()
            time.sleep(self._seconds)
