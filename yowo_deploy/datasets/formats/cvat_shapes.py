"""Shapes of CVAT's tracks: the upright boxes around them, and the frames between."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import zip_longest
from typing import Any, NamedTuple

import numpy as np

from yowo_deploy.datasets.validation import MAX_FRAMES, real, whole

PERSON = "person"  # the attribute with the number of a person, as CVAT numbers tracks
CORNERS = ("xtl", "ytl", "xbr", "ybr")
_OUTSIDE = {"0": False, "false": False, "1": True, "true": True}
SHAPES = ("box", "polygon", "polyline", "points", "mask", "ellipse", "cuboid", "skeleton")


class Key(NamedTuple):
    """A shape as the file has it, or the box around it."""

    frame: int
    outside: bool
    corners: tuple[float, ...]
    attributes: dict[str, str]


class Listed(NamedTuple):
    """Frames of a task.

    Attributes:
        start, step: the first one and every which was annotated (CVAT's `frame_filter`).
        frames: that the track lists, or of keyframes alone any track, where the file lists every frame of a track
            (CVAT's does); else None. A frame between two boxes that is not listed is no box then: it was deleted by
            the annotator, or the keyframe that ended the stretch was.
    """

    start: int = 0
    step: int = 1
    frames: Collection[int] | None = None

    def absent(self, frame: int) -> list[int]:
        """Of the annotated frames at and around a frame, those that are not listed."""
        before = frame - (frame - self.start) % self.step
        around = {before, before if before == frame else before + self.step}
        return [] if self.frames is None else [each for each in sorted(around) if each not in self.frames]


def interpolated(
    keys: Sequence[Key], listed: Listed, absent: Callable[[int], None], count: Callable[[int], None]
) -> Iterator[Key]:
    """Every frame of a track in which it is to be seen, from its boxes in the order of frames.

    Args:
        absent: called with each frame between two boxes that is not listed.
        count: called with the number of frames between two boxes before any of them is made; may raise.
    """
    for key, after in zip_longest(keys, keys[1:]):
        if key.outside:
            continue
        yield key
        if after is None:
            continue
        low, high = np.array(key.corners), np.array(after.corners)
        end = after.frame - (listed.step - 1 if after.outside else 0)  # the frames before were not annotated
        count(end - key.frame - 1)
        for frame in range(key.frame + 1, end):
            if gone := listed.absent(frame):
                if frame in gone:
                    absent(frame)
                continue
            share = (frame - key.frame) / (after.frame - key.frame)
            yield key._replace(frame=frame, corners=tuple((low + share * (high - low)).tolist()))


def key_of(shape: Any, boxed: Counter[str]) -> Key:
    """A shape of a track; counts those that are no upright box.

    Raises:
        KeyError: an attribute of it is missing.
        ValueError: it has no points, or a number is none.
    """
    frame, angle = whole(shape.attrib["frame"]), real(shape.get("rotation", 0))
    if not 0 <= frame < MAX_FRAMES:
        raise ValueError(f"frame {frame}, expected 0 to {MAX_FRAMES - 1}")
    parts = [part for part in shape if part.tag in SHAPES]  # of a skeleton, which has no `outside` itself
    outside = _is_outside(shape) or (bool(parts) and all(map(_is_outside, parts)))
    if (angle or shape.tag != "box") and not outside:
        boxed[f"turned {shape.tag}" if angle else shape.tag] += 1
    attributes = {each.get("name", ""): each.text or "" for each in shape.iterfind("attribute")}
    points = np.array(_outline(shape), np.float64).reshape(-1, 2)
    if angle:
        points = _turned(points, angle, shape.tag == "ellipse")
    corners = tuple(points.reshape(-1).tolist()) if shape.tag == "box" and not angle else _around(points)
    return Key(frame, outside, corners, attributes)


def _is_outside(shape: Any) -> bool:
    """CVAT writes 1; other tools that write its format, True.

    Raises:
        ValueError: the word is another.
    """
    word = (shape.get("outside") or "0").lower()
    if word not in _OUTSIDE:
        raise ValueError(f"outside is {word!r}, expected 0 or 1")
    return _OUTSIDE[word]


def _outline(shape: Any) -> list[float]:
    """x y, x y, ... of points that the shape lies between."""

    def numbers(*names: str) -> list[float]:
        return [real(shape.attrib[name]) for name in names]

    match shape.tag:
        case "box":
            return numbers(*CORNERS)
        case "ellipse":
            x, y, across, down = numbers("cx", "cy", "rx", "ry")
            return [x - across, y - down, x + across, y + down]
        case "mask":
            x, y, width, height = numbers("left", "top", "width", "height")
            return [x, y, x + width, y + height]
        case "cuboid":
            xs, ys = ([real(v) for k, v in sorted(shape.attrib.items()) if k[:2] in of] for of in _CUBOID)
            return [each for pair in zip(xs, ys, strict=True) for each in pair]
        case "skeleton":
            parts = [part for part in shape if part.tag in SHAPES]
            seen = [part for part in parts if not _is_outside(part)]
            return [each for part in seen or parts for each in _outline(part)]
        case _:
            return [real(each) for point in shape.attrib["points"].split(";") for each in point.split(",")]


_CUBOID = (("xt", "xb"), ("yt", "yb"))


def _turned(points: Any, degrees: float, is_ellipse: bool) -> Any:
    """Points around the rectangle, or the ellipse within it, around the points after it turned about its middle."""
    (low, high), angle = (points.min(axis=0), points.max(axis=0)), np.deg2rad(degrees)
    middle, half = (low + high) / 2, (high - low) / 2
    along = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    if is_ellipse:
        reach = np.hypot(*(along * half).T)
        return np.array([middle - reach, middle + reach])
    return middle + (half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])) @ along.T


def _around(points: Any) -> tuple[float, ...]:
    if not len(points):
        raise ValueError("a shape without points")
    return (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())
