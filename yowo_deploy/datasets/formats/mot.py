"""MOTChallenge: a folder a sequence, `gt/gt.txt` and `seqinfo.ini`. Knows those; nothing of other formats."""

from __future__ import annotations

import configparser
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.data_json import Annotations, relative_to
from yowo_deploy.datasets.formats.box_rows import (
    Footage,
    Options,
    Rows,
    annotations_of,
    is_footage,
    recording_of,
    sides_of,
    unique,
)
from yowo_deploy.datasets.formats.sidecar import (
    Remarks,
    Written,
    file_names,
    lost_of,
    notes_of,
    read_remarks,
    refuse_unspeakable,
    remarks_of,
    subset_of,
)
from yowo_deploy.errors import DatasetError
from yowo_deploy.files import read_within, refuse_existing, writable_folder, write_text
from yowo_deploy.video.suffixes import is_video

INFO, REMARKS = "seqinfo.ini", "yowoDeploy"
_COLUMNS = "frame,id,left,top,width,height,confidence[,class[,visibility]]"


def read_mot(files: Sequence[Path], options: Options) -> tuple[Annotations, list[str]]:
    """`frame,id,left,top,width,height,confidence,class,visibility`; frames and classes count from 1.

    Corners are taken as they are, from 0: so CVAT and everyone's readers have them, other than MOTChallenge's own page.
    Rows of confidence 0 are not judged there, and left out. Names of classes stand in `labels.txt`, beside `gt.txt` or
    above; without one, and without a column of classes, everybody is a "person". Comma or blank parts the columns.

    Args:
        files: the `gt.txt` of each sequence.

    Raises:
        DatasetError: a row that does not fit, with file and line.
    """
    found = [(file, _sequence(file), _labels(file)) for file in files]
    labelled = next((names for *_, names in found if names), [])
    # Each sequence has its own list, which may be in another order.
    parsed = [(file, info, list(_rows(file, len(names or labelled))), names or labelled) for file, info, names in found]
    highest = max((row[2] for _, _, rows, _ in parsed for row in rows), default=1)
    unnamed = ["person"] if highest == 1 else [str(number) for number in range(1, highest + 1)]
    classes = list(dict.fromkeys(name for *_, names in parsed for name in names or unnamed))
    told = [read_remarks(f"{_folder(file) / INFO}", info.get(REMARKS.lower())) for file, info, *_ in parsed]
    videos = unique(
        [
            _video(file, info, rows, names or unnamed, classes, options, each)
            for (file, info, rows, names), each in zip(parsed, told, strict=True)
        ]
    )
    subsets = (info.get("split", "") for _, info, *_ in parsed)
    sides = sides_of((video.name, subset) for video, subset in zip(videos, subsets, strict=True))
    notes = [] if labelled else [f"no labels.txt: the classes are called {', '.join(classes[:5])}"]
    return annotations_of(classes, videos, sides, told), notes


def write_mot(annotations: Annotations, folder: Path, overwrite: bool = False) -> Written:
    """`<video>/gt/gt.txt`, `<video>/gt/labels.txt` and `<video>/seqinfo.ini` of each video.

    Raises:
        DatasetError: the annotations cannot be written.
        OutputError: a file is there already, and `overwrite` is not said.
    """
    refuse_unspeakable(annotations)
    texts = {}
    for number, name in enumerate(file_names(video.name for video in annotations.videos)):
        video, place = annotations.videos[number], folder / name
        texts[place / "gt" / "gt.txt"] = "".join(_lines(video))
        texts[place / "gt" / "labels.txt"] = "".join(f"{label}\n" for label in annotations.classes)
        texts[place / INFO] = "".join(_info(annotations, number, place))
    for file in texts:
        refuse_existing(file, overwrite)
    writable_folder(folder)
    for file, text in texts.items():
        write_text(file, text)
    files = [file for file in texts if file.name == "gt.txt"]
    return Written(files, lost_of(annotations), notes_of(annotations, judged=False))


def _lines(video: AnnotatedVideo) -> Iterator[str]:
    rows = []
    for tube in video.tubes:
        xywh = tube.xyxy.astype(np.float64)
        xywh[:, 2:] -= xywh[:, :2]
        for frame, box in zip((tube.frames + 1).tolist(), xywh.tolist(), strict=True):
            rows.append((frame, tube.tracker_id, tube.class_id + 1, ",".join(map(repr, box))))
    for frame, person, action, corners in sorted(rows):
        yield f"{frame},{person},{corners},1,{action},1\n"


def _info(annotations: Annotations, number: int, place: Path) -> Iterator[str]:
    video = annotations.videos[number]
    width, height = video.size_wh or (0, 0)
    yield "[Sequence]\n"
    yield f"name={video.name}\nimDir={relative_to(video.path, place)}\nframeRate={video.fps or 0}\n"
    yield f"seqLength={video.frames}\nimWidth={width}\nimHeight={height}\n"
    yield f"split={subset_of(annotations, video.name)}\n"
    yield f"{REMARKS}={json.dumps(remarks_of(annotations, number), allow_nan=False)}\n"


def _folder(file: Path) -> Path:
    """Of the sequence: above `gt/` where the file lies in one."""
    return file.parent.parent if file.parent.name in ("gt", "det") else file.parent


def _sequence(file: Path) -> dict[str, str]:
    """What `seqinfo.ini` says, or nothing."""
    place, parser = _folder(file) / INFO, configparser.ConfigParser(interpolation=None)
    if not place.is_file():
        return {}
    try:
        parser.read_string(read_within(place).decode("utf-8-sig"))
        return dict(parser["Sequence"])
    except (configparser.Error, KeyError, UnicodeDecodeError) as error:
        raise DatasetError(f"{place} is no seqinfo.ini of MOTChallenge: {str(error).splitlines()[0]}") from error


def _labels(file: Path) -> list[str]:
    places = (place / "labels.txt" for place in (file.parent, _folder(file), _folder(file).parent))
    found = next((place for place in places if place.is_file()), None)
    lines = [] if found is None else read_within(found).decode("utf-8-sig").splitlines()
    return [line.strip() for line in lines if line.strip()]


def _rows(file: Path, classes: int) -> Iterator[tuple[int, int, int, list[float]]]:
    """Frame from 0, person, class from 1, corners."""
    for number, line in enumerate(read_within(file).decode("utf-8-sig").splitlines(), 1):
        where, row = f"{file}:{number}", line.split(",") if "," in line else line.split()
        if not row:
            continue
        if not 6 <= len(row) <= 10:
            raise DatasetError(f"{where}: {len(row)} columns, expected {_COLUMNS}")
        try:
            frame, person, (x, y, w, h) = int(float(row[0])), int(float(row[1])), map(float, row[2:6])
            sure, action = float(row[6]) if len(row) > 6 else 1.0, int(float(row[7])) if len(row) > 7 else 1
        except (ValueError, OverflowError) as error:
            raise DatasetError(f"{where}: {error}") from error
        if frame < 1:
            raise DatasetError(f"{where}: frame {frame}, but MOTChallenge counts frames from 1")
        if sure == 0:
            continue
        action = 1 if action == -1 else action  # of detections
        if not 1 <= action <= (classes or 100_000):
            raise DatasetError(f"{where}: class {action}, expected 1 to {classes or 100_000}: they count from 1")
        yield frame - 1, person, action, [x, y, x + w, y + h]


def _video(
    file: Path,
    info: dict[str, str],
    rows: Sequence[tuple[int, int, int, list[float]]],
    labels: Sequence[str],
    classes: Sequence[str],
    options: Options,
    told: Remarks | None,
) -> AnnotatedVideo:
    folder = _folder(file)
    footage = Footage(folder, options)
    name = info.get("name") or folder.name
    path = _path(footage, folder, info.get("imdir", "img1"), name)
    facts, boxes = footage.facts(path), Rows(options.allowance)
    for frame, person, action, corners in rows:
        boxes.add(frame, person, labels[action - 1], corners)
    try:
        said = int(info.get("imwidth", 0)), int(info.get("imheight", 0))
        frames = int(info.get("seqlength", 0)) or (facts.frames if facts else 0) or max(boxes.frame, default=-1) + 1
        fps = float(info.get("framerate", 0)) or options.fps or (facts.fps if facts and path.is_file() else None)
    except ValueError as error:
        raise DatasetError(f"{folder / INFO}: {error}") from error
    size_wh = said if all(said) else facts.size_wh if facts else None
    tubes = boxes.tubes(classes, told=told)
    return AnnotatedVideo(name, recording_of(name), path, frames, tubes, size_wh, fps=fps)


def _path(footage: Footage, folder: Path, said: str, name: str) -> Path:
    """Of the pictures or the video: where the sequence says, else by its name.

    A folder like `img1` is looked for in the sequence alone: every sequence calls its own so.
    """
    if len(Path(said).parts) == 1 and (folder / said).is_dir():
        return folder / said
    by_name = footage.find(name)
    found = by_name if len(Path(said).parts) == 1 and not is_video(said) else footage.find(said)
    return by_name if is_footage(by_name) and not is_footage(found) else found
