"""Workers as actors of Ray, on this machine or on those of a cluster."""

from __future__ import annotations

import importlib
import logging
import os
from collections.abc import Callable
from importlib.util import find_spec
from time import monotonic
from typing import Any

from yowo_deploy.closing import Closing
from yowo_deploy.errors import EngineError, MissingExtraError, YowoError, foreign
from yowo_deploy.worker_pool import LIVES, Outcome, Pool, Pulse, Worker, attempt

LOCAL = "local"
LOOK_S = 5.0  # between two questions for signs of life


def open_ray(
    make: Callable[[], Worker], workers: int | None, address: str, stall_s: float, threads: int | None, gpu: bool
) -> Pool:
    """Actors of a cluster as a pool.

    Args:
        workers: how many; by default as many as the cluster has room for.
        address: "auto", "local" for a cluster of this machine's own, or an address as `ray.init` takes it.
        threads: processors that each gets; 2 by default.
        gpu: whether each gets a GPU.

    Raises:
        MissingExtraError: Ray is not installed.
        EngineError: there is no such cluster, or it has no room.
        YowoError: what `make` raises.
    """
    if find_spec("ray") is None:
        raise MissingExtraError("Ray", "ray")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a cluster of its own would report itself over the network
    ray: Any = importlib.import_module("ray")
    own = not ray.is_initialized()
    with foreign(f"Ray at {address} cannot be reached", EngineError):
        if own:
            where = {"include_dashboard": False} if address == LOCAL else {"address": address}
            ray.init(**where, log_to_driver=False, logging_level=logging.ERROR)
        processors = threads or 2
        fit = int(ray.cluster_resources().get("GPU" if gpu else "CPU", 0) // (1 if gpu else processors))
    workers = workers or fit
    if not 1 <= workers <= max(fit, 1):
        raise EngineError(f"the Ray cluster has room for {fit} workers of {processors} processors, not for {workers}")
    processors = min(processors, int(ray.cluster_resources().get("CPU", 1)))
    needs = {"num_cpus": processors, "num_gpus": int(gpu)}
    return RayPool(ray, make, workers, stall_s, needs, own)


class _Actor:
    """The class behind the actors: a worker, and how far it is, which may be asked for while it works."""

    def __init__(self, make: Callable[[], Worker]) -> None:
        self._worker, self._amount, self._pulse = make(), 0.0, Pulse(self._beat)

    def greeting(self) -> Any:
        """Of the worker."""
        return self._worker.greeting

    def do(self, task: Any) -> tuple[Any, str]:
        """See `attempt`: an exception would not be tried again by Ray, and is none here."""
        return attempt(self._worker, task, self._pulse)

    def amount(self) -> float:
        """Of work so far."""
        return self._amount

    def _beat(self, message: tuple[str, float]) -> None:
        self._amount += message[1]


class RayPool(Closing):
    """A `Pool` of actors. One whose node or process dies is made anew, and its task is done again."""

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
        self._ray, self._make, self._stall_s, self._own, self._clock = ray, make, stall_s, own, clock
        self._kind = ray.remote(**needs, max_restarts=0, max_task_retries=0, max_concurrency=2)(_Actor)
        self._before = dict.fromkeys(range(workers), 0.0)  # amounts of actors that are gone
        self._amounts = dict.fromkeys(range(workers), 0.0)
        self._actors = {number: self._kind.remote(make) for number in range(workers)}
        self._tasks: dict[int, tuple[Any, Any, int]] = {}  # worker -> task, what will be its outcome, actors that died
        self._last_s = dict.fromkeys(range(workers), 0.0)
        self._asked_s = clock()
        self.greeting, *_ = [self._welcome(number) for number in self._actors]

    @property
    def done(self) -> dict[int, float]:
        """See `Pool`."""
        return {number: before + self._amounts[number] for number, before in self._before.items()}

    def idle(self) -> int:
        """See `Pool`."""
        return len(self._actors) - len(self._tasks)

    def busy(self) -> int:
        """See `Pool`."""
        return len(self._tasks)

    def submit(self, task: Any) -> None:
        """See `Pool`."""
        self._send(next(number for number in self._actors if number not in self._tasks), task, 0)

    def outcomes(self, timeout_s: float) -> list[Outcome]:
        """See `Pool`."""
        waited = {future: number for number, (_, future, _) in self._tasks.items()}
        ready, _ = self._ray.wait(list(waited), num_returns=1, timeout=timeout_s) if waited else ([], [])
        found = [self._outcome(waited[future], future) for future in ready]
        if self._clock() - self._asked_s > min(LOOK_S, self._stall_s / 4):
            self._asked_s = self._clock()
            found += [self._look(number) for number in list(self._tasks)]
        return [outcome for outcome in found if outcome is not None]

    def close(self) -> None:
        """See `Pool`; a cluster that was started here ends."""
        for actor in self._actors.values():
            self._ray.kill(actor)
        if self._own:
            self._ray.shutdown()

    def _send(self, number: int, task: Any, deaths: int) -> None:
        self._last_s[number] = self._clock()
        self._tasks[number] = task, self._actors[number].do.remote(task), deaths

    def _outcome(self, number: int, future: Any) -> Outcome | None:
        task, _, deaths = self._tasks.pop(number)
        try:
            value, reason = self._ray.get(future)
        except self._ray.exceptions.RayError as error:
            self._replace(number)
            if deaths + 1 >= LIVES:
                return Outcome(task, None, f"{deaths + 1} actors died of it: {type(error).__name__}", number)
            self._send(number, task, deaths + 1)
            return None
        return Outcome(task, value, reason, number)

    def _look(self, number: int) -> Outcome | None:
        """Ask a worker how far it is; one that gets no further is made anew, and its task fails."""
        try:
            amount = self._ray.get(self._actors[number].amount.remote(), timeout=1.0)
        except self._ray.exceptions.RayError:  # it is dead, which `outcomes` finds, or cannot answer
            amount = self._amounts[number]
        if amount > self._amounts[number]:
            self._amounts[number], self._last_s[number] = amount, self._clock()
        if self._clock() - self._last_s[number] <= self._stall_s:
            return None
        task, _, _ = self._tasks.pop(number)
        self._ray.kill(self._actors[number])
        self._replace(number)
        reason = f"no sign of life for {self._stall_s:g} s: the decoder or the engine hangs"
        return Outcome(task, None, reason, number)

    def _replace(self, number: int) -> None:
        self._before[number] += self._amounts[number]
        self._amounts[number] = 0.0
        self._actors[number] = self._kind.remote(self._make)
        self._welcome(number)

    def _welcome(self, number: int) -> Any:
        """The greeting of an actor; waits until it is ready.

        Raises:
            YowoError: it cannot be made.
        """
        try:
            return self._ray.get(self._actors[number].greeting.remote())
        except self._ray.exceptions.RayError as error:
            cause = getattr(error, "cause", None) or error
            if isinstance(cause, YowoError):
                raise cause from error
            with foreign("a worker cannot be made", EngineError):
                raise
