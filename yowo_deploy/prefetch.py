"""Iterators and calls run ahead of their reader in threads."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

from yowo_deploy.background import Background
from yowo_deploy.closing import Closing

AHEAD_BYTES = 1 << 26

T = TypeVar("T")
R = TypeVar("R")


class Prefetch(Closing, Generic[T]):
    """An iterator run ahead in a thread of its own; its errors surface where it is read.

    Args:
        depth: items that wait at most.
        nbytes: of an item, where fewer of large ones shall wait: those that take 64 MiB, or one.
    """

    def __init__(self, items: Iterator[T], depth: int = 8, nbytes: Callable[[T], int] = lambda item: 1) -> None:
        self._depth, self._nbytes = depth, nbytes
        self._queue: queue.Queue[tuple[T | None, BaseException | None]] = queue.Queue(depth)
        self._stopped, self._finished = threading.Event(), threading.Event()
        self._ended = False
        self._items: Iterator[T] | None = items
        self._thread = Background(self._live, self._stopped.set)
        self._thread.start()

    def _live(self) -> None:
        try:
            self._run()
        finally:
            self._finished.set()

    def _run(self) -> None:
        failure: BaseException | None = None
        items, self._items = self._items or iter(()), None  # let go when this returns
        try:
            for item in items:
                self._queue.maxsize = max(1, min(self._depth, AHEAD_BYTES // max(1, self._nbytes(item))))
                if not self._put((item, None)):
                    return
        except BaseException as error:  # handed over, not swallowed: `__iter__` raises it
            failure = error
        self._put((None, failure or StopIteration()))

    def _put(self, entry: tuple[T | None, BaseException | None]) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(entry, timeout=0.1)
                return True
            except queue.Full:
                continue
        return False

    def __iter__(self) -> Iterator[T]:
        while not self._ended:
            try:
                item, error = self._queue.get(timeout=0.1)
            except queue.Empty:
                if self._stopped.is_set():
                    return
                continue
            self._ended = error is not None
            if isinstance(error, StopIteration):
                return
            if error is not None:
                raise error
            yield item  # type: ignore[misc]  # None only beside an error

    def close(self) -> None:
        """Stop the thread and wait for it; what was read ahead can still be taken."""
        self._stopped.set()
        try:
            self._finished.wait()  # Thread.join, once a signal has interrupted it, takes a thread that runs for ended
        except BaseException:  # a signal's: what the thread reads must not be closed beside it
            self._finished.wait()
            raise
        self._thread.join()


def map_ahead(function: Callable[[T], R], items: Iterable[T], calls: int) -> Iterator[R]:
    """`map` in the order of the items, up to `calls` of them being worked on at once; with one, it is `map`."""
    if calls == 1:
        yield from map(function, items)
        return
    pending: deque[Future[R]] = deque()
    source = iter(items)
    with ThreadPoolExecutor(calls) as pool:
        while True:
            try:
                item = next(source)
            except StopIteration:
                break
            except Exception as error:  # handed over, not swallowed: it is raised after the answers before it
                failed: Future[R] = Future()
                failed.set_exception(error)
                pending.append(failed)
                break
            pending.append(pool.submit(function, item))
            if len(pending) > calls:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
