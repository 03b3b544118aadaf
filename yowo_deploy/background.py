"""Threads that work in native code beside the program, and end before Python does."""

from __future__ import annotations

import atexit
import threading
from collections.abc import Callable
from time import monotonic

WAIT_S = 4.0  # for all of them: one that reads a camera which does not answer ends with the program

_RUNNING: dict[threading.Thread, Callable[[], object]] = {}  # and how each is ended


class Background(threading.Thread):
    """A daemon thread that the end of the program stops and waits for, where nothing did before.

    At its end Python below 3.14 unwinds a daemon thread that comes back from native code; where C++ called it, in an
    engine, PyTorch or OpenCV, that aborts the process (SIGABRT).

    Args:
        work: what it does.
        end: called at the end of the program, for `work` to return soon; waits for nothing.
        name: of the thread.
    """

    def __init__(self, work: Callable[[], object], end: Callable[[], object], name: str | None = None) -> None:
        super().__init__(target=work, name=name, daemon=True)
        self._end = end

    def start(self) -> None:
        """See `Thread.start`; listed before, for a signal's exception may come out of it while the thread runs."""
        _RUNNING[self] = self._end
        del self._end  # which refers to what has this thread
        try:
            super().start()
        except RuntimeError:  # there can be no more threads
            _RUNNING.pop(self)
            raise

    def run(self) -> None:
        """See `Thread.run`."""
        try:
            super().run()
        finally:
            _RUNNING.pop(self, None)


@atexit.register
def end_all() -> None:
    """Stop the threads that still run, and wait for them."""
    running = [(thread, end) for thread, end in list(_RUNNING.items()) if thread.is_alive()]  # in a fork none is
    for _, end in running:
        end()
    last = monotonic() + WAIT_S
    for thread, _ in running:
        thread.join(max(0.0, last - monotonic()))
