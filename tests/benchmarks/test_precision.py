"""A form that this machine cannot run is left out of the table before the work begins, and its row says why."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import forms, precision, results
from benchmarks.available import why_not
from yowo_deploy.backends import loader
from yowo_deploy.benchmark.timing import Timing

ov = pytest.importorskip("yowo_deploy.backends.ov", reason="OpenVINO is not installed")


@pytest.fixture
def old_processor(monkeypatch: pytest.MonkeyPatch) -> None:
    class Old(ov.ov.Core):  # type: ignore[misc]
        def get_property(self, *names: str) -> Any:
            return ["FP32", "INT8"] if "OPTIMIZATION_CAPABILITIES" in names else super().get_property(*names)

    monkeypatch.setattr(ov.ov, "Core", Old)


def test_a_processor_without_bf16_has_the_other_forms(old_processor: None) -> None:
    assert why_not("openvino", "bf16") == "not on this processor"
    assert why_not("openvino") == ""


def test_an_engine_that_is_not_installed_is_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "find_spec", lambda name: None)
    assert why_not("onnxruntime") == "not installed"


def test_the_table_has_a_row_for_what_was_left_out(
    old_processor: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Files and models are stand-ins: what is looked at is what is asked of the engines, when, and what is printed."""
    steps: list[str] = []

    class Model:
        def __init__(self, file: Path, engine: str, precision: str | None = None) -> None:
            steps.append(f"{file.name} {engine} {precision}")

        def __enter__(self) -> Model:
            return self

        def __exit__(self, *_: object) -> None: ...

    def noted(name: str, result: Any = None) -> Callable[..., Any]:
        return lambda *_, **__: (steps.append(name), result)[1]

    def bench(models: Sequence[Any], *_: object, **__: object) -> list[Timing]:
        return [Timing("", np.array([0.1, 0.1]) * number, 1) for number in range(1, len(models) + 1)]

    for name in ("plain_export", "export_onnx", "conv3d_as_2d_if_faster", "made_up_clips", "lower_model"):
        monkeypatch.setattr(precision, name, noted(name))
    monkeypatch.setattr(precision, "make_checkpoint", lambda *_: type("Made", (), {"spec": None}))
    monkeypatch.setattr(precision.TorchBackend, "of", lambda _: Model(Path("eager"), "pytorch"))
    monkeypatch.setattr(precision, "why_not", lambda *asked: (steps.append("asked"), why_not(*asked))[1])
    for name in ("open_model", "PlainExport"):
        monkeypatch.setattr(precision, name, Model)
    monkeypatch.setattr(precision, "bench_models", bench)
    precision.speed(tmp_path)
    rows = {row.split("|")[1].strip(): row for row in capsys.readouterr().out.splitlines()[2:]}
    assert rows.keys() == precision.ROWS.keys()
    assert rows["ours, openvino bf16"] == "| ours, openvino bf16 | - | not on this processor |"
    assert rows["ours, openvino int8"] == "| ours, openvino int8 | 700 | 0.14 [0.14, 0.14] |"
    assert "bf16" not in " ".join(steps)
    assert max(place for place, step in enumerate(steps) if step == "asked") < steps.index("plain_export")


def test_the_report_says_why_a_form_was_not_measured() -> None:
    network = {"absent": {forms.OV_BF16: "not on this processor"}, "compile": None}
    assert results._why(network, forms.OV_BF16) == "not on this processor"
    assert results._why(network, "OpenVINO, fp32") == "-"
