"""`bench` from Python: one record of plain values, silent unless told otherwise."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yowo_deploy import Detector, bench
from yowo_deploy.backends.base import Streaming
from yowo_deploy.benchmark import record as record_module
from yowo_deploy.benchmark.compare import FORMAT, compare_records, read_record
from yowo_deploy.benchmark.record import busy
from yowo_deploy.errors import InputError
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.spec import ModelSpec

pytest.importorskip("openvino")
pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def model(onnx_model: Callable[..., Any], spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path: Path = tmp_path_factory.mktemp("model") / "small.onnx"
    path.write_bytes(onnx_model(spec).SerializeToString())
    return path


def test_one_call_gives_a_record_that_compares_with_itself(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    record = bench(model, versus=model, versus_backend="onnxruntime", backend="openvino", seconds=0.05, stages=False)
    assert capsys.readouterr() == ("", "")
    assert [each["backend"] for each in record["models"]] == ["openvino", "onnxruntime"]
    assert record["versus"]["low"] <= record["versus"]["ratio"] <= record["versus"]["high"]
    assert record["format"] == FORMAT and record["stages"] == [] and record["open_loop"] is None
    (tmp_path / "a.json").write_text(json.dumps(record))
    again = read_record(tmp_path / "a.json")
    assert [change.percent for change in compare_records(again, again)] == [pytest.approx(0)]


def test_versus_is_for_one_model(model: Path) -> None:
    with pytest.raises(InputError, match="expected one, beside --versus"):
        bench([model, model], versus=model)
    with pytest.raises(InputError, match="0 files given"):
        bench([])


def test_a_file_is_measured_in_the_form_in_which_detect_runs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    opened, bench_models = list[list[Any]](), record_module.bench_models
    monkeypatch.setattr(
        record_module, "bench_models", lambda models, *rest: (opened.append(models), bench_models(models, *rest))[1]
    )
    given: dict[str, Any] = {"seconds": 1e-3, "warmup": 0, "stages": False, "peak": False, "backend": "openvino"}
    found = []
    for more in ({}, {"clips": True}, {"batch": 2}):
        [facts] = bench(DEFAULT, **given, **more)["models"]
        with Detector.open(DEFAULT, backend="openvino", clips=bool(more)) as detector:
            assert isinstance(opened[-1][0], Streaming) is isinstance(detector.backend, Streaming) is facts["streaming"]
        assert ("frame by frame" in facts["name"]) is facts["streaming"]
        found.append(facts["streaming"])
    assert found == [True, False, False]


def test_frames_and_clips_are_not_compared(tmp_path: Path, model: Path) -> None:
    """A record of before frames were measured is of clips."""
    frames = bench(model, seconds=1e-3, warmup=0, stages=False, peak=False)
    clips = copy.deepcopy(frames)
    frames["models"][0]["streaming"] = True
    assert clips["models"][0].pop("streaming") is False
    for name, record in (("frames", frames), ("clips", clips)):
        (tmp_path / name).write_text(json.dumps(record))
    one, other = (read_record(tmp_path / name) for name in ("frames", "clips"))
    assert compare_records(other, other)
    with pytest.raises(InputError, match="streaming of model 1: False and True"):
        compare_records(other, one)


def test_clips_are_refused_of_streaming_files_alone(model: Path, tmp_path: Path) -> None:
    pytest.importorskip("onnx_ir")
    from yowo_export.streaming.rewrite import export_streaming

    frames = tmp_path / "frames.onnx"
    export_streaming(model_path(DEFAULT), frames)
    given: dict[str, Any] = {"seconds": 1e-3, "warmup": 0, "stages": False, "peak": False, "clips": True}
    both = bench(frames, versus=DEFAULT, **given)["models"]
    assert [each["streaming"] for each in both] == [True, False]
    with pytest.raises(InputError, match="leave --clips"):
        bench(frames, **given)


@pytest.mark.parametrize(
    ("load", "cores", "warned"), [(0.2, 2, False), (1.0, 2, True), (3.9, 8, False), (9.0, 8, True)]
)
def test_a_busy_machine_is_reported(load: float, cores: int, warned: bool) -> None:
    assert bool(busy(load, cores)) == warned
