"""Waiting for what a test provokes, however long the machine takes: pytest's own time-out is the only deadline."""

from __future__ import annotations

from collections.abc import Callable
from time import sleep

NEVER_S = 86400.0  # given to the product where a time-out may not end what is tested


def wait_until(holds: Callable[[], bool]) -> None:
    """Return when it holds; for what sets no event."""
    while not holds():
        sleep(0.001)
