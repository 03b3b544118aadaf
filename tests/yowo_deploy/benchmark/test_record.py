"""`bench` from Python: one record of plain values, silent unless told otherwise."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yowo_deploy import bench
from yowo_deploy.benchmark.compare import FORMAT, compare_records, read_record
from yowo_deploy.benchmark.record import busy
from yowo_deploy.errors import InputError
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


@pytest.mark.parametrize(
    ("load", "cores", "warned"), [(0.2, 2, False), (1.0, 2, True), (3.9, 8, False), (9.0, 8, True)]
)
def test_a_busy_machine_is_reported(load: float, cores: int, warned: bool) -> None:
    assert bool(busy(load, cores)) == warned
