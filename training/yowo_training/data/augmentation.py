"""Random crops, flips and colours of clips and their boxes, the same for all frames of a clip."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Frame
from yowo_deploy.preprocess.frames import Crop, resize
from yowo_deploy.spec import ResizeFilter

MIN_VISIBLE = 0.4  # fraction of a box that must lie in the crop; else it is no target
LEAST_OF_A_SIDE = 0.35  # of the input, that a tile of a mosaic takes at least
_Sides = NDArray[np.float64]
Place = tuple[int, int, int, int]  # edges in pixels of the input: left, top, right, bottom


@dataclass(frozen=True)
class Augmentation:
    """One draw, applied to every frame of a clip and to its boxes.

    Attributes:
        crop_xyxy: edges of the window that fills the input, in pixels of the frame; it may reach beyond it.
        flip: mirror left and right.
        size_wh: of the input.
        resize_filter: the spec's, so that frames are as sharp as in training: a network trained with OpenCV's bilinear
            scored 33.5 evaluated with it and 32.3 with ours (frame-mAP, 751 J-HMDB-21 frames).
        gains_bgr: factors for the values of each channel; `normalise` applies them.
    """

    crop_xyxy: Crop
    flip: bool
    size_wh: tuple[int, int]
    resize_filter: ResizeFilter
    gains_bgr: tuple[float, float, float] = (1.0, 1.0, 1.0)

    def frames(self, frames_bgr: Iterable[Frame]) -> Iterator[Frame]:
        """The frames cropped, resized to the input size and flipped; colours are unchanged."""
        for frame in frames_bgr:
            window = resize(frame, self.size_wh, self.resize_filter, self.crop_xyxy)
            yield np.asarray(cv2.flip(window, 1), np.uint8) if self.flip else window

    def boxes(self, boxes_xyxy: Float) -> tuple[Float, NDArray[np.bool_]]:
        """Corners in pixels of the frame to corners in 0..1 of the input, and which of them are still visible."""
        low, high = np.array(self.crop_xyxy[:2]), np.array(self.crop_xyxy[2:])
        x1, y1, x2, y2 = ((boxes_xyxy.reshape(-1, 2, 2) - low) / (high - low)).reshape(-1, 4).T
        if self.flip:
            x1, x2 = 1 - x2, 1 - x1
        moved = np.stack([x1, y1, x2, y2], axis=1)
        inside = moved.clip(0, 1)
        sides = (inside[:, 2:] - inside[:, :2]) * self.size_wh
        whole = (moved[:, 2:] - moved[:, :2]) * self.size_wh
        visible = (sides.prod(axis=1) >= MIN_VISIBLE * whole.prod(axis=1)) & (sides.min(axis=1) > 1)
        return inside.astype(np.float32), visible


def draw_augmentation(
    rng: np.random.Generator,
    frame_size: tuple[int, int],
    size_wh: tuple[int, int],
    resize_filter: ResizeFilter,
    jitter: float,
    colour: float,
    zoom: float = 1.0,
    aspect: float = 1.0,
    around: Float | None = None,
) -> Augmentation:
    """A random crop, flip and colour change.

    Args:
        frame_size: (width, height) of the frames in pixels.
        jitter: each side of the crop moves in or out by up to this fraction of the frame.
        colour: brightness changes by up to this fraction, and each colour by half as much.
        zoom: half of the crops have sides shrunk by a common factor, down to this.
        aspect: of the crop relative to the frame's: below 1 it is narrower, above 1 lower.
        around: (4,) corners in pixels of the frame of a box that a smaller crop holds, if it can.
    """
    window = np.array((0, 0, *frame_size), np.float64)
    if zoom < 1 or aspect != 1:
        held = window if around is None else around.astype(np.float64)
        window = _window(rng, window[2:], zoom, aspect, held)
    crop = window + rng.uniform(-jitter, jitter, 4) * np.tile(window[2:] - window[:2], 2)
    flip = bool(rng.random() < 0.5)
    gains = 1 + rng.uniform(-colour, colour) + rng.uniform(-colour / 2, colour / 2, 3)
    left, top, right, bottom = crop.tolist()
    blue, green, red = np.maximum(gains, 0).tolist()
    return Augmentation((left, top, right, bottom), flip, size_wh, resize_filter, (blue, green, red))


def _window(rng: np.random.Generator, frame_wh: _Sides, zoom: float, aspect: float, around: _Sides) -> _Sides:
    """(4,) edges of a smaller window of the frame; see `draw_augmentation`."""
    scale = rng.uniform(zoom, 1) if rng.random() < 0.5 else 1.0
    sides = scale * frame_wh * np.minimum((aspect, 1 / aspect), 1)
    room = frame_wh - sides
    ends = np.clip(around[2:] - sides, 0, room), np.clip(around[:2], 0, room)
    corner = rng.uniform(np.minimum(*ends), np.maximum(*ends))
    return np.concatenate([corner, corner + sides])


def draw_places(rng: np.random.Generator, size_wh: tuple[int, int]) -> list[Place]:
    """Two to four tiles that fill the input, in random order: two columns, of which each may be split in two."""
    width, height = size_wh
    middle = round(width * rng.uniform(LEAST_OF_A_SIDE, 1 - LEAST_OF_A_SIDE))
    halved = int(rng.integers(0, 3))
    split = rng.permutation([column < halved for column in range(2)])
    places: list[Place] = []
    for (left, right), halves in zip(((0, middle), (middle, width)), split.tolist(), strict=True):
        between = round(height * rng.uniform(LEAST_OF_A_SIDE, 1 - LEAST_OF_A_SIDE))
        rows = ((0, between), (between, height)) if halves else ((0, height),)
        places += [(left, top, right, bottom) for top, bottom in rows]
    return [places[index] for index in rng.permutation(len(places)).tolist()]
