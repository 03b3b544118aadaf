"""Days in minutes: `python -m benchmarks.soak`. yowo-lite at 64x64, frame after frame; before it a camera keeps dying.

A camera on this machine is killed and started again fifty times. Then memory is looked at while 100,000 frames of four
streams go through a pool, by way of sources, linkers and all. Exit code 1 if anything grew, stayed open or was lost.
With `--model default` the frames are of real videos, in whose people that model finds tubes.
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
from collections import deque
from collections.abc import Iterator, Sequence
from itertools import count, islice, pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from tests.local_camera import LocalCamera, number_in
from yowo_deploy.arrays import Float, Frame
from yowo_deploy.backends.base import Engine, check_clips
from yowo_deploy.boxes import Detections, Tube
from yowo_deploy.detector import Detector
from yowo_deploy.postprocess.linker import OnlineLinker
from yowo_deploy.spec import ModelSpec
from yowo_deploy.stream_pool import StreamPool
from yowo_deploy.video.reader import open_video
from yowo_deploy.video.sources import open_source

STREAMS = 4
FRAMES_ALIVE = 10 * STREAMS  # results that wait, their detectors' last ones, what is at work; not what was
DRIFT = 0.02
PATIENCE_S = 60.0  # for threads that were told to end, and for a camera that is there: a killed one hangs up
SHOWN = 0.01  # of scores that are low, as the pictures are small and show nobody
DATA = Path(os.environ.get("YOWO_DATA", Path(__file__).parents[2] / "shared" / "data"))
FRAMES_OF_A_VIDEO = 30


def main() -> None:
    """Run both, print what was seen, and exit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=100_000)
    parser.add_argument("--restarts", type=int, default=50)
    parser.add_argument("--model", help="by default yowo-lite exported for 64x64, which needs the extra export")
    parser.add_argument("--videos", type=Path, default=DATA / "ucf24", help="of people, for --model")
    parser.add_argument("--backend", default="onnxruntime")
    given = parser.parse_args()
    failures = dies_and_returns(given.restarts)
    with tempfile.TemporaryDirectory() as folder:
        if given.model:
            failures += runs_long(given.model, given.backend, given.frames, None, clips=people(given.videos))
        else:
            failures += runs_long(small_lite(Path(folder) / "lite64.onnx"), given.backend, given.frames)
    print("nothing grew, nothing was lost" if not failures else "\n".join(failures))
    sys.exit(bool(failures))


def small_lite(path: Path) -> Path:
    """The default model's network and weights, for pictures of 64x64."""
    from yowo_deploy.model_files.default import DEFAULT, model_path
    from yowo_export.exporter import export_onnx
    from yowo_training.checkpoints.checkpoint import Checkpoint
    from yowo_training.checkpoints.onnx_weights import checkpoint_from_onnx

    given = checkpoint_from_onnx(model_path(DEFAULT))
    export_onnx(Checkpoint(given.model, given.spec.replace(input_size=(64, 64))), path)
    return path


def runs_long(
    model: str | Path,
    backend: str,
    count: int,
    shown: float | None = SHOWN,
    drift: float = DRIFT,
    looks: int = 100,
    clips: Sequence[Sequence[Frame]] = (),
) -> list[str]:
    """Frames of four streams through a pool; what grew or stayed open.

    Args:
        shown: confidence above which boxes count; None: the model's.
        clips: shown again and again, to each stream from another one on; none: blobs.
        drift: by what share memory may grow between the second tenth and the last.
        looks: how often stock is taken.
    """
    # What libraries open once they open here.
    with StreamPool.open(model, backend=backend, threads=2) as pool:
        pool.push("first", np.zeros((48, 64, 3), np.uint8)).result()
    files, threads = open_files(), threading.active_count()
    watch = Watch()
    with StreamPool.open(model, confidence=shown, backend=backend, threads=2) as pool:
        linkers = {str(number): OnlineLinker() for number in range(STREAMS)}
        for number, name in enumerate(linkers):
            frames = repeated(clips, number) if clips else scenes(number)
            pool.add(name, watch.watched(islice(frames, count // STREAMS)))
        for name, result in pool:
            watch.saw(result.detections, linkers[name])
            if watch.seen % max(1, count // looks) == 0:
                watch.look()
        failures = [f"stream {name}: {error!r}" for name, error in pool.errors.items()]
    if watch.seen != count // STREAMS * STREAMS or not watch.detections or not watch.tubes_ended:
        seen = f"{watch.detections} detections and {watch.tubes_ended} tubes that ended"
        failures.append(f"{watch.seen} of {count} frames came through, with {seen}")
    return failures + watch.growth(drift) + left_over(files, threads, watch.tubes)


class Watch:
    """What is looked at while frames go through."""

    def __init__(self) -> None:
        self.seen = self.detections = self.tubes_ended = self.most_frames = self.most_tubes = 0
        self.tubes: list[weakref.ref[Tube]] = []
        self.frames: deque[weakref.ref[Frame]] = deque(maxlen=1000)
        self.memory: list[float] = []
        self._start = time.monotonic()

    def watched(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """The frames, each noted without being held."""
        for frame in frames:
            self.frames.append(weakref.ref(frame))
            yield frame
            del frame

    def saw(self, detections: Detections, linker: OnlineLinker) -> None:
        """Count a frame's detections, and the tubes that its stream's linker ends with them."""
        self.seen += 1
        self.detections += len(detections)
        linker.push(detections)
        for tube in linker.finished():
            self.tubes_ended += 1
            self.tubes.append(weakref.ref(tube))

    def look(self) -> None:
        """Take stock and print it."""
        gc.collect()
        self.memory.append(resident_mb())
        self.tubes = [tube for tube in self.tubes if tube() is not None]
        frames = sum(frame() is not None for frame in list(self.frames))
        self.most_frames, self.most_tubes = max(self.most_frames, frames), max(self.most_tubes, len(self.tubes))
        rate = self.seen / (time.monotonic() - self._start)
        print(
            f"{self.seen} frames, {rate:.0f} a second, {self.memory[-1]:.1f} MB, {self.detections} detections, "
            f"{self.tubes_ended} tubes ended; {len(self.tubes)} of them and {frames} frames in memory; "
            f"{open_files()} files open",
            flush=True,
        )

    def growth(self, drift: float) -> list[str]:
        """What there was too much of."""
        tenth = len(self.memory) // 10
        early, late = np.median(self.memory[tenth : 2 * tenth]), np.median(self.memory[-tenth:])
        print(f"memory: {early:.1f} MB after a tenth, {late:.1f} MB at the end: {100 * (late / early - 1):+.2f} %")
        wrong = [] if late < (1 + drift) * early else [f"memory grew from {early:.1f} to {late:.1f} MB"]
        if self.most_frames > FRAMES_ALIVE or self.most_tubes > STREAMS:
            wrong.append(f"{self.most_frames} frames and {self.most_tubes} ended tubes were in memory at once")
        return wrong


def left_over(files: int, threads: int, ended: Sequence[weakref.ref[Tube]]) -> list[str]:
    """What is still there of tubes, files and threads."""
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end and (threading.active_count() > threads or open_files() > files):
        time.sleep(0.01)
    gc.collect()
    tubes = sum(each() is not None for each in ended)
    print(f"left: {tubes} tubes, {open_files() - files} files, {threading.active_count() - threads} threads")
    wrong = [f"{tubes} tubes are still in memory"] if tubes else []
    if open_files() > files:
        wrong.append(f"{open_files() - files} files are still open")
    if threading.active_count() > threads:
        wrong.append(f"{threading.active_count() - threads} threads are still alive")
    return wrong


def scenes(seed: int) -> Iterator[Frame]:
    """Blobs of other shades every few frames, which come and go for a network as people do."""
    rng = np.random.default_rng(seed)
    while True:
        frame = rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        for shift in range(20):
            yield np.roll(frame, shift, axis=1)


def repeated(clips: Sequence[Sequence[Frame]], first: int) -> Iterator[Frame]:
    """Copies of the frames of clip after clip, endless, from another clip and its middle on in each stream."""
    yield from (frame.copy() for frame in clips[first % len(clips)][first * len(clips[0]) // STREAMS :])
    for number in count(first + 1):
        yield from (frame.copy() for frame in clips[number % len(clips)])


def people(folder: Path) -> list[list[Frame]]:
    """The first frames of the videos of a folder, decoded once.

    Raises:
        SystemExit: there is none.
    """
    paths = sorted(folder.glob("*.mp4"))
    if not paths:
        raise SystemExit(f"no .mp4 in {folder}: give a folder of videos with people, --videos or YOWO_DATA")
    clips = []
    for path in paths:
        with open_video(path) as reader:
            clips.append(list(reader.window(0, FRAMES_OF_A_VIDEO - 1)))
    return [clip for clip in clips if clip[0].shape == clips[0][0].shape]


def dies_and_returns(restarts: int) -> list[str]:
    """A camera that is killed so often, its frames through source, detector and linker; what was lost or mixed up."""
    files, threads = open_files(), threading.active_count()
    numbers, ids, kills, at_kill = [], set(), 0, []
    with LocalCamera(fps=100) as camera, Detector(OnePerson()) as detector:
        linker = OnlineLinker()
        with open_source(camera.url, depth=10_000, timeout_s=PATIENCE_S) as source:
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
