"""Time model files turn by turn in one run, and compare them with confidence intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter, sleep
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Planes
from yowo_deploy.backends.base import Backend, Streaming
from yowo_deploy.errors import InputError
from yowo_deploy.spec import MAX_CLIP, ModelSpec

PERCENTILES = (50, 90, 95, 99, 100)
LEAST_ROUNDS = 5
REPORT_EVERY_S = 0.5  # a progress bar that is drawn more often would be measured as well
# Before a call that counts, where another model was called last. ONNX Runtime's threads go on spinning after a call:
# on two cores OpenVINO took 75 ms right after one, 62 ms 30 ms later, 52 ms 60 ms later, and 45 ms after itself.
LEAD_S = 0.06
# Quantiles of Student's t for a 95 % interval, by the number of groups.
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776, 6: 2.571, 7: 2.447, 8: 2.365, 9: 2.306, 10: 2.262}


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one thing.

    Attributes:
        name: of what was measured.
        seconds: (N,) one value a call, in the order of the calls.
        batch: clips a call.
    """

    name: str
    seconds: NDArray[np.float64]
    batch: int

    def percentile_ms(self, percent: float) -> float:
        """Latency of a call in milliseconds that so many percent of calls do not exceed."""
        return float(np.percentile(self.seconds, percent) * 1000)

    @property
    def clips_per_s(self) -> float:
        """Throughput: clips over the time spent on them, the slow calls included."""
        return self.batch * len(self.seconds) / float(self.seconds.sum())


def bench_models(
    models: Sequence[Backend],
    seconds: float = 10.0,
    warmup: int = 3,
    batch: int = 1,
    on_round: Callable[[float], None] | None = None,
) -> list[Timing]:
    """Latency of each model on clips of noise, see `bench_calls`.

    Args:
        warmup: calls of each model that do not count.
        batch: clips a call.

    Raises:
        InputError: nothing to measure.
    """
    if not models or seconds <= 0 or batch < 1 or warmup < 0:
        raise InputError(f"cannot measure {len(models)} models for {seconds} s with batch {batch} and warm-up {warmup}")
    table = bench_calls([model_call(model, batch) for model in models], seconds, warmup, on_round)
    return [Timing(model.name, column, batch) for model, column in zip(models, table.T, strict=True)]


def model_call(model: Backend, batch: int = 1) -> Callable[[], Any]:
    """A call of a model on `batch` clips of noise, the same each time; of one that takes a video frame by frame, on a
    frame of noise, for that is how it is used.

    Raises:
        InputError: the clips take more than 1 GiB, or the model takes another number.
    """
    if batch > (room := max(1, MAX_CLIP // math.prod(model.spec.clip_shape))):
        raise InputError(f"a batch of {batch} clips, expected 1 to {room} for clips of {model.spec.clip_length} frames")
    least, most = model.batch
    if batch < least or batch > (most or batch):
        takes = least if least == most else f"{least} to {most}"
        raise InputError(f"{model.name} takes {takes} clips a call of this model, not {batch}: give --batch {least}")
    if isinstance(model, Streaming) and batch == 1:
        return partial(model.open_stream().push, _noise((3, *model.spec.clip_shape[2:]), model.spec))
    return partial(model.infer, _noise((batch, *model.spec.clip_shape), model.spec))


def _noise(shape: tuple[int, ...], spec: ModelSpec) -> Planes:
    rng = np.random.default_rng(0)
    return (
        rng.integers(0, 256, shape, np.uint8) if spec.input_type == "uint8" else rng.standard_normal(shape, np.float32)
    )


def bench_calls(
    calls: Sequence[Callable[[], Any]],
    seconds: float,
    warmup: int = 3,
    on_round: Callable[[float], None] | None = None,
    clock: Callable[[], float] | None = None,
) -> NDArray[np.float64]:
    """Seconds of each call, every call once a round, so that noise affects all of them alike.

    The order within a round is random, and the next round runs it in reverse: position and predecessor are then
    balanced over all calls. Among several, each has a lead of `LEAD_S` that does not count: the same call
    where it is that short, which warms the caches again, else a pause. A call alone is repeated without a break.

    Args:
        seconds: to measure for, warm-up left out; at least `LEAST_ROUNDS` rounds are made.
        on_round: called between rounds, and after the last, with the share of the time that is over.
        clock: what a call is timed by; `time.process_time` counts the work of all threads and no waiting.

    Returns:
        (rounds, calls).
    """
    rng = np.random.default_rng(0)
    usual = [min([_timed(call, perf_counter) for _ in range(warmup)], default=LEAD_S) for call in calls]
    rounds: list[NDArray[np.float64]] = []
    order: list[int] = []
    start = reported = perf_counter()
    while perf_counter() - start < seconds or len(rounds) < LEAST_ROUNDS:
        order = order[::-1] if len(rounds) % 2 else rng.permutation(len(calls)).tolist()
        row = np.empty(len(calls))
        for index in order:
            if len(calls) > 1:
                _lead(calls[index], usual[index])
            row[index] = _timed(calls[index], clock or perf_counter)
        rounds.append(row)
        if on_round and perf_counter() - reported > REPORT_EVERY_S:
            reported = perf_counter()
            on_round(min(1.0, (reported - start) / seconds))
    if on_round:
        on_round(1.0)
    return np.array(rounds)


def ratio_interval(slow: Timing, fast: Timing) -> tuple[float, float, float]:
    """How many times faster `fast` was in the same rounds: the ratio and its 95 % interval.

    The logarithms of the ratios of the rounds are cut into at most ten groups of neighbours; the mean of the groups'
    medians is the answer, and Student's t over the groups its interval. Noise that lasts over several rounds stays
    within a group, where bootstrapping single rounds would take it for many independent findings; a spike does not move
    a median; and few rounds give a wide interval, not a lucky one.
    """
    return median_interval(slow.seconds / fast.seconds)


def median_interval(values: NDArray[np.float64]) -> tuple[float, float, float]:
    """Of positive values in the order they came: their middle and its 95 % interval, as `ratio_interval` says."""
    groups = np.array_split(np.log(values), min(max(_STUDENT), len(values)))
    medians = np.array([np.median(group) for group in groups])
    half = _STUDENT[len(medians)] * medians.std(ddof=1) / np.sqrt(len(medians)) if len(medians) > 1 else np.inf
    low, middle, high = np.exp([medians.mean() - half, medians.mean(), medians.mean() + half])
    return float(middle), float(low), float(high)


def _lead(call: Callable[[], Any], usual: float) -> None:
    """Let `LEAD_S` pass with calls, or without where one takes longer than that."""
    end = perf_counter() + LEAD_S
    if usual >= LEAD_S:
        sleep(LEAD_S)
    while usual < LEAD_S and perf_counter() < end:
        call()


def _timed(call: Callable[[], Any], clock: Callable[[], float]) -> float:
    start = clock()
    call()
    return clock() - start
