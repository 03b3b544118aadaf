"""A real broker on this machine, mosquitto, that can be stopped and started, and a subscriber that misses nothing."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import threading
from pathlib import Path
from typing import Any

import paho.mqtt.client as paho
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from tests.waiting import wait_until

SYSTEM = ("/usr/sbin", "/usr/local/sbin", "/opt/homebrew/sbin")


def mosquitto() -> str:
    """The program; skips where there is none and no way to install it."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *SYSTEM])
    if (found := shutil.which("mosquitto", path=path)) is not None:
        return found
    if shutil.which("apt-get") is None or os.geteuid() != 0:
        pytest.skip("no mosquitto, and no root with apt-get to install it")
    subprocess.run(["apt-get", "update", "-qq"], check=True)
    install = [
        "apt-get",
        "-o",
        "DPkg::Lock::Timeout=600",
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
        "mosquitto",
    ]
    subprocess.run(install, check=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})
    return str(shutil.which("mosquitto", path=path))


class Broker:
    """mosquitto with an own configuration and memory, on a free port.

    Args:
        lines: more of its configuration.
    """

    def __init__(self, folder: Path, *lines: str) -> None:
        self._program, self._folder = mosquitto(), folder
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        own = ["persistence true", f"persistence_location {folder}/", "autosave_on_changes true", "autosave_interval 1"]
        user = f"user {'root' if os.geteuid() == 0 else os.environ.get('USER', 'mosquitto')}"
        listen = [f"listener {self.port} 127.0.0.1", *(lines or ["allow_anonymous true"])]
        (folder / "conf").write_text("\n".join([*own, user, *listen, "max_queued_messages 0", ""]))
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        return f"mqtt://127.0.0.1:{self.port}/yard"

    def start(self) -> None:
        log = (self._folder / "log").open("ab")
        self._process = subprocess.Popen([self._program, "-c", self._folder / "conf"], stdout=log, stderr=log)
        wait_until(self._answers)

    def stop(self, kind: int = signal.SIGTERM) -> None:
        if self._process is not None:
            wait_until(lambda: self._ends(kind))
            self._process = None

    def pause(self, kind: int = signal.SIGSTOP) -> None:
        """Let it hang, with its connections open; SIGCONT ends that."""
        assert self._process is not None
        self._process.send_signal(kind)

    def _ends(self, kind: int) -> bool:
        """Send the signal, again each time: mosquitto forgets one that comes after it listens and before it serves."""
        assert self._process is not None
        self._process.send_signal(kind)
        return self._process.poll() is not None

    def _answers(self) -> bool:
        assert self._process is not None and self._process.poll() is None, (self._folder / "log").read_text()
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
            return True
        return False

    def __enter__(self) -> Broker:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop(signal.SIGKILL)


class Subscriber:
    """Keeps all messages; its session outlives connections.

    Attributes:
        got: topic, text and whether it was retained, in their order.
    """

    def __init__(self, port: int, topics: str = "#", **options: Any) -> None:
        self.got: list[tuple[str, str, bool]] = []
        self._topics, self._ready = topics, threading.Event()
        client = self._client = paho.Client(CallbackAPIVersion.VERSION2, "listener", clean_session=False)
        client.reconnect_delay_set(1, 1)
        client.on_connect = lambda client, *_: client.subscribe(self._topics, qos=1)
        client.on_subscribe = lambda *_: self._ready.set()
        client.on_message = self._keep
        if "user" in options:
            client.username_pw_set(options["user"], options["password"])
        client.connect("127.0.0.1", port)
        client.loop_start()
        self._ready.wait()

    def values(self, topic: str) -> list[str]:
        return [text for name, text, _ in self.got if name == topic]

    def wait_for(self, topic: str, value: str) -> None:
        wait_until(lambda: self.values(topic)[-1:] == [value])

    def _keep(self, client: Any, data: Any, message: Any) -> None:
        self.got.append((message.topic, message.payload.decode(), message.retain))

    def __enter__(self) -> Subscriber:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.disconnect()
        self._client.loop_stop()
