"""A choice is made by what was measured, and recorded; without a faster one all stays as it is."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from yowo_deploy.detection import tuning
from yowo_deploy.detection.outputs import Outputs
from yowo_deploy.detection.run import detect
from yowo_deploy.detection.settings import Settings
from yowo_deploy.detection.tuning import Choice, candidates, tuned
from yowo_deploy.detector import DetectorOptions
from yowo_deploy.errors import InputError
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.model_files.streaming_form import FORM_KEY
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.writer import VideoWriter

MEASURES = Settings.measures  # which the tests' own Settings do without
ENGINES = ["openvino", "onnxruntime"]
FRAMES, ONE, TWO = Choice("openvino", False, 1), Choice("openvino", True, 1), Choice("openvino", True, 2)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state" / "yowo-deploy" / "tuned.json"


@pytest.fixture
def plain(onnx_model: Callable[..., Any], spec: ModelSpec, tmp_path: Path) -> Path:
    """A small file of clips without a streaming form."""
    pytest.importorskip("onnxruntime"), pytest.importorskip("openvino")
    (tmp_path / "m.onnx").write_bytes(onnx_model(spec).SerializeToString())
    return tmp_path / "m.onnx"


def seconds(table: dict[Choice, float], monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let each candidate take so long, else one second; gets the number of candidates of each trial."""
    trials = []

    def measured(calls: list[Any], *_: object, **__: object) -> Any:
        trials.append(len(calls))
        known = candidates_of[len(calls)]
        noise = np.random.default_rng(0).uniform(0.95, 1.05, (12, len(calls)))
        return noise * [table.get(choice, 1.0) for choice in known]

    candidates_of: dict[int, list[Choice]] = {}
    real = candidates

    def seen(*given: Any) -> list[Choice]:
        found = real(*given)
        candidates_of[len(found)] = found
        return found

    monkeypatch.setattr(tuning, "bench_calls", measured)
    monkeypatch.setattr(tuning, "candidates", seen)
    return trials


def choose(path: Path, measure: bool = True, **options: Any) -> Choice | None:
    return tuned(path, DetectorOptions(), False, 2, options, measure, lambda line: None)


@pytest.mark.parametrize(
    ("table", "best"),
    [
        ({Choice("onnxruntime", True, 2): 0.5}, Choice("onnxruntime", True, 2)),
        ({Choice("onnxruntime", True, 2): 0.6, Choice("onnxruntime", True, 1): 0.4}, Choice("onnxruntime", True, 1)),
        ({Choice("onnxruntime", True, 1): 0.99}, TWO),  # within the noise
        ({Choice("onnxruntime", True, 1): 1.5, ONE: 2.0}, TWO),
    ],
)
def test_the_usual_choice_stays_unless_another_is_faster_beyond_the_noise(
    table: dict[Choice, float], best: Choice, plain: Path, state: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials = seconds(table, monkeypatch)
    assert choose(plain, measure=False) is None and not state.exists()
    assert choose(plain) == best and trials == [4]
    assert choose(plain, measure=False) == choose(plain) == best and trials == [4]  # as recorded
    assert choose(plain, threads=1, measure=False) is choose(plain, backend="openvino", measure=False) is None


def test_another_file_or_processor_is_measured_anew(plain: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trials = seconds({}, monkeypatch)
    assert choose(plain) == TWO
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(tuning, "processor_in_words", lambda: "another one")
        assert choose(plain, measure=False) is None and choose(plain) == TWO and len(trials) == 2
    plain.write_bytes(plain.read_bytes().replace(b"walk", b"talk"))
    assert choose(plain, measure=False) is None
    assert len(json.loads(state.read_text())) == 2


@pytest.mark.parametrize("text", ["", "[]", "{", '{"a": 1}', '{"a": ["b", true, 1]}', "[" * 100000, "null"])
def test_a_damaged_record_is_none(text: str, plain: Path, state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds({}, monkeypatch)
    state.parent.mkdir(parents=True)
    state.write_text(text)
    assert choose(plain, measure=False) is None
    assert choose(plain) == TWO and choose(plain, measure=False) == TWO


def test_what_there_is_to_choose_from() -> None:
    path, shown = model_path(DEFAULT), DetectorOptions()
    frames = [Choice(engine, False, 1) for engine in ENGINES]
    of_clips = [Choice(engine, True, calls) for engine in ENGINES for calls in (1, 2)]
    assert candidates(path, shown, False, 2, ENGINES)[0] == FRAMES
    assert set(candidates(path, shown, False, 2, ENGINES)) == {*frames, *of_clips}
    assert candidates(path, shown, False, 2, ENGINES[::-1])[0] == Choice("onnxruntime", True, 2)
    assert candidates(path, shown, False, 1, ENGINES[::-1])[0] == Choice("onnxruntime", False, 1)
    for options, clips in ((shown, True), (DetectorOptions(every=2), False)):
        assert candidates(path, options, clips, 2, ENGINES)[0] == TWO
        assert set(candidates(path, options, clips, 2, ENGINES)) == set(of_clips)
    assert candidates(path, shown, True, 1, ["openvino"]) == [ONE]


@pytest.mark.parametrize("every", [1, 2])
def test_a_file_that_takes_frames_alone_has_its_engines_to_choose_from(
    every: int, onnx_model: Callable[..., Any], spec: ModelSpec, tmp_path: Path
) -> None:
    """A streaming file; and one for several clips a call, of which a video has only the form that it carries."""
    frames = [Choice(engine, False, 1) for engine in ENGINES[::-1]]
    shown, path = DetectorOptions(every=every), tmp_path / "m.onnx"
    path.write_bytes(onnx_model(spec.replace(streaming=True)).SerializeToString())
    assert candidates(path, shown, False, 2, ENGINES[::-1]) == frames
    model = onnx_model(spec)
    model.metadata_props.add(key=FORM_KEY, value="")
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 3
    path.write_bytes(model.SerializeToString())
    assert (candidates(path, shown, False, 2, ENGINES[::-1]) == frames) is (every == 1)


def test_a_trial_that_cannot_be_made_is_refused(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Only with `--tune`: by default a camera has no trial then."""
    seconds({}, monkeypatch)
    monkeypatch.setattr(Settings, "measures", MEASURES)
    outputs = Outputs(json="-")
    calls: list[Callable[[bool | None], Any]] = [
        lambda tune: Settings(outputs, str(plain), tune=tune, options={"parallel": 2}).open_detector(True, "0"),
        lambda tune: Settings(outputs, str(plain), tune=tune).open_pool(),
    ]
    for call in calls:
        with pytest.raises(
            InputError, match="--tune has nothing to choose but for an ONNX file on the CPU, one source"
        ):
            call(True)
        for tune in (None, False):
            call(tune).close()


def test_what_runs_on_no_processor_or_is_no_onnx_file_has_nothing_to_choose(plain: Path, tmp_path: Path) -> None:
    (tmp_path / "m.pt").write_bytes(b"PK\x03\x04")
    for path, options in ((plain, {"device": "cuda"}), (plain, {"backend": "pytorch"}), (tmp_path / "m.pt", {})):
        assert choose(path, **options) is None


def test_an_engine_that_cannot_run_it_is_none_to_choose(plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A trial as it is, but short; the usual engine must work."""
    real = tuning.open_model

    def opened(path: Path, **options: Any) -> Any:
        if options["backend"] == "onnxruntime":
            raise InputError("broken")
        return real(path, **options)

    monkeypatch.setattr(tuning, "SECONDS", 0.01)
    monkeypatch.setattr(tuning, "open_model", opened)
    found = choose(plain)
    assert found is not None and found.backend == "openvino"
    with pytest.raises(InputError, match="broken"):
        choose(plain, backend="onnxruntime")


@pytest.mark.parametrize(
    ("tune", "opened"), [(True, ("onnxruntime", 1)), (None, ("onnxruntime", 1)), (False, (None, 2))]
)
def test_detect_opens_what_was_chosen(
    tune: bool | None, opened: tuple[str | None, int], plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    video = tmp_path / "yard.webm"
    with VideoWriter(video, 25, (64, 48)) as writer:
        for frame in np.zeros((3, 48, 64, 3), np.uint8):
            writer.write(frame)
    monkeypatch.setattr("yowo_deploy.detection.settings.PARALLEL", 2)
    seconds({Choice("onnxruntime", True, 1): 0.5}, monkeypatch)
    choose(plain, measure=True)
    asked = []
    real = tuning.open_model
    monkeypatch.setattr(
        "yowo_deploy.detection.settings.open_model",
        lambda path, **options: asked.append((options.get("backend"), options["parallel"])) or real(path, **options),
    )
    detect(video, Outputs(json=str(tmp_path / "o.jsonl")), plain, tune=tune)
    assert asked == [opened]


@pytest.mark.parametrize("name", ["parallel", "streams"])
def test_calls_at_once_that_are_given_are_made(name: str, plain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds({Choice("onnxruntime", True, 1): 0.5}, monkeypatch)
    choose(plain, measure=True)
    settings = Settings(Outputs(json="-"), str(plain), options={name: 3})
    with settings.open_detector(False, "a.webm") as detector:
        assert (detector.backend.name, detector.backend.parallel) == ("openvino", 3)  # not what a trial found
    opened: list[int] = []
    real = tuning.open_model

    def opened_with(path: Path, **options: Any) -> Any:
        opened.append((backend := real(path, **options)).parallel)
        return backend

    monkeypatch.setattr("yowo_deploy.detection.settings.open_model", opened_with)
    settings.open_pool().close()
    assert opened == [3]


@pytest.mark.parametrize(
    ("live", "tune", "trials"), [(True, None, 1), (True, False, 0), (False, None, 0), (False, True, 1)]
)
def test_a_camera_is_measured_for_by_default(
    live: bool, tune: bool | None, trials: int, plain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = seconds({}, monkeypatch)
    monkeypatch.setattr(Settings, "measures", MEASURES)
    said: list[str] = []
    reporter = SimpleNamespace(message=said.append)
    settings = Settings(Outputs(json="-"), str(plain), tune=tune, reporter=reporter)  # type: ignore[arg-type]
    for _ in range(2):
        settings.open_detector(live, "0").close()
    assert len(made) == trials
    assert [line.startswith("a trial of 5 s") for line in said] == ([True, False, False] if trials else [])
