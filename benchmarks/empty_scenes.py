"""Cut parts without a person out of training videos: `python -m benchmarks.empty_scenes --help`.

Beside, above or below all people of a video, labelled ones and those that a sensitive teacher finds, a rectangle
through all frames is kept as a folder of pictures, if the teacher finds nothing in it either. They join the videos of a
data.json of people (see `benchmarks.people_teacher`) without a box: `train --people` learns them as background, and
pastes actors over them. Look at the sheet of all scenes that is written beside them, and delete the folders that show a
person before a second call, which takes those that are there.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from benchmarks.people_teacher import Teacher
from yowo_deploy.arrays import Frame
from yowo_deploy.datasets import AnnotatedVideo, open_dataset
from yowo_deploy.datasets.data_json import Annotations, Sides, write_annotations
from yowo_deploy.video.reader import open_video

SENSITIVE = 0.12  # score of what may be a person
EVERY = 8  # frames
MARGIN = 0.06  # of the frame, around people
SMALLEST_SIDE, SMALLEST_AREA = 0.3, 0.2  # of the frame's height, and of its area
THUMBNAIL, COLUMNS = 120, 14  # pixels, and thumbnails a row of the sheet
Rectangle = tuple[int, int, int, int]


def rectangles(people_xyxy: np.ndarray, width: int, height: int) -> list[Rectangle]:
    """Left, top, right, bottom of what lies beside, above or below all boxes (N, 4); the largest first."""
    margin = MARGIN * np.array([width, height])
    low, high = people_xyxy[:, :2].min(axis=0) - margin, people_xyxy[:, 2:].max(axis=0) + margin
    sides = [(0, 0, low[0], height), (high[0], 0, width, height), (0, 0, width, low[1]), (0, high[1], width, height)]
    whole: list[Rectangle] = [(int(a), int(b), int(c), int(d)) for a, b, c, d in sides]
    large = [
        (left, top, right, bottom)
        for left, top, right, bottom in whole
        if min(right - left, bottom - top) >= SMALLEST_SIDE * height
        and (right - left) * (bottom - top) >= SMALLEST_AREA * width * height
    ]
    return sorted(large, key=lambda each: (each[0] - each[2]) * (each[3] - each[1]))


def empty_scene(video: AnnotatedVideo, teacher: Teacher) -> list[Frame]:
    """The frames of the largest rectangle of a video without a person; none where there is no such rectangle."""
    with open_video(video.path, allow_damaged=True) as reader:
        frames = list(reader)
    height, width = frames[0].shape[:2]
    measured_wh = video.size_wh or (width, height)
    people = [tube.xyxy * np.array([width / measured_wh[0], height / measured_wh[1]] * 2) for tube in video.tubes]
    for frame in frames[::EVERY]:
        if not rectangles(np.concatenate(people), width, height):
            return []
        people.append(teacher(frame)[0])
    for left, top, right, bottom in rectangles(np.concatenate(people), width, height)[:1]:
        scene = [np.ascontiguousarray(frame[top:bottom, left:right]) for frame in frames]
        return [] if any(len(teacher(frame)[0]) for frame in scene[::EVERY]) else scene
    return []


def write_scenes(videos: Iterable[AnnotatedVideo], teacher: Teacher, folder: Path) -> None:
    """A folder of pictures for each video with an empty scene, and `sheet.png` of all."""
    thumbnails = []
    for video in videos:
        scene = empty_scene(video, teacher) if video.path.exists() and video.tubes else []
        target = folder / video.name.replace("/", "_")
        for index, frame in enumerate(scene):
            target.mkdir(parents=True, exist_ok=True)
            cv2.imwrite(str(target / f"{index:04d}.png"), frame)
        thumbnails += [cv2.resize(frame, (THUMBNAIL, THUMBNAIL)) for frame in scene[len(scene) // 2 :][:1]]
    black = np.zeros((THUMBNAIL, THUMBNAIL, 3), np.uint8)
    filled = thumbnails + [black] * (-len(thumbnails) % COLUMNS)
    rows = [np.hstack(filled[first : first + COLUMNS]) for first in range(0, len(filled), COLUMNS)]
    if rows:
        cv2.imwrite(str(folder / "sheet.png"), np.vstack(rows))


def scenes(folder: Path) -> list[AnnotatedVideo]:
    """The scenes of a folder, as videos without a box."""
    found = []
    for each in sorted(path for path in folder.iterdir() if path.is_dir()):
        pictures = sorted(each.glob("*.png"))
        name = f"{folder.name}/{each.name}"
        with open_video(each) as reader:
            size_wh = reader.size_wh
        found.append(AnnotatedVideo(name, name, each.absolute(), len(pictures), (), size_wh=size_wh))
    return found


def with_scenes(people: Path, found: Sequence[AnnotatedVideo], output: Path) -> None:
    """The data.json of people with these scenes among its training videos."""
    dataset = open_dataset(str(people))
    train, test = [*dataset.videos("train"), *found], list(dataset.videos("test"))
    split: Sides = {"train": tuple(video.name for video in train), "test": tuple(video.name for video in test)}
    write_annotations(Annotations(tuple(dataset.labels), (*train, *test), (split,)), output)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("package", type=Path, help="unpacked npm package @mediapipe/objectron")
    parser.add_argument("people", type=Path, help="data.json of benchmarks.people_teacher")
    parser.add_argument("folder", type=Path, help="of scenes; those that are there are taken")
    parser.add_argument("output", type=Path, help="data.json to write")
    parser.add_argument("--actors", type=Path, help="J-HMDB-21, whose training videos are cut")
    given = parser.parse_args()
    if not given.folder.exists():
        given.folder.mkdir(parents=True)
        videos = [*open_dataset(str(given.people)).videos("train")]
        if given.actors:
            labelled = open_dataset("jhmdb21", given.actors).videos("train")
            more = {video.path.resolve(): video.tubes for video in videos}
            videos = [
                video for video in videos if video.path.resolve() not in {each.path.resolve() for each in labelled}
            ]
            videos += [replace(v, tubes=(*v.tubes, *more.get(v.path.resolve(), ()))) for v in labelled]
        write_scenes(videos, Teacher(given.package, SENSITIVE), given.folder)
    found = scenes(given.folder)
    with_scenes(given.people, found, given.output)
    print(f"{len(found)} scenes without a person")


if __name__ == "__main__":
    main()
