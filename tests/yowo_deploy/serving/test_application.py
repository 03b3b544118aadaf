"""The protocol: answers are those of a `Detector`, and the server describes itself."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from tests.yowo_deploy.serving.calls import STREAM_INFER, Answer, Running, as_json, ask, binary
from yowo_deploy.arrays import Frame
from yowo_deploy.backends.base import Backend, Engine
from yowo_deploy.detector import Detector
from yowo_deploy.errors import EngineError, InputError, MissingExtraError
from yowo_deploy.model_files.default import DEFAULT
from yowo_deploy.result import Result
from yowo_deploy.serving import app
from yowo_deploy.serving.models import clip_tensors
from yowo_deploy.spec import ModelSpec

MakeBackend = Callable[[ModelSpec], Backend]


def same(answer: Answer, result: Result) -> None:
    """To the bit, shapes and types among it."""
    found = result.detections
    expected = {"boxes": found.xyxy, "scores": found.confidence, "classes": found.class_id, "people": found.tracker_id}
    assert list(answer.arrays) == list(expected)
    for name, array in answer.arrays.items():
        assert array.dtype == expected[name].dtype and array.shape == expected[name].shape, name
        assert array.tobytes() == expected[name].tobytes(), name


@pytest.fixture
def detector(spec: ModelSpec, numpy_backend: MakeBackend) -> Callable[[], Detector]:
    return lambda: Detector(numpy_backend(spec), confidence=0.02)


@pytest.mark.parametrize("write", [binary, as_json])
def test_answers_are_those_of_a_detector(
    write: Callable[..., Any], running: Running, frames: list[Frame], detector: Callable[[], Detector]
) -> None:
    line, alone, found = running.connection(), detector(), 0
    for number, frame in enumerate(frames):
        start, end = number == 0, number == len(frames) - 1
        answer = ask(line, *write({"frame": frame}, sequence_id=7, sequence_start=start, sequence_end=end))
        result = alone.push(frame)
        same(answer, result)
        found += len(result.detections)
    assert found > 20
    line.close()


def test_sequences_that_take_turns_know_nothing_of_each_other(
    running: Running, frames: list[Frame], detector: Callable[[], Detector]
) -> None:
    alone = {7: detector(), "7": detector(), "door": detector()}
    for number, frame in enumerate(frames):
        for shift, (key, each) in enumerate(alone.items()):
            mine = np.roll(frame, 8 * shift, axis=1)
            same(running.push(mine, key, start=number == 0), each.push(mine))


def test_three_clients_at_once_get_what_one_would_get(
    running: Running, frames: list[Frame], detector: Callable[[], Detector]
) -> None:
    def client(key: int) -> None:
        alone, line = detector(), running.connection()
        for number, frame in enumerate(frames * 3):
            mine = np.roll(frame, key, axis=0)
            same(ask(line, *binary({"frame": mine}, sequence_id=key, sequence_start=number == 0)), alone.push(mine))
        line.close()

    with ThreadPoolExecutor(3) as threads:
        assert list(threads.map(client, (1, 2, 3))) == [None] * 3


def test_the_shipped_model_answers_as_its_detector(data_dir: Any) -> None:
    pytest.importorskip("openvino")
    from yowo_deploy.video.sources import open_source

    video = next((data_dir / "samples").rglob("*.mp4"))
    with open_source(video) as source:
        images = [timed.image for timed, _ in zip(source, range(10), strict=False)]
    with Running(app(DEFAULT)) as running, Detector.open() as alone:
        for number, image in enumerate(images):
            same(running.push(image, start=number == 0), alone.push(image))


def test_raw_clips_get_what_the_backend_gives(running: Running, spec: ModelSpec, numpy_backend: MakeBackend) -> None:
    clips = np.random.default_rng(1).random((3, *spec.clip_shape), np.float32)
    expected = numpy_backend(spec).infer(clips)
    for write in (binary, as_json):
        raw = running.ask(*write({"clips": clips})).arrays["raw"]
        assert raw.shape == expected.shape and raw.tobytes() == expected.tobytes()


def test_chosen_outputs_come_alone_and_the_id_comes_back(running: Running, frames: list[Frame]) -> None:
    body = (
        b'{"id": "abc", "inputs": [{"name": "frame", "shape": [1, 1, 3], "datatype": "UINT8", "data": [[[1, 2, 3]]]}],'
        b'"outputs": [{"name": "people", "parameters": {"binary_data": true}}, {"name": "scores"}],'
        b'"parameters": {"sequence_id": 1, "sequence_start": true}}'
    )
    answer = running.ask(STREAM_INFER, body)
    assert set(answer.arrays) == {"people", "scores"}
    length = int(answer.headers["inference-header-content-length"])
    assert b'"id": "abc"' in answer.body[:length] and b'"model_version": "1"' in answer.body[:length]


@pytest.mark.parametrize(
    ("encoding", "pack"), [("gzip", gzip.compress), ("deflate", zlib.compress), ("identity", bytes)]
)
def test_packed_bodies_are_unpacked(
    encoding: str,
    pack: Callable[[bytes], bytes],
    running: Running,
    frames: list[Frame],
    detector: Callable[[], Detector],
) -> None:
    path, body, headers = binary({"frame": frames[0]}, sequence_id=1, sequence_start=True)
    same(running.ask(path, pack(body), headers | {"Content-Encoding": encoding}), detector().push(frames[0]))


def test_the_server_describes_itself(running: Running, spec: ModelSpec) -> None:
    assert running.ask("/v2").json["extensions"] == ["binary_tensor_data", "sequence"]
    assert [running.ask(f"/v2/health/{each}").status for each in ("live", "ready")] == [200, 200]
    for model in ("yowo_stream", "yowo_clip"):
        for path in (f"/v2/models/{model}", f"/v2/models/{model}/versions/1"):
            assert running.ask(path).json["name"] == model and running.ask(f"{path}/ready").status == 200
            assert running.ask(f"{path}/config").json["max_batch_size"] == 0
    assert running.ask("/v2/models/yowo_stream").json["inputs"] == [
        {"name": "frame", "datatype": "UINT8", "shape": [-1, -1, 3]}
    ]
    assert running.ask("/v2/models/yowo_clip").json["inputs"][0]["shape"] == [-1, 3, 3, 4, 8]
    config = running.ask("/v2/models/yowo_stream/config").json
    assert config["parameters"]["labels"]["string_value"].split("\n") == list(spec.labels)
    assert config["sequence_batching"]["max_sequence_idle_microseconds"] == 30_000_000


@pytest.mark.parametrize("path", ["/v2/models/other", "/v2/models/yowo_clip/versions/2", "/nothing", "/v2/models"])
def test_what_is_not_there_is_404(path: str, running: Running) -> None:
    answer = running.ask(path)
    assert answer.status == 404 and answer.error


def test_another_method_is_405(running: Running) -> None:
    assert running.ask("/v2", b"{}").status == 405 and running.ask(STREAM_INFER).status == 405


def test_metrics_count_frames_refusals_and_what_is_live(running: Running, frames: list[Frame]) -> None:
    running.push(frames[0], start=True)
    running.push(frames[1])
    running.push(frames[2], key=9)
    text = running.ask("/metrics").body.decode()
    for line in (
        'yowo_frames_total{origin="sequence"} 2.0',
        'yowo_requests_refused_total{reason="unknown sequence"} 1.0',
        "yowo_sequences 1.0",
        "yowo_frame_seconds_count 2.0",
        'yowo_stage_seconds_count{stage="infer"} 2.0',
    ):
        assert line in text.splitlines()
    assert float(text.split("\nyowo_open_tubes ")[1].split()[0]) > 0


def test_a_frame_of_an_unknown_sequence_is_400_and_end_frees_it(running: Running, frames: list[Frame]) -> None:
    assert running.push(frames[0]).status == 400
    assert running.push(frames[0], start=True).status == 200 and len(running.service.sequences) == 1
    assert running.push(frames[1], end=True).status == 200 and len(running.service.sequences) == 0
    assert "sequence_start" in running.push(frames[2]).error


def test_more_sequences_than_may_be_are_503_until_one_ends(running: Running, frames: list[Frame]) -> None:
    assert [running.push(frames[0], key, start=True).status for key in range(1, 10)] == [200] * 8 + [503]
    assert running.push(frames[0], 3, end=True).status == 200
    assert running.push(frames[0], 9, start=True).status == 200


@pytest.mark.parametrize("key", [0, -1, 1 << 64, "", "x" * 129, 1.5, True, None, [1], {}])
def test_what_is_no_sequence_id_is_400(key: Any, running: Running, frames: list[Frame]) -> None:
    assert "sequence_id" in running.push(frames[0], key, start=True).error
    assert len(running.service.sequences) == 0


def test_a_flag_that_is_no_boolean_is_400(running: Running, frames: list[Frame]) -> None:
    answer = running.ask(*binary({"frame": frames[0]}, sequence_id=1, sequence_start="yes"))
    assert answer.status == 400 and "true or false" in answer.error


def test_a_thousand_sequences_leave_nothing(running: Running, frames: list[Frame]) -> None:
    line = running.connection()
    for key in range(1, 1001):
        flags = {"sequence_id": key, "sequence_start": True, "sequence_end": True}
        assert ask(line, *binary({"frame": frames[key % 12]}, **flags)).status == 200
    line.close()
    assert len(running.service.sequences) == 0
    assert b'yowo_frames_total{origin="sequence"} 1000.0' in running.ask("/metrics").body


class Broken(Engine):
    """Answers with one value everywhere, or fails."""

    name = "broken"

    def __init__(self, spec: ModelSpec, value: float, error: Exception | None = None) -> None:
        self.spec, self._value, self._error = spec, value, error

    def infer(self, clips: Any) -> Any:
        if self._error is not None:
            raise self._error
        columns, rows = self.spec.grid_size
        return np.full((len(clips), self.spec.output_channels, rows, columns), self._value, np.float32)


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("kind", ["frame", "clips"])
def test_an_engine_that_answers_nan_is_not_ready_and_never_answers(
    kind: str, value: float, spec: ModelSpec, frames: list[Frame]
) -> None:
    given = {"frame": frames[0], "clips": np.zeros((1, *spec.clip_shape), np.float32)}[kind]
    with Running(app(Broken(spec, value))) as running:
        assert running.ask("/v2/health/ready").status == 200
        for _ in range(2):
            answer = running.ask(*binary({kind: given}, sequence_id=1, sequence_start=True))
            assert answer.status == 503 and "not finite" in answer.error
        assert running.ask("/v2/health/live").status == 200
        for path in ("/v2/health/ready", "/v2/models/yowo_clip/ready", "/v2/models/yowo_stream/ready"):
            assert running.ask(path).status == 503


@pytest.mark.parametrize("value", [np.nan, np.inf, 3e38])
def test_a_client_cannot_make_the_model_not_ready(value: float, spec: ModelSpec, numpy_backend: MakeBackend) -> None:
    with Running(app(numpy_backend(spec))) as running:
        clips = np.full((1, *spec.clip_shape), value, np.float32)
        clips[0, 0] = -clips[0, 0]  # infinity less infinity
        answer = running.ask(*binary({"clips": clips}))
        assert answer.status == 400 and running.ask("/v2/health/ready").status == 200


def test_an_engine_that_has_ended_makes_the_model_not_ready(spec: ModelSpec, frames: list[Frame]) -> None:
    with Running(app(Broken(spec, 0.0, EngineError("the engine in /secret/place died")))) as running:
        answer = running.push(frames[0], start=True)
        assert answer.status == 503 and "/secret" not in answer.error
        assert running.ask("/v2/health/ready").status == 503


def test_a_bug_is_500_without_its_words(spec: ModelSpec, frames: list[Frame], caplog: pytest.LogCaptureFixture) -> None:
    with Running(app(Broken(spec, 0.0, RuntimeError("/secret/place")))) as running:
        answer = running.push(frames[0], start=True)
        assert (answer.status, answer.error) == (500, "internal error")


def test_the_model_is_closed_with_the_application(spec: ModelSpec, numpy_backend: MakeBackend) -> None:
    backend: Any = numpy_backend(spec)
    with Running(app(backend)):
        assert backend.times_closed == 0
    assert backend.times_closed == 1


def test_a_wrong_argument_closes_the_model(spec: ModelSpec, numpy_backend: MakeBackend) -> None:
    backend: Any = numpy_backend(spec)
    with pytest.raises(InputError):
        app(backend, max_sequences=0)
    assert backend.times_closed == 1


def test_an_argument_that_is_not_known_is_named() -> None:
    with pytest.raises(InputError, match="did you mean 'max_sequences'"):
        app(DEFAULT, max_sequence=3)  # type: ignore[call-arg]


def test_the_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import yowo_deploy.serving as serving

    monkeypatch.setattr(serving, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"yowo-deploy\[serve\]"):
        serving.app  # noqa: B018


def test_clips_of_bytes_are_served_as_such(spec: ModelSpec) -> None:
    [floats], [ours] = (clip_tensors(each)[0] for each in (spec, spec.replace(input_type="uint8")))
    assert (floats.datatype, ours.datatype) == ("FP32", "UINT8") and floats.shape == ours.shape
