"""Measuring: every model in every round, and figures that follow from the seconds measured."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter
from typing import Any

import numpy as np
import pytest

from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import Engine
from yowo_deploy.benchmark import timing as timing_module
from yowo_deploy.benchmark.timing import Timing, bench_calls, bench_models, model_call, ratio_interval
from yowo_deploy.errors import InputError
from yowo_deploy.spec import ModelSpec

Backends = Callable[[ModelSpec], Any]  # the factory of conftest.py


class Clock:
    """Time that passes when somebody works or sleeps, and by `TICK` when it is read."""

    TICK = 1e-3

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += self.TICK
        return self.now

    def pass_s(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """What `bench` takes the time from."""
    clock = Clock()
    monkeypatch.setattr(timing_module, "perf_counter", clock)
    monkeypatch.setattr(timing_module, "sleep", clock.pass_s)
    return clock


class Busy(Engine):
    """Takes so many seconds of a clock for every call."""

    name = "busy"

    def __init__(self, spec: ModelSpec, clock: Clock, seconds: float = 0.003) -> None:
        self.spec, self.seconds, self._clock = spec, seconds, clock

    def infer(self, clips: Float) -> Float:
        self._clock.pass_s(self.seconds)
        return np.zeros((len(clips), self.spec.output_channels, *self.spec.grid_size[::-1]), np.float32)


class World:
    """A shared machine made up: work takes longer while neighbours are busy, which lasts, drifts and spikes."""

    def __init__(self, seed: int, lasting: float, load: float = 0.2, drift: float = 0.0, spikes: float = 0.0) -> None:
        self.now, self._busy, self._calls = 0.0, 0.0, 0
        self._lasting, self._load, self._drift, self._spikes = lasting, load, drift, spikes
        self._rng = np.random.default_rng(seed)

    def work(self, seconds: float) -> Callable[[], None]:
        def call() -> None:
            self._calls += 1
            new = self._rng.standard_normal() * np.sqrt(1 - self._lasting**2)
            self._busy = self._lasting * self._busy + new
            slow = self._load * self._busy + self._drift * self._calls / 100 + 0.03 * self._rng.standard_normal()
            spike = 1 + 4 * self._rng.random() if self._rng.random() < self._spikes else 1
            self.now += seconds * float(np.exp(slow)) * spike

        return call

    def sleep(self, seconds: float) -> None:
        self.now += seconds

    def measure(self, monkeypatch: pytest.MonkeyPatch, *seconds: float, length: float = 10.0) -> list[Timing]:
        with monkeypatch.context() as patch:
            patch.setattr(timing_module, "perf_counter", lambda: self.now)
            patch.setattr(timing_module, "sleep", self.sleep)
            table = bench_calls([self.work(each) for each in seconds], length)
        return [Timing("made up", column, 1) for column in table.T]


def timing(*seconds: float, batch: int = 1) -> Timing:
    return Timing("one", np.array(seconds), batch)


def test_percentiles_are_in_milliseconds_and_throughput_counts_clips() -> None:
    measured = timing(0.001, 0.002, 0.003, 0.004, 0.101, batch=6)
    assert measured.percentile_ms(0) == pytest.approx(1)
    assert measured.percentile_ms(50) == pytest.approx(3)
    assert measured.percentile_ms(100) == pytest.approx(101)
    assert measured.clips_per_s == pytest.approx(5 * 6 / 0.111)  # the slow call took its time as well


def test_every_model_counts_once_a_round(spec: ModelSpec, numpy_backend: Backends, clock: Clock) -> None:
    models = [numpy_backend(spec), numpy_backend(spec.replace(clip_length=2))]
    timings = bench_models(models, seconds=0.05, warmup=2, batch=4)
    rounds = {len(each.seconds) for each in timings}
    assert len(rounds) == 1
    assert min(rounds) >= 5
    for model, measured in zip(models, timings, strict=True):
        assert set(model.batches) == {4} and len(model.batches) > 2 + len(measured.seconds)  # with those of the lead
        assert (measured.name, measured.batch) == ("numpy", 4)
        assert np.all(measured.seconds > 0)


def test_a_model_alone_is_called_without_a_lead(spec: ModelSpec, numpy_backend: Backends, clock: Clock) -> None:
    model = numpy_backend(spec)
    [measured] = bench_models([model], seconds=0.05, warmup=2, batch=4)
    assert model.batches == [4] * (2 + len(measured.seconds))


@pytest.mark.parametrize(("seconds", "before"), [(0.01, 6), (0.5, 0)])
def test_the_lead_is_calls_that_do_not_count_or_a_pause(
    seconds: float, before: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world, paused = World(0, 0.0, load=0.0), list[float]()
    monkeypatch.setattr(world, "sleep", lambda length: paused.append(length))
    [first, _] = world.measure(monkeypatch, seconds, seconds, length=1e-9)
    assert len(first.seconds) == 5
    calls = world._calls - 2 * 3  # without the warm-up
    assert calls / 10 - 1 == pytest.approx(before, abs=1)  # work varies by 3 %
    assert paused == ([timing_module.LEAD_S] * 10 if seconds > timing_module.LEAD_S else [])


def test_two_rounds_in_a_row_go_opposite_ways_and_the_first_is_drawn(clock: Clock) -> None:
    order: list[int] = []

    def record(number: int) -> Callable[[], None]:
        def call() -> None:
            order.append(number)
            clock.pass_s(timing_module.LEAD_S)  # too long for a lead of calls

        return call

    table = bench_calls([record(number) for number in range(3)], 9.0, warmup=1)
    rounds = np.array(order[3:]).reshape(len(table), 3)
    assert all(list(first) == list(second)[::-1] for first, second in zip(rounds[::2], rounds[1::2], strict=False))
    assert len({tuple(row) for row in rounds[::2]}) > 1


def test_at_least_five_rounds_are_made_and_progress_ends_at_one(
    spec: ModelSpec, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    shares: list[float] = []
    [measured] = bench_models([Busy(spec, clock)], seconds=1e-9, warmup=0, on_round=shares.append)
    assert len(measured.seconds) == 5 and shares == [1.0]
    shares.clear()
    bench_models([Busy(spec, clock)], seconds=0.05, on_round=shares.append)
    assert shares == [1.0]  # a bar drawn after every call would be measured as well
    monkeypatch.setattr(timing_module, "REPORT_EVERY_S", 0.01)
    bench_models([Busy(spec, clock)], seconds=0.1, on_round=shares.append)
    assert len(shares) > 3 and shares[1:] == sorted(shares[1:]) and shares[-1] == 1


def test_a_call_takes_longer_than_what_is_in_it_and_all_calls_no_longer_than_all_there_is(
    spec: ModelSpec, numpy_backend: Backends
) -> None:
    """By the real clock, which on a busy machine goes on between any two readings, but never back."""
    model, own = numpy_backend(spec), list[float]()
    infer = model.infer

    def timed(clips: Float) -> Float:
        start = perf_counter()
        raw = infer(clips)
        own.append(perf_counter() - start)
        return raw  # type: ignore[no-any-return]

    model.infer = timed
    start = perf_counter()
    [measured] = bench_models([model], seconds=0.01, warmup=3)
    assert measured.seconds.sum() < perf_counter() - start
    assert np.all(measured.seconds > own[3:])


def test_percentiles_and_throughput_are_those_of_the_outside_stopwatch(monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same noise, call by call."""
    noise = {"lasting": 0.9, "spikes": 0.05}
    [measured] = World(1, **noise).measure(monkeypatch, 0.01)
    world = World(1, **noise)
    call, outside = world.work(0.01), [0.0]
    for _ in range(3 + len(measured.seconds)):  # the warm-up is not counted
        call()
        outside.append(world.now)
    expected = np.diff(outside)[3:]
    assert measured.seconds == pytest.approx(expected)
    assert len(expected) / measured.clips_per_s == pytest.approx(outside[-1] - outside[3])


@pytest.mark.parametrize("lengths", [(0.02,), (0.02, 0.2)], ids=["alone", "two, with leads"])
def test_it_adds_one_reading_of_the_clock_to_a_call_and_nothing_else(
    lengths: tuple[float, ...], spec: ModelSpec, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timing_module, "REPORT_EVERY_S", 0.0)
    models = [Busy(spec, clock, seconds) for seconds in lengths]
    for seconds, measured in zip(
        lengths, bench_models(models, 20.0, on_round=lambda _: clock.pass_s(1.0)), strict=True
    ):
        assert measured.seconds == pytest.approx(seconds + Clock.TICK)
        assert len(measured.seconds) > 10


def test_a_number_of_clips_that_the_model_does_not_take_is_refused_with_one_that_it_takes(
    spec: ModelSpec, numpy_backend: Callable[[ModelSpec], Any]
) -> None:
    model = numpy_backend(spec)
    for limits, batch, takes in (((4, 4), 1, "4"), ((2, 8), 9, "2 to 8"), ((2, 8), 1, "2 to 8")):
        model.batch = limits
        with pytest.raises(
            InputError, match=rf"takes {takes} clips a call of .*, not {batch}: give --batch {limits[0]}"
        ):
            model_call(model, batch)
        model_call(model, limits[1])()


@pytest.mark.parametrize(
    ("models", "options"),
    [(0, {}), (1, {"seconds": 0}), (1, {"seconds": -1}), (1, {"batch": 0}), (1, {"warmup": -1})],
)
def test_what_cannot_be_measured_is_refused(
    models: int, options: dict[str, Any], spec: ModelSpec, numpy_backend: Backends
) -> None:
    with pytest.raises(InputError, match=f"cannot measure {models} models"):
        bench_models([numpy_backend(spec)] * models, **options)


def test_a_constant_ratio_has_no_spread() -> None:
    fast = timing(0.1, 0.2, 0.4, 0.8)
    assert ratio_interval(timing(*(2 * fast.seconds)), fast) == pytest.approx((2, 2, 2))


def test_the_interval_holds_the_ratio_and_shrinks_with_more_rounds() -> None:
    rng = np.random.default_rng(0)
    widths = []
    for rounds in (20, 2000):
        noise = 1 + 0.2 * rng.random(rounds)  # a slow moment of the machine slows both
        fast, slow = timing(*(0.01 * noise)), timing(*(0.03 * noise * (1 + 0.1 * rng.standard_normal(rounds))))
        median, low, high = ratio_interval(slow, fast)
        assert low <= median <= high
        assert low < 3 < high or abs(median - 3) < 0.02  # the true ratio; 95 % of intervals hold it
        widths.append(high - low)
    assert widths[1] < widths[0] / 3  # as the square root of the number of rounds would have it: a tenth


@pytest.mark.parametrize(
    "noise",
    [
        {"lasting": 0.0},
        {"lasting": 0.9},
        {"lasting": 0.99, "drift": 0.3},
        {"lasting": 0.7, "spikes": 0.05, "drift": -0.2},
    ],
    ids=str,
)
@pytest.mark.parametrize("seconds", [0.02, 0.4])  # about 60 rounds and 10
def test_a_model_is_as_fast_as_itself_in_19_of_20_runs_whatever_the_noise(
    noise: dict[str, float], seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = 200
    held = 0
    for seed in range(runs):
        _, low, high = ratio_interval(*World(seed, **noise).measure(monkeypatch, seconds, seconds))
        held += low <= 1 <= high
    # The share of runs is itself a draw: three deviations below 19 of 20, sqrt(0.95 * 0.05 / 200) each.
    assert held / runs >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / runs)


def test_a_model_that_is_slower_is_told_from_one_that_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    told = 0
    for seed in range(40):
        _, low, _ = ratio_interval(*World(seed, 0.9, spikes=0.02).measure(monkeypatch, 0.024, 0.02))
        told += low > 1
    assert told >= 38  # an interval so wide that it always holds 1 would be of no use


def test_a_single_round_tells_nothing() -> None:
    assert ratio_interval(timing(2), timing(1)) == (pytest.approx(2), 0, np.inf)
