"""What it costs to bring a public data set in: `python -m benchmarks.importing jhmdb21|ucf24 DIR`.

Promised: less than 20 s and 1 GB, for the 928 videos of J-HMDB-21 and the 3,194 of UCF101-24.
"""

from __future__ import annotations

import argparse
import resource
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

from yowo_deploy.datasets.data_json import write_annotations
from yowo_deploy.datasets.formats.box_rows import Options
from yowo_deploy.datasets.importer import import_annotations


def main() -> None:
    """Print seconds on the clock and of the processor, the most memory, and what was found."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kind", choices=["jhmdb21", "ucf24"])
    parser.add_argument("folder", type=Path)
    given = parser.parse_args()
    start, cpu = perf_counter(), process_time()
    with TemporaryDirectory() as output:
        found, _ = import_annotations(given.folder, given.kind, Options())
        write_annotations(found, Path(output) / "data.json")
    boxes = sum(len(tube) for video in found.videos for tube in video.tubes)
    peak_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{given.kind}: {len(found.videos)} videos, {boxes} boxes")
    print(f"{perf_counter() - start:.1f} s, {process_time() - cpu:.1f} s of processor time, {peak_gb:.2f} GB at most")


if __name__ == "__main__":
    main()
