"""Many streams through one engine: each gives what it gives alone, and none waits for another."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tests.local_camera import LocalCamera
from tests.waiting import NEVER_S, stands_in, wait_until
from yowo_deploy import stream_pool as pool_module
from yowo_deploy.arrays import Float, Frame
from yowo_deploy.backends.loader import open_model
from yowo_deploy.detector import Detector, Result
from yowo_deploy.errors import EngineError, InputError, ModelFileError, VideoError
from yowo_deploy.spec import ModelSpec
from yowo_deploy.stream_pool import StreamPool
from yowo_deploy.video import sources
from yowo_deploy.video.sources import open_source

Backends = Callable[[ModelSpec], Any]  # the factory of conftest.py


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """`close` and `remove` wait for threads, however long a busy machine takes to end them."""
    for module in (sources, pool_module):
        monkeypatch.setattr(module, "CLOSE_S", NEVER_S)


def frames_of(count: int, seed: int) -> list[Frame]:
    return list(np.random.default_rng(seed).integers(0, 256, (count, 12, 20 + seed, 3), np.uint8))


def said(results: list[Result]) -> list[Any]:
    """All that results say of their frames, without times."""
    names = ("xyxy", "scores", "class_id")
    return [[np.asarray(getattr(result.detections, name)).tolist() for name in names] for result in results]


def alone(backend: Any, frames: list[Frame]) -> list[Any]:
    detector = Detector(backend, 0.05)
    return said([detector.push(frame) for frame in frames])


def by_name(pool: StreamPool) -> dict[str, list[Result]]:
    found: dict[str, list[Result]] = {}
    for name, result in pool:
        found.setdefault(name, []).append(result)
    return found


@settings(max_examples=15, deadline=None)
@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=5),
    st.integers(1, 3),
    st.integers(1, 4),
    st.sampled_from([0, 2]),
    st.randoms(use_true_random=False),
)
def test_every_stream_gives_what_it_gives_alone(
    spec: ModelSpec,
    numpy_backend: Backends,
    counts: list[int],
    parallel: int,
    max_batch: int,
    max_wait_ms: float,
    chance: random.Random,
) -> None:
    videos = {str(seed): frames_of(count, seed) for seed, count in enumerate(counts)}

    def at_some_pace(frames: list[Frame]) -> Iterator[Frame]:
        naps = [chance.choice([0, 0, 0.002]) for _ in frames]
        for frame, nap in zip(frames, naps, strict=True):
            time.sleep(nap)
            yield frame

    backend = numpy_backend(spec)
    backend.parallel = parallel
    with StreamPool(backend, max_wait_ms, max_batch, confidence=0.05) as pool:
        for name, frames in videos.items():
            pool.add(name, at_some_pace(frames))
        found = by_name(pool)
        assert pool.errors == {}
    assert sum(backend.batches) == sum(counts)
    reference = numpy_backend(spec)
    for name, frames in videos.items():
        results = found.get(name, [])
        assert all(result.frame is frame for result, frame in zip(results, frames, strict=True))
        assert said(results) == alone(reference, frames)
    assert backend.times_closed == 1


@settings(max_examples=15, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 2), st.sampled_from(["push"] * 5 + ["reset"])), max_size=25))
def test_frames_pushed_in_any_order_give_what_detectors_give(
    spec: ModelSpec, numpy_backend: Backends, steps: list[tuple[int, str]]
) -> None:
    detectors = [Detector(numpy_backend(spec), 0.05) for _ in range(3)]
    wanted, futures = [], []
    with StreamPool(numpy_backend(spec), confidence=0.05) as pool:
        for number, (stream, step) in enumerate(steps):
            frame = frames_of(1, number)[0]
            if step == "push":
                wanted.append(detectors[stream].push(frame))
                futures.append(pool.push(str(stream), frame))
            elif str(stream) in pool._streams:
                detectors[stream].reset()
                pool.reset(str(stream))
        assert said([future.result() for future in futures]) == said(wanted)


class Picky:
    """A backend that answers, or waits, or fails, by the first number of a clip's newest frame."""

    name, parallel, batch = "picky", 1, (1, None)

    def __init__(self, backend: Any, fails: Callable[[NDArray[np.float32]], bool]) -> None:
        self.spec, self._backend, self._fails = backend.spec, backend, fails

    def infer(self, clips: NDArray[np.float32]) -> Float:
        answer = self._backend.infer(clips)
        for number, clip in enumerate(clips):
            if self._fails(clip):
                answer[number, 0, 0, 0] = np.nan
        return answer

    def close(self) -> None:
        self._backend.close()


def bright(clip: NDArray[np.float32]) -> bool:
    return bool(clip[:, -1].min() > 0.9 * clip.max() > 0)


def test_an_error_of_one_stream_is_its_own(spec: ModelSpec, numpy_backend: Backends) -> None:
    good = frames_of(12, 1)
    bad = [*frames_of(3, 2), np.full((12, 20, 3), 255, np.uint8), *frames_of(3, 3)]

    def breaks_off() -> Iterator[Frame]:
        yield from good[:4]
        raise VideoError("breaks off")

    def wrong_kind() -> Iterator[Any]:
        yield good[0]
        yield np.zeros((12, 20, 3))

    assert not any(bright(frame.transpose(2, 0, 1)[:, None] / 255) for frame in [*good, *bad[:3]])
    with StreamPool(Picky(numpy_backend(spec), bright), max_wait_ms=2, confidence=0.05) as pool:
        pool.add("good", good)
        pool.add("nan", bad)
        pool.add("broken", breaks_off())
        pool.add("wrong", wrong_kind())
        pool.add("absent", "absent.mp4")
        pool.add("unreachable", "rtsp://user:s3cret@127.0.0.1:1/live")
        found = by_name(pool)
        errors = pool.errors
    assert said(found["good"]) == alone(numpy_backend(spec), good)
    assert {name: len(results) for name, results in found.items()} == {"good": 12, "nan": 3, "broken": 4, "wrong": 1}
    assert {name: type(error) for name, error in errors.items()} == {
        "nan": ModelFileError,
        "broken": VideoError,
        "wrong": InputError,
        "absent": InputError,
        "unreachable": VideoError,
    }
    assert "s3cret" not in str(errors)


def test_a_stream_that_gives_nothing_holds_no_other(spec: ModelSpec, numpy_backend: Backends) -> None:
    """Not while it waits for its camera, and not while it is closed."""
    go_on = threading.Event()

    def silent() -> Iterator[Frame]:
        yield frames_of(1, 5)[0]
        go_on.wait()

    with StreamPool(numpy_backend(spec), max_wait_ms=1000 * NEVER_S, confidence=0.05) as pool:
        pool.add("silent", silent())
        pool.add("lively", frames_of(20, 1))
        seen = []
        for name, _ in pool:
            seen.append(name)
            if seen.count("lively") == 20 and "silent" in seen:
                break
        go_on.set()
    assert sorted(seen) == ["lively"] * 20 + ["silent"]


def test_streams_take_turns(spec: ModelSpec, numpy_backend: Backends) -> None:
    """However fast one of them is, between two of its results there is one of every other that has any."""
    with StreamPool(numpy_backend(spec), confidence=0.05) as pool:
        for number in range(3):
            pool.add(str(number), frames_of(20, number))
        order, results = [], iter(pool)
        for _ in range(3 * 20):  # a reader so slow that every stream has results waiting
            wait_until(lambda: all(stream.results or stream.ended for stream in pool._streams.values()))
            order.append(next(results).name)
    assert order == ["0", "1", "2"] * 20


def test_no_more_is_worked_out_than_the_reader_takes(spec: ModelSpec, numpy_backend: Backends) -> None:
    made = 0

    def endless() -> Iterator[Frame]:
        nonlocal made
        while True:
            made += 1
            yield frames_of(1, 0)[0]

    with StreamPool(numpy_backend(spec)) as pool:
        pool.add("endless", endless())
        worker = pool._streams["endless"]._thread
        assert worker is not None
        wait_until(lambda: made > pool_module.WAITING + 1 or stands_in(worker, "_deliver"))
        assert made == pool_module.WAITING + 1  # results waiting, and one for which there is no room


def test_a_camera_that_comes_and_goes_is_a_stream_like_any_other(spec: ModelSpec, numpy_backend: Backends) -> None:
    with LocalCamera(fps=100) as camera, StreamPool(numpy_backend(spec), max_wait_ms=5) as pool:
        source = open_source(camera.url, timeout_s=NEVER_S)
        pool.add("camera", source)
        pool.add("file", frames_of(5, 1))
        seen: list[str] = []
        for name, _ in pool:
            seen.append(name)
            if name == "camera" and seen.count("camera") == 10:
                camera.kill()
                camera.start()
            if source.counts.reconnects and name == "camera" and seen.count("file") == 5:
                break
        assert source.counts.reconnects == 1 and seen.count("camera") > 10
        pool.remove("camera")
        assert list(pool.sources) == [] and pool.errors == {}


def test_names_are_unique_until_they_are_removed(spec: ModelSpec, numpy_backend: Backends) -> None:
    with StreamPool(numpy_backend(spec)) as pool:
        pool.add("door", frames_of(1, 0))
        with pytest.raises(InputError, match="'door' already exists"):
            pool.add("door", frames_of(1, 0))
        with pytest.raises(InputError, match="'door' reads a source"):
            pool.push("door", frames_of(1, 0)[0])
        with pytest.raises(InputError, match="there is no stream 'yard', only 'door'"):
            pool.reset("yard")
        assert len(by_name(pool)["door"]) == 1
        pool.remove("door")
        pool.add("door", frames_of(2, 0))
        assert len(by_name(pool)["door"]) == 2
    with pytest.raises(InputError, match="the pool is closed"):
        pool.add("yard", frames_of(1, 0))
    with pytest.raises(InputError, match="the pool is closed"):
        pool.push("yard", frames_of(1, 0)[0])
    assert list(pool) == []
    pool.close()


def test_a_pushed_frame_that_is_none_fails_alone(spec: ModelSpec, numpy_backend: Backends) -> None:
    frames = frames_of(3, 0)
    with StreamPool(numpy_backend(spec), confidence=0.05) as pool:
        futures = [pool.push("door", frame) for frame in (frames[0], np.zeros((2, 2, 3)), *frames[1:])]
        with pytest.raises(InputError):
            futures[1].result()
        assert said([futures[index].result() for index in (0, 2, 3)]) == alone(numpy_backend(spec), frames)


def test_closing_while_streams_run_leaves_no_thread(spec: ModelSpec, numpy_backend: Backends) -> None:
    before = set(threading.enumerate())
    with LocalCamera(fps=100) as camera, StreamPool(numpy_backend(spec)) as pool:
        pool.add("camera", camera.url, timeout_s=NEVER_S)
        pool.add("frames", frames_of(500, 0))
        future = pool.push("pushed", frames_of(1, 0)[0])
        for _ in range(5):
            next(iter(pool))
        assert isinstance(future.result(), Result)
    wait_until(lambda: not set(threading.enumerate()) - before)
    assert not any(isinstance(error, EngineError) for error in pool.errors.values())


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_file_with_a_fixed_batch_is_taken_or_refused_in_a_sentence(
    backend: str, spec: ModelSpec, onnx_model: Callable[..., Any], numpy_backend: Backends, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    frames = frames_of(4, 0)
    for size in (1, 4):
        tensor = onnx.helper.make_tensor_value_info
        columns, rows = spec.grid_size
        model = onnx_model(
            spec,
            inputs=[tensor("clip", onnx.TensorProto.FLOAT, [size, *spec.clip_shape])],
            outputs=[tensor("raw", onnx.TensorProto.FLOAT, [size, spec.output_channels, rows, columns])],
        )
        onnx.save(model, tmp_path / f"{size}.onnx")
    with pytest.raises(ModelFileError, match="takes at least 4 clips a call"):
        StreamPool.open(tmp_path / "4.onnx", backend=backend)
    with pytest.raises(InputError, match="max_batch is 2, expected 1 to 1"):
        StreamPool.open(tmp_path / "1.onnx", max_batch=2, backend=backend)
    with StreamPool.open(tmp_path / "1.onnx", max_wait_ms=2, confidence=0.05, backend=backend, threads=2) as pool:
        for name in "ab":
            pool.add(name, frames)
        found = by_name(pool)
        assert set(pool.backend.calls) == {1}
    for results in found.values():
        for result, wanted in zip(results, alone_results(numpy_backend(spec), frames), strict=True):
            np.testing.assert_allclose(result.detections.xyxy, wanted.detections.xyxy, atol=1e-3)  # of 20 pixels


def alone_results(backend: Any, frames: list[Frame]) -> list[Result]:
    detector = Detector(backend, 0.05)
    return [detector.push(frame) for frame in frames]


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_the_default_model_finds_the_same_in_company(backend: str) -> None:
    """A call's size does not change what it says of a clip: both engines gave the same bits for 1, 2, 3 and 4."""
    pytest.importorskip(backend)
    scene = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8).repeat(20, 0).repeat(20, 1)
    videos = {str(name): [np.roll(scene, 7 * name * number, axis=1) for number in range(2)] for name in range(1, 4)}
    wanted = {}
    engine = open_model("default", backend=backend)
    for name, frames in videos.items():
        detector = Detector(engine, 0.0)
        wanted[name] = [detector.push(frame).detections for frame in frames]
    with StreamPool(engine, max_wait_ms=1000 * NEVER_S, max_batch=3, confidence=0.0) as pool:
        pool.backend.join()  # a caller who never asks: the others wait for each other until a call is full
        for name, frames in videos.items():
            pool.add(name, frames)
        found = by_name(pool)
        assert pool.backend.calls == {3: 2}
    for name, results in found.items():
        for result, same in zip(results, wanted[name], strict=True):
            assert len(same) > 20
            np.testing.assert_array_equal(result.detections.xyxy, same.xyxy)
            np.testing.assert_array_equal(result.detections.scores, same.scores)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_a_form_that_takes_frames_gives_in_company_what_it_gives_alone(backend: str) -> None:
    """Of the default model, which carries one: each stream has a state of its own over one engine."""
    pytest.importorskip(backend)
    scene = np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8).repeat(20, 0).repeat(20, 1)
    videos = {str(name): [np.roll(scene, 7 * name * number, axis=1) for number in range(3)] for name in range(1, 4)}
    with StreamPool.open(backend=backend, confidence=0.0, parallel=2) as pool:
        assert pool.spec.streaming
        wanted = {}
        for name, frames in videos.items():
            detector = Detector(pool.backend, 0.0)
            wanted[name] = [detector.push(frame).detections for frame in frames]
        for name, frames in videos.items():
            pool.add(name, frames)
        for name, results in by_name(pool).items():
            for result, same in zip(results, wanted[name], strict=True):
                assert len(same) > 20
                np.testing.assert_array_equal(result.detections.xyxy, same.xyxy)
                np.testing.assert_array_equal(result.detections.scores, same.scores)


@pytest.mark.parametrize(
    ("options", "streaming"),
    [
        ({}, "many"), ({"device": "cpu", "parallel": 3}, "many"), ({"clips": True}, None), ({"every": 2}, None),
        ({"max_batch": 4}, None), ({"max_wait_ms": 5.0}, "many"), ({"device": "cuda"}, None),
    ],
)  # fmt: skip
def test_clips_are_taken_where_calls_are_to_hold_several(
    options: dict[str, Any],
    streaming: str | None,
    spec: ModelSpec,
    numpy_backend: Backends,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []
    monkeypatch.setattr(
        "yowo_deploy.stream_pool.open_model",
        lambda *_, streaming: asked.append(streaming) or numpy_backend(spec),
    )
    StreamPool.open("m.onnx", **options).close()
    assert asked == [streaming]


def test_a_frame_for_a_stream_that_was_closed_meanwhile_is_refused(spec: ModelSpec, numpy_backend: Backends) -> None:
    with StreamPool(numpy_backend(spec)) as pool:
        pool.push("door", frames_of(1, 0)[0]).result()
        stream = pool._streams["door"]
        pool.remove("door")
        for _ in range(pool_module.WAITING + 1):  # none of them takes the room of another
            with pytest.raises(InputError, match="'door' is closed"):
                stream.push(frames_of(1, 0)[0])
        assert isinstance(pool.push("door", frames_of(1, 0)[0]).result(), Result)


def test_a_pool_that_cannot_be_made_leaves_nothing_behind(spec: ModelSpec, numpy_backend: Backends) -> None:
    before = set(threading.enumerate())
    with pytest.raises(InputError, match="no class 'nope'"):
        StreamPool(numpy_backend(spec), classes=["nope"])
    assert not set(threading.enumerate()) - before


def test_a_pool_prints_in_one_line_with_its_streams(spec: ModelSpec, numpy_backend: Backends) -> None:
    with StreamPool(numpy_backend(spec)) as pool:
        assert repr(pool).endswith(": no streams)")
        pool.push("door\nbell", frames_of(1, 0)[0]).result()
        assert repr(pool).startswith("StreamPool(yowo, 3 classes, ") and repr(pool).endswith(": door bell)")
    assert repr(pool).endswith(": closed)")
