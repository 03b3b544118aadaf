"""The model of the package: small, whole, named "default" everywhere, and as good as its card says."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from yowo_deploy import Detector
from yowo_deploy.backends.loader import open_model
from yowo_deploy.datasets import open_dataset
from yowo_deploy.datasets.class_names import JHMDB21
from yowo_deploy.evaluation import evaluate_videos
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.model_files.onnx_reader import read_onnx_file, read_spec

CARD = model_path(DEFAULT).with_suffix(".md")


def test_it_is_small_and_says_what_it_is() -> None:
    file = model_path(DEFAULT)
    assert file.stat().st_size < 25 * 2**20
    assert read_spec(file).labels == JHMDB21
    assert read_onnx_file(file).dtypes["float16"] > 50
    assert model_path("yowo.onnx") == Path("yowo.onnx")


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
def test_it_is_what_a_detector_opens_when_nothing_is_named(backend: str) -> None:
    with Detector.open(backend=backend) as detector:
        result = detector.push(np.full((120, 160, 3), 127, np.uint8))
        assert result.names == JHMDB21 and len(result.detections) == 0  # nobody in an empty frame


def test_its_card_names_every_class_and_what_it_cannot_do() -> None:
    card = CARD.read_text(encoding="utf-8")
    assert all(f"| {label} |" in card for label in JHMDB21)
    assert "licence" in card and "cannot" in card


@pytest.mark.slow
def test_it_is_as_good_as_its_card_says(data_dir: Path) -> None:
    [said] = re.findall(r"frame-mAP@0\.5 \| [\d.]+ \| ([\d.]+)", CARD.read_text(encoding="utf-8"))
    videos = open_dataset("jhmdb21", data_dir / "jhmdb21").videos("test")
    # Two frames a video in place of 34, a quarter from either end: for a class of ten videos that is a few points, for
    # their mean about one. The first frames, of which the model knows least, would count too much among two.
    quarters = [
        video.annotated_frames()[[len(video.annotated_frames()) * part // 4 for part in (1, 3)]] for video in videos
    ]
    with open_model(DEFAULT, parallel=2) as backend:
        judged = [replace(video, judged=frames) for video, frames in zip(videos, quarters, strict=True)]
        found = evaluate_videos(backend, judged, tube_scores=False)  # tubes need all frames
    assert 100 * found.frame_map.mean == pytest.approx(float(said), abs=4)
