"""The csv of AVA for videos of one's own: shares of the picture, seconds, ids from 1. Knows no other format."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.data_json import Annotations, load_json, relative_to
from yowo_deploy.datasets.formats.box_rows import (
    NOBODY,
    Footage,
    Options,
    Rows,
    annotations_of,
    recording_of,
    sides_of,
)
from yowo_deploy.datasets.formats.sidecar import (
    KEY,
    Remarks,
    Written,
    lost_of,
    notes_of,
    read_remarks,
    refuse_unspeakable,
    remarks_of,
    subset_of,
)
from yowo_deploy.datasets.validation import MAX_FRAMES, fault_of_video
from yowo_deploy.errors import DatasetError
from yowo_deploy.files import read_within, refuse_existing, writable_folder, write_text

VIDEOS = "videos.json"  # beside ours: what the format does not say
FARTHEST = 2  # pictures from the corner, beyond which numbers are pixels
LABEL_MAPS = ("*.pbtxt", "classes.txt", "labels.txt")


def read_ava_csv(files: Sequence[Path], options: Options) -> tuple[Annotations, list[str]]:
    """`video,second,x1,y1,x2,y2,action[,person]`, corners in shares of the picture, action ids from 1 in a `.pbtxt`.

    A key frame is (second - start) * fps; the start is 0, if the user does not say that it is AVA's 900. Where every
    time is a whole second, people are annotated once a second. A row of video and second alone is a frame that was
    looked at, with nobody in it. Without persons, boxes that overlap from one key frame to the next are one.

    Raises:
        DatasetError: a row that does not fit, with file and line.
    """
    folder, known = files[0].parent, _videos_beside(files[0].parent)
    labels = _label_map(folder)
    rows: dict[str, list[tuple[float, int, int, list[float]]]] = {name: [] for name in known}
    subsets = {name: str(row.get("split", "")) for name, row in known.items()}
    for file in files:
        for name, *row in _rows(file, len(labels)):
            rows.setdefault(name, []).append(row)  # type: ignore[arg-type]
            subsets.setdefault(name, _subset(file) if len(files) > 1 else "")
    highest = max((action for of_video in rows.values() for _, action, *_ in of_video), default=0)
    classes = labels or [str(number) for number in range(1, highest + 1)]
    footage = Footage(folder, options)
    told = [read_remarks(f"{folder / VIDEOS}: {name}", known.get(name, {}).get(KEY)) for name in rows]
    videos = [
        _video(name, of_video, classes, footage, options, known.get(name), each)
        for (name, of_video), each in zip(rows.items(), told, strict=True)
    ]
    notes = [] if labels else ["no label map (.pbtxt, classes.txt) beside the csv: classes are called by their numbers"]
    return annotations_of(classes, videos, sides_of(subsets.items()), told), notes


def write_ava_csv(annotations: Annotations, folder: Path, overwrite: bool = False) -> Written:
    """`annotations.csv`, `labels.pbtxt`, and `videos.json` with what AVA's format does not say.

    Raises:
        DatasetError: frames a second, or the size, of a video are not known, or a box lies far outside the picture.
        OutputError: a file is there already, and `overwrite` is not said.
    """
    refuse_unspeakable(annotations)
    for video in annotations.videos:
        _refuse_unwritable(video)
    items = [
        f'item {{\n  name: "{_quoted(name)}"\n  id: {number}\n}}' for number, name in enumerate(annotations.classes, 1)
    ]
    lines = [line for video in annotations.videos for line in _lines(video)]
    facts = [_fact_row(annotations, place, folder) for place in range(len(annotations.videos))]
    texts = {"annotations.csv": lines, "labels.pbtxt": items, VIDEOS: [json.dumps(facts, indent=1, allow_nan=False)]}
    files = [folder / name for name in texts]
    for file in files:
        refuse_existing(file, overwrite)
    writable_folder(folder)
    for file, content in zip(files, texts.values(), strict=True):
        write_text(file, "".join(f"{line}\n" for line in content))
    return Written(files, lost_of(annotations), [*_between(annotations), *notes_of(annotations, judged=True)])


def _refuse_unwritable(video: AnnotatedVideo) -> None:
    if video.fps is None or video.size_wh is None:
        raise DatasetError(f"{video.name}: its fps or size is not known, and AVA counts seconds and shares")
    for tube in video.tubes:
        far = (np.abs(tube.xyxy / np.tile(video.size_wh, 2)) > FARTHEST).any(axis=1)
        if far.any():
            raise DatasetError(
                f"{video.name}: a box in frame {tube.frames[int(np.argmax(far))]} lies more than {FARTHEST} pictures "
                "away, and AVA counts in shares of the picture: `yowo-deploy data check`"
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
    said = f"{between} of {total} boxes lie between whole seconds: AVA's own tools know whole ones alone"
    return [said] if between else []


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


def _rows(file: Path, classes: int) -> Iterator[tuple[str, float, int, int, list[float]]]:
    """Video, second, action from 1 (0 where nobody is there), person, corners."""
    text = read_within(file).decode("utf-8-sig")
    for number, row in enumerate(csv.reader(io.StringIO(text, newline="")), 1):
        if row and not (number == 1 and not _is_number(row[1] if len(row) > 1 else "")):
            yield _row(f"{file}:{number}", [value.strip() for value in row], classes)


def _row(where: str, row: Sequence[str], classes: int) -> tuple[str, float, int, int, list[float]]:
    if len(row) not in (2, 7, 8):
        raise DatasetError(f"{where}: {len(row)} columns, expected video,second,x1,y1,x2,y2,action[,person]")
    try:
        second, corners = float(row[1]), [float(value) for value in row[2:6]]
        action = int(row[6]) if len(row) > 6 and row[6] else 0
        person = int(float(row[7])) if len(row) > 7 and row[7] else NOBODY
    except ValueError as error:
        raise DatasetError(f"{where}: {error}") from error
    if len(row) == 2 or not row[2]:
        return row[0], second, 0, NOBODY, []
    if not 1 <= action <= (classes or 100_000):
        raise DatasetError(f"{where}: action {action}, expected 1 to {classes or 100_000}: AVA counts them from 1")
    if not all(map(math.isfinite, (second, *corners))) or second < 0:
        raise DatasetError(f"{where}: the second or a corner is not a finite number from 0 on")
    if max(map(abs, corners)) > FARTHEST:
        raise DatasetError(
            f"{where}: corner {max(corners):g}; AVA's are shares of the picture, 0 to 1, these are pixels"
        )
    return row[0], second, action, person, corners


def _video(
    name: str,
    rows: Sequence[tuple[float, int, int, list[float]]],
    classes: Sequence[str],
    footage: Footage,
    options: Options,
    known: dict[str, Any] | None,
    told: Remarks | None,
) -> AnnotatedVideo:
    path = footage.find(known["path"] if known else name)
    facts = footage.facts(path)
    fps = float(known["fps"]) if known else footage.fps_of(path, facts)
    size = (known["size"][0], known["size"][1]) if known else facts.size_wh if facts else (1, 1)
    boxes, seen = Rows(options.allowance), []
    for second, action, person, corners in rows:
        frame = round((second - options.start_s) * fps)
        if frame < 0:
            raise DatasetError(f"{name}: second {second:g} lies before the start, {options.start_s:g} (--start)")
        if frame >= MAX_FRAMES:
            raise DatasetError(f"{name}: second {second:g} is frame {frame}, expected less than {MAX_FRAMES}")
        seen.append(frame)
        if action:
            boxes.add(frame, person, classes[action - 1], corners)
    tubes = boxes.tubes(classes, size, _looked_at([second for second, *_ in rows], options.start_s, fps), told)
    frames = int(known["frames"]) if known else (facts.frames if facts else 0) or max(seen, default=-1) + 1
    video = AnnotatedVideo(name, recording_of(name), path, frames, tubes, size, fps=fps)
    judged = np.unique(np.array(seen, np.int64))
    if np.array_equal(judged, video.annotated_frames()):
        return video
    return AnnotatedVideo(name, video.group, path, frames, tubes, size, judged, fps)


def _looked_at(seconds: Sequence[float], start_s: float, fps: float) -> list[int] | None:
    """Frames of every second where all are whole ones, else None: every frame."""
    if len(set(seconds)) < 2 or any(second != int(second) for second in seconds):
        return None
    if max(seconds) - min(seconds) > MAX_FRAMES:  # as frames a thousand seconds long would have it
        return None
    return [round((second - start_s) * fps) for second in range(int(min(seconds)), int(max(seconds)) + 1)]


def _label_map(folder: Path) -> list[str]:
    """Names in the order of ids; a number that no item has is called by itself."""
    file = next((file for pattern in LABEL_MAPS for file in sorted(folder.glob(pattern))), None)
    if file is None:
        return []
    text = read_within(file).decode("utf-8-sig")
    if file.suffix == ".txt":
        return [line.strip() for line in text.splitlines() if line.strip()]
    items = re.findall(r'\b(?:item|label)\s*\{((?:"(?:[^"\\]|\\.)*"|[^"}])*)\}', text)
    names = dict(_item(file, item) for item in items)
    return [names.get(number, str(number)) for number in range(1, max(names, default=0) + 1)]


def _item(file: Path, text: str) -> tuple[int, str]:
    name, number = re.search(r'name:\s*"((?:[^"\\]|\\.)*)"', text), re.search(r"id:\s*(\d+)", text)
    if not name or not number or not 1 <= int(number.group(1)) <= 100_000:
        raise DatasetError(f"{file}: an item without a name, or without an id from 1 on")
    return int(number.group(1)), re.sub(r"\\(.)", r"\1", name.group(1))


def _quoted(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')


def _subset(file: Path) -> str:
    return "test" if re.search(r"(^|[_.-])(val(id|idation)?|test)([_.-]|$)", file.stem) else "train"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
