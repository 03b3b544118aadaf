"""The loop of an application: pushed or streamed, the same frames give the same results."""

from __future__ import annotations

import inspect
import itertools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from yowo_deploy import detector as detector_module
from yowo_deploy import result_linker
from yowo_deploy.archive.settings import ArchiveSettings
from yowo_deploy.arrays import Float, Frame
from yowo_deploy.backends.base import Backend
from yowo_deploy.backends.loader import open_model
from yowo_deploy.cli import cli
from yowo_deploy.detection.outputs import Outputs
from yowo_deploy.detection.settings import Settings
from yowo_deploy.detector import Detector, DetectorOptions, Result
from yowo_deploy.errors import InputError, ModelFileError, VideoError
from yowo_deploy.postprocess.decode import detect
from yowo_deploy.postprocess.linker import OnlineLinker
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.preprocess.frames import preprocess
from yowo_deploy.spec import ModelSpec
from yowo_deploy.stream_pool import StreamPool
from yowo_deploy.video.timed_frame import TimedFrame

Backends = Callable[[ModelSpec], Any]  # the factory of conftest.py


def frames_of(count: int, seed: int = 0, height: int = 12, width: int = 20) -> list[Frame]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), np.uint8))


def found_in(results: list[Result]) -> list[tuple[int, Any]]:
    """All that a result says, without its times."""
    return [
        (
            result.frame_index,
            [np.asarray(getattr(result.detections, name)).tolist() for name in ("xyxy", "scores", "class_id")],
        )
        for result in results
    ]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 12), st.integers(1, 4), st.integers(1, 3))
def test_streaming_is_pushing_is_looking_at_every_clip(
    spec: ModelSpec, numpy_backend: Backends, count: int, clip_length: int, frame_stride: int
) -> None:
    spec = spec.replace(clip_length=clip_length, frame_stride=frame_stride)
    backend, frames = numpy_backend(spec), frames_of(count)
    detector = Detector(backend, 0.05)
    pushed = [detector.push(frame) for frame in frames]
    streamed = list(Detector(backend, 0.05).stream(iter(frames)))
    backend.parallel = 2
    two_at_once = list(Detector(backend, 0.05).stream(iter(frames)))
    planes = [preprocess(frame, spec) for frame in frames]
    for now, result in enumerate(pushed):
        clip = [planes[max(0, now - back * frame_stride)] for back in reversed(range(clip_length))]
        wanted = detect(backend.infer(np.stack(clip, axis=1)[None])[0], spec, (20, 12), 0.05)
        assert np.array_equal(result.detections.xyxy, wanted.xyxy)
        assert np.array_equal(result.detections.scores, wanted.scores)
        assert result.frame_index == now
        assert result.frame is frames[now]
    assert found_in(streamed) == found_in(pushed) == found_in(two_at_once)
    assert len(streamed) == count


def test_after_a_reset_nothing_is_left_of_the_frames_before(spec: ModelSpec, numpy_backend: Backends) -> None:
    detector = Detector(numpy_backend(spec), 0.05)
    fresh = found_in(list(detector.stream(frames_of(6))))
    continued = found_in(list(detector.stream(frames_of(6))))
    detector.reset()
    assert found_in(list(detector.stream(frames_of(6)))) == fresh
    assert continued[0][0] == 6  # without a reset it goes on
    assert continued[0][1] != fresh[0][1]


def test_boxes_are_in_the_pixels_of_each_frame(spec: ModelSpec, numpy_backend: Backends) -> None:
    plain = np.full((12, 20, 3), 90, np.uint8)
    large = np.full((120, 40, 3), 90, np.uint8)
    detector = Detector(numpy_backend(spec), 0.05)
    one, other = detector.push(plain), detector.push(large)
    assert one.orig_shape == (12, 20)
    assert len(one.detections) > 0
    assert np.allclose(one.detections.xyxy * [2, 10, 2, 10], other.detections.xyxy, rtol=1e-6)  # a few roundings
    assert other.detections.xyxy.max() > 20


def test_thresholds_may_be_given(spec: ModelSpec, numpy_backend: Backends) -> None:
    frame = frames_of(1)[0]
    counts = [
        len(Detector(numpy_backend(spec), confidence, iou).push(frame).detections)
        for confidence, iou in ((0.0, 1.0), (0.0, 0.0), (0.3, 1.0), (1.0, 1.0), (None, None))
    ]
    everything, apart, confident, nothing, usual = counts
    assert everything == 2 * 4 * 2 > max(apart, confident)
    assert min(apart, confident) > nothing == 0
    assert usual == len(
        Detector(numpy_backend(spec), spec.confidence_threshold, spec.nms_threshold).push(frame).detections
    )


class Broken:
    """A backend that answers well until a number of calls, and then with one value that is no number."""

    name, parallel, batch = "broken", 1, (1, None)

    def __init__(self, backend: Backend, calls: int, value: float) -> None:
        self.spec, self._backend, self._calls, self._value = backend.spec, backend, calls, value

    def infer(self, clips: NDArray[np.float32]) -> Float:
        answer = self._backend.infer(clips)
        self._calls -= 1
        if self._calls < 0:
            answer[0, -1, -1, -1] = self._value
        return answer

    def close(self) -> None:
        self._backend.close()

    def __enter__(self) -> Broken:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), float("-inf")])
def test_an_answer_that_is_no_number_stops_the_work_and_names_the_frame(
    value: float, spec: ModelSpec, numpy_backend: Backends
) -> None:
    detector = Detector(Broken(numpy_backend(spec), 2, value))
    seen = []
    with pytest.raises(ModelFileError, match=r"frame 2: .*NaN or infinity"):
        for result in detector.stream(frames_of(5)):
            seen.append(result.frame_index)
    assert seen == [0, 1]


def test_the_model_is_closed_with_the_detector(spec: ModelSpec, numpy_backend: Backends) -> None:
    backend = numpy_backend(spec)
    with Detector(backend) as detector:
        detector.push(frames_of(1)[0])
        assert backend.times_closed == 0
    assert backend.times_closed == 1
    with pytest.raises(InputError), Detector(backend) as detector:
        detector.push(np.zeros(3, np.uint8))
    assert backend.times_closed == 2


def test_a_bad_frame_is_refused_and_the_video_goes_on(spec: ModelSpec, numpy_backend: Backends) -> None:
    frames = frames_of(4)
    detector, undisturbed = Detector(numpy_backend(spec), 0.05), Detector(numpy_backend(spec), 0.05)
    results = []
    for frame in frames:
        with pytest.raises(InputError, match="frame is float64 of shape"):
            detector.push(frame.astype(float))  # type: ignore[arg-type]  # that is the point
        results.append(detector.push(frame))
    assert found_in(results) == found_in([undisturbed.push(frame) for frame in frames])


@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), float("-inf")])
def test_a_time_that_is_no_number_is_refused_and_the_video_goes_on(
    seconds: float, spec: ModelSpec, numpy_backend: Backends
) -> None:
    detector, [first, second] = Detector(numpy_backend(spec)), frames_of(2)
    with pytest.raises(InputError, match=f"the time of a frame is {seconds}, expected seconds, or None"):
        detector.push(first, timestamp=seconds)
    with pytest.raises(InputError, match="the time of a frame"):
        list(detector.stream([TimedFrame(first, 0, seconds)]))
    assert [detector.push(image, timestamp=at).timestamp for image, at in ((first, 0.5), (second, None))] == [0.5, None]


@pytest.mark.parametrize("error", [VideoError("breaks off"), InputError("no frame"), KeyboardInterrupt()])
def test_an_error_of_the_source_surfaces_after_the_results_before_it(
    error: BaseException, spec: ModelSpec, numpy_backend: Backends
) -> None:
    def source() -> Iterator[Frame]:
        yield from frames_of(3)
        raise error

    seen = []
    with pytest.raises(type(error)):
        for result in Detector(numpy_backend(spec)).stream(source()):
            seen.append(result.frame_index)
    assert seen == [0, 1, 2]


def test_a_stream_that_is_left_early_ends_its_thread(spec: ModelSpec, numpy_backend: Backends) -> None:
    def endless() -> Iterator[Frame]:
        while True:
            yield from frames_of(3)

    before = set(threading.enumerate())
    stream = Detector(numpy_backend(spec)).stream(endless())
    assert next(stream).frame_index == 0
    assert len(set(threading.enumerate()) - before) == 1
    stream.close()  # type: ignore[attr-defined]  # what leaving a `for` loop does
    assert not set(threading.enumerate()) - before


def test_every_stage_is_timed_in_milliseconds(
    spec: ModelSpec, numpy_backend: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = itertools.count(0.0, 0.25).__next__
    for module in (detector_module, result_linker):
        monkeypatch.setattr(module, "perf_counter", clock)
    result = Detector(numpy_backend(spec)).push(frames_of(1)[0])
    assert result.speed == {"preprocess": 250, "infer": 250, "postprocess": 250, "link": 250}
    assert result.latency_ms == 6 * 250  # the clock was asked seven times


def test_a_file_is_opened_with_the_options_of_open_model(
    onnx_model: Callable[..., Any], numpy_backend: Backends, spec: ModelSpec, tmp_path: Path
) -> None:
    pytest.importorskip("onnxruntime")
    file = tmp_path / "small.onnx"
    file.write_bytes(onnx_model(spec).SerializeToString())
    frames = frames_of(5)
    with Detector.open(file, 0.05, backend="onnxruntime", threads=1) as detector:
        assert (detector.spec, detector.backend.name) == (spec, "onnxruntime")
        results = list(detector.stream(frames))
    reference = list(Detector(numpy_backend(spec), 0.05).stream(frames))
    for found, wanted in zip(results, reference, strict=True):
        assert len(found.detections) == len(wanted.detections)
        # Raw outputs agree to 2e-5 (test_base.py); exp and sigmoid of them, times 20 pixels.
        assert np.allclose(found.detections.xyxy, wanted.detections.xyxy, atol=1e-3)
    with pytest.raises(InputError, match="not known"):
        Detector.open(file, backend="tensorflow")


class Recording:
    """A numpy backend that keeps its clips."""

    def __init__(self, backend: Any, parallel: int = 1) -> None:
        self.spec, self.name, self.parallel = backend.spec, "recording", parallel
        self.batch = backend.batch
        self.clips: list[NDArray[np.float32]] = []
        self._backend = backend

    def infer(self, clips: NDArray[np.float32]) -> Float:
        self.clips.append(clips)
        return np.asarray(self._backend.infer(clips))

    def close(self) -> None: ...


def memory_of(array: NDArray[Any]) -> int:
    """The array that a view is a view of."""
    while array.base is not None:
        array = array.base  # type: ignore[assignment]  # arrays of ours are made by numpy
    return id(array)


@pytest.mark.parametrize("parallel", [1, 2])
def test_a_frame_is_preprocessed_once_and_no_clip_is_copied(
    parallel: int, spec: ModelSpec, numpy_backend: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocessed = []
    monkeypatch.setattr(
        detector_module, "preprocess", lambda frame, spec: preprocessed.append(frame) or preprocess(frame, spec)
    )
    backend, frames = Recording(numpy_backend(spec), parallel), frames_of(20)
    detector = Detector(backend)  # type: ignore[arg-type]  # all of a backend that matters here
    for frame in frames[:10]:
        detector.push(frame)
    assert len(list(detector.stream(frames[10:]))) == 10
    assert len(backend.clips) == len(preprocessed) == 20
    assert all(one is other for one, other in zip(preprocessed, frames, strict=True))
    assert len({memory_of(clip) for clip in backend.clips}) == (1 if parallel == 1 else parallel + 1)


@pytest.mark.parametrize("parallel", [2, 3])
def test_a_clip_stays_as_it_is_while_an_engine_works_on_it(
    parallel: int, spec: ModelSpec, numpy_backend: Backends
) -> None:
    """The engine looks at a clip when as many frames as may come after it have come."""
    frames, came = frames_of(25), threading.Condition()

    class Late(Detector):
        latest = -1

        def _next(self, prepared: Any) -> Any:
            task = super()._next(prepared)
            with came:
                self.latest = task.number
                came.notify_all()
            return task

        def _ask(self, task: Any) -> Any:
            with came:
                came.wait_for(lambda: self.latest >= min(task.number + parallel, len(frames) - 1))
            return super()._ask(task)

    alone = Detector(numpy_backend(spec), 0.05)
    together = Late(Recording(numpy_backend(spec), parallel), 0.05)  # type: ignore[arg-type]
    assert found_in(list(together.stream(frames))) == found_in([alone.push(frame) for frame in frames])


class OneByOne:
    """A backend that takes a video frame by frame, and one call at a time; its streams can skip frames if asked to."""

    name, parallel, batch = "one by one", 2, (1, None)

    def __init__(self, backend: Any, skips: bool) -> None:
        self.spec, self._backend, self._skips = backend.spec, backend, skips
        self.calls: list[str] = []

    def infer(self, clips: NDArray[np.float32]) -> Float:
        self.calls.append("infer")
        return np.asarray(self._backend.infer(clips))

    def open_stream(self) -> Frames:
        return (SkippingFrames if self._skips else Frames)(self._backend, self.calls)

    def close(self) -> None: ...


class Frames:
    """A stream of `OneByOne`."""

    def __init__(self, backend: Any, calls: list[str]) -> None:
        self._backend, self._calls, self._thread = backend, calls, threading.get_ident()
        self._buffer = ClipBuffer(backend.spec)

    def push(self, planes: Float) -> Float:
        self._take("push")
        return np.asarray(self._backend.infer(self._buffer.push(planes)[None])[0])

    def reset(self) -> None:
        self._buffer.reset()

    def _take(self, call: str) -> None:
        assert threading.get_ident() == self._thread  # and so one call at a time
        self._calls.append(call)


class SkippingFrames(Frames):
    def skip(self, planes: Float) -> None:
        self._take("skip")
        self._buffer.push(planes)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.booleans(), max_size=14), st.integers(1, 3), st.integers(1, 3), st.booleans(), st.integers(0, 14))
def test_an_engine_that_takes_frames_gets_each_once_and_in_order(
    spec: ModelSpec, numpy_backend: Backends, resets: list[bool], frame_stride: int, every: int, skips: bool, cut: int
) -> None:
    spec = spec.replace(frame_stride=frame_stride)
    engine, frames = OneByOne(numpy_backend(spec), skips), frames_of(len(resets))
    detector = Detector(engine, 0.05, every=every)  # type: ignore[arg-type]
    clips = Detector(numpy_backend(spec), 0.05, every=every)
    found, expected = [], []
    for frame, anew in zip(frames[:cut], resets, strict=False):
        if anew:
            detector.reset()
            clips.reset()
        found.append(detector.push(frame))
        expected.append(clips.push(frame))
    found += detector.stream(frames[cut:])
    expected += clips.stream(frames[cut:])
    assert found_in(found) == found_in(expected)
    keys = [not result.carried for result in expected]
    if every == 1 or skips:
        assert engine.calls == ["push" if key else "skip" for key in keys]
    else:
        assert engine.calls.count("infer") == len(engine.calls) == sum(keys)


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 5), st.integers(1, 14), st.integers(1, 2))
def test_with_a_stride_every_so_many_frames_are_asked_for_and_the_others_carried(
    spec: ModelSpec, numpy_backend: Backends, every: int, count: int, parallel: int
) -> None:
    backend, frames = numpy_backend(spec), frames_of(count)
    backend.parallel = parallel
    detector = Detector(numpy_backend(spec), 0.05)
    full = [detector.push(frame) for frame in frames]
    strided = list(Detector(backend, 0.05, every=every).stream(frames))
    assert len(backend.batches) == -(-count // every)
    assert [result.frame_index for result in strided] == list(range(count))
    assert [result.carried for result in strided] == [number % every != 0 for number in range(count)]
    for number, result in enumerate(strided):
        key = number - number % every
        assert found_in([result])[0][1] == found_in([full[key]])[0][1]
        assert np.array_equal(result.detections.tracker_id, strided[key].detections.tracker_id)  # type: ignore[arg-type]
        assert result.frame is frames[number]
        assert not (result.carried and (result.ended or result.best_score))


@pytest.mark.parametrize("every", [51, 52, 70])
def test_people_are_followed_however_rarely_the_model_runs(
    every: int, spec: ModelSpec, numpy_backend: Backends
) -> None:
    detector, still = Detector(numpy_backend(spec), 0.05, every=every), np.full((12, 20, 3), 90, np.uint8)
    results = [detector.push(still) for _ in range(3 * every + 1)]
    people = [result.detections.tracker_id for result in results]
    assert len(results[0].detections) and all(np.array_equal(each, people[0]) for each in people)  # type: ignore[arg-type]
    tubes = detector.finish()
    assert len(tubes) == len(results[0].detections)
    assert all(tube.frames.tolist() == list(range(3 * every + 1)) for tube in tubes)


def test_people_keep_their_ids_and_their_tubes_end_once(spec: ModelSpec, numpy_backend: Backends) -> None:
    still = [np.full((12, 20, 3), 90, np.uint8)] * 8
    detector = Detector(numpy_backend(spec), 0.05, linker=OnlineLinker(patience=1), every=2)
    results = [detector.push(frame) for frame in still]
    people = results[0].detections.tracker_id
    assert people is not None and len(people) > 0
    for result in results:
        assert np.array_equal(result.detections.tracker_id, people)  # type: ignore[arg-type]
        assert [tube.tracker_id for tube in result.tubes] == sorted(people.tolist())
    assert not any(result.ended for result in results)
    ended = detector.finish()
    assert sorted(tube.tracker_id for tube in ended) == sorted(people.tolist())  # type: ignore[type-var]
    assert all(tube.frames.tolist() == list(range(7)) for tube in ended)  # between key frames on a straight line
    assert detector.finish() == ()


@pytest.mark.parametrize("every", [1, 3])
def test_every_tube_is_told_once_and_then_forgotten(every: int, spec: ModelSpec, numpy_backend: Backends) -> None:
    detector = Detector(numpy_backend(spec), 0.05, every=every, linker=OnlineLinker(patience=0, min_iou=0.5))
    seen, ended = set(), []
    for result in detector.stream(frames_of(60)):
        seen |= set(result.detections.tracker_id.tolist())  # type: ignore[union-attr]
        ended += [tube.tracker_id for tube in result.ended]
        assert len(detector._linker._linker._alive) <= 16  # as many as a frame of this model can have
        assert detector._linker._linker._ended == []
    assert len(ended) > 30 // every
    ended += [tube.tracker_id for tube in detector.finish()]
    assert sorted(ended) == sorted(seen)  # type: ignore[type-var]


def test_numbers_and_times_go_through_and_gaps_stay_gaps(spec: ModelSpec, numpy_backend: Backends) -> None:
    timed = [TimedFrame(frame, index, index / 10) for frame, index in zip(frames_of(3), (0, 4, 5), strict=True)]
    detector = Detector(numpy_backend(spec), 0.05)
    detector.reset("yard")
    streamed = list(detector.stream(timed))
    detector.reset("yard")
    pushed = [detector.push(image, timestamp, index) for image, index, timestamp in timed]
    for results in (streamed, pushed):
        assert [(r.frame_index, r.timestamp, r.source) for r in results] == [
            (0, 0.0, "yard"), (4, 0.4, "yard"), (5, 0.5, "yard")
        ]  # fmt: skip
    with pytest.raises(InputError, match="frame 5 comes after frame 5"):
        detector.push(frames_of(1)[0], index=5)
    assert detector.push(frames_of(1)[0]).frame_index == 6


def test_a_size_that_changes_ends_the_tubes_and_asks_the_engine(spec: ModelSpec, numpy_backend: Backends) -> None:
    detector = Detector(numpy_backend(spec), 0.05, every=5)
    small, large = (np.full((side, side, 3), 90, np.uint8) for side in (12, 120))
    first, carried, *_, other = [detector.push(frame) for frame in (*[small] * 7, large)]
    assert (first.carried, carried.carried, other.carried) == (False, True, False)
    assert {tube.tracker_id for tube in other.ended} == {tube.tracker_id for tube in first.tubes} != set()
    assert not {tube.tracker_id for tube in other.tubes} & {tube.tracker_id for tube in other.ended}


def test_only_wanted_classes_are_told(spec: ModelSpec, numpy_backend: Backends) -> None:
    frames = frames_of(12)
    detector, some = Detector(numpy_backend(spec), 0.05), Detector(numpy_backend(spec), 0.05, classes=["sit"])
    everything = [detector.push(frame) for frame in frames]
    told = [some.push(frame) for frame in frames]
    assert 0 < sum(len(r.detections) for r in told) < sum(len(r.detections) for r in everything)
    for one, other in zip(told, everything, strict=True):
        rows = other.detections.class_id == 1
        assert np.array_equal(one.detections.xyxy, other.detections.xyxy[rows])
        assert np.array_equal(one.detections.tracker_id, other.detections.tracker_id[rows])  # type: ignore[index,arg-type]
        assert not one.detections.scores[:, [0, 2]].any()
        assert {tube.class_id for tube in (*one.tubes, *one.ended)} <= {1}
    with pytest.raises(InputError, match="no class 'run', expected some of walk, sit, stand"):
        Detector(numpy_backend(spec), classes=["run"])


@pytest.mark.parametrize("sigmoids", [False, True])
def test_the_best_score_is_told_though_nothing_is_shown(
    sigmoids: bool, spec: ModelSpec, numpy_backend: Backends
) -> None:
    """Of AVA's models too, whose boxes are found by objectness and shown by the scores of their classes."""
    spec = spec.replace(class_activation="softmax+sigmoid", softmax_classes=0) if sigmoids else spec
    frame = frames_of(1)[0]
    best = Detector(numpy_backend(spec), 0.0).push(frame)
    nothing = Detector(numpy_backend(spec), 1.0).push(frame)
    assert len(nothing.detections) == 0
    assert nothing.best_score == best.best_score == best.detections.confidence.max() > 0


@pytest.mark.parametrize(
    "frame", [np.zeros((1, 1, 3), np.uint8), np.zeros((5, 7), np.uint8), np.zeros((5, 7, 4), np.uint8)]
)
def test_odd_frames_give_results_that_can_be_drawn(
    frame: NDArray[Any], spec: ModelSpec, numpy_backend: Backends
) -> None:
    result = Detector(numpy_backend(spec), 0.0).push(frame)
    assert result.orig_shape == frame.shape[:2]
    assert result.plot().shape == (*frame.shape[:2], 3)


def test_a_stride_that_cannot_be_is_refused(spec: ModelSpec, numpy_backend: Backends) -> None:
    with pytest.raises(InputError, match="every is 0"):
        Detector(numpy_backend(spec), every=0)


def test_a_hard_cut_ends_the_tubes_and_runs_the_model(spec: ModelSpec, numpy_backend: Backends) -> None:
    dark, light = (np.full((48, 64, 3), level, np.uint8) for level in (20, 230))
    frames = [*[dark] * 7, *[light] * 7]
    for cuts in (True, False):
        detector = Detector(numpy_backend(spec), 0.05, every=3, cuts=cuts)
        results = [detector.push(frame) for frame in frames]
        before, after = ({tube.tracker_id for tube in results[at].tubes} for at in (6, 7))
        assert before and results[7].carried is not cuts
        if cuts:
            assert {tube.tracker_id for tube in results[7].ended} == before and not before & after
        else:
            assert not results[7].ended


def test_a_model_with_averaged_scores_shows_who_stays(spec: ModelSpec, numpy_backend: Backends) -> None:
    """Every box belongs to somebody who once exceeded the confidence, and exceeds `keep` itself; `--no-tube-scores` and
    `keep` 0 give every frame alone."""
    steady = spec.replace(tube_decay=0.97, keep_threshold=0.1, confidence_threshold=0.3)
    frames = frames_of(20)
    appeared: set[int] = set()
    detector = Detector(numpy_backend(steady))
    for frame in frames:
        found = detector.push(frame).detections
        assert found.tracker_id is not None and found.objectness is not None
        appeared |= set(found.tracker_id[found.confidence > 0.3].tolist())
        assert set(found.tracker_id.tolist()) <= appeared and (found.objectness > 0.1).all()
    alone = Detector(numpy_backend(steady), keep=0.0, tube_scores=False, cuts=False)
    plain = Detector(numpy_backend(spec), 0.3)
    for frame in frames:
        one, other = alone.push(frame).detections, plain.push(frame).detections
        assert np.array_equal(one.xyxy, other.xyxy) and np.array_equal(one.scores, other.scores)


@pytest.mark.parametrize("options", [{"confidence": 1.5}, {"keep": -0.1}, {"iou": float("nan")}])
def test_thresholds_that_are_none_are_refused(
    options: dict[str, float], spec: ModelSpec, numpy_backend: Backends
) -> None:
    with pytest.raises(InputError, match="expected 0 to 1"):
        Detector(numpy_backend(spec), **options)  # type: ignore[arg-type]


class Waiting:
    """A backend whose first answer waits until it is let go."""

    name, parallel, batch = "waiting", 1, (1, None)

    def __init__(self, backend: Any) -> None:
        self.spec, self._backend = backend.spec, backend
        self.asked, self.free = threading.Event(), threading.Event()

    def infer(self, clips: NDArray[np.float32]) -> Float:
        self.asked.set()
        assert self.free.wait()
        return np.asarray(self._backend.infer(clips))

    def close(self) -> None: ...


def test_a_second_thread_is_refused_and_the_first_goes_on(spec: ModelSpec, numpy_backend: Backends) -> None:
    backend, frames, first = Waiting(numpy_backend(spec)), frames_of(2), list[Result]()
    detector = Detector(backend, 0.05)  # type: ignore[arg-type]  # as far as a detector needs it
    thread = threading.Thread(target=lambda: first.append(detector.push(frames[0])))
    thread.start()
    assert backend.asked.wait()
    for call in (lambda: detector.push(frames[1]), lambda: next(detector.stream(frames))):
        with pytest.raises(InputError, match=r"while push\(\) of the same detector is at work.*StreamPool"):
            call()
    backend.free.set()
    thread.join()
    both = [*first, detector.push(frames[1])]
    assert found_in(both) == found_in(list(Detector(numpy_backend(spec), 0.05).stream(frames)))


def test_two_streams_of_one_detector_are_refused_until_the_first_has_ended(
    spec: ModelSpec, numpy_backend: Backends
) -> None:
    detector, frames = Detector(numpy_backend(spec), 0.05), frames_of(4)
    first = detector.stream(frames)
    next(first)
    for call in (
        lambda: next(detector.stream(frames)),
        lambda: detector.push(frames[0]),
        lambda: next(detector.detections(frames)),
    ):
        with pytest.raises(InputError, match=r"while stream\(\) of the same detector is at work.*end that one first"):
            call()
    assert [result.frame_index for result in first] == [1, 2, 3]  # undisturbed
    left = detector.stream(frames)
    next(left)
    left.close()
    assert len(list(detector.stream(frames))) == 4


def test_after_close_frames_are_refused(spec: ModelSpec, numpy_backend: Backends) -> None:
    with Detector(numpy_backend(spec)) as detector:
        detector.push(frames_of(1)[0])
    for call in (lambda: detector.push(frames_of(1)[0]), lambda: next(detector.stream(frames_of(1)))):
        with pytest.raises(InputError, match=r"after the detector was closed.*`with` block"):
            call()
    detector.close()


def test_a_detector_prints_in_one_line(spec: ModelSpec, numpy_backend: Backends) -> None:
    detector = Detector(numpy_backend(spec.replace(name="two\nlines")), 0.05)
    detector.push(frames_of(1)[0])
    assert repr(detector) == "Detector(two lines, 3 classes, numpy, confidence 0.05, 1 frames so far)"
    detector.close()
    assert repr(detector).endswith(", closed)")


# By the module whose `open_model` it calls: what opens a file and takes the option `clips`.
DOORS: dict[str, Callable[[bool], Any]] = {
    "yowo_deploy.detector.open_model": lambda clips: Detector.open("m.onnx", clips=clips),
    "yowo_deploy.stream_pool.open_model": lambda clips: StreamPool.open("m.onnx", clips=clips),
    "yowo_deploy.detection.settings.open_model": lambda clips: Settings(
        Outputs(json="-"), "m.onnx", clips=clips, tune=False
    ).open_detector(False, "a.webm"),
    "yowo_deploy.detection.settings.open_model ": lambda clips: Settings(
        Outputs(json="-"), "m.onnx", clips=clips
    ).open_pool(),
    "yowo_deploy.archive.settings.open_pinned": lambda clips: ArchiveSettings(
        Path(), "m.onnx", clips=clips
    ).open_detector(),
    "yowo_deploy.backends.loader.open_model": lambda clips: served(clips),
}


def served(clips: bool) -> None:
    """`serve`, which ends where it would begin to serve."""

    def stop(*_: object, **__: object) -> None:
        raise InputError("would serve")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("yowo_deploy.serving.application.app", stop)
        found = CliRunner().invoke(cli, ["serve", "--port", "0", *(["--clips"] if clips else [])]).exception
    if str(found) != "would serve":
        raise found or AssertionError


@pytest.mark.parametrize("door", DOORS)
def test_whole_clips_of_a_streaming_file_are_refused_wherever_they_can_be_asked_for(
    door: str, spec: ModelSpec, numpy_backend: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend = numpy_backend(spec.replace(streaming=True))
    monkeypatch.setattr(door.strip(), lambda *_, **__: backend)
    with pytest.raises(InputError, match="is a streaming file, which takes single frames: leave --clips and max_batch"):
        DOORS[door](True)
    assert backend.times_closed == 1
    DOORS[door](False)
    backend.spec = spec  # a file of clips, whatever it carries
    DOORS[door](True)


def test_a_pool_refuses_batches_of_a_streaming_file(spec: ModelSpec, numpy_backend: Backends) -> None:
    with pytest.raises(InputError, match="leave --clips and max_batch out"):
        StreamPool(numpy_backend(spec.replace(streaming=True)), max_batch=4)
    StreamPool(numpy_backend(spec.replace(streaming=True)), max_batch=1).close()


@pytest.mark.parametrize("call", [Detector.open, StreamPool.open])
def test_a_file_is_opened_with_all_options_of_open_model_and_of_a_detector(call: Callable[..., object]) -> None:
    """By their names, types and defaults, so that editors show them; a pool chooses the number of calls itself.

    Which form of a file is opened follows from what is asked of it: frames of one video, or clips.
    """
    given = dict(inspect.signature(call).parameters)
    wanted = {**inspect.signature(DetectorOptions).parameters, **inspect.signature(open_model).parameters}
    assert wanted.pop("streaming").default is None
    assert given.pop("clips").default is False
    if call == StreamPool.open:
        assert given.pop("parallel").default is None and wanted.pop("parallel").default == 1
        assert [given.pop(name).default for name in ("max_wait_ms", "max_batch")] == [0, None]
    path = given.pop("path")
    assert path.default == "default" and wanted.pop("path")
    assert {**given} == {**wanted}
