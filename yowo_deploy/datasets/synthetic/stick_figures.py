"""Articulated stick figures: their motion and their painting."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Frame

LABELS = ("sit_down", "stand_up", "raise_arms", "lower_arms", "walk", "wave")
REVERSED = {"stand_up": "sit_down", "lower_arms": "raise_arms"}

FRAMES = 16
FIRST_LABELLED = 7  # a clip of eight frames needs seven before its key frame
MIDDLE = (FIRST_LABELLED + FRAMES - 1) / 2  # of the labelled frames
TRACK = FRAMES + FIRST_LABELLED  # poses of a one-way motion, see `poses`
FINE = 3  # figures are painted so many times larger, and averaged down

# Lengths and radii in body heights.
SHIN, THIGH, TORSO, NECK, UPPER_ARM, FOREARM = 0.24, 0.25, 0.28, 0.12, 0.17, 0.16
LEG_RADIUS, ARM_RADIUS, TORSO_RADIUS, HEAD_RADIUS, SHOE_RADIUS = 0.043, 0.032, 0.045, 0.072, 0.03
RIM = 0.4  # pixels of darker rim that part an arm from a torso of the same colour

SWING = 0.45  # of a walker's thigh to either side, radians
STEP_RATE, WAVE_RATE = 0.045, 0.11  # double steps and waves a frame

Points = NDArray[np.float64]
Colour = tuple[int, int, int]


class Pose(NamedTuple):
    """Angles in radians, positive towards where the figure looks (frontal: away from its middle line).

    `lean` is the torso's from upright. The others are pairs, near side first, from hanging straight down.
    """

    lean: float
    thighs: tuple[float, float]
    shins: tuple[float, float]
    arms: tuple[float, float]
    forearms: tuple[float, float]
    frontal: bool


class Clothes(NamedTuple):
    """BGR colours."""

    skin: Colour
    hair: Colour
    shirt: Colour
    sleeves: Colour
    trousers: Colour
    shoes: Colour
    chair: Colour


class Person(NamedTuple):
    """Who does what, where and how.

    Attributes:
        label: one of `LABELS`.
        height: in pixels, upright.
        ground_xy: the pixel between the feet in the middle of the labelled frames, if the camera stands still.
        facing: 1 to the right, -1 to the left.
        vigour: how far the limbs swing, about 1.
        ease: 0 for a one-way motion of constant speed, 1 for one that starts and ends at rest.
        turn: where in its cycle a repeated motion starts, 0 to 1.
        clothes: their colours.
    """

    label: str
    height: float
    ground_xy: tuple[float, float]
    facing: int
    vigour: float
    ease: float
    turn: float
    clothes: Clothes

    def feet_xy(self, frame: int) -> Points:
        """(2,) pixels between the feet. A walker gets as far as the legs reach: a foot that stands hardly slides."""
        stride = 4 * (SHIN + THIGH) * math.sin(SWING * self.vigour) * self.height
        speed = self.facing * STEP_RATE * stride if self.label == "walk" else 0.0
        return np.array([self.ground_xy[0] + speed * (frame - MIDDLE), self.ground_xy[1]])


class Limb(NamedTuple):
    """A thick line with round ends through `points`, (N, 2) pixels, N >= 2; `filled` paints what it encloses, too."""

    points: Points
    radius: float
    colour: Colour
    filled: bool = False


def poses(person: Person) -> list[Pose]:
    """What the person's body does in each of the `FRAMES` frames.

    A one-way motion is a track of `TRACK` poses, longer than a video by the unlabelled frames. The action shows the
    track from its start; its reversed action shows the reversed track from *its* start. So the labelled frames of
    both show the same poses in opposite order, and what comes before them belongs to the same motion.
    """
    if person.label == "walk":
        return [_walk(person.turn + frame * STEP_RATE, person.vigour) for frame in range(FRAMES)]
    if person.label == "wave":
        return [_wave(person.turn + frame * WAVE_RATE, person.vigour) for frame in range(FRAMES)]
    forward = REVERSED.get(person.label, person.label)
    pose = _sit if forward == "sit_down" else _raise
    track = [pose(_eased(step / (TRACK - 1), person.ease), person.vigour) for step in range(TRACK)]
    return (track if forward == person.label else track[::-1])[:FRAMES]


def limbs(person: Person, pose: Pose, frame: int) -> list[Limb]:
    """The figure in pixels, farthest part first."""
    clothes, spread = person.clothes, 0.07 if pose.frontal else 0.015
    sides = np.array([[1.0, 0.0], [-1.0, 0.0]])
    hips = 0.7 * spread * sides
    knees = _hang(hips, pose.thighs, THIGH, pose.frontal)
    ankles = _hang(knees, pose.shins, SHIN, pose.frontal)
    toes = ankles + (0.4 * SHOE_RADIUS * sides if pose.frontal else np.array([0.07, 0.0]))
    upwards = np.array([math.sin(pose.lean), -math.cos(pose.lean)])
    shoulders = TORSO * upwards + spread * sides
    elbows = _hang(shoulders, pose.arms, UPPER_ARM, pose.frontal)
    hands = _hang(elbows, pose.forearms, FOREARM, pose.frontal)
    head = (TORSO + NECK) * upwards
    face = head + np.array([0.0 if pose.frontal else 0.018, 0.022])

    shoes, legs = np.stack([ankles, toes], axis=1), np.stack([hips, knees, ankles], axis=1)
    arms = np.stack([shoulders, elbows, hands], axis=1)
    far_arm, near_arm = (
        [Limb(arms[i], ARM_RADIUS, clothes.sleeves), Limb(arms[i, [2, 2]], 1.1 * ARM_RADIUS, clothes.skin)]
        for i in (1, 0)
    )
    far_leg, near_leg = (
        [Limb(shoes[i], SHOE_RADIUS, clothes.shoes), Limb(legs[i], LEG_RADIUS, clothes.trousers)] for i in (1, 0)
    )
    trunk = [
        Limb(np.stack([upwards * TORSO, head]), 0.9 * ARM_RADIUS, clothes.skin),
        Limb(np.concatenate([shoulders, hips[::-1]]), TORSO_RADIUS, clothes.shirt, filled=True),
        Limb(np.stack([head, head]), HEAD_RADIUS, clothes.hair),
        Limb(np.stack([face, face]), 0.75 * HEAD_RADIUS, clothes.skin),
    ]
    ground = np.array([ankles[:, 0].mean(), ankles[:, 1].max() + SHOE_RADIUS])
    return _placed([*far_arm, *far_leg, *near_leg, *trunk, *near_arm], ground, person, frame)


def chair(person: Person, frame: int) -> list[Limb]:
    """What a person sits on, in pixels: nothing for those who only stand."""
    if person.label not in ("sit_down", "stand_up"):
        return []
    # The hips of `_sit(1.0)` are a thigh behind the feet and a shin above them.
    seat, back, front = -SHIN + LEG_RADIUS, -THIGH - 0.12, -THIGH + 0.1
    lines = ([(back, 0), (back, -0.52)], [(front, 0), (front, seat)], [(back, seat), (front, seat)])
    parts = [Limb(np.array(line, np.float64), 0.02, person.clothes.chair) for line in lines]
    return _placed(parts, np.array([0.0, 0.02]), person, frame)


def box_of(parts: Sequence[Limb]) -> Float:
    """(4,) float32 corners of the smallest box around all that is painted."""
    points = np.concatenate([part.points for part in parts])
    radii = np.repeat([part.radius for part in parts], [len(part.points) for part in parts])[:, None]
    return np.concatenate([(points - radii).min(axis=0), (points + radii).max(axis=0)]).astype(np.float32)


def paint(canvas: Frame, parts: Iterable[Limb], camera_xy: Points) -> None:
    """Paint into `canvas`, which is `FINE` times larger than the frame, as the camera sees it."""
    for part in parts:
        # A pixel's middle is a whole number to cv2 and a half to boxes.
        points = np.rint((part.points - camera_xy) * FINE - 0.5).astype(np.int32)
        rim = tuple(int(0.6 * value) for value in part.colour)
        for radius, colour in ((part.radius, rim), (part.radius - RIM, part.colour)):
            if part.filled:
                cv2.fillConvexPoly(canvas, points, colour)
            cv2.polylines(canvas, [points], part.filled, colour, max(1, round(2 * radius * FINE)))


def _sit(phase: float, vigour: float) -> Pose:
    """From standing (phase 0) to sitting (1), seen from the side."""
    # Half in angle, half in height: a constant angular speed would hide the beginning, a constant fall the end.
    thigh = 0.5 * (phase * math.pi / 2 + math.acos(1 - phase))
    lean = 0.05 + 0.4 * vigour * math.sin(math.pi * phase)
    shin = -0.3 * vigour * math.sin(math.pi * phase)
    arm = 0.1 + 0.7 * vigour * phase
    return Pose(lean, (thigh, thigh), (shin, shin), (arm, arm), (arm + 0.6 * phase, arm + 0.6 * phase), False)


def _raise(phase: float, vigour: float) -> Pose:
    """From arms that hang (phase 0) to arms stretched upwards (1), seen from the front."""
    arm = 0.2 + 2.6 * phase
    forearm = arm + 0.35 * vigour * math.sin(math.pi * phase)
    return Pose(0.0, (0.06, 0.06), (0.06, 0.06), (arm, arm), (forearm, forearm), True)


def _walk(turn: float, vigour: float) -> Pose:
    """Two steps a turn, seen from the side."""
    swing, lift = math.sin(2 * math.pi * turn), math.cos(2 * math.pi * turn)
    thighs = (SWING * vigour * swing, -SWING * vigour * swing)
    shins = (thighs[0] - 0.7 * max(0.0, lift), thighs[1] - 0.7 * max(0.0, -lift))
    arms = (-0.8 * thighs[0], -0.8 * thighs[1])
    return Pose(0.08, thighs, shins, arms, (arms[0] + 0.3, arms[1] + 0.3), False)


def _wave(turn: float, vigour: float) -> Pose:
    """One raised forearm swings to and fro, seen from the front."""
    forearm = 2.8 + 0.6 * vigour * math.sin(2 * math.pi * turn)
    return Pose(0.0, (0.06, 0.06), (0.06, 0.06), (1.9, 0.2), (forearm, 0.25), True)


def _eased(time: float, ease: float) -> float:
    """Time 0 to 1 as the phase of a motion that starts and ends the more slowly the larger `ease`."""
    return (1 - ease) * time + ease * time * time * (3 - 2 * time)


def _hang(joints: Points, angles: tuple[float, float], length: float, frontal: bool) -> Points:
    """The other ends, (2, 2), of two bones that hang from `joints` at `angles`; y points down."""
    (near, far), mirrored = angles, -1.0 if frontal else 1.0
    bones = [[math.sin(near), math.cos(near)], [mirrored * math.sin(far), math.cos(far)]]
    return joints + length * np.array(bones)


def _placed(parts: Sequence[Limb], ground: Points, person: Person, frame: int) -> list[Limb]:
    """Parts in body heights, as pixels: the point `ground` comes to lie between the person's feet."""
    scale = np.array([person.facing, 1]) * person.height
    offset = person.feet_xy(frame) - ground * scale
    return [Limb(part.points * scale + offset, part.radius * person.height, part.colour, part.filled) for part in parts]
