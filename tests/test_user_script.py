"""A user's script outside the tree: `mypy --strict` finds the package and its types, also in an editable install."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

GOOD = """\
from yowo_deploy import Detector
with Detector.open("yowo.onnx", device="cpu") as detector:
    print(detector.spec.labels[0].upper())
"""
BAD = GOOD.replace(".upper()", " + 1")


@pytest.mark.slow
def test_mypy_knows_the_types_of_the_installed_package(tmp_path: Path) -> None:
    """Without PYTHONPATH, which would show mypy the tree."""
    (tmp_path / "good.py").write_text(GOOD)
    (tmp_path / "bad.py").write_text(BAD)
    environment = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "MYPYPATH")}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "good.py", "bad.py"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert "Cannot find implementation" not in done.stdout, f"run `make venv`: {done.stdout}"
    [error, summary] = done.stdout.splitlines()
    assert error.startswith("bad.py:3: error: Unsupported operand types") and summary.startswith("Found 1 error"), done
