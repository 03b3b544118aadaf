"""Debian's chromium, for the pages that a test serves."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.waiting import wait_until

SCRIPT = Path(__file__).parent / "chromium.py"
PACKAGES = ("playwright==1.65.2", "axe-playwright-python==0.1.8")


class Browser:
    """A chromium in a process of its own."""

    def __init__(self, python: Path) -> None:
        self._process = subprocess.Popen(
            [python, SCRIPT], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()

    def _do(self, command: str, given: Any = None) -> Any:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write(json.dumps([command, given]) + "\n")
        return json.loads(self._process.stdout.readline())

    def open(self, port: int, width: int = 1440, ratio: float = 1, path: str = "", **page: Any) -> None:
        """A page of a server of this machine, in a new tab."""
        page = {"viewport": {"width": width, "height": 900}, "device_scale_factor": ratio, **page}
        self._do("open", {"url": f"http://127.0.0.1:{port}/{path}", "page": page})

    def leave(self) -> None:
        """Close the page."""
        self._do("leave")

    def resize(self, width: int) -> None:
        """The window, in pixels."""
        self._do("resize", width)

    def get(self, code: str) -> Any:
        """The value of an expression in the page."""
        return self._do("evaluate", f"() => {code}")

    def until(self, code: str) -> None:
        """Wait until an expression holds."""
        wait_until(lambda: bool(self.get(code)))

    def press(self, *keys: str) -> None:
        for key in keys:
            self._do("press", key)

    def drag(self, start: tuple[float, float], end: tuple[float, float]) -> None:
        """With the mouse, between points of the window."""
        self._do("drag", [start, end])

    def said(self, port: int) -> list[str]:
        """Errors of the page, and requests to other places."""
        ours = (f"request http://127.0.0.1:{port}/", f"request blob:http://127.0.0.1:{port}/")
        return [line for line in self._do("said") if not line.startswith(ours)]

    def axe(self) -> list[str]:
        """Serious findings about accessibility."""
        return [
            f"{each['id']}: {each['nodes'][0]['html'][:200]}"
            for each in self._do("axe")
            if each["impact"] in ("serious", "critical")
        ]


def open_browser(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Browser:
    """Skips where there is no chromium and no way to install it; where there is one, what fails is a failure."""
    if shutil.which("chromium") is None:
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            pytest.skip("no chromium, and no root with apt-get to install it")
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
        subprocess.run(install, check=True, env=os.environ | {"DEBIAN_FRONTEND": "noninteractive"})

    def make(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        subprocess.run([folder / "venv/bin/python", "-m", "pip", "install", "-q", *PACKAGES], check=True)

    return Browser(made_once("playwright", make) / "venv/bin/python")
