"""What `export` writes in every precision, `build` turns into a plan: no GPU is needed for TensorRT-RTX."""

from __future__ import annotations

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


@pytest.fixture(scope="module", params=["yowo-lite", "resnext101"])
def lowered(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A model in every precision, its attention plain."""
    folder = tmp_path_factory.mktemp(request.param)
    files = {precision: folder / f"{precision}.onnx" for precision in ("fp32", *WISHES)}
    if request.param == "yowo-lite":
        store_anew(model_path("default"), files["fp32"], False, "plain")
    else:
        spec = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=8)
        torch.manual_seed(0)
        model = Yowo(YowoConfig("darknet19", request.param, spec.output_channels)).eval()
        export_onnx(Checkpoint(model, spec), files["fp32"], "plain")
    clips = made_up_clips(read_spec(files["fp32"]), 1)
    for precision, wish in WISHES.items():
        lower_model(files["fp32"], files[precision], clips, wish, judged=1)
    return files


@pytest.mark.parametrize("precision", ["fp32", *WISHES])
@pytest.mark.parametrize(
    ("attention", "batch"), [("fused", None), ("fused", (1, 2, 4)), ("plain", None), ("plain", (1, 2, 4))]
)
def test_every_precision_builds(
    precision: str, attention: Attention, batch: tuple[int, int, int] | None, lowered: dict[str, Path], tmp_path: Path
) -> None:
    if "resnext101" in str(lowered["fp32"]) and (attention == "fused") == (batch is None):
        pytest.skip("two of four for the large model; all four were built once")
    source = lowered[precision]
    if attention == "fused":
        source = tmp_path / "fused.onnx"
        store_anew(lowered[precision], source, False, "fused")
    build_plan(source, tmp_path / "m.plan", PlanOptions("tensorrt-rtx", batch))
    plan = read_plan(tmp_path / "m.plan")
    assert plan.spec.precision == precision and plan.batch == (batch or (1, 1, 1))


def test_lower_precision_makes_smaller_files(lowered: dict[str, Path]) -> None:
    sizes = {precision: path.stat().st_size for precision, path in lowered.items()}
    assert sizes["fp16"] < 0.56 * sizes["fp32"] and sizes["int8"] < 0.4 * sizes["fp32"]
