"""Waiting for what a test provokes, however long the machine takes: pytest's own time-out is the only deadline."""

from __future__ import annotations

import sys
from collections.abc import Callable
from threading import Thread
from time import sleep

NEVER_S = 86400.0  # given to the product where a time-out may not end what is tested


def wait_until(holds: Callable[[], bool]) -> None:
    """Return when it holds; for what sets no event."""
    while not holds():
        sleep(0.001)


def calls_of(thread: Thread) -> list[str]:
    """The names of the functions that a thread is in, the innermost first."""
    frame, names = sys._current_frames().get(thread.ident or 0), list[str]()
    while frame is not None:
        names.append(frame.f_code.co_name)
        frame = frame.f_back
    return names


def stands_in(thread: Thread, function: str) -> bool:
    """Whether a thread waits, for a condition or a queue, in a function of that name or in one that it called."""
    names = calls_of(thread)
    return names[:1] == ["wait"] and function in names
