"""Time of each stage of a frame, and latency under frames at a fixed rate (open loop)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter, sleep

import cv2
import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Frame, Planes
from yowo_deploy.backends.base import Backend, Staged
from yowo_deploy.backends.frame_inference import FrameInference
from yowo_deploy.benchmark.timing import Timing
from yowo_deploy.datasets.synthetic.generator import make_scene, render
from yowo_deploy.datasets.synthetic.stick_figures import LABELS
from yowo_deploy.detector import DetectorOptions
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.decode import detect_and_best
from yowo_deploy.preprocess.cuts import CutDetector
from yowo_deploy.preprocess.frames import preprocess
from yowo_deploy.result import Result
from yowo_deploy.result_linker import Unlinked
from yowo_deploy.video.reader import open_video
from yowo_deploy.video.writer import VideoWriter

STAGES = ("decode video", "preprocess", "copy in", "infer", "copy out", "decode + NMS", "link")
WHOLE = "whole frame"
LEAST_FRAMES = 5
WARM_FRAMES = 2
HELD_FRAMES = 300  # of a video, for the open loop, in memory: 69 MB at 320x240


@dataclass(frozen=True)
class OpenLoop:
    """How frames fared that came when they came, whether anybody was ready or not.

    Attributes:
        fps: frames offered a second.
        latency: (N,) seconds from when a frame was to arrive to its boxes and tubes, for each frame answered.
        dropped: frames that were overtaken by newer ones while the one before was worked on.
    """

    fps: float
    latency: NDArray[np.float64]
    dropped: int

    @property
    def offered(self) -> int:
        """Frames that came."""
        return len(self.latency) + self.dropped


class Live:
    """One frame through clip, inference, decoding and linking as `Detector` does it by default, each stage timed.

    Attributes:
        seconds: by stage, of the frame that was answered last.
    """

    def __init__(self, model: Backend) -> None:
        options = DetectorOptions()
        self._model, self._inference = model, FrameInference(model)
        self._keep, self._linker = options.keep_of(model.spec), options.result_linker(model.spec)
        self._cuts = CutDetector() if model.spec.tube_decay else None
        self._number, self._anew = -1, False
        self.seconds: dict[str, float] = {}

    def pass_by(self, frame_bgr: Frame) -> None:
        """Preprocess the next frame and keep it for the clips to come; it gets no answer."""
        self._inference.skip(self._next(frame_bgr))

    def answer(self, frame_bgr: Frame) -> Result:
        """As `Detector.push`."""
        start = perf_counter()
        given = self._next(frame_bgr)
        ready = perf_counter()
        raw, inside = self._infer(given)
        inside = inside or {"infer": perf_counter() - ready}
        inferred = perf_counter()
        size_wh = frame_bgr.shape[1], frame_bgr.shape[0]
        found, best = detect_and_best(raw, self._model.spec, size_wh, keep=self._keep)
        decoded = perf_counter()
        result = self._linker.push(Unlinked(self._number, frame_bgr, None, found, best, self._anew, start))
        linked = perf_counter()
        self._anew = False
        self.seconds = {"preprocess": ready - start, **inside}
        self.seconds |= {"decode + NMS": decoded - inferred, "link": linked - decoded}
        return result

    def _next(self, frame_bgr: Frame) -> Planes:
        """What the engine gets for the next frame, which is also looked at for a cut."""
        self._number += 1
        self._anew |= bool(self._cuts and self._cuts.push(frame_bgr))
        return self._inference.next_input(preprocess(frame_bgr, self._model.spec))

    def _infer(self, given: Planes) -> tuple[Float, dict[str, float]]:
        """The raw output for a clip, or for a stream's next planes; and seconds by stage where they are known."""
        if self._inference.by_clip and isinstance(self._model, Staged):
            raw, inside = self._model.infer_in_stages(given)
            return raw[0], inside
        return self._inference.raw(given, 0), {}


def bench_stages(model: Backend, video: Path, seconds: float = 5.0) -> list[Timing]:
    """Time of each stage of a frame, one frame after the other, nothing at the same time; last the whole frame.

    Args:
        video: read again from the start when it ends, or breaks off.
        seconds: to measure for; at least `LEAST_FRAMES` frames.

    Returns:
        The stages of `STAGES` that the backend has, copies on GPUs alone, and `WHOLE`.

    Raises:
        InputError: the video cannot be read, or has one frame alone.
    """
    live, table = Live(model), defaultdict[str, list[float]](list)
    start = perf_counter()
    for number, (frame, decoding) in enumerate(_decoded(video)):
        if number >= WARM_FRAMES + LEAST_FRAMES and perf_counter() - start > seconds:
            break
        live.answer(frame)
        if number == WARM_FRAMES - 1:
            start = perf_counter()
        if number >= WARM_FRAMES:
            spent = {"decode video": decoding, **live.seconds}
            for name, value in {**spent, WHOLE: sum(spent.values())}.items():
                table[name].append(value)
    return [Timing(name, np.array(table[name]), 1) for name in (*STAGES, WHOLE) if name in table]


def open_loop(
    model: Backend,
    frames: Sequence[Frame],
    fps: float,
    seconds: float,
    clock: Callable[[], float] = perf_counter,
    wait: Callable[[float], None] = sleep,
) -> OpenLoop:
    """Offer frames at a fixed rate, as a camera does, and see how late the answers are.

    Frame k is to arrive k / fps after the start, and its latency counts from there, not from when its
    processing started: a backend that falls behind is not measured on fewer frames (no coordinated omission). In live
    video the newest frame is worked on; those that it overtook are preprocessed, for they belong into the clip, and
    counted as dropped. Decoding is left out: cameras give frames.

    Args:
        frames: offered one after the other, again and again.
        clock, wait: seconds now, and to sleep so long.

    Raises:
        InputError: no frame is due.
    """
    count = round(fps * seconds)
    if count < 1 or not frames:
        raise InputError(f"{len(frames)} frames at {fps:g} frames/s for {seconds:g} s: no frame is due")
    live, latency, dropped, due = Live(model), [], 0, 0
    for frame in frames[:WARM_FRAMES]:
        live.answer(frame)
    start = clock()
    while due < count:
        while (early := start + due / fps - clock()) > 0:
            wait(early)
        newest = min(count - 1, int((clock() - start) * fps + 1e-6))
        for overtaken in range(due, newest):
            live.pass_by(frames[overtaken % len(frames)])
        live.answer(frames[newest % len(frames)])
        latency.append(clock() - (start + newest / fps))
        dropped += newest - due
        due = newest + 1
    return OpenLoop(fps, np.array(latency), dropped)


def held_frames(video: Path) -> list[Frame]:
    """The first `HELD_FRAMES` frames of a video."""
    with open_video(video, allow_damaged=True) as reader:
        return [frame for frame, _ in zip(reader, range(HELD_FRAMES), strict=False)]


def make_video(path: Path, size_wh: tuple[int, int] = (320, 240)) -> None:
    """A made-up `.webm` of people moving, for who has no video at hand."""
    with VideoWriter(path, 25.0, size_wh) as writer:
        for number, label in enumerate(LABELS[:2]):
            for frame in render(make_scene(np.random.default_rng(number), label)):
                writer.write(np.asarray(cv2.resize(frame, size_wh, interpolation=cv2.INTER_CUBIC), np.uint8))


def _decoded(video: Path) -> Iterator[tuple[Frame, float]]:
    """Frames without end, each with the seconds it took; the first of a file is left out, opening decodes it."""
    while True:
        with open_video(video, allow_damaged=True) as reader:
            frames, alone = iter(reader), True
            next(frames)
            start = perf_counter()
            for frame in frames:
                alone = False
                yield frame, perf_counter() - start
                start = perf_counter()
        if alone:
            raise InputError(f"{video} has only one frame: give a video with more")
