"""What `export` writes in every precision, `build` turns into a plan: no GPU is needed for TensorRT-RTX."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import pytest
import torch

from yowo_deploy.default_model import model_path
from yowo_deploy.onnx_file import read_spec
from yowo_deploy.plan_file import read_plan
from yowo_deploy.spec import ModelSpec
from yowo_export.calibration import made_up_clips
from yowo_export.onnx_export import export_onnx, store_anew
from yowo_export.plan import PlanOptions, build_plan
from yowo_export.precision import Wish, lower_model
from yowo_training.checkpoint import Checkpoint
from yowo_training.model import Yowo, YowoConfig

pytestmark = pytest.mark.slow
pytest.importorskip("tensorrt_rtx")

WISHES = {
    "fp16": Wish("fp16", fused=False),
    "int8": Wish("int8", "tensorrt", "minmax", fused=False),
}
Attention = Literal["fused", "plain"]


Batch = tuple[int, int, int] | None
Lowered = Callable[[str], dict[str, Path]]
DYNAMIC = (1, 2, 4)
# By hand all four were built of ResNeXt-101 as well, at T = 8 and 16.
FORMS: list[tuple[str, Attention, Batch]] = [
    ("yowo-lite", "fused", None),
    ("yowo-lite", "fused", DYNAMIC),
    ("yowo-lite", "plain", None),
    ("yowo-lite", "plain", DYNAMIC),
    ("resnext101", "fused", DYNAMIC),
    ("resnext101", "plain", None),
]


@pytest.fixture(scope="module")
def lowered(tmp_path_factory: pytest.TempPathFactory) -> Lowered:
    """From a model's name to its files in every precision, the attention plain; each made once: it takes a minute."""
    return functools.cache(lambda name: _in_every_precision(name, tmp_path_factory.mktemp(name)))


def _in_every_precision(name: str, folder: Path) -> dict[str, Path]:
    files = {precision: folder / f"{precision}.onnx" for precision in ("fp32", *WISHES)}
    if name == "yowo-lite":
        store_anew(model_path("default"), files["fp32"], False, "plain")
    else:
        spec = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=8)
        torch.manual_seed(0)
        model = Yowo(YowoConfig("darknet19", name, spec.output_channels)).eval()
        export_onnx(Checkpoint(model, spec), files["fp32"], "plain")
    clips = made_up_clips(read_spec(files["fp32"]), 1)
    for precision, wish in WISHES.items():
        lower_model(files["fp32"], files[precision], clips, wish, judged=1)
    return files


@pytest.mark.parametrize("precision", ["fp32", *WISHES])
@pytest.mark.parametrize(("name", "attention", "batch"), FORMS)
def test_every_precision_builds(
    precision: str, name: str, attention: Attention, batch: Batch, lowered: Lowered, tmp_path: Path
) -> None:
    source = lowered(name)[precision]
    if attention == "fused":
        source = tmp_path / "fused.onnx"
        store_anew(lowered(name)[precision], source, False, "fused")
    build_plan(source, tmp_path / "m.plan", PlanOptions("tensorrt-rtx", batch))
    plan = read_plan(tmp_path / "m.plan")
    assert plan.spec.precision == precision and plan.batch == (batch or (1, 1, 1))


@pytest.mark.parametrize("name", ["yowo-lite", "resnext101"])
def test_lower_precision_makes_smaller_files(name: str, lowered: Lowered) -> None:
    sizes = {precision: path.stat().st_size for precision, path in lowered(name).items()}
    assert sizes["fp16"] < 0.56 * sizes["fp32"] and sizes["int8"] < 0.4 * sizes["fp32"]
