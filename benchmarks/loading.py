"""Whether the network ever waits for its clips: `python -m benchmarks.loading DATASET DIR [RECIPE]`.

Of the first epoch, in which each video is decoded, and of those after it, whose frames the cache holds as far as they
fit; and whether memory grows from epoch to epoch.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np

from yowo_deploy.datasets import open_dataset
from yowo_training.clips import Batch, FrameCache, batches
from yowo_training.loop import Budget, Run
from yowo_training.recipes import find_recipe

ROUNDS, BATCHES, EPOCHS = 5, 10, 3


def main() -> None:
    """Print clips a second without and with the network, in turn, and the memory after each epoch of loading."""
    sys.setswitchinterval(0.0002)  # as the command line has it
    name, folder, *recipe = sys.argv[1:]
    chosen, dataset = find_recipe(recipe[0] if recipe else "yowo-lite"), open_dataset(name, Path(folder))
    with TemporaryDirectory() as output:
        run = Run(chosen, dataset, Path(output), Budget(60.0, 1))
        loader = batches(run.training, run.spec, chosen, seed=0, cache=run.cache)
        steps: Iterator[object] = iter(run)
        first, held = epochs(loader, run.cache, chosen.batch)
        rates: dict[str, list[float]] = {"loading": [], "training": []}
        cpu_ms: dict[str, list[float]] = {"loading": [], "training": []}
        for _ in range(ROUNDS):
            for what, source in (("loading", loader), ("training", steps)):
                next(source)
                start, cpu = perf_counter(), process_time()
                for _ in islice(source, BATCHES):
                    pass
                rates[what].append(BATCHES * chosen.batch / (perf_counter() - start))
                cpu_ms[what].append(1000 * (process_time() - cpu) / (BATCHES * chosen.batch))
    loading, training = (float(np.median(values)) for values in rates.values())
    ours, all_of_it = (float(np.median(values)) for values in cpu_ms.values())
    print(f"memory after each epoch of loading: {', '.join(f'{size:.2f}' for size in held)} GB")
    print(f"CPU time of a clip: {ours:.0f} ms alone, {all_of_it:.0f} ms with the network")
    for when, rate in (("first epoch", first), ("later epochs", loading)):
        print(f"{when}: loading {rate:.1f} clips/s, training {training:.1f} clips/s: {rate / training:.1f} times")


def epochs(loader: Iterator[Batch], cache: FrameCache, batch: int) -> tuple[float, list[float]]:
    """Clips a second of the first epoch, and GB that are held at the end of each."""
    start, clips, rate, held = perf_counter(), 0, 0.0, list[float]()
    while len(held) < EPOCHS:
        clips += batch
        if next(loader).epoch > len(held):
            rate = rate or clips / (perf_counter() - start)
            held.append(_resident_gb())
            print(f"epoch {len(held)} loaded, frames {cache.held_bytes / 2**30:.2f} GB", file=sys.stderr)
    return rate, held


def _resident_gb() -> float:
    found = re.search(r"^VmRSS:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.M)
    return int(found[1]) / 2**20 if found else float("nan")


if __name__ == "__main__":
    main()
