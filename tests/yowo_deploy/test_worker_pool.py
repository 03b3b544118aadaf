"""Workers that die, hang and fail cost their task at most, and the others go on."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event
from typing import Any

import pytest

from yowo_deploy.errors import InputError
from yowo_deploy.worker_pool import BEAT_S, LIVES, Beat, Outcome, ProcessPool, Pulse


class Sums:
    """A worker that adds one; or dies, hangs or fails, as its task says."""

    greeting = "hello"

    def do(self, task: Any, beat: Beat) -> Any:
        kind, *given = task if isinstance(task, tuple) else ("add", task)
        if kind == "die" or (kind == "die once" and not Path(given[0]).exists()):
            if given:
                Path(given[0]).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        if kind == "hang":
            Path(given[0]).touch()
            Event().wait()
        if kind == "fork":  # as multiprocessing does, which closes stdin in the new process
            if (child := os.fork()) == 0:
                sys.stdin.close()
                os._exit(0)
            return os.waitpid(child, 0)[1]
        if kind == "fail":
            raise InputError("this one fails")
        if kind == "bug":
            raise LookupError("a bug")
        if kind == "full":
            raise OSError(28, "No space left on device", "out.npz")
        return given[0] + 1 if kind == "add" else "alive"


def make() -> Sums:
    return Sums()


def cannot_make() -> Sums:
    raise InputError("no such model")


@contextmanager
def pool(workers: int, **options: Any) -> Iterator[ProcessPool]:
    made = ProcessPool(make, workers, options.pop("stall_s", 1e9), **options)
    try:
        yield made
    finally:
        made.close()


def run(workers: ProcessPool, tasks: list[Any]) -> list[Outcome]:
    found: list[Outcome] = []
    while tasks or workers.busy():
        while tasks and workers.idle():
            workers.submit(tasks.pop(0))
        found += workers.outcomes(1.0)
    return found


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The workers import this file."""
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    for function in (make, cannot_make):
        monkeypatch.setattr(function, "__module__", Path(__file__).stem)
    import sys

    monkeypatch.setitem(sys.modules, Path(__file__).stem, sys.modules[Sums.__module__])


def test_what_dies_fails_or_is_a_bug_costs_its_task_alone(tmp_path: Path) -> None:
    once = ("die once", str(tmp_path / "once"))
    with pool(2) as workers:
        assert workers.greeting == "hello"
        found = run(workers, [1, ("die",), 2, ("fail",), ("bug",), ("full",), once, 3])
    values = {each.task: (each.value, each.reason) for each in found}
    assert len(found) == 8 and {task: values[task][0] for task in (1, 2, 3)} == {1: 2, 2: 3, 3: 4}
    assert values[once] == ("alive", "")
    assert values["die",][1] == f"{LIVES} workers died of it: Killed"
    assert values["fail",][1] == "this one fails"
    assert values["bug",][1] == "unexpected error: LookupError: a bug"
    assert values["full",][1] == "out.npz: No space left on device"


def test_what_hangs_is_ended_and_its_worker_goes_on(tmp_path: Path) -> None:
    """By the clock of the test, which stands still until the worker hangs."""
    begun = tmp_path / "begun"
    with pool(1, stall_s=60.0, clock=lambda: 100.0 if begun.exists() else 0.0) as workers:
        [hung] = run(workers, [("hang", str(begun))])
        begun.unlink()
        assert "no sign of life for 60 s" in hung.reason
        assert [each.value for each in run(workers, [1])] == [2]


def test_a_worker_that_cannot_be_made_is_the_error_of_all() -> None:
    with pytest.raises(InputError, match="no such model"):
        ProcessPool(cannot_make, 2, 60.0)


def test_work_is_told_now_and_then_and_none_of_it_lost() -> None:
    told: list[tuple[str, float]] = []
    now = [0.0]
    pulse = Pulse(told.append, lambda: now[0])
    for _ in range(7):
        now[0] += BEAT_S / 2
        pulse(1.0)
    assert told == [("beat", 2.0)] * 3


def test_a_process_that_is_forked_in_a_worker_ends() -> None:
    """It would wait for ever for the lock of stdin if the worker read from it by Python's stream."""
    with pool(1) as workers:
        assert run(workers, [("fork",)]) == [Outcome(("fork",), 0, "", 0)]
