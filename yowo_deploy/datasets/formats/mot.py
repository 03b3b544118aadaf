"""Read and write MOTChallenge: a folder a sequence, with `gt/gt.txt` and `seqinfo.ini`."""

from __future__ import annotations

import configparser
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.box_files import text_of
from yowo_deploy.datasets.data_json import Annotations, relative_to
from yowo_deploy.datasets.formats.box_rows import Footage, Options, Rows, is_footage
from yowo_deploy.datasets.formats.sidecar import file_names, read_remarks, remarks_of, subset_of
from yowo_deploy.datasets.validation import real, whole
from yowo_deploy.errors import DatasetError
from yowo_deploy.files import lines_of
from yowo_deploy.video.suffixes import is_video

INFO, REMARKS = "seqinfo.ini", "yowoDeploy"
_COLUMNS = "frame,id,left,top,width,height,confidence[,class[,visibility]]"


def read_mot(files: Sequence[Path], options: Options) -> tuple[list[str], list[Rows], list[str]]:
    """`frame,id,left,top,width,height,confidence,class,visibility`; frames and classes count from 1.

    Without `seqinfo.ini` a sequence is called after its folder, a tracker's result (`NAME.txt`) after its file; where
    no footage has that name, it is of the only footage there.

    Corners are taken as they are, from 0: so CVAT and everyone's readers have them, other than MOTChallenge's own page.
    Rows of confidence 0 are not judged there, and left out. Names of classes stand in `labels.txt`, beside `gt.txt` or
    above; without one, and without a column of classes, everybody is a "person". Comma or blank parts the columns.

    Args:
        files: the `gt.txt` of each sequence, or a tracker's results.

    Returns:
        Names of classes, videos, notes for the user.

    Raises:
        DatasetError: a row that does not fit, with file and line.
    """
    own = [_labels(file) for file in files]  # each sequence has its own list, which may be in another order
    labelled = next(filter(None, own), [])
    parsed = [list(_lines_of(file, len(names or labelled), options)) for file, names in zip(files, own, strict=True)]
    highest = max((row[2] for rows in parsed for row in rows), default=1)
    unnamed = ["person"] if highest == 1 else [str(number) for number in range(1, highest + 1)]
    labels = [names or labelled or unnamed for names in own]
    videos = [_rows(file, lines, names, options) for file, lines, names in zip(files, parsed, labels, strict=True)]
    different = {id(names): names for names in labels}.values()  # most have the same list, which may be long
    classes = list(dict.fromkeys(name for names in different for name in names))
    notes = [] if labelled else [f"no labels.txt: the classes are called {', '.join(classes[:5])}"]
    return classes, videos, notes


def mot_texts(annotations: Annotations, folder: Path) -> tuple[dict[Path, str], list[str]]:
    """`<video>/gt/gt.txt`, `<video>/gt/labels.txt` and `<video>/seqinfo.ini` of each video."""
    texts = {}
    for number, name in enumerate(file_names(video.name for video in annotations.videos)):
        place = folder / name
        texts[place / "gt" / "gt.txt"] = "".join(_lines(annotations.videos[number]))
        texts[place / "gt" / "labels.txt"] = "".join(f"{label}\n" for label in annotations.classes)
        texts[place / INFO] = "".join(_info(annotations, number, place))
    return texts, []


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
    """The values of `seqinfo.ini`; none without one."""
    place, parser = _folder(file) / INFO, configparser.ConfigParser(interpolation=None)
    if not place.is_file():
        return {}
    try:
        parser.read_string(text_of(place))
        return dict(parser["Sequence"])
    except (configparser.Error, KeyError) as error:
        raise DatasetError(f"{place} is not a seqinfo.ini of MOTChallenge: {str(error).splitlines()[0]}") from error


def _labels(file: Path) -> list[str]:
    places = (place / "labels.txt" for place in (file.parent, _folder(file), _folder(file).parent))
    found = next((place for place in places if place.is_file()), None)
    lines = [] if found is None else lines_of(text_of(found))
    return [line.strip() for line in lines if line.strip()]


def _lines_of(file: Path, classes: int, options: Options) -> Iterator[tuple[int, int, int, list[float]]]:
    """Frame from 0, person, class from 1, or 0 of a row that is not judged, corners."""
    for place, line in enumerate(lines_of(text_of(file)), 1):
        where, row = f"{file}:{place}", line.split(",") if "," in line else line.split()
        if not row:
            continue
        if not 6 <= len(row) <= 10:
            raise DatasetError(f"{where}: {len(row)} columns, expected {_COLUMNS}")
        try:
            frame, person, (x, y, w, h) = whole(row[0]), whole(row[1]), map(real, row[2:6])
            sure, action = real(row[6]) if len(row) > 6 else 1.0, whole(row[7]) if len(row) > 7 else 1
        except (ValueError, OverflowError) as error:
            raise DatasetError(f"{where}: {error}") from error
        if not math.isfinite(sure):
            raise DatasetError(f"{where}: confidence {sure}, expected a number")
        if frame < 1:
            raise DatasetError(f"{where}: frame {frame}, but MOTChallenge counts frames from 1")
        action = 1 if action == -1 else action  # of detections
        if sure == 0:
            action = 0
        elif not 1 <= action <= (classes or 100_000):
            raise DatasetError(f"{where}: class {action}, expected 1 to {classes or 100_000}: they count from 1")
        options.count_row()
        yield frame - 1, person, action, [x, y, x + w, y + h]


def _rows(
    file: Path, lines: Sequence[tuple[int, int, int, list[float]]], labels: Sequence[str], options: Options
) -> Rows:
    folder, info = _folder(file), _sequence(file)
    is_result = file.stem.lower() not in ("gt", "det")  # of a tracker: a file a sequence, named after it
    footage, name = Footage(folder, options), info.get("name") or (file.stem if is_result else folder.name)
    path, note = _path(footage, folder, info.get("imdir", "img1"), name), ""
    try:
        size = int(info.get("imwidth", 0)), int(info.get("imheight", 0))
        if not info and not is_footage(path):
            only, note = footage.only(
                f"{file.name} of {name!r}", name, size, 1 + max((row[0] for row in lines), default=-1)
            )
            path = only or path
        rows = footage.rows(name, path, size, int(info.get("seqlength", 0)), float(info.get("framerate", 0)))
    except ValueError as error:
        raise DatasetError(f"{folder / INFO}: {error}") from error
    rows.guessed += [note] * bool(note)
    for frame, person, action, corners in lines:
        if action:
            rows.add(frame, person, labels[action - 1], corners)
    rows.left_out["rows of confidence 0"] += sum(not action for _, _, action, _ in lines)
    rows.subset = info.get("split", "")
    rows.remarks = read_remarks(f"{folder / INFO}", info.get(REMARKS.lower()))
    return rows


def _path(footage: Footage, folder: Path, image_dir: str, name: str) -> Path:
    """Of the pictures or the video: as `imDir` has it, else by the sequence's name.

    A folder like `img1` is looked for in the sequence alone: every sequence has one of that name.
    """
    if len(Path(image_dir).parts) == 1 and (folder / image_dir).is_dir():
        return folder / image_dir
    by_name = footage.find(name)
    found = by_name if len(Path(image_dir).parts) == 1 and not is_video(image_dir) else footage.find(image_dir)
    return by_name if is_footage(by_name) and not is_footage(found) else found
