"""Pictures and short videos to stand for those of a data set."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest


@pytest.fixture(scope="session")
def write_pictures() -> Callable[..., None]:
    """`write_pictures(folder, range(1, 5), "film_{:06d}.png")`: grey pictures as bright as their number."""

    def write(folder: Path, numbers: range, name: str = "{:05d}.png", size_wh: tuple[int, int] = (64, 48)) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        for number in numbers:
            picture = np.full((size_wh[1], size_wh[0], 3), number % 256, np.uint8)
            assert cv2.imwrite(str(folder / name.format(number)), picture)

    return write


@pytest.fixture(scope="session")
def write_video() -> Callable[..., None]:
    """`write_video(path, frames=8, fps=25.0, size_wh=(64, 48))`: frames as bright as their number, in MJPEG."""

    def write(path: Path, frames: int = 8, fps: float = 25.0, size_wh: tuple[int, int] = (64, 48)) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, size_wh)
        assert writer.isOpened()
        for number in range(frames):
            writer.write(np.full((size_wh[1], size_wh[0], 3), number % 256, np.uint8))
        writer.release()

    return write
