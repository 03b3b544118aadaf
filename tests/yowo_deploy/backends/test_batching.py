"""An engine that many ask: everyone gets his own answer, his own error, and his turn."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.waiting import NEVER_S, wait_until
from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import Engine
from yowo_deploy.backends.batching import SharedBackend
from yowo_deploy.errors import EngineError, InputError, ModelFileError
from yowo_deploy.spec import ModelSpec

Backends = Callable[[ModelSpec], Any]  # the factory of conftest.py


class Gated(Engine):
    """Answers with each clip's first number, when it is let; a call with a 13 in it fails."""

    name = "gated"

    def __init__(self, spec: ModelSpec, parallel: int = 1, batch: tuple[int, int | None] = (1, None)) -> None:
        self.spec, self.parallel, self.batch = spec, parallel, batch
        self.gate, self.entered = threading.Semaphore(0), threading.Semaphore(0)
        self.calls: list[list[int]] = []
        self.times_closed = 0

    def infer(self, clips: NDArray[np.float32]) -> Float:
        numbers = clips[:, 0, 0, 0, 0]
        self.calls.append([int(number) for number in numbers])
        self.entered.release()
        self.gate.acquire()
        if 13 in numbers:
            raise ModelFileError("thirteen")
        return numbers.reshape(-1, 1, 1, 1).copy()

    def close(self) -> None:
        self.times_closed += 1


def clip(spec: ModelSpec, number: int) -> NDArray[np.float32]:
    return np.full((1, *spec.clip_shape), number, np.float32)


class Asking:
    """Threads that ask, one for each number, in a known order."""

    def __init__(self, shared: SharedBackend, engine: Gated) -> None:
        self._shared, self._engine, self._threads = shared, engine, ThreadPoolExecutor(32)

    def __call__(self, *numbers: int) -> list[Future[Float]]:
        futures = []
        for number in numbers:
            before = self._came()
            futures.append(self._threads.submit(self._shared.infer, clip(self._shared.spec, number)))
            wait_until(lambda before=before: self._came() > before)
        return futures

    def _came(self) -> int:
        return len(self._shared._waiting) + sum(map(len, self._engine.calls))


def answers(futures: list[Future[Float]]) -> list[int]:
    return [int(future.result().item()) for future in futures]


def test_what_gathers_while_the_engine_is_busy_goes_in_one_call(spec: ModelSpec) -> None:
    engine = Gated(spec)
    with SharedBackend(engine) as shared:
        asking = Asking(shared, engine)
        first = asking(1)
        engine.entered.acquire()
        others = asking(2, 3, 4)
        engine.gate.release(2)
        assert answers(first + others) == [1, 2, 3, 4]
    assert engine.calls == [[1], [2, 3, 4]]
    assert shared.calls == {1: 1, 3: 1} and engine.times_closed == 1


def test_no_call_is_larger_than_allowed_and_first_come_is_first_served(spec: ModelSpec) -> None:
    engine = Gated(spec)
    with SharedBackend(engine, max_batch=2) as shared:
        asking = Asking(shared, engine)
        futures = asking(1)
        engine.entered.acquire()
        futures += asking(2, 3, 4, 5, 6)
        engine.gate.release(4)
        assert answers(futures) == [1, 2, 3, 4, 5, 6]
    assert engine.calls == [[1], [2, 3], [4, 5], [6]]


def test_free_workers_share_what_waits(spec: ModelSpec) -> None:
    engine = Gated(spec, parallel=2)
    with SharedBackend(engine, max_wait_ms=1000 * NEVER_S) as shared:
        asking = Asking(shared, engine)
        futures = asking(1)  # at once, though company could come: another worker is free for that
        engine.entered.acquire()
        futures += asking(2)
        engine.entered.acquire()  # nobody else is expected
        futures += asking(3, 4, 5)
        engine.gate.release(9)
        assert answers(futures) == [1, 2, 3, 4, 5]
    assert engine.calls[:2] == [[1], [2]]


@pytest.mark.parametrize("max_wait_ms", [0.0, 1000 * NEVER_S])
def test_the_last_free_worker_waits_for_who_is_expected_and_no_longer(
    spec: ModelSpec, max_wait_ms: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, looked = Gated(spec), threading.Semaphore(0)
    engine.gate.release(9)
    with SharedBackend(engine, max_wait_ms) as shared:
        for _ in range(3):
            shared.join()
        patience_s = shared._patience_s

        def looks() -> float:
            if len(shared._waiting) == 2 or engine.calls:
                looked.release()
            return patience_s()

        monkeypatch.setattr(shared, "_patience_s", looks)
        threads = ThreadPoolExecutor(3)
        futures = [threads.submit(shared.infer, clip(spec, 1))]
        if max_wait_ms == 0:
            assert answers(futures) == [1]
            return
        futures.append(threads.submit(shared.infer, clip(spec, 2)))
        looked.acquire()
        with shared._changed:  # which the worker gives back when it has begun, or waits on
            assert len(shared._waiting) == 2
        shared.leave()  # the third will not come
        assert sorted(answers(futures)) == [1, 2]
    assert [len(call) for call in engine.calls] == [2]


def test_a_clip_waits_for_company_only_so_long(spec: ModelSpec) -> None:
    engine = Gated(spec)
    engine.gate.release(1)
    with SharedBackend(engine, max_wait_ms=20) as shared:
        shared.join()
        shared.join()
        assert shared.infer(clip(spec, 7)).item() == 7  # returns at all: the second never comes
        assert shared.held_ms[0] >= 20


def test_an_error_is_its_causes_alone(spec: ModelSpec) -> None:
    engine = Gated(spec)
    with SharedBackend(engine) as shared:
        asking = Asking(shared, engine)
        first = asking(1)
        engine.entered.acquire()
        good, bad, fine = asking(2, 13, 4)
        engine.gate.release(9)
        assert answers([*first, good, fine]) == [1, 2, 4]
        with pytest.raises(ModelFileError, match="thirteen"):
            bad.result()
        assert shared.infer(clip(spec, 5)).item() == 5
    assert engine.calls == [[1], [2, 13, 4], [2], [13], [4], [5]]


def test_a_clip_of_another_shape_is_refused_before_it_reaches_others(spec: ModelSpec) -> None:
    engine = Gated(spec)
    with SharedBackend(engine) as shared, pytest.raises(InputError, match="clips have shape"):
        shared.infer(np.zeros((1, 3, 1, 1, 1), np.float32))
    assert engine.calls == []


def test_closing_refuses_who_waits_and_lets_who_is_served_end(spec: ModelSpec) -> None:
    engine = Gated(spec)
    shared = SharedBackend(engine)
    asking = Asking(shared, engine)
    served = asking(1)
    engine.entered.acquire()
    waiting = asking(2)
    closing = threading.Thread(target=shared.close)
    closing.start()
    with pytest.raises(EngineError, match="closed before it could answer"):
        waiting[0].result()
    engine.gate.release()
    assert answers(served) == [1]
    closing.join()
    assert engine.times_closed == 1 and engine.calls == [[1]]
    with pytest.raises(EngineError, match="is closed"):
        shared.infer(clip(spec, 3))


@pytest.mark.parametrize(
    ("batch", "max_batch", "max_wait_ms", "error", "expected"),
    [
        ((4, 4), None, 0, ModelFileError, "takes at least 4 clips a call.*without --batch"),
        ((1, 1), 2, 0, InputError, "max_batch is 2, expected 1 to 1, or"),
        ((1, 16), 17, 0, InputError, "max_batch is 17, expected 1 to 16"),
        ((1, None), 0, 0, InputError, "max_batch is 0, expected 1 to any number"),
        ((1, None), None, -1, InputError, "max_wait_ms is -1"),
        ((1, None), None, float("nan"), InputError, "max_wait_ms is nan"),
    ],
)
def test_limits_are_checked(
    batch: tuple[int, int | None],
    max_batch: int | None,
    max_wait_ms: float,
    error: type[Exception],
    expected: str,
    spec: ModelSpec,
) -> None:
    with pytest.raises(error, match=expected):
        SharedBackend(Gated(spec, batch=batch), max_wait_ms, max_batch)


@pytest.mark.parametrize(("batch", "largest"), [((1, 1), 1), ((1, 3), 3), ((1, None), 8)])
def test_what_the_model_takes_limits_a_call(batch: tuple[int, int | None], largest: int, spec: ModelSpec) -> None:
    engine = Gated(spec, batch=batch)
    with SharedBackend(engine) as shared:
        asking = Asking(shared, engine)
        futures = asking(0)
        engine.entered.acquire()
        futures += asking(*range(1, 10))
        engine.gate.release(99)
        assert answers(futures) == list(range(10))
    assert max(map(len, engine.calls)) == largest


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=5), st.integers(1, 3), st.integers(1, 4), st.sampled_from([0, 3])
)
def test_whoever_shares_gets_what_he_would_get_alone(
    spec: ModelSpec, numpy_backend: Backends, asks: list[int], parallel: int, max_batch: int, max_wait_ms: float
) -> None:
    alone, together = numpy_backend(spec), numpy_backend(spec)
    together.parallel = parallel
    rng = np.random.default_rng(sum(asks))
    clips = [rng.standard_normal((count, 1, *spec.clip_shape)).astype(np.float32) for count in asks]
    with SharedBackend(together, max_wait_ms, max_batch) as shared, ThreadPoolExecutor(len(asks)) as threads:
        found = list(threads.map(lambda own: [shared.infer(each) for each in own], clips))
    for own, answered in zip(clips, found, strict=True):
        for each, answer in zip(own, answered, strict=True):
            np.testing.assert_array_equal(answer, alone.infer(each))
    assert sum(size * count for size, count in shared.calls.items()) == sum(asks)
    assert max(together.batches) <= max_batch
