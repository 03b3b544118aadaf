"""Read and write the csv of AVA for videos of one's own: shares of the picture, seconds, ids from 1."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.arrays import Int
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.box_files import ava_rows, read_label_map, text_of
from yowo_deploy.datasets.data_json import Annotations, load_json, relative_to
from yowo_deploy.datasets.formats.box_rows import UNKNOWN, Footage, Options, Rows
from yowo_deploy.datasets.formats.sidecar import KEY, read_remarks, remarks_of, subset_of
from yowo_deploy.datasets.validation import MAX_FRAMES, fault_of_video, whole
from yowo_deploy.errors import DatasetError
from yowo_deploy.files import is_hidden

VIDEOS = "videos.json"  # beside our csv: facts that the format lacks
FARTHEST = 2  # pictures from the corner, beyond which numbers are pixels
LABEL_MAPS = ("*.pbtxt", "classes.txt", "labels.txt")
MAX_CLASSES = 100_000

_Box = tuple[float, int, int, list[float]]  # second, person, action from 1 or 0 for an empty frame, corners


def read_ava_csv(files: Sequence[Path], options: Options) -> tuple[list[str], list[Rows], list[str]]:
    """`video,second,x1,y1,x2,y2,action[,person]`, corners in shares of the picture, action ids from 1 in a `.pbtxt`.

    A key frame is (second - start) * fps; the start is 0, unless --start gives another (AVA's is 900). Where every
    time is a whole second, people are annotated once a second. A row of video and second alone is an annotated
    frame without people. Without persons, boxes that overlap from one key frame to the next are one.

    Returns:
        Names of classes, videos, notes for the user.

    Raises:
        DatasetError: a row that does not fit, with file and line.
    """
    folder, known = files[0].parent, _videos_beside(files[0].parent)
    beside = [file for file in sorted(folder.iterdir()) if not is_hidden(file.name)]
    maps = [file for pattern in LABEL_MAPS for file in beside if fnmatchcase(file.name.lower(), pattern)]
    named = read_label_map(maps[0]) if maps else {}
    labels = [named.get(number, str(number)) for number in range(1, max(named, default=0) + 1)]
    boxes: dict[str, list[_Box]] = {name: [] for name in known}
    subsets = {name: str(row.get("split", "")) for name, row in known.items()}
    both: set[str] = set()
    for file in files:
        for name, box in _boxes(file, len(labels) or MAX_CLASSES):
            options.count_row()
            boxes.setdefault(name, []).append(box)
            side = _subset(file) if len(files) > 1 else ""
            if subsets.setdefault(name, side) != side and side:
                both.add(name)
    highest = max((action for of_video in boxes.values() for _, _, action, _ in of_video), default=0)
    classes = labels or [str(number) for number in range(1, highest + 1)]
    footage, videos = Footage(folder, options), []
    for name, of_video in boxes.items():
        row = known.get(name, {})
        size, path = row.get("size", (0, 0)), footage.find(row.get("path", name))
        rows = footage.rows(name, path, (size[0], size[1]), row.get("frames", 0), row.get("fps"))
        rows.size_wh = rows.scale = rows.size_wh or (1, 1)
        rows.subset, rows.remarks = subsets[name], read_remarks(f"{folder / VIDEOS}: {name}", row.get(KEY))
        _add(rows, of_video, classes, options.start_s)
        rows.guessed += [f"in files to train and to test on: all of it is to {subsets[name]} on"] * (name in both)
        videos.append(rows)
    notes = [] if labels else ["no label map (.pbtxt, classes.txt) beside the csv: classes are called by their numbers"]
    if len(maps) > 1:
        notes.append(f"classes are named by {maps[0].name}; not read: {', '.join(file.name for file in maps[1:])}")
    return classes, videos, notes


def ava_texts(annotations: Annotations, folder: Path) -> tuple[dict[Path, str], list[str]]:
    """`annotations.csv`, `labels.pbtxt`, and `videos.json` with facts that AVA's format lacks.

    Raises:
        DatasetError: frames a second, or the size, of a video are not known, or a box lies far outside the picture.
    """
    for video in annotations.videos:
        _refuse_unwritable(video)
    items = [
        f'item {{\n  name: "{_quoted(name)}"\n  id: {number}\n}}' for number, name in enumerate(annotations.classes, 1)
    ]
    lines = [line for video in annotations.videos for line in _lines(video)]
    facts = [_fact_row(annotations, place, folder) for place in range(len(annotations.videos))]
    texts = {"annotations.csv": lines, "labels.pbtxt": items, VIDEOS: [json.dumps(facts, indent=1, allow_nan=False)]}
    found = {folder / name: "".join(f"{line}\n" for line in of) for name, of in texts.items()}
    return found, _between(annotations)


def _refuse_unwritable(video: AnnotatedVideo) -> None:
    if video.fps is None or video.size_wh is None:
        raise DatasetError(f"{video.name}: its fps or size is not known, and AVA needs both")
    for tube in video.tubes:
        far = (np.abs(tube.xyxy / np.tile(video.size_wh, 2)) > FARTHEST).any(axis=1)
        if far.any():
            raise DatasetError(
                f"{video.name}: a box in frame {tube.frames[int(np.argmax(far))]} lies more than {FARTHEST} pictures "
                "away, and AVA gives fractions of the picture: `yowo-deploy data check`"
            )


def _between(annotations: Annotations) -> list[str]:
    """What AVA's own tools make of boxes that are not on a whole second: nothing."""
    total = sum(len(tube) for video in annotations.videos for tube in video.tubes)
    between = sum(
        not _seconds(frame, video.fps or 1.0).isdecimal()
        for video in annotations.videos
        for tube in video.tubes
        for frame in tube.frames.tolist()
    )
    note = f"{between} of {total} boxes lie between whole seconds: AVA's own tools read only whole seconds"
    return [note] if between else []


def _lines(video: AnnotatedVideo) -> Iterator[str]:
    assert video.fps is not None and video.size_wh is not None
    rows = []
    for tube in video.tubes:
        shares = (tube.xyxy.astype(np.float64) / np.tile(video.size_wh, 2)).tolist()
        for frame, corners in zip(tube.frames.tolist(), shares, strict=True):
            rows.append((frame, tube.tracker_id, tube.class_id + 1, corners))
    for frame, person, action, corners in sorted(rows, key=lambda row: row[:3]):
        yield _csv_line([video.name, _seconds(frame, video.fps), *map(repr, corners), str(action), str(person)])
    if video.judged is not None:
        for frame in np.setdiff1d(video.judged, video.annotated_frames()).tolist():
            yield _csv_line([video.name, _seconds(frame, video.fps)])


def _seconds(frame: int, fps: float) -> str:
    second = frame / fps
    return str(int(second)) if second == int(second) else repr(second)


def _csv_line(values: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


def _fact_row(annotations: Annotations, place: int, folder: Path) -> dict[str, Any]:
    video = annotations.videos[place]
    row: dict[str, Any] = {"name": video.name, "path": relative_to(video.path, folder), "fps": float(video.fps or 0)}
    row |= {"size": [int(side) for side in video.size_wh or ()], "frames": int(video.frames)}
    return row | {"split": subset_of(annotations, video.name), KEY: remarks_of(annotations, place)}


def _videos_beside(folder: Path) -> dict[str, dict[str, Any]]:
    file, found = folder / VIDEOS, dict[str, dict[str, Any]]()
    if not file.is_file():
        return found
    rows = load_json(file)
    for number, row in enumerate(rows if isinstance(rows, list) else [{}]):
        fault = fault_of_video(row, found) if isinstance(row, dict) else "no object"
        if fault is not None or not row.get("fps") or not row.get("size"):
            raise DatasetError(f"{file}: [{number}]: {fault or 'no fps, or no size'}; `data export` writes such files")
        found[row["name"]] = row
    return found


def _boxes(file: Path, classes: int) -> Iterator[tuple[str, _Box]]:
    """By the name of their video."""
    for number, video, second, corners, rest in ava_rows(file, text_of(file)):
        where = f"{file}:{number}"
        try:
            action = whole(rest[0]) if corners and rest[0] else 0
            person = whole(rest[1]) if corners and len(rest) > 1 and rest[1] else UNKNOWN
        except ValueError as error:
            raise DatasetError(f"{where}: {error}") from error
        if corners and rest[0] and not 1 <= action <= classes:
            raise DatasetError(f"{where}: action {action}, expected 1 to {classes}: AVA counts them from 1")
        if not all(map(math.isfinite, (second, *corners))) or second < 0:
            raise DatasetError(f"{where}: the second or a corner is not a finite number from 0 on")
        if max(map(abs, corners), default=0) > FARTHEST:
            raise DatasetError(
                f"{where}: corner {max(corners):g}; AVA's are fractions of the picture, 0 to 1, these are pixels"
            )
        yield video, (second, person, action, corners)


def _add(rows: Rows, boxes: Sequence[_Box], classes: Sequence[str], start_s: float) -> None:
    fps, seen = rows.known_fps(), list[int]()
    for second, person, action, corners in boxes:
        frame = round((second - start_s) * fps)
        if frame < 0:
            raise DatasetError(f"{rows.name}: second {second:g} lies before the start, {start_s:g} (--start)")
        if frame >= MAX_FRAMES:
            raise DatasetError(f"{rows.name}: second {second:g} is frame {frame}, expected less than {MAX_FRAMES}")
        seen.append(frame)
        rows.left_out["boxes without an action"] += bool(corners) and not action
        if action:
            rows.add(frame, person, classes[action - 1], corners)
    rows.judged, rows.looked_at = seen, _looked_at([second for second, *_ in boxes], start_s, fps)


def _looked_at(seconds: Sequence[float], start_s: float, fps: float) -> Int | None:
    """Frames of every second where all are whole ones, else None: every frame."""
    if len(set(seconds)) < 2 or any(second != int(second) for second in seconds):
        return None
    if max(seconds) - min(seconds) > MAX_FRAMES:  # as frames a thousand seconds long would have it
        return None
    # Half-way cases go to the even frame, as `round` has them above.
    whole: Int = np.rint((np.arange(int(min(seconds)), int(max(seconds)) + 1) - start_s) * fps).astype(np.int64)
    return whole


def _quoted(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')


def _subset(file: Path) -> str:
    return "test" if re.search(r"(^|[_.-])(val(id|idation)?|test)([_.-]|$)", file.stem) else "train"
