"""A file for a fixed number of clips gives the same answers, and says how many it takes wherever it is opened."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner

from yowo_deploy import Detector
from yowo_deploy.backends.base import Streaming
from yowo_deploy.backends.loader import open_model
from yowo_deploy.cli import cli
from yowo_deploy.errors import InputError, ParityError
from yowo_deploy.model_files.default import DEFAULT
from yowo_deploy.model_files.onnx_reader import read_onnx_file
from yowo_export.graph import fixed_batch
from yowo_export.graph.fixed_batch import export_fixed_batch
from yowo_export.graph.uint8_input import export_uint8
from yowo_export.parity.prove import Wanted, prove
from yowo_export.pipeline import export
from yowo_export.precision.convert import store_anew
from yowo_export.precision.lower_precision import LowerPrecision

ENGINES = ("onnxruntime", "openvino")


@pytest.fixture(params=[1, 3])
def fixed(request: pytest.FixtureRequest, fused: Path, tmp_path: Path) -> Path:
    export_fixed_batch(fused, tmp_path / "fixed.onnx", request.param)
    return tmp_path / "fixed.onnx"


@pytest.mark.parametrize("engine", ENGINES)
def test_answers_are_the_same_and_no_other_number_is_taken(fused: Path, fixed: Path, engine: str) -> None:
    with open_model(fused, engine) as first, open_model(fixed, engine) as second:
        count = read_onnx_file(fixed).batch
        assert count and second.batch == (count, count) and first.batch == (1, None) and first.spec == second.spec
        clips = np.random.default_rng(0).random((count, *first.spec.clip_shape), np.float32)
        expected = first.infer(clips)
        np.testing.assert_allclose(second.infer(clips), expected, atol=1e-4 * np.abs(expected).max())
        with pytest.raises(InputError, match=rf"clips have shape .* expected \({count}, "):
            second.infer(np.repeat(clips, 2, axis=0))


def test_every_shape_in_it_is_known(fixed: Path) -> None:
    graph = onnx.load(fixed).graph
    values = [*graph.input, *graph.output, *graph.value_info]
    assert len(values) > 20
    assert all(side.dim_value > 0 for each in values for side in each.type.tensor_type.shape.dim)


def test_a_video_needs_single_clips(fixed: Path) -> None:
    count = read_onnx_file(fixed).batch
    if count == 1:
        with Detector.open(fixed) as detector:
            assert detector.push(np.zeros((64, 96, 3), np.uint8)).frame_index == 0
        return
    with pytest.raises(InputError, match="takes at least 3 clips a call, and a video gives one at a time") as no:
        Detector.open(fixed)
    assert "\n" not in str(no.value)


def test_inspect_names_the_batch_and_parity_fills_it(fused: Path, fixed: Path) -> None:
    said = [json.loads(CliRunner().invoke(cli, ["inspect", str(file), "--json"]).stdout) for file in (fused, fixed)]
    assert [each["batch"] for each in said] == ["any", read_onnx_file(fixed).batch]
    assert prove(fused, fixed, Wanted(clips=2)).passed


def test_bytes_and_the_carried_form_go_along(tmp_path: Path) -> None:
    made = export(DEFAULT, tmp_path / "m.onnx", uint8_input=True, batch=2)
    file = read_onnx_file(made)
    assert file.batch == 2 and file.spec.input_type == "uint8"
    for engine in ENGINES:  # a video takes the form, whose frames come one at a time
        for parallel in (1, 2):
            with open_model(made, engine, parallel=parallel, streaming="one") as model:
                assert isinstance(model, Streaming), (engine, parallel)


def test_what_cannot_be_is_refused_in_one_line(fused: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    three, out = tmp_path / "three.onnx", tmp_path / "out.onnx"
    export_fixed_batch(fused, three, 3)
    for call in (
        lambda: export_fixed_batch(three, out, 2),
        lambda: store_anew(three, out, half_weights=False),
        lambda: export(fused, out, batch=2, streaming=True),
        lambda: export(fused, out, batch=2, lower=LowerPrecision("bf16", [])),
        lambda: export(fused, tmp_path / "m.pt", batch=2),
    ):
        with pytest.raises(InputError) as refused:
            call()
        assert "\n" not in str(refused.value)
    export_uint8(three, out)  # bytes may still be put before it
    assert read_onnx_file(out).batch == 3
    monkeypatch.setitem(fixed_batch.LIMITS, "fp32", -1.0)
    with pytest.raises(ParityError, match="not written"):
        export_fixed_batch(fused, tmp_path / "bad.onnx", 2)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["out.onnx", "three.onnx"]


@pytest.mark.parametrize("count", [0, 1025, 10**8, 10**21])
def test_a_batch_that_no_machine_can_compare_is_refused_before_anything_is_made(
    count: int, fused: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=rf"a batch of {count} clips, expected 1 to \d+ for clips of"):
        export_fixed_batch(fused, tmp_path / "fixed.onnx", count)
    if count:  # 0 is none there
        monkeypatch.setattr("yowo_export.pipeline.store_anew", None)
        with pytest.raises(InputError, match=rf"a batch of {count} clips, expected 1 to \d+ for clips of"):
            export(fused, tmp_path / "fixed.onnx", batch=count)
    assert not (tmp_path / "fixed.onnx").exists()
