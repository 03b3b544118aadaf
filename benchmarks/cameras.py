"""Four cameras on this machine for an hour, three of them faulty: `python -m benchmarks.cameras`.

Every half minute one of three cameras dies, stalls, sends a web page in place of pictures, doubles the size of its
pictures or sends damaged ones, for some seconds. The fourth one never fails. All four go through one pool by their
addresses, with a linker each. Exit code 1 if a camera did not come back, if one disturbed another, if frames came
twice, out of order or under another camera's name, if memory grew, or if a thread or file was left.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

import cv2
import numpy as np

from benchmarks.soak import DATA, SHOWN, Watch, left_over, open_files, people, small_lite
from tests.local_camera import LocalCamera, number_in, numbered
from yowo_deploy.arrays import Frame
from yowo_deploy.postprocess.linker import OnlineLinker
from yowo_deploy.stream_pool import StreamPool

CAMERAS = 4
STRIP = 24  # rows that hold the frame's number, and as many that hold the camera's
WIDTH, HEIGHT = 320, 240  # of the people below
WRAP = 1 << 16  # of the numbers
PAGE = b"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<html>no camera</html>"
FAULTS = ("dies", "stalls", "lies", "other size", "damaged")
LONGER_S = 3.0  # than the time-out of a source: how long a fault lasts
COMES_BACK_S = 30.0  # after a fault, and the time-out twice: the longest delay between two tries, and a busy machine


class Faulty:
    """A camera whose pictures hold their number and its own, above people; it fails on demand.

    Args:
        index: its number, in its pictures.
        fps: pictures a second.
        clips: of people, shown in turn.
    """

    def __init__(self, index: int, fps: float, clips: Sequence[Sequence[Frame]]) -> None:
        self._index, self._scale = index, 1
        shown = [frame for clip in [*clips[index:], *clips[:index]] for frame in clip]
        self._frames = [cv2.resize(frame, (WIDTH, HEIGHT)) for frame in shown]
        self.numbers = self.missed = 0  # pictures seen, and those between them that were not
        self.last = -1
        self.seen_at = time.monotonic()
        self.wrong = Counter[str]()
        self.camera = LocalCamera(fps, self._picture)

    def _picture(self, number: int) -> Frame:
        frame: Frame = np.vstack(
            [
                numbered(number, WIDTH, STRIP),
                numbered(self._index, WIDTH, STRIP),
                self._frames[number % len(self._frames)],
            ]
        )
        return frame.repeat(self._scale, 0).repeat(self._scale, 1)

    def begin(self, fault: str) -> None:
        """One of `FAULTS` from now on."""
        camera = self.camera
        if fault == "stalls":
            camera.silent.set()
        elif fault == "other size":
            self._scale = 2
        elif fault == "damaged":
            camera.damage = lambda number, whole: whole[: len(whole) // 2]
        else:
            camera.kill()
            if fault == "lies":
                camera.greeting = PAGE
                camera.start()

    def end(self, fault: str) -> None:
        """As it was before."""
        camera = self.camera
        camera.silent.clear()
        camera.damage, self._scale = None, 1
        if fault in ("dies", "lies"):
            if fault == "lies":
                camera.kill()
            camera.greeting = LocalCamera.greeting
            camera.start()

    def look(self, frame: Frame) -> None:
        """Note a frame that came under this camera's name."""
        small = np.asarray(cv2.resize(frame, (WIDTH, 2 * STRIP + HEIGHT), interpolation=cv2.INTER_AREA), np.uint8)
        number, index = number_in(small), number_in(small[STRIP:])
        if index != self._index:
            self.wrong[f"pictures of camera {index}"] += 1
        step = (number - self.last) % WRAP if self.numbers else 1
        if not 0 < step < WRAP // 2:
            self.wrong["out of order or twice"] += 1
        self.missed += step - 1
        self.last, self.numbers, self.seen_at = number, self.numbers + 1, time.monotonic()


def breaks(
    cameras: Sequence[Faulty], every_s: float, timeout_s: float, over: threading.Event, seed: int
) -> Counter[str]:
    """One fault after the other in all cameras but the first, until it is over; how many of each kind there were.

    The end of the last one is waited for: after `over` every camera is whole.
    """
    rng, counted, lasts_s = np.random.default_rng(seed), Counter[str](), timeout_s + LONGER_S
    comes_s = COMES_BACK_S + 2 * timeout_s
    while not over.wait(max(0.0, every_s - lasts_s)):
        each, fault = cameras[1 + int(rng.integers(len(cameras) - 1))], FAULTS[int(rng.integers(len(FAULTS)))]
        each.begin(fault)
        time.sleep(lasts_s)
        each.end(fault)
        counted[fault] += 1
        began = time.monotonic()
        while each.seen_at < began and time.monotonic() < began + comes_s:
            time.sleep(0.05)
        if each.seen_at < began:
            each.wrong[f"did not come back within {comes_s:g} s of the end of {fault!r}"] += 1
    return counted


def runs(
    model: str | Path, seconds: float, fps: float, every_s: float, timeout_s: float, clips: Sequence[Sequence[Frame]]
) -> list[str]:
    """Four cameras through a pool for so long; what was wrong."""
    with StreamPool.open(model, threads=2) as pool:  # what libraries open once they open here
        pool.push("first", np.zeros((48, 64, 3), np.uint8)).result()
    with ExitStack() as stack:
        cameras = [Faulty(index, fps, clips) for index in range(CAMERAS)]
        for each in cameras:
            stack.enter_context(each.camera)
        files, threads = open_files(), threading.active_count()
        watch = Watch()
        failures = _watched(cameras, model, seconds, every_s, timeout_s, watch)
        print(f"{watch.seen} pictures, {watch.detections} detections, {watch.tubes_ended} tubes ended")
        failures += watch.growth(drift=0.02)
        failures += left_over(files, threads, watch.tubes)
    return failures


def _watched(
    cameras: Sequence[Faulty], model: str | Path, seconds: float, every_s: float, timeout_s: float, watch: Watch
) -> list[str]:
    over, counted, looks = threading.Event(), Counter[str](), 0
    with StreamPool.open(model, confidence=SHOWN, threads=2) as pool:
        for index, each in enumerate(cameras):
            pool.add(str(index), each.camera.url, timeout_s=timeout_s)
        linkers = {str(index): OnlineLinker() for index in range(len(cameras))}
        breaker = threading.Thread(
            target=lambda: counted.update(breaks(cameras, every_s, timeout_s, over, seed=0)), daemon=True
        )
        breaker.start()
        start = time.monotonic()
        for name, result in pool:
            cameras[int(name)].look(result.frame)
            watch.saw(result.detections, linkers[name])
            if time.monotonic() - start > seconds * (looks + 1) / 60:
                looks += 1
                watch.look()
            if time.monotonic() - start > seconds:
                over.set()
            if over.is_set() and not breaker.is_alive():
                break
        failures = [f"camera {name}: {error!r}" for name, error in pool.errors.items()]
        counts = {name: source.counts for name, source in pool.sources.items()}
    print(f"{sum(counted.values())} faults: {dict(counted)}")
    for index, each in enumerate(cameras):
        print(f"camera {index}: {each.numbers} pictures seen of {each.camera.sent}; {counts.get(str(index))}")
        failures += [f"camera {index}: {count} times {what}" for what, count in each.wrong.items()]
    honest = counts.get("0")
    if honest is None or honest.reconnects or honest.suspect or cameras[0].missed > sum(honest.dropped.values()):
        failures.append(f"camera 0, which never failed: {honest}, {cameras[0].missed} pictures missed")
    return failures


def main() -> None:
    """Run, print what was seen, and exit."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3600.0)
    parser.add_argument("--fps", type=float, default=10.0, help="of each camera")
    parser.add_argument("--every", type=float, default=30.0, help="seconds from one fault to the next")
    parser.add_argument("--timeout", type=float, default=2.0, help="seconds; longer on a busy machine")
    parser.add_argument("--model", help="by default yowo-lite exported for 64x64, which needs the extra export")
    parser.add_argument("--videos", type=Path, default=DATA / "ucf24", help="of people")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        model = given.model or small_lite(Path(folder) / "lite64.onnx")
        failures = runs(model, given.seconds, given.fps, given.every, given.timeout, people(given.videos))
    print("nothing grew, nothing was lost" if not failures else "\n".join(failures))
    sys.exit(bool(failures))


if __name__ == "__main__":
    main()
