"""What `export` writes in every precision, `build` turns into a plan: no GPU is needed for TensorRT-RTX."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest
import torch

from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_deploy.model_files.plan_record import read_plan
from yowo_deploy.spec import ModelSpec
from yowo_export.exporter import export_onnx
from yowo_export.plan_builder import PlanOptions, build_plan
from yowo_export.precision.convert import Wish, lower_model, store_anew
from yowo_export.sample_clips import made_up_clips
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.models.yowo import Yowo, YowoConfig

if TYPE_CHECKING:
    from tests.conftest import MadeOnce

pytestmark = pytest.mark.slow
pytest.importorskip("tensorrt_rtx")

WISHES = {
    "fp16": Wish("fp16", fused=False),
    "int8": Wish("int8", "tensorrt", "minmax", fused=False),
}
Attention = Literal["fused", "plain"]


Batch = tuple[int, int, int] | None
DYNAMIC = (1, 2, 4)
# Every precision with every attention, every precision with every batch, and every attention with every batch.
PAIRS: list[tuple[str, Attention, Batch]] = [
    ("fp32", "fused", None), ("fp32", "plain", DYNAMIC), ("fp16", "fused", DYNAMIC), ("fp16", "plain", None),
    ("int8", "fused", DYNAMIC), ("int8", "plain", None),
]  # fmt: skip
# By hand all twelve were built of ResNeXt-101, at T = 8 and 16.
FEWER: list[tuple[str, Attention, Batch]] = [
    ("fp32", "fused", DYNAMIC),
    ("fp16", "plain", None),
    ("int8", "fused", DYNAMIC),
]


@pytest.fixture(scope="module")
def lowered(made_once: MadeOnce) -> dict[str, Path]:
    """yowo-lite's files by precision, the attention plain."""
    return _files(made_once("lite-in-every-precision", lambda folder: _in_every_precision("yowo-lite", folder)))


def _files(folder: Path) -> dict[str, Path]:
    return {precision: folder / f"{precision}.onnx" for precision in ("fp32", *WISHES)}


def _in_every_precision(name: str, folder: Path) -> dict[str, Path]:
    files = _files(folder)
    if name == "yowo-lite":
        store_anew(model_path("default"), files["fp32"], False, "plain")
    else:
        spec = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=8, input_size=(96, 96))
        torch.manual_seed(0)
        model = Yowo(YowoConfig("darknet19", name, spec.output_channels)).eval()
        export_onnx(Checkpoint(model, spec), files["fp32"], "plain")
    some = made_up_clips(read_spec(files["fp32"]), 16)
    still = next(at for at, frames in enumerate(some.frames) if (frames == frames[0]).all())
    # Where nothing moves half precision holds the flow, and no search for what to keep takes its two minutes.
    clips = replace(some, frames=some.frames[still : still + 1], sizes=some.sizes[:1])
    for precision, wish in WISHES.items():
        lower_model(files["fp32"], files[precision], clips, wish, judged=1)
    return files


def _builds(files: dict[str, Path], precision: str, attention: Attention, batch: Batch, folder: Path) -> None:
    source = files[precision]
    if attention == "fused":
        source = folder / "fused.onnx"
        store_anew(files[precision], source, False, "fused")
    build_plan(source, folder / "m.plan", PlanOptions("tensorrt-rtx", batch))
    plan = read_plan(folder / "m.plan")
    assert plan.spec.precision == precision and plan.batch == (batch or (1, 1, 1))


def _are_smaller(files: dict[str, Path]) -> None:
    sizes = {precision: path.stat().st_size for precision, path in files.items()}
    assert sizes["fp16"] < 0.56 * sizes["fp32"] and sizes["int8"] < 0.4 * sizes["fp32"]


@pytest.mark.parametrize(("precision", "attention", "batch"), PAIRS)
def test_every_precision_builds(
    precision: str, attention: Attention, batch: Batch, lowered: dict[str, Path], tmp_path: Path
) -> None:
    _builds(lowered, precision, attention, batch, tmp_path)


def test_lower_precision_makes_smaller_files(lowered: dict[str, Path]) -> None:
    _are_smaller(lowered)


def test_the_largest_network_builds_in_every_precision(tmp_path: Path) -> None:
    """The network of the release, at T = 8. One test: its files take a minute to make."""
    files = _in_every_precision("resnext101", tmp_path)
    _are_smaller(files)
    for precision, attention, batch in FEWER:
        _builds(files, precision, attention, batch, tmp_path)
        if precision == "fp32":  # the weights are in it, once
            assert (tmp_path / "m.plan").stat().st_size == pytest.approx(files["fp32"].stat().st_size, rel=0.1)
