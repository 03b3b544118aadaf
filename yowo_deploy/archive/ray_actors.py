"""Workers as actors of Ray, on this machine or on those of a cluster."""

from __future__ import annotations

import importlib
import logging
import os
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from time import monotonic
from typing import Any

from yowo_deploy.closing import Closing, closed_on_error
from yowo_deploy.errors import EngineError, MissingExtraError, YowoError, foreign
from yowo_deploy.worker_pool import LIVES, START_S, Outcome, Pool, Pulse, Worker, attempt

LOCAL = "local"
LOOK_S = 5.0  # between two requests for signs of life
STORE_BYTES = 100 << 20  # of a cluster of this machine alone: nothing large is ever put into the object store


def open_ray(
    make: Callable[[], Worker], workers: int | None, address: str, stall_s: float, threads: int, gpu: bool
) -> Pool:
    """Actors of a cluster as a pool.

    Args:
        workers: how many; by default as many as the cluster has room for. More than that wait until there is room.
        address: "auto", "local" for a cluster of this machine's own, or an address as `ray.init` takes it.
        threads: processors that each gets.
        gpu: whether each gets a GPU.

    Raises:
        MissingExtraError: Ray is not installed.
        EngineError: the cluster cannot be reached, or has no room.
        YowoError: what `make` raises.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("Ray", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of its own would report itself over the network
    os.environ.setdefault("RAY_raylet_start_wait_time_s", "180")  # Ray's own limit is too short on a busy machine
    ray: Any = importlib.import_module("ray")
    with ExitStack() as stack:
        if own := not ray.is_initialized():
            stack.callback(ray.shutdown)
        with foreign(f"Ray at {address} cannot be reached", EngineError):
            if own:
                alone = {"num_cpus": (workers or 1) * threads, "object_store_memory": STORE_BYTES}
                more = {**alone, "include_dashboard": False} if address == LOCAL else {}
                ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **more)
                # It would still write to stdout, which is for results, that a worker died.
                ray._private.worker._worker_logs_enabled = False
            nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        rooms = [node.get("CPU", 0) // threads for node in nodes]
        if gpu:
            rooms = [min(room, node.get("GPU", 0)) for room, node in zip(rooms, nodes, strict=True)]
        if not (workers := workers or int(sum(rooms))):
            raise EngineError(f"no node of the Ray cluster has {threads} CPUs{' and a GPU' * gpu}: lower --threads")
        pool = RayPool(ray, make, workers, stall_s, {"num_cpus": threads, "num_gpus": int(gpu)}, own)
        stack.pop_all()
    return pool


class _Actor:
    """The class behind the actors: a worker, and how far it is, which may be read while it works."""

    def __init__(self, make: Callable[[], Worker], folder: str) -> None:
        self._amount, self._beats, self._pulse = 0.0, 0, Pulse(self._beat)
        self._worker, self._error = None, None
        with suppress(OSError):  # absent on this node: then relative paths do not lead anywhere
            os.chdir(folder)
        try:
            with foreign("a worker cannot be made", EngineError):
                self._worker = make()
        except YowoError as error:  # an exception would reach the driver without its kind
            self._error = error

    def greeting(self) -> tuple[Any, YowoError | None]:
        """Of the worker, or why there is none."""
        return getattr(self._worker, "greeting", None), self._error

    def do(self, task: Any) -> tuple[Any, str, float]:
        """See `attempt`, and the amount of work so far."""
        assert self._worker is not None
        return *attempt(self._worker, task, self._pulse), self._amount

    def progress(self) -> tuple[float, int]:
        """Amount of work, and signs of life, so far."""
        return self._amount, self._beats

    def _beat(self, message: tuple[str, float]) -> None:
        self._amount, self._beats = self._amount + message[1], self._beats + 1


@dataclass
class _Seat:
    """The place of an actor.

    Attributes:
        future: of what the actor works on: its greeting at first, then an outcome; None: it is idle.
        task: what it works on, and how many actors died of that; None: nothing, or it is being made.
        deaths: of actors of this place, one after the other, before they were ready.
        before: amount of work of those that are gone.
        amount, beats: of this one, see `_Actor.progress`.
        last_s: of the last sign of life.
    """

    number: int
    actor: Any = None
    future: Any = None
    task: tuple[Any, int] | None = None
    deaths: int = 0
    before: float = 0.0
    amount: float = 0.0
    beats: int = 0
    last_s: float = 0.0


class RayPool(Closing):
    """A `Pool` of actors.

    One whose process or node dies is made anew as soon as the cluster has room for it; its task is done again by
    whichever is idle first, and fails when `LIVES` have died of it. The others go on meanwhile.

    Raises:
        EngineError: no actor is ready within `START_S`, or actors die one after the other before they are.
        YowoError: what `make` raises.
    """

    def __init__(
        self,
        ray: Any,
        make: Callable[[], Worker],
        workers: int,
        stall_s: float,
        needs: dict[str, int],
        own: bool,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._ray, self._stall_s, self._own, self._clock = ray, stall_s, own, clock
        kind = ray.remote(**needs, max_restarts=0, max_task_retries=0, max_concurrency=2)(_Actor)
        self._new = partial(kind.remote, make, os.getcwd())
        self._again = deque[tuple[Any, int]]()  # tasks whose actors died, and how many did
        self._looked_s = self._ready_s = clock()
        self._seats = [_Seat(number) for number in range(workers)]
        self.greeting: Any = None
        with closed_on_error(self):
            for seat in self._seats:
                self._start(seat)
            while self.greeting is None:  # others join when they are ready
                self.outcomes(LOOK_S)

    @property
    def done(self) -> dict[int, float]:
        """See `Pool`."""
        return {seat.number: seat.before + seat.amount for seat in self._seats}

    def idle(self) -> int:
        """See `Pool`."""
        return sum(seat.future is None for seat in self._seats)

    def busy(self) -> int:
        """See `Pool`; with the tasks that are to be done again."""
        return sum(seat.task is not None for seat in self._seats) + len(self._again)

    def submit(self, task: Any) -> None:
        """See `Pool`."""
        self._send(next(seat for seat in self._seats if seat.future is None), task, 0)

    def outcomes(self, timeout_s: float) -> list[Outcome]:
        """See `Pool`.

        Raises:
            YowoError: see the class.
        """
        waited = {seat.future: seat for seat in self._seats if seat.future is not None}
        ready, _ = self._ray.wait(list(waited), num_returns=1, timeout=timeout_s) if waited else ([], [])
        found = [self._take(waited[future]) for future in ready]
        if self._clock() - self._looked_s > min(LOOK_S, self._stall_s / 4):
            found += self._look()
            self._looked_s = self._clock()
        while self._again and self.idle():
            self._send(next(seat for seat in self._seats if seat.future is None), *self._again.popleft())
        return [outcome for outcome in found if outcome is not None]

    def close(self) -> None:
        """See `Pool`; a cluster that was started here ends."""
        for seat in self._seats:
            if seat.actor is not None:
                self._ray.kill(seat.actor)
            seat.actor = None
        if self._own:
            self._ray.shutdown()

    def _start(self, seat: _Seat) -> None:
        """Make the actor of a place, and the one before it an end."""
        if seat.actor is not None:
            self._ray.kill(seat.actor)
        seat.before, seat.amount, seat.beats, seat.task = seat.before + seat.amount, 0.0, 0, None
        seat.actor = self._new()
        seat.future = seat.actor.greeting.remote()

    def _send(self, seat: _Seat, task: Any, deaths: int) -> None:
        seat.task, seat.last_s, seat.future = (task, deaths), self._clock(), seat.actor.do.remote(task)

    def _take(self, seat: _Seat) -> Outcome | None:
        """What an actor was waited for: a greeting, an outcome, or its end."""
        task, seat.task = seat.task, None
        try:
            value, *more = self._ray.get(seat.future)
        except self._ray.exceptions.RayError as error:
            return self._died(seat, task, type(error).__name__)
        seat.future, self._ready_s = None, self._clock()
        if task is not None:
            reason, seat.amount = more
            return Outcome(task[0], value, reason, seat.number)
        if more[0] is not None:
            raise more[0]
        self.greeting = self.greeting or value
        if value != self.greeting:
            raise EngineError("the nodes of the Ray cluster differ: expected the same model and versions on each")
        seat.deaths = 0
        return None

    def _died(self, seat: _Seat, task: tuple[Any, int] | None, reason: str) -> Outcome | None:
        self._start(seat)
        if task is None:
            seat.deaths += 1
            if seat.deaths >= LIVES:
                raise EngineError(f"{LIVES} actors of Ray died before they were ready: {reason}")
        elif (deaths := task[1] + 1) >= LIVES:
            return Outcome(task[0], None, f"{deaths} actors died of it: {reason}", seat.number)
        else:
            self._again.append((task[0], deaths))
        return None

    def _look(self) -> list[Outcome]:
        """Read how far the actors are; one that gets no further is made anew, and its task fails."""
        requests = {seat.actor.progress.remote(): seat for seat in self._seats if seat.task is not None}
        if not requests:
            if self._clock() - self._ready_s > START_S:
                raise EngineError(f"no actor of Ray was ready in {START_S:g} s: the cluster has no free room")
            return []
        answered, _ = self._ray.wait(list(requests), num_returns=len(requests), timeout=1.0)
        for future in answered:
            seat, beats = requests[future], requests[future].beats
            with suppress(self._ray.exceptions.RayError):  # it is dead, which `outcomes` finds
                seat.amount, seat.beats = self._ray.get(future)
            seat.last_s = self._clock() if seat.beats > beats else seat.last_s
        return [self._stalled(seat) for seat in requests.values() if self._clock() - seat.last_s > self._stall_s]

    def _stalled(self, seat: _Seat) -> Outcome:
        assert seat.task is not None
        task, _ = seat.task
        self._start(seat)
        reason = f"no sign of life for {self._stall_s:g} s: the decoder or the engine hangs"
        return Outcome(task, None, reason, seat.number)
