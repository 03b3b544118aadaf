"""Ring buffer of frames whose newest clip is always contiguous."""

from __future__ import annotations

from collections import deque

import numpy as np

from yowo_deploy.arrays import Planes
from yowo_deploy.spec import ModelSpec


class ClipBuffer:
    """Mirrored rings of preprocessed frames, whose view is a whole clip without gaps: engines read it in place.

    What lies before the first frame is filled with it (the spec's start rule "repeat").

    Args:
        held: how many of the newest clips stay as they are. Each has rings of its own, which a frame is written into
            when their turn comes: so many frames are moved for a clip, and not the clip.
    """

    def __init__(self, spec: ModelSpec, held: int = 1) -> None:
        self._rings = [_Rings(spec) for _ in range(held)]
        self._newest: deque[Planes] = deque(maxlen=held)
        self._count = 0

    def push(self, planes: Planes) -> Planes:
        """Take the next frame and return the clip that ends with it.

        Args:
            planes: (3, H, W), as `preprocess` gives; not to be changed for the next `held` - 1 pushes.

        Returns:
            (3, T, H, W) of the same type, contiguous, a view that is valid for `held` pushes.
        """
        self._newest.append(planes)
        rings = self._rings[self._count % len(self._rings)]
        self._count += 1
        for each in self._newest:
            clip = rings.push(each)
        return clip

    def reset(self) -> None:
        """Forget every frame: the next push is the first of a new video."""
        for rings in self._rings:
            rings.count = 0
        self._newest.clear()
        self._count = 0


class _Rings:
    """As `ClipBuffer` with the newest clip alone.

    The clip's window moves on by one plane a frame. Frame k of channel c then always lies at plane c * T + k, whatever
    the window: where channel c + 1 has its oldest frame, which leaves, channel c gets its newest. So a frame is written
    to three places, and to their mirrors. Frames that are `frame_stride` apart share a ring; there are that many rings.
    """

    def __init__(self, spec: ModelSpec) -> None:
        channels, length, height, width = self._shape = spec.clip_shape
        self._planes = channels * length
        self._memory = np.zeros((spec.frame_stride, 2 * self._planes, height, width), spec.input_type)
        self.count = 0

    def push(self, planes: Planes) -> Planes:
        rings, length = len(self._memory), self._shape[1]
        ring, start = self._memory[self.count % rings], self.count // rings % self._planes
        clip: Planes = ring[start : start + self._planes].reshape(self._shape)
        if self.count:
            places = (start + length - 1 + length * np.arange(len(planes))) % self._planes
            for place, plane in zip(places, planes, strict=True):
                ring[place] = ring[place + self._planes] = plane
        else:
            self._memory.reshape(rings, 2, *self._shape)[:] = planes[:, None]
        self.count += 1
        return clip
