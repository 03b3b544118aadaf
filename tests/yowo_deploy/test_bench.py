"""Measuring: every model in every round, and figures that follow from the seconds measured."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from yowo_deploy.bench import Timing, bench_models, bench_stages, ratio_interval
from yowo_deploy.errors import InputError
from yowo_deploy.spec import ModelSpec

Backends = Callable[[ModelSpec], Any]  # the factory of conftest.py


def timing(*seconds: float, batch: int = 1) -> Timing:
    return Timing("one", np.array(seconds), batch)


def test_percentiles_are_in_milliseconds_and_throughput_counts_clips() -> None:
    measured = timing(0.001, 0.002, 0.003, 0.004, 0.101, batch=6)
    assert measured.percentile_ms(0) == pytest.approx(1)
    assert measured.percentile_ms(50) == pytest.approx(3)
    assert measured.percentile_ms(100) == pytest.approx(101)
    assert measured.clips_per_s == pytest.approx(6 / 0.003)


def test_every_model_is_called_once_a_round(spec: ModelSpec, numpy_backend: Backends) -> None:
    models = [numpy_backend(spec), numpy_backend(spec.replace(clip_length=2))]
    timings = bench_models(models, seconds=0.05, warmup=2, batch=4)
    rounds = {len(each.seconds) for each in timings}
    assert len(rounds) == 1
    assert min(rounds) >= 5
    for model, measured in zip(models, timings, strict=True):
        assert model.batches == [4] * (2 + len(measured.seconds))
        assert (measured.name, measured.batch) == ("numpy", 4)
        assert np.all(measured.seconds > 0)
    assert sum(each.seconds.sum() for each in timings) < 60


def test_at_least_five_rounds_are_made_and_progress_ends_at_one(spec: ModelSpec, numpy_backend: Backends) -> None:
    shares: list[float] = []
    [measured] = bench_models([numpy_backend(spec)], seconds=1e-9, warmup=0, on_round=shares.append)
    assert len(measured.seconds) == len(shares) == 5
    assert shares == [1.0] * 5
    shares.clear()
    bench_models([numpy_backend(spec)], seconds=0.05, on_round=shares.append)
    assert 0 < shares[0] < shares[-1] <= 1
    assert shares == sorted(shares)


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


def test_the_stages_around_the_engine_are_measured(spec: ModelSpec, numpy_backend: Backends) -> None:
    stages = bench_stages(numpy_backend(spec), frame_size=(64, 48), repeats=4)
    assert [(stage.name, len(stage.seconds)) for stage in stages] == [("preprocess", 4), ("decode + NMS", 4)]
    assert all(np.all(stage.seconds > 0) for stage in stages)
