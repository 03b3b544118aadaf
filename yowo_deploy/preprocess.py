"""From a BGR frame to the planes that a clip is made of. Knows numpy and cv2; nothing of clips or engines."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from yowo_deploy.boxes import Float
from yowo_deploy.errors import InputError
from yowo_deploy.spec import ModelSpec, ResizeFilter

Frame = NDArray[np.uint8]
Crop = tuple[float, float, float, float]

# A dense matrix of weights is nearly all zero: of a 320x240 frame its product takes eleven times as long as its bands'.
_BAND = 8  # output rows made of one block of input rows; with 4 or 16 a frame takes a fifth to a half longer
# Frames a call: of 320x240, one and one take 1.6 times as long in two threads, which wait for the lock of Python; four
# take more than a cache holds.
_TOGETHER = 2
_PRODUCTS_A_CALL = 2**18  # above, OpenBLAS wakes threads, which then spin on the cores of the engine or the training


class _Scratch(threading.local):
    """Each thread's own memory for what is between two roundings; new memory comes page by page, at a third of the time
    of a frame."""

    def __init__(self) -> None:
        self._held = np.empty(0, np.float32)

    def floats(self, *shapes: tuple[int, ...]) -> list[Float]:
        """Arrays with anything in them, good until the next are asked for."""
        ends = np.cumsum([math.prod(shape) for shape in shapes]).tolist()
        if ends[-1] > self._held.size:
            self._held = np.empty(ends[-1], np.float32)
        starts = [0, *ends]
        return [self._held[a:b].reshape(shape) for a, b, shape in zip(starts, ends, shapes, strict=False)]


_scratch = _Scratch()


class _Band(NamedTuple):
    """Output rows `made` are `weights` times the rows `sources`."""

    made: slice
    sources: slice
    weights: Float


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
    return resize_frames([frame], size_wh, resize_filter, crop_xyxy)[0]


def resize_frames(
    frames: Sequence[Frame], size_wh: tuple[int, int], resize_filter: ResizeFilter, crop_xyxy: Crop | None = None
) -> list[Frame]:
    """As `resize`, of frames that are all of one size."""
    made: list[Frame] = []
    for start in range(0, len(frames), _TOGETHER):
        made += _resize(frames[start : start + _TOGETHER], size_wh, resize_filter, crop_xyxy)
    return made


def _resize(
    frames: Sequence[Frame], size_wh: tuple[int, int], resize_filter: ResizeFilter, crop_xyxy: Crop | None
) -> Sequence[Frame]:
    height, width = frames[0].shape[:2]
    whole = (0.0, 0.0, float(width), float(height))
    left, top, right, bottom = window = crop_xyxy or whole
    if window == whole and (width, height) == size_wh:
        return frames
    width_out, height_out = size_wh
    across, down = (width, width_out, left, right), (height, height_out, top, bottom)
    if resize_filter == "nearest":
        return [frame[_nearest(*down)[:, None], _nearest(*across)] for frame in frames]
    overshoots = resize_filter == "bicubic"
    # Columns first: the order shows where overshoot is cut off.
    columns = _resample_rows([cv2.transpose(each) for each in frames], _bands(*across, resize_filter), overshoots)
    return list(_resample_rows([cv2.transpose(each) for each in columns], _bands(*down, resize_filter), overshoots))


def preprocess(frame_bgr: Frame, spec: ModelSpec) -> Float:
    """One frame as the model's planes: resized, in the spec's colour order, scaled and normalised.

    Args:
        frame_bgr: (H, W, 3) uint8 of any size, or what `as_bgr` makes one of.

    Returns:
        (3, input height, input width) float32, contiguous.

    Raises:
        InputError: the frame is neither.
    """
    return normalise(resize(as_bgr(frame_bgr), spec.input_size, spec.resize_filter), spec)


def as_bgr(frame: Frame) -> Frame:
    """A frame as (H, W, 3) uint8 BGR: itself, or what cameras and pictures give instead.

    Args:
        frame: uint8 of any size. (H, W) or (H, W, 1) is grey, which becomes three equal channels; (H, W, 4) is BGRA,
            whose alpha is left out.

    Raises:
        InputError: it is something else.
    """
    if not isinstance(frame, np.ndarray):
        raise InputError(f"frame is {type(frame).__name__}, expected a numpy array: did the video end?")
    known = frame.dtype == np.uint8 and frame.size > 0 and frame.ndim in (2, 3)
    channels = (*frame.shape, 1)[2] if known else None
    if channels == 3:
        return frame
    if channels not in (1, 4):
        raise InputError(
            f"frame is {frame.dtype} of shape {frame.shape}, expected uint8 of shape (height, width, 3) in BGR, "
            "(height, width, 4) in BGRA, or (height, width) in grey"
        )
    code = cv2.COLOR_GRAY2BGR if channels == 1 else cv2.COLOR_BGRA2BGR
    return np.asarray(cv2.cvtColor(np.ascontiguousarray(frame), code), np.uint8)


def normalise(
    frame_bgr: Frame, spec: ModelSpec, gains_bgr: Sequence[float] = (1.0, 1.0, 1.0), out: Float | None = None
) -> Float:
    """(H, W, 3) uint8 BGR to (3, H, W) float32 in the spec's colour order: (value / 255 - mean) / std.

    Args:
        gains_bgr: factors that values are multiplied by before, up to white.
        out: where to write, in place of a new array.
    """
    planes = np.empty((3, *frame_bgr.shape[:2]), np.float32) if out is None else out
    sources, gains = cv2.split(frame_bgr), tuple(gains_bgr)
    if spec.colour == "rgb":
        sources, gains = sources[::-1], gains[::-1]
    tables = _normalised(tuple(spec.mean), tuple(spec.std), gains)
    for plane, source, table in zip(planes, sources, tables, strict=True):
        made = cv2.LUT(source, table, plane)
        if made is not plane:  # its memory does not suit OpenCV
            plane[:] = made
    return planes


@functools.lru_cache(maxsize=64)
def _normalised(mean: Sequence[float], std: Sequence[float], gains: Sequence[float]) -> list[Float]:
    """By channel: what becomes of each value of a byte."""
    tables = []
    for offset, scale, gain in zip(mean, std, gains, strict=True):
        table = np.arange(256, dtype=np.uint8) * np.float32(gain / (255 * scale))
        if gain > 1:
            np.minimum(table, np.float32(1 / scale), out=table)
        tables.append(table - np.float32(offset / scale))
    return tables


def _resample_rows(images: Sequence[NDArray[Any]], bands: Sequence[_Band], overshoots: bool) -> NDArray[np.uint8]:
    """(n, K, 3) each to (length, K, 3), stacked; rounded half up to uint8 between the passes as Pillow does."""
    count, length, width = len(images), bands[-1].made.stop, images[0].shape[1] * 3
    made = np.empty((count, length, width), np.uint8)
    columns = max(1, _PRODUCTS_A_CALL // max(band.weights.size for band in bands))
    for start in range(0, width, columns):
        end = min(start + columns, width)
        source, total = _scratch.floats((count, len(images[0]), end - start), (count, length, end - start))
        for each, image in zip(source, images, strict=True):
            each[:] = image.reshape(len(image), width)[:, start:end]
        for band in bands:
            np.matmul(band.weights, source[:, band.sources], out=total[:, band.made])
        if overshoots:
            np.clip(total, 0, 255, out=total)
        total += np.float32(0.5)
        made[..., start:end] = total
    return made.reshape(count, length, -1, 3)


@functools.lru_cache(maxsize=64)
def _bands(length_in: int, length_out: int, start: float, stop: float, resize_filter: ResizeFilter) -> list[_Band]:
    """Which source rows make the output rows and by how much; the weights of each sum to 1."""
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
    sources = np.clip(sources, 0, length_in - 1)
    bands = []
    for made in (slice(row, min(row + _BAND, length_out)) for row in range(0, length_out, _BAND)):
        low, high = sources[made].min(), sources[made].max() + 1
        dense = np.zeros((made.stop - made.start, high - low), np.float32)
        np.add.at(dense, (np.arange(len(dense))[:, None], sources[made] - low), weights[made])
        bands.append(_Band(made, slice(low, high), dense))
    return bands


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
