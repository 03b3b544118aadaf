"""Whether the network ever waits for its clips: `python -m benchmarks.loading DATASET DIR [RECIPE]`.

Of the first epoch, in which each video is decoded; what the cache holds comes faster after that.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np

from yowo_deploy.datasets import open_dataset
from yowo_training.clips import FrameCache, batches
from yowo_training.loop import Budget, Run
from yowo_training.recipes import find_recipe

ROUNDS, BATCHES = 3, 10


def main() -> None:
    """Print clips a second without and with the network, in turn, and the memory after each round."""
    sys.setswitchinterval(0.0002)  # as the command line has it
    name, folder, *recipe = sys.argv[1:]
    chosen, dataset = find_recipe(recipe[0] if recipe else "yowo-lite"), open_dataset(name, Path(folder))
    with TemporaryDirectory() as output:
        run = Run(chosen, dataset, Path(output), Budget(60.0, 1))
        cache = FrameCache()
        loader: Iterator[object] = batches(run.training, run.spec, chosen, seed=0, cache=cache)
        steps: Iterator[object] = iter(run)
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
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
            print(f"peak memory {peak:.2f} GB, of which frames {cache.held_bytes / 2**30:.2f} GB")
    loading, training = (float(np.median(values)) for values in rates.values())
    ours, all_of_it = (float(np.median(values)) for values in cpu_ms.values())
    print(f"CPU time of a clip: {ours:.0f} ms alone, {all_of_it:.0f} ms with the network")
    print(f"loading alone {loading:.1f} clips/s, training {training:.1f} clips/s: {loading / training:.1f} times")


if __name__ == "__main__":
    main()
