"""A recipe with a branch over optical flow, from training to `detect`. Twenty seconds on an idle core."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from yowo_deploy.cli import cli
from yowo_deploy.datasets.registry import open_dataset
from yowo_deploy.datasets.synthetic.generator import make_synthetic
from yowo_deploy.video.reader import open_video
from yowo_export.exporter import export_onnx
from yowo_training.checkpoints.checkpoint import load_checkpoint
from yowo_training.recipes import find_recipe
from yowo_training.trainer import Budget, Run

pytestmark = pytest.mark.slow


def test_a_flow_recipe_trains_exports_says_what_it_is_fed_and_runs(tmp_path: Path) -> None:
    make_synthetic(tmp_path / "data", videos_train=6, videos_test=6)
    dataset = open_dataset("synthetic", tmp_path / "data")
    recipe = replace(find_recipe("yowo-tiny-flow"), width=32, input_size=(64, 64), batch=4)
    run = Run(recipe, dataset, tmp_path / "run", Budget(None, 2), validation=0.0)
    assert [report.step for report in run]
    export_onnx(load_checkpoint(run.best), tmp_path / "flow.onnx")
    described = CliRunner().invoke(cli, ["inspect", str(tmp_path / "flow.onnx")]).output
    assert "flow of the clip, computed in the network" in described and "the key frame" in described
    video = dataset.videos("test")[0].path
    arguments = ["detect", str(video), "--model", str(tmp_path / "flow.onnx"), "--json", str(tmp_path / "out.jsonl")]
    done = CliRunner().invoke(cli, arguments)
    assert done.exit_code == 0, done.output
    with open_video(video) as frames:
        count = sum(1 for _ in frames)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert len([line for line in lines if "frame" in line]) == count
