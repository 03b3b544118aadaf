"""The issue's yardstick: a release checkpoint, exported, answers on every engine as the release itself did."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from click.testing import CliRunner

from yowo_deploy.arrays import Float
from yowo_deploy.backends import open_model
from yowo_deploy.cli import cli
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_export.exporter import HALF_LIMIT
from yowo_export.graph.module_names import block_of
from yowo_export.graph.rewrites import split_attention
from yowo_export.precision import fp16
from yowo_export.precision.convert import Wish, lower_model
from yowo_export.sample_clips import made_up_clips

if TYPE_CHECKING:
    from tests.conftest import MadeOnce, Release

pytestmark = pytest.mark.slow

LIMIT = 2e-4  # the issue's


@pytest.fixture(scope="module")
def exported(release: Release, made_once: MadeOnce) -> Path:
    def export(folder: Path) -> None:
        words = ["export", str(release.file), "--clip", str(release.length), "-o", str(folder / "yowo.onnx")]
        result = CliRunner().invoke(cli, words)
        assert result.exit_code == 0, result.output

    return made_once(f"exported-{release.backbone_3d}", export) / "yowo.onnx"


@pytest.mark.parametrize("engine", ["onnxruntime", "openvino"])
def test_the_engines_answer_as_the_release_did(exported: Path, release: Release, engine: str) -> None:
    with open_model(exported, engine) as backend:
        assert backend.spec.attention_sign == "release" and backend.spec.clip_length == release.length
        found = backend.infer(release.clips)
    np.testing.assert_allclose(found, release.expected["out"], atol=LIMIT)


def test_the_branches_inside_the_file_see_what_the_releases_saw(exported: Path, release: Release) -> None:
    """What CFAM concatenates, 3-D first, made outputs of the graph."""
    graph = onnx.load(exported)
    fused = [node for node in graph.graph.node if node.op_type == "Concat"][-1]
    assert len(fused.input) == 2
    graph.graph.output.extend(onnx.ValueInfoProto(name=name) for name in fused.input)
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    features_3d, features_2d = session.run(list(fused.input), {"clips": release.clips})
    np.testing.assert_allclose(features_3d[:, :, None], release.expected["feat3d"], atol=LIMIT)
    np.testing.assert_allclose(features_2d, release.expected["feat2d"], atol=LIMIT)


def test_half_precision_answers_within_a_hundredth(exported: Path, release: Release) -> None:
    """Every value rounded to 16 bits, as a GPU does."""
    if release.backbone_3d != "resnext101":
        pytest.skip("the largest network is enough")
    expected = run(prepared(exported, 1), release.clips)
    np.testing.assert_allclose(expected, release.expected["out"], atol=LIMIT)
    assert relative(run(rounded(prepared(exported, 1)), release.clips), expected) < HALF_LIMIT


def test_half_precision_does_not_overflow_in_the_attention(
    exported: Path, release: Release, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Features forty times as large before the attention, which is the same in both networks.

    Of released weights it is softmax(-G), in which what overflows weighs nothing: it takes the paper's sign to provoke
    what is no number.
    """
    if release.backbone_3d != "mobilenetv2_1x":
        pytest.skip("the smallest network is enough")
    expected, found = (run(model, release.clips) for model in (prepared(exported, 40), rounded(prepared(exported, 40))))
    assert np.isfinite(found).all() and relative(found, expected) < HALF_LIMIT
    assert np.isfinite(run(rounded(prepared(exported, 40, paper=True)), release.clips)).all()
    monkeypatch.setattr(fp16, "GRAM", frozenset())
    # So the overflow was provoked.
    assert not np.isfinite(run(rounded(prepared(exported, 40, paper=True)), release.clips)).all()


def test_the_form_with_the_most_values_passes_the_gate(exported: Path, release: Release, tmp_path: Path) -> None:
    """INT8 for ONNX Runtime, frames apart; while it is made it is opened, and so it is here."""
    if release.backbone_3d != "resnext101":
        pytest.skip("the largest network has the most")
    some = made_up_clips(read_spec(exported), 1)
    lower_model(exported, tmp_path / "int8.onnx", some, Wish("int8", "onnxruntime", fused=False), judged=1)
    assert read_spec(tmp_path / "int8.onnx").precision == "int8"


def prepared(file: Path, factor: float, paper: bool = False) -> ir.Model:
    """A file with features so many times as large before its attention, plain, with the paper's sign if asked for."""
    model = ir.load(file)
    split_attention(model)
    for node in model.graph:
        if paper and node.op_type == "Neg" and node.inputs[0] is not None:
            node.outputs[0].replace_all_uses_with(node.inputs[0])
        if factor != 1 and node.op_type == "Conv" and block_of(node) == "cfam.conv_bn_relu2":
            for value in node.inputs[1:]:
                assert value is not None and value.const_value is not None
                value.const_value = ir.tensor(np.float32(factor) * value.const_value.numpy(), name=value.name)
    return model


def rounded(model: ir.Model) -> ir.Model:
    """With every value rounded to half precision."""
    fp16.rehearse(model, ir.DataType.FLOAT16, lambda node: False)
    return model


def run(model: ir.Model, clips: Float) -> Float:
    content = ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(content, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"clips": clips})[0])


def relative(found: Float, expected: Float) -> float:
    return float(np.abs(found - expected).max() / np.abs(expected).max())
