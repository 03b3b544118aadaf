"""`yowo-deploy demo`: its length is a number of steps, and its network is the same however many cores there are."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner

from yowo_deploy.cli import cli
from yowo_deploy.errors import OutputError
from yowo_export import demo
from yowo_training import recipes
from yowo_training.checkpoints.checkpoint import load_checkpoint

pytest.importorskip("openvino")


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Twelve videos and two epochs; figures of a network that has learnt nothing."""
    make, tiny = demo.make_synthetic, demo.RECIPE
    monkeypatch.setattr(demo, "make_synthetic", lambda folder: make(folder, videos_train=12, videos_test=6))
    monkeypatch.setitem(recipes.RECIPES, tiny, replace(recipes.RECIPES[tiny], epochs=2, batch=4))
    monkeypatch.setattr(demo, "BENCH_S", 1e-9)


@pytest.mark.slow
def test_the_whole_story_is_told_after_so_many_steps(small: None, tmp_path: Path) -> None:
    result = CliRunner().invoke(cli, ["demo", "-o", str(tmp_path)], catch_exceptions=False)
    assert result.exit_code == 0 and result.stdout.splitlines()[-1] == str(tmp_path / "report.html")
    assert "minutes in all" in result.stdout and "agrees" not in result.stdout
    for name, epochs in (("yowo", 2), ("2d", 1)):
        arguments = json.loads((tmp_path / name / "args.json").read_text())
        assert (arguments["minutes"], arguments["epochs"], arguments["held_out"]) == (None, epochs, 0)
        last = json.loads((tmp_path / name / "metrics.jsonl").read_text().splitlines()[-1])
        assert last["step"] == epochs * 12 / 4
    page = (tmp_path / "report.html").read_text()
    for name in ("sit_down", "2-D + 3-D", "openvino", "data:image/png"):
        assert name in page
    assert (tmp_path / "detections.webm").stat().st_size > 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(demo.MADE)


@pytest.mark.parametrize("name", demo.MADE)
def test_what_an_earlier_demo_made_stays_unless_asked(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Begun(Exception):
        """Ends the demo at its first step."""

    def begin(*_: object, **__: object) -> None:
        raise Begun

    monkeypatch.setattr(demo, "make_synthetic", begin)
    (tmp_path / name).write_text("of five minutes")
    with pytest.raises(OutputError, match=f"{name} already exists: give another name, or --overwrite"):
        CliRunner().invoke(cli, ["demo", "-o", str(tmp_path)], catch_exceptions=False)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [(name, "of five minutes")]
    with pytest.raises(Begun):
        CliRunner().invoke(cli, ["demo", "-o", str(tmp_path), "--overwrite"], catch_exceptions=False)


@pytest.mark.slow
def test_the_network_is_the_same_whatever_the_number_of_cores(
    small: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Trained(Exception):
        """Ends the demo behind its training."""

    def end(*_: object, **__: object) -> None:
        raise Trained

    monkeypatch.setattr(demo, "export", end)
    weights: list[dict[str, Any]] = []
    before = torch.get_num_threads()
    for cores in (1, 3):
        torch.set_num_threads(cores)
        try:
            with pytest.raises(Trained):
                CliRunner().invoke(cli, ["demo", "-o", str(tmp_path / str(cores))], catch_exceptions=False)
            assert torch.get_num_threads() == cores
        finally:
            torch.set_num_threads(before)
        weights.append(load_checkpoint(tmp_path / str(cores) / "yowo" / "last.pt").model.state_dict())
    one, other = weights
    assert all(torch.equal(one[name], other[name]) for name in one)
