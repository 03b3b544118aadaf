"""From a BGR frame to the planes that a clip is made of. Knows numpy and cv2; nothing of clips or engines."""

from __future__ import annotations

import functools
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from yowo_deploy.boxes import Float
from yowo_deploy.errors import InputError
from yowo_deploy.spec import ModelSpec, ResizeFilter

Frame = NDArray[np.uint8]
Crop = tuple[float, float, float, float]

_CACHED = 65_536  # numbers that stay in the processor's cache while they are summed: three times as fast


def resize(frame: Frame, size_wh: tuple[int, int], resize_filter: ResizeFilter, crop_xyxy: Crop | None = None) -> Frame:
    """Squash a frame, or a window of it, to a size; the aspect ratio is not kept.

    The filters mean what they mean in Pillow, by which released models were trained (OFFICIAL_YOWO,
    "Preprocessing"): "nearest" takes the pixel under the centre; "bilinear" (triangle) and "bicubic" (a = -0.5)
    widen when shrinking, so that a large frame does not alias. Within one grey level of Pillow 9.5, or two where both
    passes round a half; Pillow 13 may shrink columns first, which shows where bicubic overshoot is cut off.

    Args:
        frame: (H, W, 3) uint8.
        size_wh: (width, height) wanted.
        crop_xyxy: edges of the window in pixels, fractions allowed; the whole frame by default. Beyond the frame its
            outermost pixels go on.

    Returns:
        (height, width, 3) uint8.
    """
    height, width = frame.shape[:2]
    whole = (0.0, 0.0, float(width), float(height))
    left, top, right, bottom = window = crop_xyxy or whole
    if window == whole and (width, height) == size_wh:
        return frame
    width_out, height_out = size_wh
    across, down = (width, width_out, left, right), (height, height_out, top, bottom)
    if resize_filter == "nearest":
        return frame[_nearest(*down)[:, None], _nearest(*across)]
    turned = cv2.transpose(frame).reshape(width, -1)  # columns first: the order shows where overshoot is cut off
    columns = _resample_rows(turned, _taps(*across, resize_filter)).reshape(width_out, height, 3)
    rows = cv2.transpose(columns).reshape(height, -1)
    return _resample_rows(rows, _taps(*down, resize_filter)).reshape(height_out, width_out, 3)


def preprocess(frame_bgr: Frame, spec: ModelSpec) -> Float:
    """One frame as the model's planes: resized, in the spec's colour order, scaled and normalised.

    Args:
        frame_bgr: (H, W, 3) uint8 of any size.

    Returns:
        (3, input height, input width) float32, contiguous.

    Raises:
        InputError: the frame is not (H, W, 3) uint8.
    """
    if frame_bgr.ndim != 3 or frame_bgr.shape[2] != 3 or frame_bgr.dtype != np.uint8 or frame_bgr.size == 0:
        raise InputError(
            f"frame is {frame_bgr.dtype} of shape {frame_bgr.shape}, expected uint8 of shape (height, width, 3) in BGR"
        )
    return normalise(resize(frame_bgr, spec.input_size, spec.resize_filter), spec)


def normalise(frame_bgr: Frame, spec: ModelSpec) -> Float:
    """(H, W, 3) uint8 BGR to (3, H, W) float32 in the spec's colour order: (value / 255 - mean) / std."""
    planes = np.empty((3, *frame_bgr.shape[:2]), np.float32)
    sources = cv2.split(frame_bgr)
    for channel, (mean, std) in enumerate(zip(spec.mean, spec.std, strict=True)):
        source = sources[2 - channel if spec.colour == "rgb" else channel]
        np.multiply(source, np.float32(1 / (255 * std)), out=planes[channel])
        if mean:
            planes[channel] -= np.float32(mean / std)
    return planes


def _resample_rows(rows: NDArray[Any], taps: tuple[NDArray[np.intp], Float]) -> Frame:
    """(n, K) to (length, K) along the first axis, rounded half up to uint8 between the passes as Pillow does."""
    sources, weights = taps
    made = np.empty((len(sources), rows.shape[1]), np.uint8)
    block = max(1, _CACHED // rows.shape[1])
    total, part = (np.empty((block, rows.shape[1]), np.float32) for _ in range(2))
    for start in range(0, len(sources), block):
        here = slice(start, min(start + block, len(sources)))
        sums, products = (buffer[: here.stop - start] for buffer in (total, part))
        sums[:] = 0
        for tap in range(sources.shape[1]):
            sums += np.multiply(rows[sources[here, tap]], weights[here, tap, None], out=products)
        made[here] = np.clip(sums, 0, 255, out=sums) + np.float32(0.5)
    return made


@functools.lru_cache(maxsize=64)
def _taps(
    length_in: int, length_out: int, start: float, stop: float, resize_filter: ResizeFilter
) -> tuple[NDArray[np.intp], Float]:
    """Which source rows make each output row and by how much: (length_out, taps) each, weights summing to 1."""
    shrink = max((stop - start) / length_out, 1.0)
    support = (1.0 if resize_filter == "bilinear" else 2.0) * shrink
    centres = _centres(length_out, start, stop)
    first = np.floor(centres - support + 0.5).astype(np.intp)
    sources = first[:, None] + np.arange(2 * int(np.ceil(support)) + 1)
    x = np.abs((sources + 0.5 - centres[:, None]) / shrink)
    weights = np.clip(1 - x, 0, None) if resize_filter == "bilinear" else _cubic(x)
    weights[(sources < 0) | (sources >= length_in)] = 0
    weights[weights.sum(axis=1) <= 0] = 1  # wholly beyond the edge: every source is clipped to the outermost pixel
    weights /= weights.sum(axis=1, keepdims=True)
    used = weights.any(axis=0)
    return np.clip(sources[:, used], 0, length_in - 1), weights[:, used].astype(np.float32)


@functools.lru_cache(maxsize=64)
def _nearest(length_in: int, length_out: int, start: float, stop: float) -> NDArray[np.intp]:
    return np.clip(np.floor(_centres(length_out, start, stop)).astype(np.intp), 0, length_in - 1)


def _centres(length_out: int, start: float, stop: float) -> NDArray[np.float64]:
    """Where the middle of each output pixel lies in the source."""
    return start + (np.arange(length_out) + 0.5) * (stop - start) / length_out


def _cubic(x: NDArray[np.float64]) -> NDArray[np.float64]:
    """Keys' cubic with a = -0.5 at distances x >= 0."""
    near, far = (1.5 * x - 2.5) * x * x + 1, ((2.5 - 0.5 * x) * x - 4) * x + 2
    return np.where(x < 1, near, np.where(x < 2, far, 0.0))
