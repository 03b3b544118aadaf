"""What `bench` prints below its tables, without measuring anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from yowo_deploy.benchmark.record import KEYS
from yowo_deploy.cli import bench as bench_module
from yowo_deploy.cli import cli
from yowo_deploy.diagnostics.system_info import describe_machine
from yowo_deploy.files import sha256_of


def record(*_: Any, **__: Any) -> dict[str, Any]:
    """Of two models of five calls each, which have no 99th percentile."""
    few = dict.fromkeys(KEYS) | {"p50_ms": 10.0, "max_ms": 12.0}
    model = {"name": "a", "calls": 5, "clips_per_s": 100.0, "gmac_per_s": None, "percent_of_peak": None, **few}
    facts = {"batch": 1, "models": [{**model, "seconds": [0.01] * 5}] * 2, "versus": None, "stages": []}
    return facts | {"open_loop": None, "peak_memory_bytes": 1 << 20, "machine": describe_machine() | {"date": "then"}}


def test_the_figures_carry_hashes_date_processor_and_versions(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_module, "bench", record)
    files = tmp_path / "a.onnx", tmp_path / "b.onnx"
    for file in files:
        file.write_text(file.name)
    given = [part for file in files for part in ("--engine", str(file))]
    shown = CliRunner().invoke(cli, ["bench", *given], catch_exceptions=False).stdout
    machine = describe_machine()
    for text in (*map(sha256_of, files), "then", machine["cpu"], f"numpy {machine['packages']['numpy']}"):
        assert text in shown
    assert "10.00" in shown and "12.00" in shown and "peak memory 1 MiB" in shown
