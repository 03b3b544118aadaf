"""How fast model files are. Every model is measured in the same run, turn by turn, because machines are noisy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.backends.base import Backend
from yowo_deploy.decode import detect
from yowo_deploy.errors import InputError
from yowo_deploy.preprocess import preprocess
from yowo_deploy.spec import ModelSpec


@dataclass(frozen=True)
class Timing:
    """Repeated measurements of one thing.

    Attributes:
        name: of what was measured.
        seconds: (N,) one value a call.
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
        """Throughput at the median latency."""
        return self.batch / float(np.median(self.seconds))


def bench_models(
    models: Sequence[Backend],
    seconds: float = 10.0,
    warmup: int = 3,
    batch: int = 1,
    on_round: Callable[[float], None] | None = None,
) -> list[Timing]:
    """Latency of each model, one call of every model a round, so that noise meets all of them alike.

    Args:
        seconds: to measure for, warm-up left out; at least five rounds are made.
        batch: clips a call.
        on_round: called after each round with the share of the time that is over.

    Raises:
        InputError: nothing to measure.
    """
    if not models or seconds <= 0 or batch < 1 or warmup < 0:
        raise InputError(f"cannot measure {len(models)} models for {seconds} s with batch {batch} and warm-up {warmup}")
    rng = np.random.default_rng(0)
    clips = [rng.standard_normal((batch, *model.spec.clip_shape), np.float32) for model in models]
    for model, clip in zip(models, clips, strict=True):
        for _ in range(warmup):
            model.infer(clip)
    rounds: list[list[float]] = []
    start = perf_counter()
    while perf_counter() - start < seconds or len(rounds) < 5:
        rounds.append([_timed(partial(model.infer, clip)) for model, clip in zip(models, clips, strict=True)])
        if on_round:
            on_round(min(1.0, (perf_counter() - start) / seconds))
    table = np.array(rounds)
    return [Timing(model.name, table[:, index], batch) for index, model in enumerate(models)]


def ratio_interval(slow: Timing, fast: Timing, seed: int = 0) -> tuple[float, float, float]:
    """How many times faster `fast` was in the same rounds: median ratio and its 95 % interval, by bootstrap."""
    ratios = slow.seconds / fast.seconds
    picks = np.random.default_rng(seed).integers(0, len(ratios), (2000, len(ratios)))
    low, high = np.percentile(np.median(ratios[picks], axis=1), [2.5, 97.5])
    return float(np.median(ratios)), float(low), float(high)


def bench_stages(model: Backend, frame_size: tuple[int, int] = (320, 240), repeats: int = 50) -> list[Timing]:
    """Time of what stands around the engine, for frames of a size: preprocessing, and decoding with suppression.

    Args:
        frame_size: (width, height) in pixels.
    """
    spec: ModelSpec = model.spec
    rng = np.random.default_rng(0)
    frame = rng.integers(0, 256, (frame_size[1], frame_size[0], 3), np.uint8)
    raw = model.infer(rng.standard_normal((1, *spec.clip_shape), np.float32))[0]
    stages: dict[str, Callable[[], Any]] = {
        "preprocess": lambda: preprocess(frame, spec),
        "decode + NMS": lambda: detect(raw, spec, frame_size, spec.evaluation_threshold),
    }
    for stage in stages.values():
        stage()
    return [Timing(name, np.array([_timed(stage) for _ in range(repeats)]), 1) for name, stage in stages.items()]


def _timed(call: Callable[[], Any]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start
