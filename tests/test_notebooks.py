"""The notebooks in examples/ run from top to bottom, on small data made here."""

from __future__ import annotations

import importlib
import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yowo_deploy.datasets.data_json import read_annotations
from yowo_deploy.datasets.importer import WRITERS
from yowo_deploy.datasets.synthetic.generator import make_synthetic
from yowo_deploy.video.writer import VideoWriter

FOLDER = Path(__file__).parent.parent / "examples" / "notebooks"


def run(name: str, **names: object) -> dict[str, object]:
    """Execute the code cells in order; `names` replace what a cell assigns."""
    cells = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))["cells"]
    scope: dict[str, object] = {}
    for number, cell in enumerate(cells):
        assert not cell.get("outputs"), "no output is kept in the repository"
        if cell["cell_type"] == "code":
            text = "".join(cell["source"])
            for given, value in names.items():
                text = "\n".join(
                    f"{given} = {value!r}" if row.startswith(f"{given} = ") else row for row in text.split("\n")
                )
            exec(compile(text, f"{name}, cell {number}", "exec"), scope)
    return scope


def test_quickstart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("openvino")
    monkeypatch.chdir(tmp_path)
    with VideoWriter(tmp_path / "yard.webm", 25, (64, 48)) as writer:
        for frame in np.random.default_rng(0).integers(0, 256, (6, 48, 64, 3), np.uint8):
            writer.write(frame)
    run("quickstart", VIDEO="yard.webm")
    assert all((tmp_path / made).stat().st_size for made in ("boxes.webm", "detections.jsonl", "tubes.json"))


@pytest.mark.slow
def test_from_cvat_to_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_synthetic(tmp_path / "made", 6, 1)
    data = read_annotations(tmp_path / "made" / "synthetic.json")
    WRITERS["cvat"](type(data)(data.classes, data.videos), tmp_path / "annotated", False)
    (tmp_path / "videos").mkdir()
    for video in data.videos:
        shutil.move(video.path, tmp_path / "videos")
    shutil.rmtree(tmp_path / "made")
    monkeypatch.chdir(tmp_path)
    recipes, lite = importlib.import_module("yowo_training.recipes"), "yowo-lite"
    monkeypatch.setitem(recipes.RECIPES, lite, replace(recipes.RECIPES[lite], batch=2, input_size=(64, 64)))
    scope = run("cvat-to-model", TRAINING={"epochs": 1})
    assert scope["found"] is not None and (tmp_path / "mine.onnx").is_file() and (tmp_path / "boxes.webm").is_file()
