"""The soak in short: nothing grows, nothing stays open, nothing is lost when a camera keeps dying."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks import soak
from tests.waiting import NEVER_S
from yowo_deploy.spec import ModelSpec

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(soak, "PATIENCE_S", NEVER_S)


def test_a_camera_may_die_and_return() -> None:
    assert soak.dies_and_returns(4) == []


def test_frames_and_tubes_are_let_go(spec: ModelSpec, onnx_model: Callable[..., Any], tmp_path: Path) -> None:
    """Memory itself is looked at by the long form: here other tests have left theirs."""
    onnx = pytest.importorskip("onnx")
    onnx.save(onnx_model(spec), tmp_path / "small.onnx")
    assert soak.runs_long(tmp_path / "small.onnx", "onnxruntime", 400, shown=0.3, drift=1.0, looks=20) == []
