"""Zones of the picture: who stands in which, since when and for how long."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from yowo_deploy.boxes import FrameResult
from yowo_deploy.errors import InputError

Anchor = Literal["bottom", "center"]
ANCHORS: tuple[Anchor, ...] = ("bottom", "center")
PATIENCE_S = 2.0
FPS = 25.0  # of frames without times
INSIDE = 1 - 2**-20  # feet that are cut off by the lower edge of the picture are in a zone that reaches to it
MAX_ZONES, MAX_CORNERS, MAX_NAME = 100, 1_000, 100


@dataclass(frozen=True)
class Zone:
    """A polygon of the picture.

    Attributes:
        name: as messages give it.
        corners: (x, y) of each, as fractions of the picture's width and height; three or more.

    Raises:
        InputError: no name, too few corners, a corner outside the picture, or no area.
    """

    name: str
    corners: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > MAX_NAME or not self.name.isprintable():
            raise InputError(f"a zone is named {self.name[:MAX_NAME]!r}: expected 1 to {MAX_NAME} printable characters")
        if not 3 <= len(self.corners) <= MAX_CORNERS:
            raise InputError(f"zone {self.name!r} has {len(self.corners)} corners, expected 3 to {MAX_CORNERS}")
        for x, y in self.corners:
            if not (0 <= x <= 1 and 0 <= y <= 1):  # NaN as well
                raise InputError(
                    f"zone {self.name!r} has a corner at {x:g}, {y:g}: expected fractions of the picture, 0 to 1"
                )
        if _is_flat(self.corners):
            raise InputError(f"zone {self.name!r} has no area: its corners lie on a line")

    def holds(self, x: float, y: float) -> bool:
        """Whether a point lies inside, by the even-odd rule; of two zones with a common side it lies in one.

        C++ computes the same in the same order (`zones.hpp`), in double precision.
        """
        inside = False
        before = self.corners[-1]
        for corner in self.corners:
            if (corner[1] > y) != (before[1] > y):
                # Whether the side is crossed to the right of the point; from its upper end, so that neighbours agree.
                (upper_x, upper_y), (lower_x, lower_y) = sorted((corner, before), key=lambda end: end[1])
                inside ^= (lower_x - upper_x) * (y - upper_y) > (x - upper_x) * (lower_y - upper_y)
            before = corner
        return inside


@dataclass
class Stay:
    """A person in a zone.

    Attributes:
        entered: time of the first frame, in seconds.
        last: of the last frame in which the person was there.
        seconds: spent in the zone, absences left out.
    """

    entered: float
    last: float
    seconds: float = 0.0

    def go_on(self, now: float, before: float) -> None:
        """There at `now`; the time since the result before counts if that was one of this stay."""
        if self.last == before:
            self.seconds += now - before
        self.last = now

    def is_over(self, now: float, patience_s: float) -> bool:
        """Whether the absence is longer than a stay lasts."""
        return now - self.last > patience_s


@dataclass(frozen=True)
class Presence:
    """What is known of one person at a frame.

    Attributes:
        zones: names of the zones that the person is in, in the order of `Zones.zones`.
        entered: names of all zones that the person has been in, in the order of the first entry.
        dwell: seconds in each zone of `zones`, of this stay.
    """

    zones: tuple[str, ...] = ()
    entered: tuple[str, ...] = ()
    dwell: Mapping[str, float] = field(default_factory=dict)


class Zones:
    """Results in, the zones of each person out.

    A person is in a zone while the anchor of the box is. A stay continues after absences of up to `patience_s`,
    outside the zone or not seen at all; these do not count. The time between two results counts if the person was in
    the zone at both, even if frames between them were dropped.

    Args:
        zones: with different names.
        anchor: the middle of the box's lower edge, where feet are, or of the box.
        patience_s: see above; more than the time between two frames.

    Raises:
        InputError: two zones of one name, too many, an unknown anchor, or `patience_s` is not above 0.
    """

    def __init__(self, zones: Sequence[Zone], anchor: Anchor = "bottom", patience_s: float = PATIENCE_S) -> None:
        names = [zone.name for zone in zones]
        if len(names) > MAX_ZONES or len(set(names)) < len(names):
            raise InputError(
                f"zones are named {', '.join(names[:MAX_ZONES])}: expected up to {MAX_ZONES} different names"
            )
        if anchor not in ANCHORS:
            raise InputError(f"zone anchor {anchor!r} is not known, expected {' or '.join(ANCHORS)}")
        if not 0 < patience_s < math.inf:
            raise InputError(f"the patience is {patience_s:g} s, expected more than the time between two frames")
        self.zones, self.anchor, self.patience_s = tuple(zones), anchor, patience_s
        self._stays: dict[tuple[int, str], Stay] = {}
        self._entered: dict[int, dict[str, float]] = {}
        self._seen: dict[int, float] = {}
        self._before = -math.inf  # time of the result before

    def fresh(self) -> Zones:
        """The same zones for a new video."""
        return Zones(self.zones, self.anchor, self.patience_s)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the zones."""
        return tuple(zone.name for zone in self.zones)

    def push(self, result: FrameResult) -> dict[int, Presence]:
        """Take the next result; returns what is known of each person in it, by `tracker_id`."""
        now, found = time_of(result), result.detections
        self._forget(now)
        ids = [] if found.tracker_id is None else found.tracker_id.tolist()
        height, width = result.orig_shape
        present = {}
        for person, box in zip(ids, found.xyxy.tolist(), strict=True):
            inside = self.of_box(box, width, height)
            for name in inside:
                self._stay(person, name, now)
            self._seen[person] = now
            dwell = {name: self._stays[person, name].seconds for name in inside}
            present[person] = Presence(tuple(inside), tuple(self._entered.get(person, ())), dwell)
        self._before = now
        return present

    def of_box(self, box: Sequence[float], width: int, height: int) -> list[str]:
        """Names of the zones that a box is in.

        Args:
            box: x1, y1, x2, y2 in pixels.
            width, height: of the picture, in pixels.
        """
        x, y = self._point(box, width, height)
        return [zone.name for zone in self.zones if zone.holds(x, y)]

    def _point(self, box: Sequence[float], width: int, height: int) -> tuple[float, float]:
        x1, y1, x2, y2 = box
        y = y2 if self.anchor == "bottom" else (y1 + y2) / 2
        return min((x1 + x2) / 2 / width, INSIDE), min(y / height, INSIDE)

    def _stay(self, person: int, name: str, now: float) -> None:
        stay = self._stays.get((person, name))
        if stay is None or stay.is_over(now, self.patience_s):
            stay = self._stays[person, name] = Stay(now, now)
            self._entered.setdefault(person, {}).setdefault(name, now)
        stay.go_on(now, self._before)

    def _forget(self, now: float) -> None:
        """People who were not seen for longer than any stay lasts."""
        for person in [each for each, last in self._seen.items() if now - last > self.patience_s]:
            del self._seen[person]
            self._entered.pop(person, None)
            for zone in self.zones:
                self._stays.pop((person, zone.name), None)


def time_of(result: FrameResult) -> float:
    """Seconds since the video began; of frames without times as if there were 25 a second."""
    return result.frame_index / FPS if result.timestamp is None else result.timestamp


def counts(result: FrameResult, present: Mapping[int, Presence]) -> dict[str, Counter[str]]:
    """By zone, how many people do what, each by the best class; zones without people are left out."""
    found: dict[str, Counter[str]] = {}
    ids = [] if result.detections.tracker_id is None else result.detections.tracker_id.tolist()
    for person, class_id in zip(ids, result.detections.class_id.tolist(), strict=True):
        for zone in present[person].zones:
            found.setdefault(zone, Counter())[result.names[class_id]] += 1
    return found


def _is_flat(corners: Sequence[tuple[float, float]]) -> bool:
    """Whether all corners lie on one line."""
    (first_x, first_y), *others = corners
    sides = [(x - first_x, y - first_y) for x, y in others]
    far_x, far_y = max(sides, key=lambda side: abs(side[0]) + abs(side[1]))
    return all(x * far_y == far_x * y for x, y in sides)
