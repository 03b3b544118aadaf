"""A frame's way through the runtime, timed stage by stage, and frames that come whether anybody is ready or not."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any, ClassVar

import numpy as np
import pytest

from yowo_deploy.arrays import Float
from yowo_deploy.benchmark import stages as stages_module
from yowo_deploy.benchmark.stages import (
    HELD_FRAMES,
    STAGES,
    WARM_FRAMES,
    WHOLE,
    Live,
    bench_stages,
    held_frames,
    make_video,
    open_loop,
)
from yowo_deploy.benchmark.timing import model_call
from yowo_deploy.detector import Detector
from yowo_deploy.errors import InputError
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.preprocess.frames import preprocess
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.reader import VideoReader
from yowo_deploy.video.writer import VideoWriter

Backends = Callable[[ModelSpec], Any]  # the factory of conftest.py


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("video") / "made-up.webm"
    make_video(path, (64, 48))
    return path


def test_the_made_up_video_moves(video: Path) -> None:
    with VideoReader(video) as reader:
        frames = list(reader)
    assert reader.size_wh == (64, 48) and 10 < len(frames) < HELD_FRAMES
    assert all(np.abs(a.astype(int) - b).max() > 20 for a, b in zip(frames, frames[5:], strict=False))
    assert len(held_frames(video)) == len(frames)


def test_every_stage_is_timed_and_the_whole_is_their_sum(video: Path, spec: ModelSpec, numpy_backend: Backends) -> None:
    stages = bench_stages(numpy_backend(spec), video, seconds=0.2)
    names = [stage.name for stage in stages]
    assert names == ["decode video", "preprocess", "infer", "decode + NMS", "link", WHOLE]
    assert len({len(stage.seconds) for stage in stages}) == 1 and all(np.all(stage.seconds > 0) for stage in stages)
    parts = np.sum([stage.seconds for stage in stages[:-1]], axis=0)
    assert stages[-1].seconds == pytest.approx(parts)


def test_the_engine_is_timed_between_two_readings_of_the_clock(
    video: Path, spec: ModelSpec, numpy_backend: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock, model = Clock(tick=1e-4), numpy_backend(spec)
    infer = model.infer

    def work(clips: Float) -> Float:
        clock.now += 0.03
        return infer(clips)  # type: ignore[no-any-return]

    model.infer = work
    monkeypatch.setattr(stages_module, "perf_counter", clock)
    stages = {stage.name: stage.seconds for stage in bench_stages(model, video, seconds=0.6)}
    assert stages["infer"] == pytest.approx(0.03 + 1e-4) and len(stages["infer"]) > 10
    assert {name: values.max() for name, values in stages.items() if name not in ("infer", WHOLE)} == pytest.approx(
        dict.fromkeys(("decode video", "preprocess", "decode + NMS", "link"), 1e-4)
    )


def test_the_engine_takes_longer_than_what_is_in_it(video: Path, spec: ModelSpec, numpy_backend: Backends) -> None:
    """By the real clock, which on a busy machine goes on between any two readings, but never back."""
    model = slow(numpy_backend(spec), 0.001)
    stages = {stage.name: stage.seconds for stage in bench_stages(model, video, seconds=0.01)}
    assert np.all(stages["infer"] > model.own[WARM_FRAMES : WARM_FRAMES + len(stages["infer"])])
    assert np.all(stages[WHOLE] > stages["infer"])


@pytest.mark.parametrize("decay", [0.0, 0.9])
def test_what_is_timed_is_what_a_detector_does(spec: ModelSpec, numpy_backend: Backends, decay: float) -> None:
    """People who stay by their objectness, averaged scores, cuts: the results are those of `Detector.push`."""
    averaged = replace(spec, tube_decay=decay, keep_threshold=0.1 if decay else 0.0, confidence_threshold=0.2)
    random = np.random.default_rng(0)
    scenes = [random.integers(low, low + 56, (6, 48, 64, 3), np.uint8) for low in (0, 200)]
    live, detector = Live(numpy_backend(averaged)), Detector(numpy_backend(averaged))
    shown = ended = 0
    for frame in np.concatenate(scenes):
        found, expected = live.answer(frame), detector.push(frame)
        shown += len(expected.detections)
        assert found.to_json() == expected.to_json()
        assert repr((found.tubes, found.ended)) == repr((expected.tubes, expected.ended))
        ended += len(found.ended)
    assert shown and ended


def test_copies_are_shown_where_the_engine_has_them(video: Path, spec: ModelSpec, numpy_backend: Backends) -> None:
    class OnGpu(type(numpy_backend(spec))):  # type: ignore[misc]
        def infer_in_stages(self, clips: Float) -> tuple[Float, dict[str, float]]:
            return self.infer(clips), {"copy in": 1.0, "infer": 2.0, "copy out": 3.0}

    stages = bench_stages(OnGpu(spec), video, seconds=1e-9)
    assert [stage.name for stage in stages] == [*STAGES, WHOLE]
    assert [stage.seconds[0] for stage in stages if stage.name in ("copy in", "infer", "copy out")] == [1, 2, 3]
    assert np.all(stages[-1].seconds > 6)


def test_a_video_is_read_again_until_the_time_is_over(tmp_path: Path, spec: ModelSpec, numpy_backend: Backends) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (4, 48, 64, 3), np.uint8)
    for name, count in (("short.webm", 4), ("picture.webm", 1)):
        with VideoWriter(tmp_path / name, 25.0, (64, 48)) as writer:
            for frame in frames[:count]:
                writer.write(frame)
    [*_, whole] = bench_stages(numpy_backend(spec), tmp_path / "short.webm", seconds=1e-9)
    assert len(whole.seconds) >= 5
    with pytest.raises(InputError, match="only one frame"):
        bench_stages(numpy_backend(spec), tmp_path / "picture.webm")


class Clock:
    """Time that passes when somebody waits or works, and by `tick` when it is read."""

    def __init__(self, tick: float = 0.0) -> None:
        self.now, self._tick = 100.0, tick

    def __call__(self) -> float:
        self.now += self._tick
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += seconds


def offered(
    spec: ModelSpec, numpy_backend: Backends, work: Callable[[int], float], fps: float, seconds: float
) -> tuple[Any, Any]:
    """The open loop over random frames; call number n takes `work(n)` seconds after the warm-up."""
    clock, model = Clock(), numpy_backend(spec)
    infer, calls = model.infer, iter(range(-WARM_FRAMES, 10_000))
    model.clips = []

    def timed(clips: Float) -> Float:
        number = next(calls)
        clock.now += work(number) if number >= 0 else 7.0
        model.clips.append(clips.copy())
        return infer(clips)  # type: ignore[no-any-return]

    model.infer = timed
    frames = np.random.default_rng(0).integers(0, 256, (1000, 6, 10, 3), np.uint8)
    return open_loop(model, list(frames), fps, seconds, clock, clock.wait), model


def test_an_engine_that_keeps_up_drops_nothing(spec: ModelSpec, numpy_backend: Backends) -> None:
    found, _ = offered(spec, numpy_backend, lambda _: 0.01, 30, 2)
    assert (found.offered, found.dropped) == (60, 0)
    assert found.latency == pytest.approx(0.01)


def test_the_newest_frame_is_worked_on_and_latency_counts_from_its_arrival(
    spec: ModelSpec, numpy_backend: Backends
) -> None:
    found, _ = offered(spec, numpy_backend, lambda _: 0.25, 10, 0.8)
    # Frames come at 0, 0.1, ... 0.7. Answered: 0 until 0.25, then 2 (came at 0.2) until 0.5, then 5 until 0.75, then 7.
    assert found.latency == pytest.approx([0.25, 0.3, 0.25, 0.3])
    assert (found.offered, found.dropped) == (8, 4)


def test_a_stall_is_not_forgiven(spec: ModelSpec, numpy_backend: Backends) -> None:
    """A loop that asks only when it is ready sees one slow call in sixty; a camera loses thirty frames."""
    found, _ = offered(spec, numpy_backend, lambda number: 1.01 if number == 10 else 0.005, 30, 2)
    assert found.dropped == 29 and found.offered == 60
    assert found.latency.max() == pytest.approx(1.01)
    assert found.latency[11] > 0.005  # the frame after the stall had waited as well


def test_frames_that_are_dropped_belong_into_the_clip(spec: ModelSpec, numpy_backend: Backends) -> None:
    found, model = offered(spec, numpy_backend, lambda _: 0.25, 10, 0.8)
    frames = np.random.default_rng(0).integers(0, 256, (1000, 6, 10, 3), np.uint8)
    buffer = ClipBuffer(spec)
    for frame in frames[:WARM_FRAMES]:
        buffer.push(preprocess(frame, spec))
    clips = [buffer.push(preprocess(frame, spec)).copy() for frame in frames[:8]]
    answered = [clips[number] for number in (0, 2, 5, 7)]
    assert len(answered) == len(found.latency)
    for seen, expected in zip(model.clips[WARM_FRAMES:], answered, strict=True):
        assert np.array_equal(seen[0], expected)


def test_by_the_real_clock_latency_holds_the_work(spec: ModelSpec, numpy_backend: Backends) -> None:
    """However late an answer is: a frame is worked on when it is due or later."""
    model = slow(numpy_backend(spec), 0.01)
    found = open_loop(model, list(np.zeros((5, 6, 10, 3), np.uint8)), fps=40, seconds=0.5)
    assert found.offered == 20 and np.all(found.latency >= model.own[WARM_FRAMES:])


@pytest.mark.parametrize(("fps", "frames"), [(0.1, 1), (30, 0)])
def test_nothing_to_offer_is_an_error(fps: float, frames: int, spec: ModelSpec, numpy_backend: Backends) -> None:
    with pytest.raises(InputError, match="no frame is due"):
        open_loop(numpy_backend(spec), [np.zeros((6, 10, 3), np.uint8)] * frames, fps, 1)


def slow(model: Any, seconds: float) -> Any:
    """Busy for so long by the clock, with a stopwatch of its own."""
    infer, model.own = model.infer, []

    def busy(clips: Float) -> Float:
        start = perf_counter()
        raw = infer(clips)
        while perf_counter() - start < seconds:
            pass
        model.own.append(perf_counter() - start)
        return raw  # type: ignore[no-any-return]

    model.infer = busy
    return model


def test_an_engine_that_takes_frames_gets_each_once_in_order_and_is_timed_so(
    video: Path, spec: ModelSpec, numpy_backend: Backends
) -> None:
    class ByFrame(type(numpy_backend(spec))):  # type: ignore[misc]
        given: ClassVar[list[tuple[str, float]]] = []

        def open_stream(self) -> ByFrame:
            return self

        def push(self, planes: Float) -> Float:
            clock.now += 0.1
            self.given.append(("push", float(planes.sum())))
            return np.zeros((self.spec.output_channels, *self.spec.grid_size[::-1]), np.float32)

        def skip(self, planes: Float) -> None:
            self.given.append(("skip", float(planes.sum())))

        def reset(self) -> None:
            raise AssertionError("nobody asked for it")

        def infer(self, clips: Float) -> Float:
            raise AssertionError("it takes frames")

    clock, model = Clock(), ByFrame(spec)
    names = [stage.name for stage in bench_stages(model, video, seconds=0.1)]
    assert "infer" in names and {kind for kind, _ in model.given} == {"push"}
    frames = held_frames(video)
    model.given.clear()
    live = open_loop(model, frames, 30, 1.0, clock, clock.wait)
    expected = [float(preprocess(frame, spec).sum()) for frame in frames]
    offered = [total for _, total in model.given[WARM_FRAMES:]]
    assert live.dropped and offered == [expected[k % len(frames)] for k in range(30)]
    assert sum(kind == "skip" for kind, _ in model.given) == live.dropped
    model.given.clear()
    model_call(model)()
    assert [kind for kind, _ in model.given] == ["push"]
