"""Generate, write and read the synthetic data set of the demonstration.

Two pairs of actions differ in the order of their frames alone: what a single labelled frame of `sit_down` shows,
`stand_up` shows as well, and so with `raise_arms` and `lower_arms`. A model that sees one frame at a time has to guess
between them (the paper's Fig. 1). Camera, clothes, places and neighbours are drawn without regard to the action.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from yowo_deploy.arrays import Float, Frame
from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.base import AnnotatedVideo, Split
from yowo_deploy.datasets.data_json import Annotations, NativeDataset, read_annotations, write_annotations
from yowo_deploy.datasets.synthetic.stick_figures import (
    FINE,
    FIRST_LABELLED,
    FRAMES,
    LABELS,
    MIDDLE,
    Clothes,
    Colour,
    Person,
    Points,
    box_of,
    chair,
    limbs,
    paint,
    poses,
)
from yowo_deploy.errors import DatasetError, OutputError, foreign

SIZE_WH = (128, 96)
FPS = 12.0
ANNOTATIONS = "synthetic.json"

# k-means with IoU as nearness over the training boxes of seed 0, best of 20 starts (mean IoU 0.87; test 0.86).
ANCHOR_GRID = (4, 3)
ANCHORS = ((0.64, 1.48), (0.8, 1.68), (0.99, 1.99), (1.31, 1.63), (1.62, 1.98))

_MARGIN = 13  # pixels of backdrop around the frame, more than the camera moves
_MAX_PEOPLE = 3
_MAX_OVERLAP = 3.0  # pixels, sideways, of two people in one frame
_PLACES = ((10.0, 75.0), (118.0, 94.0))  # where feet may stand, from and to
_TRIES = 60  # to find a place


class Synthetic(NativeDataset):
    """`synthetic.json` beside `videos/<name>.avi`, as `make_synthetic` writes them.

    Raises:
        DatasetError: the annotations or a video are missing or broken, or there is no such split.
    """

    anchors = ANCHORS
    anchor_grid = ANCHOR_GRID

    def __init__(self, folder: Path, split: int = 1) -> None:
        path = Path(folder) / ANNOTATIONS
        if not path.is_file():
            raise DatasetError(
                f"{path} not found: `yowo-deploy demo` makes the synthetic data, expected {ANNOTATIONS} in its folder"
            )
        annotations = read_annotations(path)
        for video in annotations.videos:
            if not video.path.is_file():
                raise DatasetError(f"{video.path} not found, though annotated: remove {folder} and make the data again")
        super().__init__(annotations, str(path), split)


class Scene(NamedTuple):
    """All that is needed to paint a video.

    Attributes:
        backdrop: `_MARGIN` pixels wider than the frame on each side, `FINE` times larger.
        camera_xy: (FRAMES, 2) pixels by which the camera has moved.
        people: one to three.
    """

    backdrop: Frame
    camera_xy: Points
    people: Sequence[Person]


def make_synthetic(folder: Path, videos_train: int = 240, videos_test: int = 30, seed: int = 0) -> None:
    """Write videos and their annotations for `Synthetic` to read; the same arguments give the same files.

    A video's first person does the action whose turn it is, so that any six videos show them all. The annotations
    are written last: a folder left half-way has none, and cannot be opened.

    Args:
        folder: where `videos/` and the annotations are written.
        videos_train, videos_test: how many.

    Raises:
        OutputError: the folder cannot be written.
    """
    folder = Path(folder)
    try:
        (folder / "videos").mkdir(parents=True, exist_ok=True)
        (folder / ANNOTATIONS).unlink(missing_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {folder}: {error.strerror}; choose another folder") from error
    videos: list[AnnotatedVideo] = []
    names: dict[Split, list[str]] = {"train": [], "test": []}
    for split, count in (("train", videos_train), ("test", videos_test)):
        for number in range(count):
            scene = make_scene(np.random.default_rng([seed, split == "test", number]), LABELS[number % len(LABELS)])
            name = f"{split}_{number:04}"
            path = folder / "videos" / f"{name}.avi"
            _write_video(path, render(scene))
            videos.append(AnnotatedVideo(name, name, path, FRAMES, _tubes(scene), SIZE_WH, fps=FPS))
            names["train" if split == "train" else "test"].append(name)
    sides = {side: tuple(found) for side, found in names.items()}
    write_annotations(Annotations(LABELS, tuple(videos), (sides,)), folder / ANNOTATIONS)


def make_scene(rng: np.random.Generator, label: str) -> Scene:
    """A scene whose first person does `label`; up to two others do anything, and keep clear of each other."""
    camera_xy = _camera(rng)
    people: list[Person] = []
    taken: list[Float] = []
    for wanted in (label, *rng.choice(LABELS, rng.integers(0, _MAX_PEOPLE))):
        person = _person(rng, str(wanted))
        boxes = labelled_boxes(person, camera_xy)  # of one who stands in the corner; to be shifted
        for place in rng.uniform(*_PLACES, size=(_TRIES, 2)):
            shifted = boxes + np.tile(place, 2)
            if _is_seen(shifted) and not any(_is_close(shifted, others) for others in taken):
                people.append(person._replace(ground_xy=(float(place[0]), float(place[1]))))
                taken.append(shifted)
                break
    return Scene(_backdrop(rng), camera_xy, tuple(people))


def labelled_boxes(person: Person, camera_xy: Points) -> Float:
    """(FRAMES - FIRST_LABELLED, 4) corners in pixels, as tight as the paint; they may reach out of the frame."""
    body = poses(person)
    frames = range(FIRST_LABELLED, FRAMES)
    boxes = [box_of(limbs(person, body[frame], frame)) - np.tile(camera_xy[frame], 2) for frame in frames]
    return np.array(boxes, np.float32)


def render(scene: Scene) -> Iterator[Frame]:
    """The scene's frames, (H, W, 3) uint8 BGR. Who stands nearer, that is lower, hides who stands behind."""
    people = sorted(scene.people, key=lambda person: person.ground_xy[1])
    bodies = [poses(person) for person in people]
    width, height = (side * FINE for side in SIZE_WH)
    for frame, camera in enumerate(scene.camera_xy):
        left, top = np.rint((camera + _MARGIN) * FINE).astype(int)
        canvas = scene.backdrop[top : top + height, left : left + width].copy()
        for person, body in zip(people, bodies, strict=True):
            paint(canvas, [*chair(person, frame), *limbs(person, body[frame], frame)], camera)
        yield np.asarray(cv2.resize(canvas, SIZE_WH, interpolation=cv2.INTER_AREA), np.uint8)


def _camera(rng: np.random.Generator) -> Points:
    """(FRAMES, 2) pixels: a slow pan with a little sway, in whole steps of the fine canvas; 0 in the middle."""
    time = np.arange(FRAMES)[:, None] - MIDDLE
    pan = rng.uniform(-1, 1, 2) * (0.6, 0.12)
    sway = rng.uniform(0, 0.8, 2) * np.sin(0.5 * time + rng.uniform(0, 2 * np.pi, 2))
    return np.asarray(np.rint((pan * time + sway) * FINE) / FINE, np.float64)


def _person(rng: np.random.Generator, label: str) -> Person:
    return Person(
        label,
        height=rng.uniform(46, 70),
        ground_xy=(0.0, 0.0),
        facing=int(rng.choice((-1, 1))),
        vigour=rng.uniform(0.85, 1.15),
        ease=rng.uniform(0, 0.35),
        turn=rng.uniform(0, 1),
        clothes=_clothes(rng),
    )


def _clothes(rng: np.random.Generator) -> Clothes:
    skin = _colour(rng, (0.04, 0.09), (0.3, 0.6), (0.45, 0.95))
    shirt, trousers = (_colour(rng, (0, 1), (0.4, 1.0), (0.15, 0.55)) for _ in range(2))
    return Clothes(
        skin=skin,
        hair=_colour(rng, (0.04, 0.11), (0.3, 0.7), (0.08, 0.6)),
        shirt=shirt,
        sleeves=shirt if rng.random() < 0.6 else skin,
        trousers=trousers,
        shoes=_colour(rng, (0, 1), (0, 0.5), (0.1, 0.9)),
        chair=_colour(rng, (0.04, 0.12), (0.3, 0.7), (0.25, 0.7)),
    )


def _backdrop(rng: np.random.Generator) -> Frame:
    """A room or a yard: a wall, a floor, and things that stand about, all with a grain that shows the pan."""
    width, height = ((side + 2 * _MARGIN) * FINE for side in SIZE_WH)
    horizon = int(rng.uniform(0.5, 0.72) * height)
    canvas = np.empty((height, width, 3), np.uint8)
    canvas[:horizon] = _colour(rng, (0, 1), (0.0, 0.12), (0.8, 0.98))
    canvas[horizon:] = _colour(rng, (0, 1), (0.0, 0.2), (0.65, 0.8))
    for _ in range(rng.integers(2, 5)):
        _clutter(rng, canvas, horizon)
    grain = np.zeros((height, width), np.float32)
    for rows, amplitude in ((4, 8), (24, 6), (96, 5)):
        coarse = amplitude * rng.standard_normal((rows, 2 * rows), np.float32)
        grain += cv2.resize(coarse, (width, height), interpolation=cv2.INTER_LINEAR)
    return np.asarray(np.clip(canvas + grain[:, :, None], 0, 255), np.uint8)


def _clutter(rng: np.random.Generator, canvas: Frame, horizon: int) -> None:
    """One thing: a picture on the wall, or a box or a plant on the floor."""
    height, width = canvas.shape[:2]
    x, size = rng.uniform(0, width), rng.uniform(0.08, 0.24) * height
    on_wall, on_floor = rng.uniform(0, horizon), rng.uniform(horizon, height)
    colour = _colour(rng, (0, 1), (0.05, 0.25), (0.6, 0.95))
    match rng.choice(["picture", "box", "plant"]):
        case "picture":
            _rectangle(canvas, (x, on_wall), (size, rng.uniform(0.5, 1.5) * size), colour)
        case "box":
            _rectangle(canvas, (x, on_floor - size), (rng.uniform(0.7, 2) * size, size), colour)
        case _:
            _leaves(rng, canvas, (x, on_floor - 0.3 * size), size)
            _rectangle(canvas, (x - 0.2 * size, on_floor - 0.3 * size), (0.4 * size, 0.3 * size), colour)


def _leaves(rng: np.random.Generator, canvas: Frame, root: tuple[float, float], size: float) -> None:
    """Seven long leaves that grow from `root`."""
    green = _colour(rng, (0.22, 0.42), (0.3, 0.7), (0.25, 0.7))
    for angle in rng.uniform(-1, 1, 7):
        middle = round(root[0] + size / 2 * np.sin(angle)), round(root[1] - size / 2 * np.cos(angle))
        axes = round(size / 2), round(size / 9)
        cv2.ellipse(canvas, middle, axes, float(np.degrees(angle)) - 90, 0, 360, green, -1)


def _rectangle(canvas: Frame, corner: tuple[float, float], size: tuple[float, float], colour: Colour) -> None:
    """Filled, with a darker edge."""
    low = round(corner[0]), round(corner[1])
    high = round(corner[0] + size[0]), round(corner[1] + size[1])
    cv2.rectangle(canvas, low, high, colour, -1)
    cv2.rectangle(canvas, low, high, tuple(value // 2 for value in colour), FINE)


def _colour(rng: np.random.Generator, *ranges: tuple[float, float]) -> Colour:
    """BGR of a hue, saturation and value drawn from their ranges within 0 to 1."""
    hue, saturation, value = (rng.uniform(*limits) for limits in ranges)
    red, green, blue = (round(255 * channel) for channel in colorsys.hsv_to_rgb(hue, saturation, value))
    return blue, green, red


def _is_seen(boxes_xyxy: Float) -> bool:
    """Whether nine tenths of every box are in the frame."""
    inside, whole = (np.prod(boxes[:, 2:] - boxes[:, :2], axis=1) for boxes in (_clipped(boxes_xyxy), boxes_xyxy))
    return bool(np.all(inside >= 0.9 * whole))


def _is_close(boxes_xyxy: Float, others_xyxy: Float) -> bool:
    """Whether two people are ever closer, sideways, than is allowed."""
    overlap = np.minimum(boxes_xyxy[:, 2], others_xyxy[:, 2]) - np.maximum(boxes_xyxy[:, 0], others_xyxy[:, 0])
    return bool(overlap.max() > _MAX_OVERLAP)


def _clipped(boxes_xyxy: Float) -> Float:
    return np.clip(boxes_xyxy, 0, np.array(SIZE_WH * 2, np.float32))


def _tubes(scene: Scene) -> tuple[Tube, ...]:
    """Ground truth of a scene, as the annotation file holds it."""
    frames = np.arange(FIRST_LABELLED, FRAMES)
    boxes = [np.round(_clipped(labelled_boxes(person, scene.camera_xy)), 2) for person in scene.people]
    return tuple(
        Tube(LABELS.index(person.label), frames, xyxy, tracker_id=number)
        for number, (person, xyxy) in enumerate(zip(scene.people, boxes, strict=True))
    )


def _write_video(path: Path, frames: Iterator[Frame]) -> None:
    """Motion JPEG, which every OpenCV writes and reads."""
    with foreign(f"cannot write {path}", OutputError):
        writer = cv2.VideoWriter(str(path), cv2.CAP_OPENCV_MJPEG, cv2.VideoWriter.fourcc(*"MJPG"), FPS, SIZE_WH)
        if not writer.isOpened():
            raise OutputError(f"cannot write {path}: is the folder writable, and the disk not full?")
        for frame in frames:
            writer.write(frame)
        writer.release()
