"""The model card is about the file beside it, and the README says what the card says."""

from __future__ import annotations

import re
from pathlib import Path

from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.model_files.onnx_reader import read_spec

FIGURES = ("frame-mAP@0.5", "video-mAP@0.5", "recall", "class accuracy of the boxes found")


def cells(text: str, row: str) -> list[float]:
    """The numbers of a table's row."""
    found = re.search(rf"^\| {re.escape(row)} \|(.*)\|$", text, re.MULTILINE)
    assert found is not None, row
    return [float(cell) for cell in found[1].split("|") if cell.strip()]


def test_the_card_has_the_hash_labels_and_thresholds_of_the_file() -> None:
    path = model_path(DEFAULT)
    card, spec = path.with_suffix(".md").read_text(encoding="utf-8"), read_spec(path)
    assert re.findall(r"sha256 of the weights: `([0-9a-f]{64})`", card) == [spec.weights_sha256]
    by_class = [cells(card, label) for label in spec.labels]
    for column, kind in enumerate(("along tubes", "each frame by itself")):
        mean = sum(row[column] for row in by_class) / len(by_class)
        assert abs(mean - cells(card, "frame-mAP@0.5")[column]) < 0.01, kind  # each is rounded to 0.005
    shown = re.search(r"appears above a score of ([\d.]+) and stays above an objectness of ([\d.]+)\)", card)
    assert shown is not None and (float(shown[1]), float(shown[2])) == (spec.confidence_threshold, spec.keep_threshold)
    assert f"({path.stat().st_size / 1e6:.1f} MB" in card


def test_the_readme_rounds_what_the_card_says(project_root: Path) -> None:
    card = model_path(DEFAULT).with_suffix(".md").read_text(encoding="utf-8")
    readme = (project_root / "README.md").read_text(encoding="utf-8")
    for column, row in enumerate(
        ("scores averaged along tubes, past frames only (the default)", "each frame by itself")
    ):
        assert cells(readme, row) == [round(cells(card, figure)[column], 1) for figure in FIGURES]
