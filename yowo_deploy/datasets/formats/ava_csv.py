"""The csv of AVA for videos of one's own: shares of the picture, seconds, ids from 1. Knows no other format."""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from yowo_deploy.artifacts import existing_file, writable_folder, write_text
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.formats.rows import (
    NOBODY,
    Footage,
    Options,
    Rows,
    annotations_of,
    recording_of,
    sides_of,
    subset_of,
)
from yowo_deploy.datasets.native import Annotations, relative_to
from yowo_deploy.errors import DatasetError

VIDEOS = "videos.csv"  # beside ours: what the format does not say
_COLUMNS = ("video", "path", "fps", "width", "height", "frames", "recording", "split", "multi_label")
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
    rows: dict[str, list[tuple[float, int, int, list[float]]]] = {}
    subsets: dict[str, str] = {}
    for file in files:
        for name, *row in _rows(file if known else existing_file(file, "AVA csv"), len(labels)):
            rows.setdefault(name, []).append(row)  # type: ignore[arg-type]
            subsets.setdefault(name, known.get(name, {}).get("split", _subset(file) if len(files) > 1 else ""))
    for name in known:
        rows.setdefault(name, [])
        subsets.setdefault(name, known[name]["split"])
    highest = max((action for of_video in rows.values() for _, action, *_ in of_video), default=0)
    classes = labels or [str(number) for number in range(1, highest + 1)]
    footage, order = Footage(folder, options), [name for name in known if name in rows]
    names = [*order, *(name for name in rows if name not in known)]
    videos = [_video(name, rows[name], classes, footage, options, known.get(name)) for name in names]
    many = next((row["multi_label"] == "1" for row in known.values()), None)
    notes = [] if labels else ["no label map (.pbtxt, classes.txt) beside the csv: classes are called by their numbers"]
    return annotations_of(classes, videos, sides_of(subsets.items()), many), notes


def write_ava_csv(annotations: Annotations, folder: Path) -> list[Path]:
    """`annotations.csv`, `labels.pbtxt`, and `videos.csv` with what AVA's format does not say.

    Raises:
        DatasetError: frames a second, or the size, of a video are not known.
    """
    writable_folder(folder)
    for video in annotations.videos:
        if video.fps is None or video.size_wh is None:
            raise DatasetError(f"{video.name}: its fps or size is not known, and AVA counts seconds and shares")
    items = [
        f'item {{\n  name: "{_quoted(name)}"\n  id: {number}\n}}' for number, name in enumerate(annotations.classes, 1)
    ]
    lines = [line for video in annotations.videos for line in _lines(video)]
    many = str(int(annotations.exclusive is not None))
    facts = [_fact_row(annotations, video, folder, many) for video in annotations.videos]
    texts = {"annotations.csv": lines, "labels.pbtxt": items, VIDEOS: [",".join(_COLUMNS), *map(_csv_line, facts)]}
    for name, content in texts.items():
        write_text(folder / name, "".join(f"{line}\n" for line in content))
    return [folder / name for name in texts]


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
    return f"{frame / fps:.6f}"


def _csv_line(values: Sequence[str]) -> str:
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(values)
    return line.getvalue()


def _fact_row(annotations: Annotations, video: AnnotatedVideo, folder: Path, many: str) -> list[str]:
    assert video.size_wh is not None
    size, split = map(str, video.size_wh), subset_of(annotations, video.name)
    return [
        video.name,
        relative_to(video.path, folder),
        repr(video.fps),
        *size,
        str(video.frames),
        video.group,
        split,
        many,
    ]


def _videos_beside(folder: Path) -> dict[str, dict[str, str]]:
    file = folder / VIDEOS
    if not file.is_file():
        return {}
    with file.open(encoding="utf-8", newline="") as stream:
        found = list(csv.DictReader(stream))
    if not found or tuple(found[0]) != _COLUMNS:
        raise DatasetError(f"{file} is not as `data export` writes it: expected the columns {','.join(_COLUMNS)}")
    return {row["video"]: row for row in found}


def _rows(file: Path, classes: int) -> Iterator[tuple[str, float, int, int, list[float]]]:
    """Video, second, action from 1 (0 where nobody is there), person, corners."""
    with file.open(encoding="utf-8-sig", newline="") as stream:
        for number, row in enumerate(csv.reader(stream), 1):
            if row and not (number == 1 and not _is_number(row[1] if len(row) > 1 else "")):
                yield _row(f"{file}:{number}", row, classes)


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
    if max(map(abs, corners)) > 2:
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
    known: dict[str, str] | None,
) -> AnnotatedVideo:
    path = footage.find(known["path"] if known else name)
    facts = footage.facts(path)
    fps = options.fps or (float(known["fps"]) if known else footage.fps_of(path, facts))
    size = (int(known["width"]), int(known["height"])) if known else facts.size_wh if facts else (1, 1)
    boxes, seen = Rows(), []
    for second, action, person, corners in rows:
        frame = round((second - options.start_s) * fps)
        if frame < 0:
            raise DatasetError(f"{name}: second {second:g} lies before the start, {options.start_s:g} (--start)")
        seen.append(frame)
        if action:
            boxes.add(frame, person, classes[action - 1], corners)
    tubes = boxes.tubes(classes, size, _looked_at([second for second, *_ in rows], options.start_s, fps))
    frames = int(known["frames"]) if known else (facts.frames if facts else 0) or max(seen, default=-1) + 1
    video = AnnotatedVideo(
        name, known["recording"] if known else recording_of(name), path, frames, tubes, size, fps=fps
    )
    judged = np.unique(np.array(seen, np.int64))
    if np.array_equal(judged, video.annotated_frames()):
        return video
    return AnnotatedVideo(name, video.group, path, frames, tubes, size, judged, fps)


def _looked_at(seconds: Sequence[float], start_s: float, fps: float) -> list[int] | None:
    """Frames of every second where all are whole ones, else None: every frame."""
    if len(set(seconds)) < 2 or any(second != int(second) for second in seconds):
        return None
    return [round((second - start_s) * fps) for second in range(int(min(seconds)), int(max(seconds)) + 1)]


def _label_map(folder: Path) -> list[str]:
    """Names in the order of ids; a number that no item has is called by itself."""
    file = next((file for pattern in LABEL_MAPS for file in sorted(folder.glob(pattern))), None)
    if file is None:
        return []
    text = existing_file(file, "label map").read_text(encoding="utf-8")
    if file.suffix == ".txt":
        return [line.strip() for line in text.splitlines() if line.strip()]
    pairs = [_item(file, part) for part in re.split(r"\b(?:item|label)\s*\{", text)[1:]]
    names = dict(pairs)
    return [names.get(number, str(number)) for number in range(1, max(names, default=0) + 1)]


def _item(file: Path, text: str) -> tuple[int, str]:
    name, number = re.search(r'name:\s*"((?:[^"\\]|\\.)*)"', text), re.search(r"id:\s*(\d+)", text)
    if not name or not number or not 1 <= int(number.group(1)) <= 100_000:
        raise DatasetError(f"{file}: an item without a name, or without an id from 1 on")
    return int(number.group(1)), re.sub(r"\\(.)", r"\1", name.group(1))


def _quoted(name: str) -> str:
    return name.replace("\\", "\\\\").replace('"', '\\"')


def _subset(file: Path) -> str:
    return "test" if re.search(r"val|test", file.stem) else "train"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
