"""Four streams through one engine, beside four loops with a detector each: `python -m benchmarks.pool [VIDEO]`.

Both in turn in one run, because machines are shared: the ratio of a round is what counts. First as fast as it goes,
then with frames that arrive as four cameras send them, at a rate that the loops can keep up with.
"""

from __future__ import annotations

import argparse
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import cycle, islice
from queue import SimpleQueue

import numpy as np

from benchmarks.available import why_not
from yowo_deploy.arrays import Frame
from yowo_deploy.backends.loader import ONNX_ENGINES
from yowo_deploy.detector import Detector
from yowo_deploy.stream_pool import StreamPool
from yowo_deploy.video.sources import open_source

STREAMS = 4
FRAMES: list[Frame] = []
# Frames of a stream, and seconds between them; 0 for one whenever it is asked for. The latency of each frame in ms.
Form = Callable[[int, float], list[float]]


def main() -> None:
    """Print one table an engine."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", nargs="?", help="its frames are decoded before; noise by default")
    parser.add_argument("--model", default="default")
    parser.add_argument("--backend", action="append", choices=list(ONNX_ENGINES))
    parser.add_argument("--frames", type=int, default=8, help="of a stream, in a round")
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--max-wait-ms", type=float, action="append")
    parser.add_argument("--max-batch", type=int)
    parser.add_argument("--load", type=float, default=0.6, help="share of what the loops can do, offered by cameras")
    asked = parser.parse_args()
    FRAMES[:] = _frames(asked.video)
    for backend in asked.backend or list(ONNX_ENGINES):
        if reason := why_not(backend):
            print(f"{backend}: {reason}")
            continue
        detectors = [Detector.open(asked.model, backend=backend) for _ in range(STREAMS)]
        limits = asked.max_wait_ms or [0.0, 30.0]
        pools = {ms: Pooled(StreamPool.open(asked.model, ms, asked.max_batch, backend=backend)) for ms in limits}
        forms: dict[str, Form] = {"four loops": partial(loops, detectors)}
        forms |= {f"pool, {ms:g} ms": pool for ms, pool in pools.items()}
        print(f"{backend}: {STREAMS} streams, {asked.rounds} rounds of {asked.frames} frames each, in turn")
        rate = _as_fast_as_it_goes(forms, asked.frames, asked.rounds)
        _at_a_rate(forms, asked.frames, asked.rounds, asked.load * rate / STREAMS)
        for ms, pool in pools.items():
            held = np.array(pool.pool.backend.held_ms)
            calls = dict(sorted(pool.pool.backend.calls.items()))
            print(f"  pool, {ms:g} ms: held for company p95 {np.percentile(held, 95):.1f} ms; calls by clips {calls}")
            pool.close()
        for detector in detectors:
            detector.close()


def loops(detectors: list[Detector], count: int, gap_s: float) -> list[float]:
    """A thread and a detector a stream, as one would write it; the latency of each frame in ms."""

    def run(number: int) -> list[float]:
        latencies = []
        for arrived, frame in _arriving(number, count, gap_s):
            detectors[number].push(frame)
            latencies.append(1000 * (time.perf_counter() - arrived))
        return latencies

    with ThreadPoolExecutor(STREAMS) as threads:
        return [ms for each in threads.map(run, range(STREAMS)) for ms in each]


class Pooled:
    """The same through a pool, its streams open from round to round as the detectors are."""

    def __init__(self, pool: StreamPool) -> None:
        self._rounds = [SimpleQueue[tuple[int, float] | None]() for _ in range(STREAMS)]
        self._arrivals: dict[str, deque[float]] = {str(number): deque() for number in range(STREAMS)}
        for number in range(STREAMS):
            pool.add(str(number), self._frames(number))
        self.pool, self._results = pool, iter(pool)

    def __call__(self, count: int, gap_s: float) -> list[float]:
        for rounds in self._rounds:
            rounds.put((count, gap_s))
        latencies = []
        for name, _ in islice(self._results, STREAMS * count):
            latencies.append(1000 * (time.perf_counter() - self._arrivals[name].popleft()))
        assert len(latencies) == STREAMS * count and self.pool.errors == {}
        return latencies

    def _frames(self, number: int) -> Iterator[Frame]:
        while (asked := self._rounds[number].get()) is not None:
            for arrived, frame in _arriving(number, *asked):
                self._arrivals[str(number)].append(arrived)
                yield frame

    def close(self) -> None:
        for rounds in self._rounds:
            rounds.put(None)
        self.pool.close()


def _arriving(number: int, count: int, gap_s: float) -> Iterator[tuple[float, Frame]]:
    """Frames when they are due, the streams shifted against each other; without a gap whenever one is asked for."""
    start = time.perf_counter() + gap_s * number / STREAMS
    for index, frame in enumerate(islice(cycle(FRAMES), number, number + count)):
        due = start + index * gap_s if gap_s else time.perf_counter()
        time.sleep(max(0.0, due - time.perf_counter()))
        yield due, frame


def _as_fast_as_it_goes(forms: dict[str, Form], count: int, rounds: int) -> float:
    """Prints throughput; returns that of the first form, in frames a second."""
    rates: dict[str, list[float]] = {name: [] for name in forms}
    work: dict[str, list[float]] = {name: [] for name in forms}
    for run in forms.values():
        run(2, 0.0)
    for _ in range(rounds):
        for name, run in forms.items():
            start, worked = time.perf_counter(), time.process_time()
            run(count, 0.0)
            rates[name].append(STREAMS * count / (time.perf_counter() - start))
            work[name].append(1000 * (time.process_time() - worked) / (STREAMS * count))
    first = np.array(next(iter(rates.values())))
    for name, found in rates.items():
        ratios = np.array(found) / first
        low, high = np.percentile(ratios, [25, 75])
        print(
            f"  {name:14} {np.median(found):6.1f} frames/s, {np.median(ratios):.2f} times the loops"
            f" (half of the rounds {low:.2f} to {high:.2f}), {np.median(work[name]):.0f} ms of CPU a frame"
        )
    return float(np.median(first))


def _at_a_rate(forms: dict[str, Form], count: int, rounds: int, fps: float) -> None:
    latencies: dict[str, list[float]] = {name: [] for name in forms}
    for _ in range(rounds):
        for name, run in forms.items():
            latencies[name] += run(count, 1 / fps)
    for name, found in latencies.items():
        p50, p95 = np.percentile(found, [50, 95])
        print(f"  {name:14} at {fps:.1f} frames/s a stream: latency p50 {p50:.0f} ms, p95 {p95:.0f} ms")


def _frames(video: str | None) -> list[Frame]:
    if video is None:
        return list(np.random.default_rng(0).integers(0, 256, (16, 240, 320, 3), np.uint8))
    with open_source(video) as source:
        return [timed.image for timed in islice(source, 64)]


if __name__ == "__main__":
    main()
