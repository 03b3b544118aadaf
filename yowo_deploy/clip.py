"""The newest frames, always ready as one clip. Knows numpy; nothing of where frames come from or go."""

from __future__ import annotations

import numpy as np

from yowo_deploy.boxes import Float
from yowo_deploy.spec import ModelSpec


class ClipBuffer:
    """A mirrored ring of preprocessed frames: every frame is written twice, so that a clip is always a view.

    What lies before the first frame is filled with it (the spec's start rule "repeat").
    """

    def __init__(self, spec: ModelSpec) -> None:
        channels, _, height, width = spec.clip_shape
        self._span, self._stride = spec.clip_span, spec.frame_stride
        self._ring = np.zeros((channels, 2 * self._span, height, width), np.float32)
        self._next = 0
        self._started = False

    def push(self, planes: Float) -> Float:
        """Take the next frame and return the clip that ends with it.

        Args:
            planes: (3, H, W) float32, as `preprocess` gives.

        Returns:
            (3, T, H, W) float32 view, valid until the next push.
        """
        if self._started:
            self._ring[:, self._next] = planes
            self._ring[:, self._next + self._span] = planes
        else:
            self._ring[:] = planes[:, None]
            self._started = True
        self._next = (self._next + 1) % self._span
        return self._ring[:, self._next : self._next + self._span][:, :: self._stride]

    def reset(self) -> None:
        """Forget every frame: the next push is the first of a new video."""
        self._next = 0
        self._started = False
