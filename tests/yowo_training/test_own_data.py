"""Training on a data.json: one class or several labels a box, videos of several sizes, anchors that fit."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets import AnnotatedVideo, open_dataset
from yowo_deploy.datasets.data_json import Annotations, write_annotations
from yowo_training.recipes import find_recipe
from yowo_training.torch_backend import TorchBackend
from yowo_training.trainer import Budget, Run

SIZES = ((96, 128), (200, 80))  # upright and wide


def film(path: Path, size_wh: tuple[int, int], seed: int) -> None:
    rng = np.random.default_rng(seed)
    writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*"MJPG"), 12, size_wh)
    for _ in range(12):
        writer.write(rng.integers(0, 256, (size_wh[1], size_wh[0], 3), np.uint8))
    writer.release()


def people(size_wh: tuple[int, int], *labels: tuple[int, int]) -> tuple[Tube, ...]:
    """A tube for each (person, class id); everybody keeps a place of their own."""
    boxes = np.array([[0.1, 0.2, 0.4, 0.9], [0.5, 0.1, 0.9, 0.8]]) * np.tile(size_wh, 2)
    frames = np.arange(4, 12)
    return tuple(
        Tube(class_id, frames, np.tile(boxes[person], (8, 1)).astype(np.float32), tracker_id=person)
        for person, class_id in labels
    )


@pytest.fixture
def own(tmp_path: Path) -> Callable[..., Path]:
    def make(classes: tuple[str, ...], labels: tuple[tuple[int, int], ...], exclusive: int | None = None) -> Path:
        videos = []
        for number in range(4):
            name, size_wh = f"video{number}", SIZES[number % 2]
            film(tmp_path / f"{name}.avi", size_wh, number)
            tubes = people(size_wh, *labels)
            videos.append(AnnotatedVideo(name, name, tmp_path / f"{name}.avi", 12, tubes, size_wh, fps=12.0))
        sides = {"train": ("video0", "video1", "video2"), "test": ("video3",)}
        data = Annotations(classes, tuple(videos), (sides,), exclusive)  # type: ignore[arg-type]
        write_annotations(data, tmp_path / "data.json")
        return tmp_path / "data.json"

    return make


@pytest.mark.parametrize(
    ("classes", "labels", "exclusive", "activation"),
    [
        (("walk",), ((0, 0), (1, 0)), None, "softmax"),
        (("walk", "wave", "talk"), ((0, 0), (0, 1), (1, 2)), 0, "softmax+sigmoid"),
        (("sit", "stand", "talk"), ((0, 0), (0, 2), (1, 1)), 2, "softmax+sigmoid"),
    ],
    ids=["one class", "several labels a box", "poses and labels"],
)
def test_any_classes_and_sizes_are_trained_on(
    classes: tuple[str, ...],
    labels: tuple[tuple[int, int], ...],
    exclusive: int | None,
    activation: str,
    own: Callable[..., Path],
    tmp_path: Path,
) -> None:
    dataset = open_dataset(str(own(classes, labels, exclusive)))
    recipe = replace(find_recipe("yowo-tiny"), batch=3)
    run = Run(recipe, dataset, tmp_path / "run", Budget(None, 2), validation=0.0)
    assert [np.isfinite(report.loss) for report in run] == [True, True]
    with TorchBackend(run.best) as backend:
        assert backend.spec.labels == classes
        assert (backend.spec.class_activation, backend.spec.softmax_classes) == (activation, exclusive or 0)
