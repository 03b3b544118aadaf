"""Made-up films for the tests of reading and writing videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.video.writer import VideoWriter


def film(count: int, width: int, height: int) -> list[Frame]:
    """A smooth picture that encoders keep well, 10 grey levels brighter from frame to frame; at most 12 frames."""
    y, x = np.mgrid[:height, :width]
    shades = np.stack([0 * x, 100 * y // height, 100 * x // width], axis=-1)
    return [(shades + 20 + 10 * number).astype(np.uint8) for number in range(count)]


def write(path: Path, frames: list[Frame], fps: float = 12.5) -> Path:
    height, width = frames[0].shape[:2]
    with VideoWriter(path, fps, (width, height)) as writer:
        for frame in frames:
            writer.write(frame)
    return path
