"""A bounded queue whose thread sends over the network, so that no stream waits for it."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable
from time import monotonic
from typing import Any, Generic, TypeVar

from yowo_deploy.closing import Closing
from yowo_deploy.plain_text import shown

T = TypeVar("T")

MOST_WAITING = 1_000
CLOSE_S = 5.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
MOST_TRIES = 8  # of a message that reaches its receiver and fails there: behind it the others wait, 91 s at most


class Refused(Exception):
    """A message that will never be accepted: the next one is sent."""


class Retry(Exception):
    """A message that could not be sent now.

    Attributes:
        after_s: seconds to wait; None leaves it to the outbox.
        unreachable: the receiver is at fault, not the message, which is then tried for as long as it takes.
    """

    def __init__(self, reason: str, after_s: float | None = None, unreachable: bool = True) -> None:
        super().__init__(reason)
        self.after_s, self.unreachable = after_s, unreachable


class Outbox(Closing, Generic[T]):
    """Sends items in order, in a thread of its own; `put` never waits.

    Where an item cannot be sent, it is tried again after 1, 2, 4 and so on up to 30 s. When the queue is full, the
    oldest expendable item makes room; without one, the new item is dropped.

    Args:
        name: of the receiver, in messages.
        send: sends one item; raises `Refused` or `Retry`.
        expendable: whether an item may be dropped for another one.
        report: receives a line when sending begins to fail, and when it succeeds again.
        most: items that may wait.
        wait: waits for some seconds, less where the outbox is closed; for tests.

    Attributes:
        counts: items by outcome: "sent", and those that were dropped: "full", "refused", "failed", "unsent".
    """

    def __init__(
        self,
        name: str,
        send: Callable[[T], object],
        expendable: Callable[[T], bool] = lambda item: False,
        report: Callable[[str], object] = lambda text: None,
        most: int = MOST_WAITING,
        wait: Callable[[float], object] | None = None,
    ) -> None:
        self._name, self._send, self._expendable, self._report = name, send, expendable, report
        self._most, self._waiting = most, deque[T]()
        self._changed, self._closing = threading.Condition(), threading.Event()
        self._wait = wait or self._closing.wait
        self._deadline, self._in_trouble = 0.0, False
        self._failure: BaseException | None = None
        self.counts: Counter[str] = Counter()
        self._thread = threading.Thread(target=self._run, name=f"outbox {name}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Items that are not sent yet."""
        return len(self._waiting)

    @property
    def expired(self) -> bool:
        """Whether `close` was called and its time is over: `send` then gives up."""
        return self._closing.is_set() and monotonic() > self._deadline

    def put(self, item: T) -> bool:
        """Queue an item; returns whether it found room. After `close` nothing does. Raises what ended the thread."""
        if self._failure is not None:
            raise self._failure
        with self._changed:
            if self._closing.is_set():
                self.counts["unsent"] += 1
                return False
            if len(self._waiting) >= self._most and not self._make_room(item):
                return False
            self._waiting.append(item)
            self._changed.notify()
            return True

    def close(self, within_s: float | None = None) -> None:
        """Send what waits, each once more, for so long at most, 5 s by default; the rest is counted as "unsent"."""
        if self._closing.is_set():
            return
        within_s = CLOSE_S if within_s is None else within_s
        with self._changed:
            self._deadline = monotonic() + within_s
            self._closing.set()
            self._changed.notify()
        self._thread.join(within_s + 1)
        with self._changed:
            if self._waiting:  # a receiver that never answers holds the thread, which is left to itself
                self.counts["unsent"] += len(self._waiting)
                self._waiting.clear()

    def _make_room(self, item: T) -> bool:
        """Drop the oldest expendable item, if the new one is not; the first in the queue may be on its way."""
        self.counts["full"] += 1
        if self._expendable(item):
            return False
        for index in range(1, len(self._waiting)):
            if self._expendable(self._waiting[index]):
                del self._waiting[index]
                return True
        return False

    def _run(self) -> None:
        try:
            self._send_all()
        except BaseException as error:  # handed over, not swallowed: `put` raises it
            self._failure = error

    def _send_all(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing.is_set())
                if not self._waiting or self.expired:
                    return
                item = self._waiting[0]
            outcome = self._deliver(item)
            with self._changed:
                if self._waiting:  # else it was given up by `close`, and is counted there
                    self._waiting.popleft()
                    self.counts[outcome] += 1

    def _deliver(self, item: T) -> str:
        """Send an item until it is sent or given up; returns what became of it."""
        pause_s, tries = FIRST_PAUSE_S, 0
        while True:
            try:
                self._send(item)
            except Refused as error:
                self._trouble(f"a message was refused: {error}")
                return "refused"
            except Retry as error:
                tries += 1
                if tries >= MOST_TRIES and not error.unreachable:
                    self._trouble(f"a message failed {tries} times: {error}")
                    return "failed"
                if self._closing.is_set():
                    return "unsent"
                self._trouble(f"{error}; trying again, up to {self._most} messages wait")
                self._wait(pause_s if error.after_s is None else error.after_s)
                pause_s = min(2 * pause_s, LONGEST_PAUSE_S)
            else:
                if self._in_trouble:
                    self._in_trouble = False
                    self._report(f"{self._name}: messages are accepted again")
                return "sent"

    def _trouble(self, text: str) -> None:
        """Report the first failure since the last success."""
        if not self._in_trouble:
            self._in_trouble = True
            self._report(shown(f"{self._name}: {text}"))


class Queued(Closing):
    """What sends through an outbox of its own."""

    _outbox: Outbox[Any]

    @property
    def counts(self) -> Counter[str]:
        """Messages by outcome, see `Outbox`."""
        return self._outbox.counts

    @property
    def waiting(self) -> int:
        """Messages that are not sent yet."""
        return self._outbox.waiting

    def close(self) -> None:
        """Send what waits, within a few seconds."""
        self._outbox.close()
