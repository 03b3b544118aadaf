"""Detect hard cuts between frames."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Frame

_SIDE = 48  # pixels of the grid that frames are compared on
_LEVELS = 4  # of each colour in the histograms
_FEWEST = 1024  # pixels that a histogram needs
# Of 3,434 pairs of frames within 104 clips of J-HMDB-21 none exceeds both (33 and 0.085 at most), of 103 cuts between
# clips 97 % do.
_PIXELS = 20.0  # mean difference in grey levels
_COLOURS = 0.11  # share of pixels whose colour has no counterpart


class CutDetector:
    """Compares each frame with the one before: pixels on a grid, and a histogram of their colours.

    Movement changes pixels, light changes colours a little, a cut both. Fades and tiny frames (32 x 32) have no cuts.
    """

    def __init__(self) -> None:
        self._before: tuple[NDArray[np.int16], NDArray[np.int64]] | None = None

    def push(self, frame_bgr: Frame) -> bool:
        """Whether the scene of this frame is another than that of the last; False for the first one."""
        grid = frame_bgr[:: max(1, frame_bgr.shape[0] // _SIDE), :: max(1, frame_bgr.shape[1] // _SIDE)]
        levels = grid.astype(np.int64) * _LEVELS // 256
        colours = (levels[..., 0] * _LEVELS + levels[..., 1]) * _LEVELS + levels[..., 2]
        now = grid.astype(np.int16), np.bincount(colours.reshape(-1), minlength=_LEVELS**3)
        before, self._before = self._before, now
        if before is None or before[0].shape != grid.shape or colours.size < _FEWEST:
            return False
        pixels = np.abs(now[0] - before[0]).mean()
        moved = np.abs(now[1] - before[1]).sum() / (2 * colours.size)
        return bool(pixels > _PIXELS and moved > _COLOURS)

    def reset(self) -> None:
        """Forget the last frame."""
        self._before = None
