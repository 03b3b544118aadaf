"""Whether the network ever waits for its clips: `python -m benchmarks.loading DATASET DIR [RECIPE]`.

Of the first epoch, in which each video is decoded, and of those after it, whose frames the cache holds as far as they
fit; and whether memory grows from epoch to epoch.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np

from yowo_deploy.datasets import open_dataset
from yowo_training.data.clip_sampler import Batch, FrameCache, batches
from yowo_training.recipes import find_recipe
from yowo_training.trainer import Budget, Run

ROUNDS, BATCHES, EPOCHS = 5, 10, 3


def main() -> None:
    """Print clips a second without and with the network, in turn, and the memory after each epoch of loading."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dataset")
    parser.add_argument("folder", type=Path)
    parser.add_argument("recipe", nargs="?", default="yowo-lite")
    given = parser.parse_args()
    sys.setswitchinterval(0.0002)  # as the command line has it
    chosen, dataset = find_recipe(given.recipe), open_dataset(given.dataset, given.folder)
    with TemporaryDirectory() as output:
        whole = Run(replace(chosen, first_3d=0.0), dataset, Path(output) / "whole", Budget(60.0, 1))
        cache = whole.cache
        loader = batches(whole.training, whole.spec, chosen, seed=0, cache=cache)
        sources: dict[str, Iterator[object]] = {"no network": loader, "the whole network": iter(whole)}
        if chosen.first_3d:
            run = Run(chosen, dataset, Path(output) / "first", Budget(60.0, 1))
            run.cache = cache
            sources["the 3-D branch alone, as at first"] = iter(run)
        first, held = epochs(loader, cache, chosen.batch)
        clips, cpu_ms = (np.empty((ROUNDS, len(sources))) for _ in range(2))
        for turn in range(ROUNDS):
            for column, source in enumerate(sources.values()):
                next(source)
                start, cpu = perf_counter(), process_time()
                for _ in islice(source, BATCHES):
                    pass
                clips[turn, column] = BATCHES * chosen.batch / (perf_counter() - start)
                cpu_ms[turn, column] = 1000 * (process_time() - cpu) / (BATCHES * chosen.batch)
    print(f"memory after each epoch of loading: {', '.join(f'{size:.2f}' for size in held)} GB")
    print(f"first epoch, which decodes: {first:.1f} clips/s without a network; after it, medians of {ROUNDS} rounds:")
    print("| | clips/s | CPU ms a clip | loading alone is so many times as fast |\n|---|---:|---:|---:|")
    times = np.median(clips[:, :1] / clips, axis=0)
    for row in zip(sources, np.median(clips, axis=0), np.median(cpu_ms, axis=0), times, strict=True):
        print("| {} | {:.1f} | {:.0f} | {:.1f} |".format(*row))


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
