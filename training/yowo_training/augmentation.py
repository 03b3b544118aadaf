"""Random crops, flips and colours, the same for all frames of a clip; boxes follow. Knows numpy and cv2, not torch."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from yowo_deploy.boxes import Float
from yowo_deploy.preprocess import Frame

MIN_VISIBLE = 0.4  # share of a box that must be left in the crop for the box to stay


@dataclass(frozen=True)
class Augmentation:
    """One draw, applied to every frame of a clip and to its boxes.

    Attributes:
        matrix: (2, 3) from pixels of the frame to pixels of the input.
        colours: (256, 3) table from old to new value of each BGR channel.
        size_wh: of the input.
    """

    matrix: NDArray[np.float64]
    colours: Frame
    size_wh: tuple[int, int]

    def frame(self, frame_bgr: Frame) -> Frame:
        """The frame cropped, flipped and squashed to the input size; black beyond its border."""
        warped = cv2.warpAffine(frame_bgr, self.matrix, self.size_wh, flags=cv2.INTER_LINEAR)
        return np.asarray(cv2.LUT(warped, self.colours[None]), np.uint8)

    def boxes(self, boxes_xyxy: Float) -> tuple[Float, NDArray[np.bool_]]:
        """Corners in pixels of the frame to corners in 0..1 of the input, and which of them are still to be seen."""
        corners = boxes_xyxy.reshape(-1, 2, 2).astype(np.float64)
        # Boxes are in edges of pixels, warpAffine's matrix in their centres.
        moved = (corners - 0.5) @ self.matrix[:, :2].T + self.matrix[:, 2] + 0.5
        low, high = moved.min(axis=1), moved.max(axis=1)
        size = np.array(self.size_wh, np.float64)
        inside_low, inside_high = np.clip(low, 0, size), np.clip(high, 0, size)
        visible = (inside_high - inside_low).prod(axis=1) >= MIN_VISIBLE * (high - low).prod(axis=1)
        relative = np.concatenate([inside_low / size, inside_high / size], axis=1)
        return relative.astype(np.float32), visible & ((inside_high - inside_low).min(axis=1) > 1)


def draw_augmentation(
    rng: np.random.Generator, frame_size: tuple[int, int], size_wh: tuple[int, int], jitter: float, colour: float
) -> Augmentation:
    """A random crop, flip and colour change.

    Args:
        frame_size: (width, height) of the frames in pixels.
        size_wh: (width, height) of the input.
        jitter: each side of the crop moves in or out by up to this share of the frame.
        colour: brightness, and each colour on its own by half as much, changes by up to this share.
    """
    frame = np.array(frame_size, np.float64)
    low = rng.uniform(-jitter, jitter, 2) * frame
    high = frame + rng.uniform(-jitter, jitter, 2) * frame
    flip = rng.random() < 0.5
    gains = 1 + rng.uniform(-colour, colour) + rng.uniform(-colour / 2, colour / 2, 3)
    table = np.clip(np.arange(256)[:, None] * gains, 0, 255).astype(np.uint8)
    return Augmentation(crop_matrix(low, high, size_wh, flip), table, size_wh)


def no_augmentation(frame_size: tuple[int, int], size_wh: tuple[int, int]) -> Augmentation:
    """The whole frame as it is, squashed to the input."""
    table = np.tile(np.arange(256, dtype=np.uint8)[:, None], 3)
    matrix = crop_matrix(np.zeros(2), np.array(frame_size, np.float64), size_wh, flip=False)
    return Augmentation(matrix, table, size_wh)


def crop_matrix(
    low: NDArray[np.float64], high: NDArray[np.float64], size_wh: tuple[int, int], flip: bool
) -> NDArray[np.float64]:
    """(2, 3) for cv2.warpAffine: the rectangle from `low` to `high` (edges, pixels) fills the input."""
    scale = np.array(size_wh) / (high - low)
    offset = -low * scale
    if flip:
        scale[0], offset[0] = -scale[0], size_wh[0] - offset[0]
    return np.column_stack([np.diag(scale), offset + 0.5 * scale - 0.5])
