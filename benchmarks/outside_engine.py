"""What a frame costs outside the engine, in CPU time: `python -m benchmarks.outside_engine VIDEO [MODEL [LIVE]]`.

CPU time and not that of the clock, with one thread in the engine: on a shared machine the engine waits for its cores
more than what runs beside it, and a share of the clock's time would flatter.

LIVE is the program of tests/cpp, for C++ on the same frames (OpenVINO_DIR as in docs/cpp.md):

    cmake -S tests/cpp -B build/tests -DOpenVINO_DIR=... && cmake --build build/tests --target live
"""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
import time
from pathlib import Path

from yowo_deploy.arrays import Float, Frame, Planes
from yowo_deploy.detector import Detector
from yowo_deploy.model_files.default import DEFAULT
from yowo_deploy.video.reader import open_video

WARM, ROUNDS = 10, 5


def main() -> None:
    """Print a line for Python, and one for C++ where its program is given."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("video", type=Path)
    parser.add_argument("model", nargs="?", default=DEFAULT)
    parser.add_argument("live", nargs="?")
    given = parser.parse_args()
    with open_video(given.video, allow_damaged=True) as reader:
        frames = list(reader)
    python(frames, given.model)
    if given.live:
        cpp(frames, given.model, given.live)


def python(frames: list[Frame], model: str) -> None:
    """Print milliseconds a frame in all, outside the engine, and the share of that."""
    with Detector.open(model, threads=1) as detector:
        raw, inside = detector._inference.raw, [0.0]  # of whole clips, or of a stream

        def timed(given: Planes, number: int) -> Float:
            start = time.process_time()
            found = raw(given, number)
            inside[0] += time.process_time() - start
            return found

        for frame in frames[:WARM]:
            detector.push(frame)
        detector._inference.raw = timed  # type: ignore[method-assign]
        start = time.process_time()
        for _ in range(ROUNDS):
            for frame in frames:
                detector.push(frame)
        total = time.process_time() - start
    outside, count = total - inside[0], ROUNDS * len(frames)
    print(f"Python: {_shares(1000 * total / count, 1000 * outside / count)}")


def cpp(frames: list[Frame], model: str, live: str) -> None:
    """Print what `live` measures: CPU time a frame in all, and around the engine the median of the clock's time."""
    with tempfile.NamedTemporaryFile() as raw:
        for frame in frames * ROUNDS:
            raw.write(frame.tobytes())
        raw.flush()
        height, width, _ = frames[0].shape
        command = [live, model, raw.name, str(width), str(height), "threads=1"]
        lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    last = json.loads(lines[-1])
    print(f"C++: {_shares(last['cpu_ms'], last['around_ms'])}")


def _shares(total_ms: float, outside_ms: float) -> str:
    return (
        f"{total_ms:.2f} ms of CPU a frame, outside the engine {outside_ms:.2f} ({100 * outside_ms / total_ms:.1f} %)"
    )


if __name__ == "__main__":
    main()
