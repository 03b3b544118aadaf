"""Workers in processes of this machine: each holds what is dear to make, and does one task after the other."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from time import monotonic
from typing import Any, Protocol

from yowo_deploy.child_process import ChildProcess
from yowo_deploy.closing import Closing
from yowo_deploy.errors import EngineError, YowoError, foreign, reason_of

LIVES = 3  # workers that may die of one task
BEAT_S = 0.5  # between two signs of life of a worker
START_S = 3600.0  # that making a worker may take: engines compile

Beat = Callable[[float], None]


class Worker(Protocol):
    """What works on tasks.

    Attributes:
        greeting: told once, when it is ready.
    """

    greeting: Any

    def do(self, task: Any, beat: Beat) -> Any:
        """What a task gives; `beat` takes the amount of work done since the last beat, and shows that it goes on."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What became of a task.

    Attributes:
        value: what it gave.
        reason: why it failed; "" if it did not.
        worker: its number.
    """

    task: Any
    value: Any
    reason: str
    worker: int


class Pool(Protocol):
    """Workers, wherever they run.

    Attributes:
        greeting: of the first worker.
        done: amount of work by worker, as their beats told.
    """

    greeting: Any

    @property
    def done(self) -> Mapping[int, float]: ...

    def idle(self) -> int:
        """Workers without a task."""
        ...

    def busy(self) -> int:
        """Workers with one."""
        ...

    def submit(self, task: Any) -> None:
        """Give a task to an idle worker."""
        ...

    def outcomes(self, timeout_s: float) -> Sequence[Outcome]:
        """Of the tasks that ended since the last call; waits for one for so long."""
        ...

    def close(self) -> None:
        """End all workers, also those at work."""
        ...


def attempt(worker: Worker, task: Any, beat: Beat) -> tuple[Any, str]:
    """What a task gives, and why it failed; an error that is a bug costs its task, not the others."""
    try:
        with foreign("unexpected error", EngineError, OSError):
            return worker.do(task, beat), ""
    except YowoError as error:
        return None, str(error)
    except OSError as error:
        return None, f"{error.filename}: {reason_of(error)}" if error.filename else reason_of(error)


class ProcessPool(Closing):
    """A `Pool` of processes of this machine.

    A task whose worker died is done again by a new one, and fails when `LIVES` have died of it. A worker without a sign
    of life for `stall_s` is killed, and its task fails.

    Args:
        make: makes a `Worker` in its process; can be pickled.
        workers: how many.
        stall_s: see above.
        clock: for `stall_s`, in seconds.

    Raises:
        YowoError: what `make` raises.
    """

    def __init__(
        self, make: Callable[[], Worker], workers: int, stall_s: float, clock: Callable[[], float] = monotonic
    ) -> None:
        self._make, self._stall_s, self._clock = make, stall_s, clock
        self._seats = [_Seat(number) for number in range(workers)]
        self.done: dict[int, float] = dict.fromkeys(range(workers), 0.0)
        self.greeting: Any = None
        try:
            for seat in self._seats:
                seat.start(make)
            for seat in self._seats:
                self._welcome(seat)
        except BaseException:
            self.close()
            raise

    def idle(self) -> int:
        """See `Pool`."""
        return len(self._seats) - self.busy()

    def busy(self) -> int:
        """See `Pool`."""
        return sum(seat.task is not None for seat in self._seats)

    def submit(self, task: Any) -> None:
        """See `Pool`."""
        seat = next(seat for seat in self._seats if seat.task is None)
        seat.task, seat.deaths = task, 0
        self._send(seat)

    def outcomes(self, timeout_s: float) -> list[Outcome]:
        """See `Pool`."""
        seats = {seat.child.connection: seat for seat in self._seats if seat.task is not None}
        ready = wait(list(seats), timeout_s)
        found = [self._hear(seats[connection]) for connection in ready]  # type: ignore[index]
        late = [seat for seat in seats.values() if self._clock() - seat.last_s > self._stall_s]
        found += [self._stalled(seat) for seat in late if seat.task is not None]
        return [outcome for outcome in found if outcome is not None]

    def close(self) -> None:
        """See `Pool`."""
        for seat in self._seats:
            if seat.child is not None:
                seat.child.process.kill()
                seat.child.close()

    def _hear(self, seat: _Seat) -> Outcome | None:
        """The next message of a worker: a beat, an outcome, or its end."""
        try:
            kind, *content = seat.child.connection.recv()
        except (OSError, EOFError):
            return self._died(seat)
        seat.last_s = self._clock()
        if kind == "beat":
            self.done[seat.number] += content[0]
            return None
        return seat.outcome(*content)

    def _died(self, seat: _Seat) -> Outcome | None:
        seat.deaths += 1
        words = seat.child.last_words()
        self._replace(seat)
        if seat.deaths >= LIVES:
            return seat.outcome(None, f"{seat.deaths} workers died of it: {words}")
        self._send(seat)
        return None

    def _stalled(self, seat: _Seat) -> Outcome:
        seat.child.process.kill()
        self._replace(seat)
        return seat.outcome(None, f"no sign of life for {self._stall_s:g} s: the decoder or the engine hangs")

    def _replace(self, seat: _Seat) -> None:
        seat.child.close()
        seat.start(self._make)
        self._welcome(seat)

    def _welcome(self, seat: _Seat) -> None:
        """Wait until a worker is ready.

        Raises:
            YowoError: it cannot be made.
        """
        connection = seat.child.connection
        try:
            if not connection.poll(START_S):
                raise EngineError(f"a worker was not ready in {START_S:g} s")
            greeting, error = connection.recv()
        except (OSError, EOFError) as failure:
            raise EngineError(f"a worker died when it was started: {seat.child.last_words()}") from failure
        if error is not None:
            raise error
        self.greeting = self.greeting or greeting

    def _send(self, seat: _Seat) -> None:
        seat.last_s = self._clock()
        with suppress(OSError):  # it is dead, which `outcomes` finds
            seat.child.connection.send(seat.task)


class _Seat:
    """The place of a worker.

    Attributes:
        deaths: of workers with this task.
        last_s: of the last sign of life.
    """

    child: ChildProcess

    def __init__(self, number: int) -> None:
        self.number, self.task, self.deaths, self.last_s = number, None, 0, 0.0

    def start(self, make: Callable[[], Worker]) -> None:
        self.child = ChildProcess("yowo_deploy.worker_pool", "serve")
        with suppress(OSError):  # it is dead, which `_welcome` finds
            self.child.connection.send(make)

    def outcome(self, value: Any, reason: str) -> Outcome:
        task, self.task = self.task, None
        return Outcome(task, value, reason, self.number)


def serve(descriptor: int) -> None:
    """Make a worker and let it work until the connection closes, or the process at its other end is gone."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    connection = Connection(descriptor)
    with suppress(EOFError, BrokenPipeError, ConnectionResetError):
        make = connection.recv()
        try:
            with foreign("a worker cannot be made", EngineError):
                worker = make()
        except YowoError as error:
            connection.send((None, error))
            return
        connection.send((worker.greeting, None))
        pulse = Pulse(connection.send)
        while True:
            connection.send(("done", *attempt(worker, connection.recv(), pulse)))


class Pulse:
    """Tells of work at most every `BEAT_S`."""

    def __init__(self, send: Callable[[tuple[str, float]], None], clock: Callable[[], float] = monotonic) -> None:
        self._send, self._clock, self._last_s, self._amount = send, clock, clock(), 0.0

    def __call__(self, amount: float) -> None:
        self._amount += amount
        if self._clock() - self._last_s >= BEAT_S:
            self._send(("beat", self._amount))
            self._last_s, self._amount = self._clock(), 0.0


def _end_with_parent() -> None:
    # Not by sys.stdin, whose lock would be held meanwhile: a process that a library forks here closes it and would wait
    # for ever.
    while os.read(0, 1):
        pass
    os._exit(1)
