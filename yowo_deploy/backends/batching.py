"""Merge concurrent inferences of several threads into batches."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Sequence
from time import perf_counter

import numpy as np

from yowo_deploy.arrays import Float, Planes
from yowo_deploy.backends.base import Backend, Engine, Streaming, check_clips
from yowo_deploy.background import Background
from yowo_deploy.errors import EngineError, InputError, ModelFileError

USUAL_BATCH = 8


class SharedBackend(Engine):
    """Queues concurrent `infer` calls and merges them into batches; every caller gets what it would get alone.

    Clips are served in the order of their arrival, and a caller waits for its answer before its next call: no caller is
    served twice before another is served once. Clips that gather while the engine is busy go in one call. An engine
    with one stream also waits for more clips, unless every caller who `joined` is waiting already. One with several
    streams, as CPUs have them, gains by parallel calls: there no clip waits, and large calls are made only on request.
    A call that fails is repeated clip by clip, so that an error reaches only the caller that caused it.

    Args:
        backend: closed with this one; each of its `parallel` calls is served by a thread.
        max_wait_ms: the longest that a clip waits for others while the engine, of one stream, is free.
        max_batch: clips in a call; by default 8, or what the engine takes; 1 if it works on several calls at once.

    Attributes:
        calls: of the engine, by number of clips.
        held_ms: how long the newest thousand clips lay here while a worker was free.

    Raises:
        ModelFileError: the model takes no call with one clip.
        InputError: `max_batch` is more than the model takes in one call, or a limit is negative.
    """

    def __init__(self, backend: Backend, max_wait_ms: float = 0.0, max_batch: int | None = None) -> None:
        least, most = backend.batch
        if least > 1:
            raise ModelFileError(
                f"the model takes at least {least} clips a call, and a stream may bring only one: "
                "export or build it without --batch, or with --batch 1"
            )
        if max_batch is not None and (max_batch < 1 or (most is not None and max_batch > most)):
            limit = "any number" if most is None else f"{most}, or for more a file without --batch"
            raise InputError(f"max_batch is {max_batch}, expected 1 to {limit}")
        if not max_wait_ms >= 0:
            raise InputError(f"max_wait_ms is {max_wait_ms}, expected 0 or more")
        self.name, self.spec, self._backend = backend.name, backend.spec, backend
        usual = min(USUAL_BATCH, most or USUAL_BATCH) if backend.parallel == 1 else 1
        if isinstance(backend, Streaming):
            self.open_stream = backend.open_stream  # streams keep what is their own, and have no clips to share calls
        self._wait_s, self._max_batch = max_wait_ms / 1000, max_batch or usual
        self._changed = threading.Condition()
        self._waiting: deque[_Asked] = deque()
        self._callers = 0
        self._free, self._free_since, self._closed = backend.parallel, perf_counter(), False
        self.calls: Counter[int] = Counter()
        self.held_ms: deque[float] = deque(maxlen=1000)
        self._workers = [Background(self._work, self._refuse) for _ in range(backend.parallel)]
        for worker in self._workers:
            worker.start()

    def infer(self, clips: Planes) -> Float:
        """(B, 3, T, H, W) clips to raw outputs, see `Backend.infer`; waits for the answer.

        Raises:
            EngineError: the backend was closed meanwhile.
        """
        asked = _Asked(check_clips(clips, self.spec))
        with self._changed:
            if self._closed:
                raise EngineError("the engine is closed: open it again")
            self._waiting.append(asked)
            self._changed.notify_all()
        return asked.answer()

    def join(self) -> None:
        """Register one more caller, for whose clips others may wait."""
        self._count(1)

    def leave(self) -> None:
        """Unregister a caller."""
        self._count(-1)

    def close(self) -> None:
        """Refuse waiting calls, let running calls end, and close the engine."""
        self._refuse()
        for worker in self._workers:
            worker.join()
        self._backend.close()

    def _refuse(self) -> None:
        with self._changed:
            self._closed = True
            refused = list(self._waiting)
            self._waiting.clear()
            self._changed.notify_all()
        for asked in refused:
            asked.fail(EngineError("the engine was closed before it could answer"))

    def _count(self, more: int) -> None:
        with self._changed:
            self._callers += more
            self._changed.notify_all()

    def _work(self) -> None:
        while batch := self._next_batch():
            self._answer(batch)
            with self._changed:
                self._free += 1
                self._free_since = perf_counter()
                self._changed.notify_all()

    def _next_batch(self) -> list[_Asked]:
        """Clips that go now, in a call of their own; empty when all is over."""
        with self._changed:
            while not self._closed:
                patience = self._patience_s()
                if patience <= 0:
                    return self._taken()
                self._changed.wait(patience if self._waiting else None)
            return []

    def _patience_s(self) -> float:
        """How long to wait on before the next call begins."""
        if not self._waiting:
            return 1.0
        company_may_come = self._callers > len(self._waiting)
        if len(self._workers) > 1 or len(self._waiting) >= self._max_batch or not company_may_come:
            return 0.0
        return self._wait_s - (perf_counter() - self._waiting[0].since)

    def _taken(self) -> list[_Asked]:
        """A fair share of what waits, for each free worker as many."""
        share = min(self._max_batch, -(-len(self._waiting) // self._free))
        batch = [self._waiting.popleft() for _ in range(share)]
        now = perf_counter()
        self.held_ms.extend(1000 * (now - max(asked.since, self._free_since)) for asked in batch)
        self.calls[len(batch)] += 1
        self._free -= 1
        return batch

    def _answer(self, batch: Sequence[_Asked]) -> None:
        try:
            clips = batch[0].clips if len(batch) == 1 else np.concatenate([asked.clips for asked in batch])
            raw = self._backend.infer(clips)
        except BaseException as error:  # handed over, not swallowed: whose it is gets it
            if len(batch) == 1:
                batch[0].fail(error)
            else:
                for asked in batch:
                    self._answer([asked])
            return
        ends = np.cumsum([len(asked.clips) for asked in batch])
        for asked, answer in zip(batch, np.split(raw, ends[:-1]), strict=True):
            asked.succeed(answer)


class _Asked:
    """Clips on their way to the engine and back."""

    def __init__(self, clips: Planes) -> None:
        self.clips, self.since = clips, perf_counter()
        self._done = threading.Event()
        self._raw: Float | None = None
        self._error: BaseException | None = None

    def succeed(self, raw: Float) -> None:
        self._raw = raw
        self._done.set()

    def fail(self, error: BaseException) -> None:
        self._error = error
        self._done.set()

    def answer(self) -> Float:
        """Wait for it; raises what the engine raised."""
        self._done.wait()
        if self._raw is None:
            assert self._error is not None
            raise self._error
        return self._raw
