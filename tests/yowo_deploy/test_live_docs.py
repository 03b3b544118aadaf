"""What docs/live.md shows works."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.writer import VideoWriter


def test_the_python_runs(
    spec: ModelSpec,
    onnx_model: Callable[..., Any],
    project_root: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    onnx = pytest.importorskip("onnx")
    onnx.save(onnx_model(spec), tmp_path / "yowo.onnx")
    with VideoWriter(tmp_path / "film.webm", 25, (64, 48)) as writer:
        for _ in range(6):
            writer.write(np.zeros((48, 64, 3), np.uint8))
    blocks = re.findall(r"```python\n(.*?)```", (project_root / "docs" / "live.md").read_text(), flags=re.DOTALL)
    assert len(blocks) == 2
    for block in blocks:
        code = re.sub(r"rtsp://[^\"]*", str(tmp_path / "film.webm"), block).replace(
            "yowo.onnx", f"{tmp_path}/yowo.onnx"
        )
        exec(compile(code, "live.md", "exec"), {})
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "6 frames captured, 6 given"
    assert sorted(line.split()[0] for line in lines[1:13]) == ["door"] * 6 + ["yard"] * 6
    assert lines[13].startswith("{} {'door': Counts(captured=6, given=6")
