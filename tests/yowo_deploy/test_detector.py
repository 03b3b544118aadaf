"""The loop of an application: pushed or streamed, the same frames give the same results."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from yowo_deploy import detector as detector_module
from yowo_deploy.backends.base import Backend
from yowo_deploy.boxes import Detections, Float
from yowo_deploy.decode import detect
from yowo_deploy.detector import Detector, Result
from yowo_deploy.draw import draw
from yowo_deploy.errors import InputError, ModelFileError, VideoError
from yowo_deploy.preprocess import Frame, preprocess
from yowo_deploy.spec import ModelSpec

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
    backend.streams = 2
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

    name, streams = "broken", 1

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
        detector.push(np.zeros((3, 3), np.uint8))
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

    threads = threading.active_count()
    stream = Detector(numpy_backend(spec)).stream(endless())
    assert next(stream).frame_index == 0
    assert threading.active_count() == threads + 1
    stream.close()  # type: ignore[attr-defined]  # what leaving a `for` loop does
    assert threading.active_count() == threads


def test_a_result_says_the_same_as_a_dict_and_as_a_line_of_json() -> None:
    found = Detections(
        np.array([[1.234567, 2, 30.005, 40]], np.float32),
        np.array([0.123456789], np.float32),
        np.array([1]),
        np.array([[0.1, 0.123456789]], np.float32),
    )
    result = Result(7, frames_of(1)[0], found, ("歩く", 'si"t'), {"infer": 1.0})
    row = {"label": 'si"t', "class_id": 1, "confidence": 0.12346, "xyxy": [1.23, 2.0, 30.0, 40.0]}
    assert result.summary() == [{**row, "xyxy": pytest.approx([1.23, 2, 30.005, 40], abs=0.0051)}]
    assert "\n" not in result.to_json()
    assert json.loads(result.to_json()) == {"frame": 7, "detections": result.summary()}


def test_a_plot_is_the_frame_with_its_detections_drawn(spec: ModelSpec, numpy_backend: Backends) -> None:
    frame = frames_of(1, height=120, width=160)[0]
    before = frame.copy()
    result = Detector(numpy_backend(spec), 0.05).push(frame)
    assert np.array_equal(result.plot(), draw(before, result.detections, spec.labels))
    assert not np.array_equal(result.plot(), before)
    assert np.array_equal(frame, before)


def test_every_stage_is_timed_in_milliseconds(
    spec: ModelSpec, numpy_backend: Backends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(detector_module, "perf_counter", itertools.count(0.0, 0.25).__next__)
    result = Detector(numpy_backend(spec)).push(frames_of(1)[0])
    assert result.speed == {"preprocess": 250, "infer": 250, "postprocess": 250}


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
