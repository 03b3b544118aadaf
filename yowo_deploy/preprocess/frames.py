"""Resize and normalise BGR frames into the planes of a clip."""

from __future__ import annotations

import functools
import math
import threading
from collections.abc import Sequence
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Frame, Planes
from yowo_deploy.errors import InputError
from yowo_deploy.spec import ModelSpec, ResizeFilter

Crop = tuple[float, float, float, float]
KernelName = Literal["bilinear", "bicubic"]

MAX_SIDE = 1 << 15  # pixels of a frame
WEIGHT_ONE = 1 << 15  # a weight of 1; bicubic's absolute weights sum to less than 2, so 9 + 15 bits hold every sum

# A dense matrix of weights is nearly all zero: a 320x240 frame takes eleven times as long as in blocks.
_BLOCK = 8  # output rows made of one block of input rows
# Numbers a call, in and out: fewer make more calls, more leave the cache between conversion and product.
_NUMBERS_A_CALL = 2**17
_PRODUCTS_A_BLOCK = 2**18  # above, OpenBLAS wakes threads, which then spin on the cores of the engine or the training


class _Scratch(threading.local):
    """Each thread's own memory for what is between two roundings; new memory comes page by page, at a third of the time
    of a frame."""

    def __init__(self) -> None:
        self.numbers = np.empty(_NUMBERS_A_CALL, np.float32)


_scratch = _Scratch()


def resize(frame: Frame, size_wh: tuple[int, int], resize_filter: ResizeFilter, crop_xyxy: Crop | None = None) -> Frame:
    """Squash a frame, or a window of it, to a size; the aspect ratio is not kept.

    The filters mean what they mean in Pillow, by which released models were trained (OFFICIAL_YOWO,
    "Preprocessing"): "nearest" takes the pixel under the centre; "bilinear" (triangle) and "bicubic" (a = -0.5)
    widen when shrinking, so that a large frame does not alias. Within one grey level of Pillow 9.5, or two where both
    passes round a half; Pillow 13 may shrink columns first, which shows where bicubic overshoot is cut off.

    The result is defined to the bit, on every processor (docs/parity.md, "Preprocessing to the bit"): columns first,
    then rows; each pass sums bytes times the weights of `resample_weights`, rounds half up and clips to 0 to 255.

    Args:
        frame: (H, W, 3) uint8.
        size_wh: (width, height) wanted.
        resize_filter: see above.
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
    # Columns first: the order shows where overshoot is cut off. Turned, a row of bytes is a column of one colour.
    turned = cv2.transpose(frame.reshape(height, 3 * width)).reshape(width, 3 * height)
    columns = _resample_rows(turned, *across, resize_filter).reshape(3 * width_out, height)
    return _resample_rows(cv2.transpose(columns), *down, resize_filter).reshape(height_out, width_out, 3)


def preprocess(frame_bgr: Frame, spec: ModelSpec) -> Planes:
    """One frame as the model's planes: resized, in the spec's colour order, normalised unless it takes bytes.

    Args:
        frame_bgr: (H, W, 3) uint8 of any size, or what `as_bgr` makes one of.

    Returns:
        (3, input height, input width) float32 or uint8, contiguous.

    Raises:
        InputError: the frame is neither.
    """
    return to_planes(resize(as_bgr(frame_bgr), spec.input_size, spec.resize_filter), spec)


def to_planes(frame_bgr: Frame, spec: ModelSpec) -> Planes:
    """As `preprocess`, of a frame, (H, W, 3) uint8, that has the size of the input."""
    if spec.input_type == "float32":
        return normalise(frame_bgr, spec)
    planes = np.empty((3, *frame_bgr.shape[:2]), np.uint8)
    cv2.split(frame_bgr, list(planes[:: -1 if spec.colour == "rgb" else 1]))
    return planes


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
    if known and max(frame.shape[:2]) > MAX_SIDE:
        raise InputError(f"frame is {frame.shape[1]} x {frame.shape[0]}, expected at most {MAX_SIDE} pixels a side")
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

    Computed in float64, in that order, and rounded to float32 once: the same bits on every processor.

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
    shares = np.arange(256) / 255
    return [
        ((np.minimum(shares * gain, 1) - offset) / scale).astype(np.float32)
        for offset, scale, gain in zip(mean, std, gains, strict=True)
    ]


def _resample_rows(
    lines: NDArray[Any], length_in: int, length_out: int, start: float, stop: float, resize_filter: KernelName
) -> Frame:
    """(length_in, K) to (length_out, K); rounded half up to uint8 between the passes as Pillow does."""
    sources, weights = _blocks(length_in, length_out, start, stop, resize_filter)
    width = lines.shape[1]
    made = np.empty((len(weights), _BLOCK, width), np.uint8)
    numbers = sources.shape[1] + _BLOCK  # a column and a block, in and out
    columns = max(1, min(width, _PRODUCTS_A_BLOCK // weights[0].size, _NUMBERS_A_CALL // numbers))
    blocks = max(1, _NUMBERS_A_CALL // (columns * numbers))
    for left in range(0, width, columns):
        across = slice(left, left + columns)
        for first in range(0, len(weights), blocks):
            some = slice(first, first + blocks)
            taken, rounded = lines[sources[some], across], made[some, :, across]
            source = _scratch.numbers[: taken.size].reshape(taken.shape)
            total = _scratch.numbers[taken.size : taken.size + rounded.size].reshape(rounded.shape)
            source[:] = taken
            np.matmul(weights[some], source, out=total)
            if resize_filter == "bicubic":
                np.clip(total, 0, 255, out=total)
            total += np.float32(0.5)
            rounded[:] = total
    return made.reshape(-1, width)[:length_out]


def resample_weights(
    length_in: int,
    length_out: int,
    resize_filter: KernelName,
    window: tuple[float, float] | None = None,
) -> tuple[NDArray[np.intp], NDArray[np.int64]]:
    """The weights of one pass of `resize` along one side, in units of 1 / `WEIGHT_ONE`.

    A weight is the kernel at the distance between the centres of input and output pixel, in output pixels where the
    side shrinks. Weights are rounded so that their running sums are the nearest to the exact ones: each row sums to
    exactly `WEIGHT_ONE`. Then every product with a byte and every partial sum is a multiple of 2^-15 below 2^9, which
    float32 holds exactly: any order of summation, fused or not, gives the same bits.

    Args:
        length_in, length_out: pixels before and after, 1 to `MAX_SIDE`.
        resize_filter: its kernel, see `resize`.
        window: edges of the part of the input that is resampled; all of it by default.

    Returns:
        (length_out, taps) input pixels, which may repeat at an edge, and their weights.
    """
    start, stop = (0, length_in) if window is None else window
    # Distances in units of 1 / unit of an output pixel: whole numbers where the whole side is resampled, so that
    # no rounding is left that a compiler or a processor could do otherwise.
    extent, doubled = stop - start, 2 * np.arange(length_out)[:, None] + 1  # int64, or float64 for a window
    unit = 2 * max(extent, length_out)
    centres = 2 * length_out * start + doubled * extent
    reach = 1 if resize_filter == "bilinear" else 2
    wide = math.ceil(reach * max(extent / length_out, 1)) + 1
    sources = (centres // (2 * length_out)).astype(np.intp) + np.arange(-wide, wide + 1)
    distances = abs((2 * sources + 1) * length_out - centres)
    kernel = _triangle(distances, unit) if resize_filter == "bilinear" else _cubic(distances, unit)
    kernel[(sources < 0) | (sources >= length_in)] = 0
    # Beyond the edge the outermost pixel goes on; a kernel cut off there could sum to nearly nothing.
    beyond = (centres < 0) | (centres > 2 * length_out * length_in)
    sources, kernel = np.where(beyond, centres // (2 * length_out), sources), np.where(beyond, 1, kernel)
    running = kernel.astype(np.float64).cumsum(axis=1)  # one after the other: exact up to 2^53, then rounded alike
    ends = np.floor(running / running[:, -1:] * WEIGHT_ONE + 0.5).astype(np.int64)
    return np.clip(sources, 0, length_in - 1).astype(np.intp), np.diff(ends, axis=1, prepend=0)


@functools.lru_cache(maxsize=64)
def _blocks(
    length_in: int, length_out: int, start: float, stop: float, resize_filter: KernelName
) -> tuple[NDArray[np.intp], Float]:
    """The input rows of each block of output rows, (blocks, K), and their weights, (blocks, `_BLOCK`, K)."""
    window = None if (start, stop) == (0, length_in) else (start, stop)
    sources, weights = resample_weights(length_in, length_out, resize_filter, window)
    beyond = (0, -length_out % _BLOCK), (0, 0)  # rows of the last block that are cut off
    sources, weights = (np.pad(each, beyond).reshape(-1, _BLOCK, each.shape[1]) for each in (sources, weights))
    low = np.where(weights == 0, length_in, sources).min(axis=(1, 2))
    high = np.where(weights == 0, 0, sources).max(axis=(1, 2))
    count = (high - low).max() + 1
    low = np.minimum(low, length_in - count)
    dense = np.zeros((len(low), _BLOCK, count), np.float32)
    block, row, tap = np.nonzero(weights)
    taken = sources[block, row, tap] - low[block], weights[block, row, tap] / np.float32(WEIGHT_ONE)
    np.add.at(dense, (block, row, taken[0]), taken[1])
    return low[:, None] + np.arange(count), dense


@functools.lru_cache(maxsize=64)
def _nearest(length_in: int, length_out: int, start: float, stop: float) -> NDArray[np.intp]:
    """Which source pixel lies under the centre of each output pixel; the later one where it lies between two."""
    if (start, stop) == (0, length_in):
        return (2 * np.arange(length_out) + 1) * length_in // (2 * length_out)
    centres = start + (np.arange(length_out) + 0.5) * (stop - start) / length_out
    return np.clip(np.floor(centres).astype(np.intp), 0, length_in - 1)


def _triangle(distances: NDArray[Any], unit: float) -> NDArray[Any]:
    """unit - distance, down to 0."""
    return np.maximum(unit - distances, 0)


def _cubic(distances: NDArray[Any], unit: float) -> NDArray[Any]:
    """Keys' cubic with a = -0.5 (Keys 1981, equation 15), times 2 unit^3; below 2^53 for sides up to `MAX_SIDE`."""
    near = (3 * distances - 5 * unit) * distances * distances + 2 * unit**3
    far = ((5 * unit - distances) * distances - 8 * unit * unit) * distances + 4 * unit**3
    return np.where(distances < unit, near, np.where(distances < 2 * unit, far, 0))
