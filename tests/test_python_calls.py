"""Everything that the command line does is one call from Python: silent, typed, and with a value to go on with."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest

import yowo_deploy
import yowo_export
import yowo_training
from yowo_deploy import Outputs, archive, detect, evaluate
from yowo_deploy.datasets.registry import open_dataset
from yowo_deploy.datasets.synthetic.generator import make_synthetic
from yowo_deploy.errors import InputError, OutputError
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_deploy.model_files.plan_record import read_plan
from yowo_export import LowerPrecision, build, export, prove
from yowo_export.parity import Wanted
from yowo_training import preview_batch, train

CALLS = (
    *(getattr(yowo_deploy, name) for name in ("bench", "detect", "evaluate")),
    *(getattr(archive, name) for name in ("batch", "find", "cut_clips")),
    *(getattr(yowo_training, name) for name in ("preview_batch", "train")),
    *(getattr(yowo_export, name) for name in ("build", "export", "prove")),
)


@pytest.mark.parametrize("call", CALLS, ids=lambda call: call.__name__)
def test_every_call_is_typed_and_documented(call: Callable[..., Any]) -> None:
    signature, text = inspect.signature(call), inspect.getdoc(call) or ""
    assert text and signature.return_annotation is not inspect.Signature.empty
    types = typing.get_type_hints(call, vars(inspect.getmodule(call)))
    assert set(types) == {*signature.parameters, "return"}
    if "with the same arguments" not in text:
        assert [name for name in signature.parameters if name not in text] == []


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    make_synthetic(folder, videos_train=6, videos_test=2)
    return folder


def test_from_a_data_set_to_detections_in_python_alone(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    steps: list[int] = []
    picture = preview_batch(tmp_path / "batch.png", "synthetic", tmp_path / "run", data, recipe="yowo-tiny")
    assert picture.stat().st_size > 1000 and not (tmp_path / "run" / "best.pt").exists()
    best = train(
        "synthetic",
        tmp_path / "run",
        data,
        recipe="yowo-tiny",
        epochs=1,
        on_step=lambda report: steps.append(report.step),
    )
    assert best == tmp_path / "run" / "best.pt" and best.exists() and steps == list(range(1, len(steps) + 1)) != []
    onnx = export(best, tmp_path / "yowo.onnx")
    assert onnx == tmp_path / "yowo.onnx" and read_spec(onnx).precision == "fp32"
    half = export(onnx, tmp_path / "half.onnx", lower=LowerPrecision("fp16"))
    assert read_spec(half).precision == "fp16"
    assert prove(best, onnx, Wanted(clips=2)).passed
    figures = evaluate(onnx, "synthetic", data, every=8)
    assert figures.videos == 2 and 0 <= figures.frame_map.mean <= 1
    shared = evaluate(onnx, "synthetic", data, every=8, workers=2)
    assert (shared.frames, shared.frame_map.mean) == (figures.frames, figures.frame_map.mean)
    video = open_dataset("synthetic", data).videos("test")[0].path
    [summary] = detect(video, Outputs(json=str(tmp_path / "a.jsonl")), onnx, confidence=0.0)
    assert summary.frames == len((tmp_path / "a.jsonl").read_text().splitlines()) > 0
    assert capfd.readouterr().out == ""


def test_a_plan_is_built_in_one_call(onnx_file: Path, tmp_path: Path) -> None:
    if find_spec("tensorrt_rtx") is None:
        pytest.skip("TensorRT-RTX is not installed; it builds plans without a GPU")
    plan = build(onnx_file, tmp_path / "a.plan", target="tensorrt-rtx", tf32=False)
    assert plan == tmp_path / "a.plan" and read_plan(plan).tf32 is False


@pytest.mark.parametrize("lower", [None, LowerPrecision("int8", ["no such video"])])
@pytest.mark.parametrize(("make", "name"), [(build, "a.plan"), (export, "a.onnx")])
def test_what_was_made_before_stays_unless_asked_and_nothing_is_begun(
    make: Callable[..., Path], name: str, lower: LowerPrecision | None, onnx_file: Path, tmp_path: Path
) -> None:
    """TensorRT need not be there, nor the calibration videos: the refusal comes first."""
    (tmp_path / name).write_text("of hours")
    with pytest.raises(OutputError, match=f"{name} already exists: give another name, or --overwrite"):
        make(onnx_file, tmp_path / name, lower=lower)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "of hours")]


@pytest.fixture(scope="module")
def onnx_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from yowo_deploy.diagnostics.probe_model import write_one_layer

    path = tmp_path_factory.mktemp("model") / "one_layer.onnx"
    write_one_layer(path)
    return path


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "int8"}, "give some with --calibration"),
        ({"precision": "fp16", "max_drop": 1.0}, "--max-drop is only for --int8"),
    ],
)
def test_a_precision_that_cannot_be_is_refused_when_it_is_made(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        LowerPrecision(**arguments)
