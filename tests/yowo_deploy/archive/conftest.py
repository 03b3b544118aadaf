"""A small model and videos with moving squares, which it sees people in."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from yowo_deploy.spec import ModelSpec


@pytest.fixture(scope="session")
def model(onnx_model: Callable[..., Any], spec: ModelSpec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("onnxruntime")
    path: Path = tmp_path_factory.mktemp("model") / "small.onnx"
    path.write_bytes(onnx_model(spec).SerializeToString())
    return path


@pytest.fixture(scope="session")
def film() -> Callable[..., Path]:
    """`film(path, frames, seed)` writes a video of coarse noise, 10 frames a second, every twelfth a key frame."""
    return write_film


def write_film(path: Path, frames: int = 40, seed: int = 0) -> Path:
    rng = np.random.default_rng(seed)
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, cv2.VideoWriter.fourcc(*"XVID"), 10, (64, 48))
    for _ in range(frames):
        writer.write(rng.integers(0, 256, (6, 8, 3), np.uint8).repeat(8, axis=0).repeat(8, axis=1))
    writer.release()
    return path
