"""Paste actors of some clips over others, so that the scene alone does not tell the action."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Frame
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.errors import DatasetError, InputError
from yowo_deploy.files import existing_file
from yowo_training.data.arrays_file import read_arrays
from yowo_training.data.augmentation import MIN_VISIBLE
from yowo_training.loss import IGNORED, UNKNOWN

SMALLEST, LARGEST = 0.35, 1.2  # scale of a pasted actor; smaller ones are the people far away that clips lack
TOUCHES = 2.0  # pixels from the edge of the picture: the actor goes on behind it, and does so where he is pasted
Mask = NDArray[np.uint8]


class Silhouettes:
    """Masks of the actor in each frame of some videos.

    Args:
        path: .npz of `videos`, (V,) names; `starts`, (V + 1,) the first row of each video and the end; `masks`,
            (N, 600) uint8: 60 rows of 80 bits of the whole frame.

    Raises:
        DatasetError: the file is no such archive.
    """

    height, width = 60, 80

    def __init__(self, path: str | os.PathLike[str]) -> None:
        file = existing_file(path, "silhouettes")
        complaint = f"{file}: expected an .npz of videos, starts and masks"
        videos, starts, self._masks = read_arrays(file, complaint, DatasetError, "videos", "starts", "masks")
        kinds = f"{videos.dtype.kind}{starts.dtype.kind}{self._masks.dtype}"
        named = kinds in ("Uiuint8", "Uuuint8") and videos.ndim == 1 and len(set(videos.tolist())) == len(videos)
        counted = named and starts.shape == (len(videos) + 1,) and starts[0] == 0
        rising = counted and bool((starts[1:] > starts[:-1]).all())
        if not rising or self._masks.shape != (starts[-1], self.height * self.width // 8):
            found = f"{videos.shape} videos, {starts.shape} starts, {self._masks.shape} masks"
            raise DatasetError(
                f"{file}: {found}, expected `videos` of V names, none twice, `starts` of V + 1 whole numbers that "
                "rise from 0, and `masks` of (last start, 600) bytes"
            )
        self._rows = {str(name): range(*ends) for name, *ends in zip(videos, starts, starts[1:], strict=False)}

    def __contains__(self, name: object) -> bool:
        return name in self._rows

    def of(self, name: str, frames: Sequence[int]) -> Mask:
        """(T, 60, 80) 0 or 255 of these frames of a video; beyond its last mask, that one."""
        rows = self._rows[name]
        chosen = self._masks[[rows[min(frame, len(rows) - 1)] for frame in frames]]
        return np.unpackbits(chosen, axis=1).reshape(-1, self.height, self.width) * np.uint8(255)


def silhouettes_for(recipe: str, paste: float, path: str | None) -> Silhouettes | None:
    """The silhouettes for a recipe that pastes a share of the actors.

    Raises:
        InputError: there are some for a recipe without, or none for one with.
    """
    if bool(paste) != bool(path):
        raise InputError(f"{recipe}: --silhouettes is needed by recipes that paste actors, and allowed only with these")
    return Silhouettes(path) if path else None


@dataclass(frozen=True)
class Actors:
    """Videos from which actors can be cut, with the tubes of those alone, and their silhouettes."""

    videos: Sequence[AnnotatedVideo]
    silhouettes: Silhouettes

    @classmethod
    def among(cls, videos: Sequence[AnnotatedVideo], silhouettes: Silhouettes) -> Actors:
        """Those of the videos that have silhouettes, which are of the first person whose action is known.

        Raises:
            DatasetError: none has.
        """
        named = [(video, [tube for tube in video.tubes if tube.class_id > UNKNOWN][:1]) for video in videos]
        found = [replace(video, tubes=tuple(tubes)) for video, tubes in named if tubes and video.name in silhouettes]
        if not found:
            raise DatasetError("the silhouettes contain no training video: expected names as in the data set")
        return cls(found, silhouettes)


@dataclass(frozen=True)
class Placement:
    """Where an actor is pasted: edges of the donor's frame, x and y, times `gains_xy` plus `offset_xy`.

    Attributes:
        gains_xy: the first is negative where the actor is mirrored.
    """

    gains_xy: tuple[float, float]
    offset_xy: tuple[float, float]

    def boxes(self, boxes_xyxy: Float) -> Float:
        """(N, 4) corners in the donor's frame, moved into the host's."""
        corners = boxes_xyxy.reshape(-1, 2, 2) * self.gains_xy + self.offset_xy
        return np.concatenate([corners.min(axis=1), corners.max(axis=1)], axis=1).astype(np.float32)

    def warped(self, picture: Frame | Mask, frame_wh: tuple[int, int], size_wh: tuple[int, int]) -> Frame:
        """A picture of the whole donor's frame, of any resolution, as it lies in the host's frame; 0 around it.

        Args:
            frame_wh: of the donor's frame, in pixels.
            size_wh: of the host's frame.
        """
        height, width = picture.shape[:2]
        matrix = np.zeros((2, 3))
        for axis, pixel in enumerate((frame_wh[0] / width, frame_wh[1] / height)):
            matrix[axis, axis] = self.gains_xy[axis] * pixel
            matrix[axis, 2] = matrix[axis, axis] / 2 + self.offset_xy[axis] - 0.5  # from edges to middles of pixels
        return np.asarray(cv2.warpAffine(picture, matrix, size_wh), np.uint8)


def draw_placement(
    rng: np.random.Generator, box_xyxy: Float, frame_wh: tuple[int, int], host_wh: tuple[int, int]
) -> Placement:
    """A random size, side and place in the host's frame, which holds the whole box.

    Where the box touches an edge of its own frame it touches that edge again: half a person does not float in the air.

    Args:
        box_xyxy: (4,) of the actor in the donor's key frame, of `frame_wh`.
    """
    low, high = box_xyxy[:2].astype(np.float64).clip(0, frame_wh), box_xyxy[2:].astype(np.float64).clip(0, frame_wh)
    sides, to_host = np.maximum(high - low, 1), host_wh[1] / frame_wh[1]
    scale = to_host * math.exp(rng.uniform(math.log(SMALLEST), math.log(LARGEST)))
    scale = min(scale, *(host_wh / sides).tolist())
    room = host_wh - scale * sides
    corner = room * rng.random(2)
    starts, ends = low < TOUCHES, high > np.array(frame_wh) - TOUCHES
    corner = np.where(starts & ~ends, 0, np.where(ends & ~starts, room, corner))
    offset = corner - scale * low
    if rng.random() < 0.5:
        offset[0] = host_wh[0] - offset[0]  # mirrored with its place, so that it touches the other edge
        return Placement((-scale, scale), (float(offset[0]), float(offset[1])))
    return Placement((scale, scale), (float(offset[0]), float(offset[1])))


def paste(
    host: Sequence[Frame], donor: Sequence[Frame], masks: Mask, placement: Placement
) -> tuple[list[Frame], NDArray[np.bool_]]:
    """The host's frames with the actor of the donor's over them, and which pixels of the last one he covers.

    Args:
        host, donor: T frames (H, W, 3).
        masks: (T, h, w) 0 or 255 of the donor's whole frames; their edges become soft when they are enlarged.
    """
    size_wh, frame_wh = host[0].shape[1::-1], donor[0].shape[1::-1]
    made, alpha = [], np.zeros(host[0].shape[:2], np.uint8)
    for under, over, mask in zip(host, donor, masks, strict=True):
        alpha = placement.warped(mask, frame_wh, size_wh)
        frame, (x, y, width, height) = under.copy(), cv2.boundingRect(alpha)
        window = np.s_[y : y + height, x : x + width]
        if width and height:
            share = alpha[window].astype(np.float32)[..., None] / 255
            moved = placement.warped(over, frame_wh, size_wh)[window]
            frame[window] = np.rint(frame[window] * (1 - share) + moved * share)
        made.append(frame)
    return made, alpha > 127


def still_seen(boxes_xyxy: Float, class_id: NDArray[np.int64], covered: NDArray[np.bool_]) -> NDArray[np.int64]:
    """The classes of boxes in a frame; `IGNORED` where less than `MIN_VISIBLE` of a box is left."""
    kept = class_id.copy()
    edges = np.rint(boxes_xyxy).astype(int).clip(0, covered.shape[::-1] * 2)
    for row, (left, top, right, bottom) in enumerate(edges.tolist()):
        inside = covered[top:bottom, left:right]
        if inside.size and 1 - inside.mean() < MIN_VISIBLE:
            kept[row] = IGNORED
    return kept
