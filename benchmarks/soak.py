"""Days in minutes: `python -m benchmarks.soak`. yowo-lite at 64x64, frame after frame; then a camera that keeps dying.

Memory is looked at while 100,000 frames of four streams go through a pool, by way of sources, linkers and all. Then a
camera on this machine is killed and started again fifty times. Exit code 1 if anything grew, stayed open or was lost.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.local_camera import LocalCamera, number_in
from yowo_deploy.backends.base import Engine, check_clips
from yowo_deploy.boxes import Float, Tube
from yowo_deploy.detector import Detector
from yowo_deploy.online import OnlineLinker
from yowo_deploy.pool import StreamPool
from yowo_deploy.preprocess import Frame
from yowo_deploy.sources import open_source
from yowo_deploy.spec import ModelSpec

STREAMS = 4
DRIFT = 0.02
SHOWN = 0.01  # of scores that are low, as the pictures are small and show nobody


def main() -> None:
    """Run both, print what was seen, and exit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--restarts", type=int, default=50)
    parser.add_argument("--model", help="by default yowo-lite exported for 64x64, which needs the extra export")
    parser.add_argument("--backend", default="onnxruntime")
    asked = parser.parse_args()
    failures = dies_and_returns(asked.restarts)
    with tempfile.TemporaryDirectory() as folder:
        model = asked.model or small_lite(Path(folder) / "lite64.onnx")
        failures += runs_long(model, asked.backend, asked.frames)
    print("nothing grew, nothing was lost" if not failures else "\n".join(failures))
    sys.exit(bool(failures))


def small_lite(path: Path) -> Path:
    """The default model's network and weights, for pictures of 64x64."""
    from yowo_deploy.default_model import DEFAULT, model_path
    from yowo_export.onnx_export import export_onnx
    from yowo_training.checkpoint import Checkpoint
    from yowo_training.start import load_onnx

    given = load_onnx(Path(model_path(DEFAULT)))
    export_onnx(Checkpoint(given.model, given.spec.replace(input_size=(64, 64))), path)
    return path


def runs_long(model: str | Path, backend: str, count: int) -> list[str]:
    """Frames of four streams through a pool; what grew or stayed open."""
    # What libraries open once they open here.
    with StreamPool.open(model, backend=backend, threads=2) as pool:
        pool.push("first", np.zeros((48, 64, 3), np.uint8)).result()
    files, threads = open_files(), threading.active_count()
    memory: list[float] = []
    ended: list[weakref.ref[Tube]] = []
    tubes = seen = found = 0
    start = time.monotonic()
    with StreamPool.open(model, confidence=SHOWN, backend=backend, threads=2) as pool:
        linkers = {str(number): OnlineLinker() for number in range(STREAMS)}
        for number, name in enumerate(linkers):
            pool.add(name, scenes(number, count // STREAMS))
        for name, result in pool:
            seen += 1
            found += len(result.detections)
            linkers[name].push(result.detections)
            finished = linkers[name].finished()
            tubes += len(finished)
            ended += map(weakref.ref, finished)
            del finished
            if seen % max(1, count // 100) == 0:
                gc.collect()
                memory.append(resident_mb())
                ended = [each for each in ended if each() is not None]
                print(
                    f"{seen} frames, {seen / (time.monotonic() - start):.0f} a second, {memory[-1]:.1f} MB, {found} "
                    f"detections, {tubes} tubes ended, {len(ended)} of them in memory, {open_files()} files",
                    flush=True,
                )
        failures = [f"stream {name}: {error!r}" for name, error in pool.errors.items()]
        del linkers, result
    if seen != count // STREAMS * STREAMS:
        failures.append(f"{seen} of {count} frames came through")
    early, late = np.median(memory[10:20]), np.median(memory[-10:])
    print(f"memory: {early:.1f} MB after a tenth, {late:.1f} MB at the end: {100 * (late / early - 1):+.2f} %")
    if not late < (1 + DRIFT) * early:
        failures.append(f"memory grew from {early:.1f} to {late:.1f} MB")
    return failures + left_over(files, threads, ended)


def left_over(files: int, threads: int, ended: Sequence[weakref.ref[Tube]]) -> list[str]:
    """What is still there of tubes, files and threads."""
    time.sleep(0.5)  # threads that were told to end do so
    gc.collect()
    tubes = sum(each() is not None for each in ended)
    print(f"left: {tubes} tubes, {open_files() - files} files, {threading.active_count() - threads} threads")
    wrong = [f"{tubes} tubes are still in memory"] if tubes else []
    if open_files() > files:
        wrong.append(f"{open_files() - files} files are still open")
    if threading.active_count() > threads:
        wrong.append(f"{threading.active_count() - threads} threads are still alive")
    return wrong


def scenes(seed: int, count: int) -> Iterator[Frame]:
    """Blobs of other sizes and shades every few frames, which come and go for a network as people do."""
    rng = np.random.default_rng(seed)
    for number in range(count):
        if number % 20 == 0:
            frame = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        yield np.roll(frame, number % 20, axis=1)


def dies_and_returns(restarts: int) -> list[str]:
    """A camera that is killed so often, its frames through source, detector and linker; what was lost or mixed up."""
    files, threads = open_files(), threading.active_count()
    numbers, ids, kills, at_kill = [], set(), 0, []
    with LocalCamera(fps=100) as camera, Detector(OnePerson()) as detector:
        linker = OnlineLinker()
        with open_source(camera.url, depth=10_000) as source:
            for image, _, _ in source:
                numbers.append(number_in(image))
                linker.push(detector.push(image).detections)
                ids |= set(linker.tracker_id.tolist())
                if source.counts.reconnects == kills and len(numbers) > 20 * (kills + 1):
                    if kills == restarts:
                        break
                    camera.kill()
                    kills += 1
                    at_kill.append(camera.sent)
                    threading.Timer(0.1, camera.start).start()
        counts = source.counts
        tubes = linker.close()
    jumps = [(before, now) for before, now in pairwise(numbers) if now != before + 1]
    print(f"camera killed {kills} times: {counts}; {len(jumps)} gaps, ids {ids}, {len(tubes)} tube")
    failures = []
    if counts.reconnects != restarts or counts.dropped.get("overtaken") or counts.suspect:
        failures.append(f"after {restarts} kills: {counts}")
    if len(jumps) > restarts or any(not any(b <= sent <= n for sent in at_kill) for b, n in jumps):
        failures.append(f"frames were lost while the camera was there: {jumps}, killed at {at_kill}")
    if numbers != sorted(set(numbers)):
        failures.append("frames came twice, or out of order")
    if ids != {0} or len(tubes) != 1:
        failures.append(f"one person had the ids {ids} in {len(tubes)} tubes")
    ended = [weakref.ref(tube) for tube in tubes]
    del tubes, linker
    return failures + left_over(files, threads, ended)


class OnePerson(Engine):
    """Finds one person, in the middle of every frame."""

    name, spec = "one person", ModelSpec(labels=("walk",), anchors=((1.0, 1.0),), clip_length=4, input_size=(32, 32))

    def infer(self, clips: NDArray[np.float32]) -> Float:
        """See `Backend.infer`."""
        return np.full((len(check_clips(clips, self.spec)), 6, 1, 1), 5, np.float32)


def resident_mb() -> float:
    """Memory of this process; Linux only."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def open_files() -> int:
    """File handles of this process; Linux only."""
    return len(os.listdir("/proc/self/fd"))


if __name__ == "__main__":
    main()
