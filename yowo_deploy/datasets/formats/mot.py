"""MOTChallenge: a folder a sequence, `gt/gt.txt` and `seqinfo.ini`. Knows those; nothing of other formats."""

from __future__ import annotations

import configparser
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from yowo_deploy.artifacts import write_text
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.formats.rows import Footage, Options, Rows, annotations_of, recording_of, sides_of, subset_of
from yowo_deploy.datasets.native import Annotations, relative_to
from yowo_deploy.errors import DatasetError

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
    labels = next((names for *_, names in found if names), [])
    parsed = [(file, info, list(_rows(file, len(labels)))) for file, info, _ in found]
    highest = max((row[2] for *_, rows in parsed for row in rows), default=1)
    classes = labels or (["person"] if highest == 1 else [str(number) for number in range(1, highest + 1)])
    videos = [_video(file, info, rows, classes, options) for file, info, rows in parsed]
    sides = sides_of((video.name, info.get("split", "")) for video, (_, info, _) in zip(videos, parsed, strict=True))
    many = next((info["multilabel"] == "1" for _, info, _ in parsed if "multilabel" in info), None)
    notes = [] if labels else [f"no labels.txt: the classes are called {', '.join(classes[:5])}"]
    return annotations_of(classes, videos, sides, many), notes


def write_mot(annotations: Annotations, folder: Path) -> list[Path]:
    """`<video>/gt/gt.txt`, `<video>/gt/labels.txt` and `<video>/seqinfo.ini` of each video."""
    files = []
    for video in annotations.videos:
        place = folder / video.name.replace("/", "_")
        rows = []
        for tube in video.tubes:
            xywh = tube.xyxy.astype(np.float64)
            xywh[:, 2:] -= xywh[:, :2]
            for frame, box in zip((tube.frames + 1).tolist(), xywh.tolist(), strict=True):
                rows.append((frame, tube.tracker_id, tube.class_id + 1, ",".join(map(repr, box))))
        lines = [f"{frame},{person},{box},1,{action},1\n" for frame, person, action, box in sorted(rows)]
        width, height = video.size_wh or (0, 0)
        info: dict[str, object] = {
            "name": video.name,
            "imDir": relative_to(video.path, place),
            "frameRate": video.fps or 0,
        }
        info |= {"seqLength": video.frames, "imWidth": width, "imHeight": height, "recording": video.group}
        info |= {"split": subset_of(annotations, video.name), "multiLabel": int(annotations.exclusive is not None)}
        write_text(place / "gt" / "gt.txt", "".join(lines))
        write_text(place / "gt" / "labels.txt", "".join(f"{name}\n" for name in annotations.classes))
        write_text(place / "seqinfo.ini", "[Sequence]\n" + "".join(f"{key}={value}\n" for key, value in info.items()))
        files.append(place / "gt" / "gt.txt")
    return files


def _folder(file: Path) -> Path:
    """Of the sequence: above `gt/` where the file lies in one."""
    return file.parent.parent if file.parent.name in ("gt", "det") else file.parent


def _sequence(file: Path) -> dict[str, str]:
    """What `seqinfo.ini` says, or nothing."""
    place, parser = _folder(file) / "seqinfo.ini", configparser.ConfigParser(interpolation=None)
    if not place.is_file():
        return {}
    try:
        parser.read_string(place.read_text(encoding="utf-8"))
        return dict(parser["Sequence"])
    except (configparser.Error, KeyError, UnicodeDecodeError) as error:
        raise DatasetError(f"{place} is no seqinfo.ini of MOTChallenge: {str(error).splitlines()[0]}") from error


def _labels(file: Path) -> list[str]:
    places = (place / "labels.txt" for place in (file.parent, _folder(file), _folder(file).parent))
    found = next((place for place in places if place.is_file()), None)
    return (
        []
        if found is None
        else [line.strip() for line in found.read_text(encoding="utf-8").splitlines() if line.strip()]
    )


def _rows(file: Path, classes: int) -> Iterator[tuple[int, int, int, list[float]]]:
    """Frame from 0, person, class from 1, corners."""
    for number, line in enumerate(file.read_text(encoding="utf-8-sig").splitlines(), 1):
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
    classes: Sequence[str],
    options: Options,
) -> AnnotatedVideo:
    folder = _folder(file)
    footage = Footage(folder, options)
    name = info.get("name") or folder.name
    path = next((p for p in (footage.find(said) for said in (info.get("imdir", "img1"), name)) if p.exists()), None)
    path = path or footage.find(info.get("imdir") or name)
    facts, boxes = footage.facts(path), Rows()
    for frame, person, action, corners in rows:
        boxes.add(frame, person, classes[action - 1], corners)
    try:
        said = int(info.get("imwidth", 0)), int(info.get("imheight", 0))
        frames = int(info.get("seqlength", 0)) or (facts.frames if facts else 0) or max(boxes.frame, default=-1) + 1
        fps = float(info.get("framerate", 0)) or options.fps or (facts.fps if facts and path.is_file() else None)
    except ValueError as error:
        raise DatasetError(f"{folder / 'seqinfo.ini'}: {error}") from error
    size_wh = said if all(said) else facts.size_wh if facts else None
    group = info.get("recording") or recording_of(name)
    return AnnotatedVideo(name, group, path, frames, boxes.tubes(classes), size_wh, fps=fps)
