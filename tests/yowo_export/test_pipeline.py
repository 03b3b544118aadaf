"""What a file cannot become is refused under its own name, before anything is made of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from yowo_deploy.errors import InputError
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_deploy.reporter import Reporter
from yowo_deploy.spec import METADATA_KEY
from yowo_export.graph.onnx_file import write_onnx
from yowo_export.graph.source import load_graph
from yowo_export.pipeline import export
from yowo_export.precision.convert import store_anew
from yowo_export.precision.lower_precision import LowerPrecision


def said_to_be(fused: Path, path: Path, **said: Any) -> Path:
    """The small file with other fields in its spec, which decide."""
    model = load_graph(fused)
    model.metadata_props[METADATA_KEY] = read_spec(fused).replace(**said).to_json()
    write_onnx(model, path)
    return path


@pytest.mark.parametrize(
    ("precision", "options"),
    [
        ("bf16", {"decode": True}),
        ("bf16", {"uint8_input": True}),
        ("bf16", {"streaming": True}),
        ("bf16", {"batch": 2}),
        ("bf16", {"target": "onnxruntime"}),
        ("int8", {"target": "onnxruntime"}),
        ("int8", {"lower": LowerPrecision("fp16")}),
        ("fp16", {"lower": LowerPrecision("fp16")}),
    ],
)
def test_a_file_of_lower_precision_is_named(
    precision: str, options: dict[str, Any], fused: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = said_to_be(fused, tmp_path / "low.onnx", precision=precision)
    monkeypatch.setattr("yowo_export.pipeline.store_anew", None)
    with pytest.raises(InputError, match=rf"low\.onnx is in {precision}.*float32 file") as refused:
        export(source, tmp_path / "out.onnx", **options)
    assert str(source) in str(refused.value) and "\n" not in str(refused.value)


def test_a_file_for_another_number_of_clips_is_named(fused: Path, tmp_path: Path) -> None:
    one = export(fused, tmp_path / "one.onnx", batch=1)
    with pytest.raises(InputError, match=r"one\.onnx takes 1 clips a call: start from a file without --batch"):
        export(one, tmp_path / "two.onnx", batch=2)


def test_weights_of_a_streaming_file_go_into_no_other(fused: Path, tmp_path: Path) -> None:
    """`build --fp16` reads it as well; it was calibrated on clips, and its weights called damaged."""
    source = said_to_be(fused, tmp_path / "live.onnx", streaming=True)
    outputs = tmp_path / "out.onnx"
    for call in (
        lambda: store_anew(source, outputs, False),
        lambda: LowerPrecision("fp16").convert(source, outputs, "tensorrt", False, False, Reporter()),
    ):
        with pytest.raises(InputError, match=r"live\.onnx is a streaming file: start from the checkpoint, or the file"):
            call()


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("out.onnx", {"target": "onnxruntime", "lower": LowerPrecision("fp16")}),
        ("out.onnx", {"target": "onnxruntime", "lower": LowerPrecision("bf16")}),
        ("out.safetensors", {"target": "onnxruntime"}),
        ("out.safetensors", {"target": "tensorrt"}),
    ],
)
def test_an_engine_to_optimise_for_is_refused_where_nothing_is_optimised(
    name: str, options: dict[str, Any], fused: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match=r"leave (it|other options) out"):
        export(fused, tmp_path / name, **options)
    assert not list(tmp_path.iterdir())
