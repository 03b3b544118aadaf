"""Read and write data.json, the toolkit's own annotation file: classes, videos, tubes, splits."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float, Int
from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.base import AnnotatedVideo, Rules, Split
from yowo_deploy.datasets.jhmdb import ANCHOR_GRID, ANCHORS
from yowo_deploy.datasets.validation import (
    fault_of_boxes,
    fault_of_classes,
    fault_of_names,
    fault_of_video,
    is_whole,
    short,
)
from yowo_deploy.errors import DatasetError, foreign
from yowo_deploy.files import atomic_write, existing_file, read_within
from yowo_deploy.json_text import parse_json

FORMAT, VERSION = "yowo-deploy data", 1
SCHEMA = Path(__file__).parent / "data.schema.json"
DECIMALS = 3  # of a pixel, where that is the very float32

Sides = Mapping[Split, tuple[str, ...]]
Refuse = Callable[[str, str], None]  # takes where and what


@dataclass(frozen=True)
class Annotations:
    """The content of a data.json.

    Attributes:
        classes: names, in the order of class ids.
        videos: with their tubes; every tube has a person (`tracker_id`).
        splits: names of the videos on each side, by number of the split.
        exclusive: None where a box has one class; else it has any number, but one at most of the first so many.
        judged_classes: class ids that count in an evaluation; empty for all.
    """

    classes: tuple[str, ...]
    videos: tuple[AnnotatedVideo, ...]
    splits: tuple[Sides, ...] = ()
    exclusive: int | None = None
    judged_classes: tuple[int, ...] = ()

    @cached_property
    def members(self) -> tuple[Mapping[Split, frozenset[str]], ...]:
        """`splits` as sets, for writers that look up every video in them."""
        return tuple({side: frozenset(names) for side, names in sides.items()} for sides in self.splits)


class NativeDataset:
    """`Annotations` as training and evaluation take them; see `Dataset`.

    Without splits every video is one to train on. The anchors are the shipped model's.

    Raises:
        DatasetError: there is no such split, or no class, or a box that ends before it begins.
    """

    anchors: tuple[tuple[float, float], ...] = ANCHORS
    anchor_grid = ANCHOR_GRID

    def __init__(self, annotations: Annotations, source: str, split: int = 1) -> None:
        count = max(1, len(annotations.splits))
        if not 1 <= split <= count:
            raise DatasetError(f"{source} has no split {split}, expected 1 to {count}")
        if not annotations.classes:
            raise DatasetError(f"{source} names no class")
        for video in annotations.videos:
            if any((tube.xyxy[:, 2:] < tube.xyxy[:, :2]).any() for tube in video.tubes):
                raise DatasetError(
                    f"{source}: {video.name} has boxes that end before they begin: `yowo-deploy data check`"
                )
        self.labels, self._source = annotations.classes, source
        self.rules: Rules = "voc" if annotations.exclusive is None else "ava"
        self.exclusive = annotations.exclusive or 0
        self.judged_classes = annotations.judged_classes
        self._videos = {video.name: video for video in annotations.videos}
        everything: Sides = {"train": tuple(self._videos), "test": ()}
        self._sides = annotations.splits[split - 1] if annotations.splits else everything

    def videos(self, split: Split) -> Sequence[AnnotatedVideo]:
        """The videos of one side, in the order of the file.

        Raises:
            DatasetError: there is none.
        """
        names = set(self._sides.get(split, ()))
        if not names:
            raise DatasetError(f"{self._source} has no {split} videos: import two recordings a class, --test-share 0.2")
        return [video for name, video in self._videos.items() if name in names]


def read_annotations(path: str | os.PathLike[str], refuse: Refuse | None = None) -> Annotations:
    """Read a data.json, or one that is gzipped.

    Args:
        refuse: called with place and fault of everything that does not fit, which is then left out. By default the
            first fault is an error.

    Raises:
        InputError: no such file.
        DatasetError: it is no JSON, or not of this format, or of a newer one; or as above.
    """
    file = existing_file(path, "data")
    content = _content(file)
    with foreign(f"{file} is no data.json", DatasetError):
        return _annotations(file, content, refuse)


def _annotations(file: Path, content: dict[str, Any], refuse: Refuse | None) -> Annotations:
    def complain(where: str, fault: str) -> None:
        raise DatasetError(f"{file}: {where}: {fault}")

    reader = _Reader(content, file.parent, refuse or complain)
    classes = tuple(reader.names("classes", content.get("classes")))
    videos = reader.videos(reader.tubes(classes))
    known = {video.name for video in videos}
    splits = tuple(reader.splits(known))
    exclusive = reader.exclusive()
    judged = reader.names("judged_classes", content.get("judged_classes", []))
    for name in sorted(set(judged) - set(classes)):
        (refuse or complain)("judged_classes", f"{short(name)} is none of the classes")
    places = {name: place for place, name in enumerate(classes)}
    return Annotations(
        classes, tuple(videos), splits, exclusive, tuple(places[each] for each in judged if each in places)
    )


def write_annotations(annotations: Annotations, path: str | os.PathLike[str]) -> None:
    """Write a data.json, gzipped where the name ends in .gz; `read_annotations` gives equal ones back.

    Paths of videos are written relative to the file where they can be.

    Raises:
        DatasetError: `read_annotations` would refuse them; names the fault.
    """
    refuse_faults(annotations)
    text = "\n".join(_lines(annotations, Path(path).absolute().parent)) + "\n"
    packed = text.encode()
    with atomic_write(path) as temporary:
        temporary.write_bytes(gzip.compress(packed, 6, mtime=0) if str(path).endswith(".gz") else packed)


def refuse_faults(annotations: Annotations) -> None:
    """Raise a DatasetError that names the first fault for which a file of these annotations would not be read."""
    for where, fault in _faults(annotations):
        if fault is not None:
            raise DatasetError(f"{where}: {fault}")


def _faults(annotations: Annotations) -> Iterator[tuple[str, str | None]]:
    classes, seen = annotations.classes, set[str]()
    yield "classes", fault_of_classes(classes)
    for video in annotations.videos:
        yield f"video {video.name!r}", fault_of_video(_video_row(video, Path(video.path.absolute().anchor)), seen)
        seen.add(video.name)
        for number, tube in enumerate(video.tubes):
            where, person = f"video {video.name!r}, tube {number}", tube.tracker_id
            if not 0 <= tube.class_id < len(classes):
                yield where, f"class {tube.class_id}, expected less than {len(classes)}"
            if person is None or not is_whole(int(person)):
                yield where, f"person {person}, expected a whole number"
            yield where, fault_of_boxes(tube.frames, tube.xyxy)
    judged = [class_id for class_id in annotations.judged_classes if not 0 <= class_id < len(classes)]
    yield "judged_classes", f"class {judged[0]}, expected less than {len(classes)}" if judged else None
    for number, sides in enumerate(annotations.splits):
        for side, names in sides.items():
            unknown = next((name for name in names if name not in seen), None)
            fault = fault_of_names(names) if unknown is None else f"video {unknown!r} is not among the videos"
            yield f"splits[{number}].{side}", fault


def plain_numbers(values: NDArray[Any]) -> Any:
    """float32 as nested lists of numbers with few decimals, that are the very same as float32."""
    exact = values.astype(np.float64)
    rounded = np.round(exact, DECIMALS)
    return np.where(rounded.astype(np.float32) == values, rounded, exact).tolist()


def relative_to(path: Path, folder: Path) -> str:
    """`path` as a file in `folder` names it, with forward slashes."""
    return os.path.relpath(path, folder).replace(os.sep, "/")


def _lines(annotations: Annotations, folder: Path) -> Iterator[str]:
    head: dict[str, Any] = {"format": FORMAT, "version": VERSION, "classes": annotations.classes}
    if annotations.exclusive is not None:
        head |= {"multi_label": True, "exclusive_classes": annotations.exclusive}
    if annotations.judged_classes:
        head["judged_classes"] = [annotations.classes[class_id] for class_id in annotations.judged_classes]
    yield "{"
    for key, value in head.items():
        yield f" {json.dumps(key)}: {json.dumps(value, ensure_ascii=False)},"
    yield from _listed("videos", [_video_row(video, folder) for video in annotations.videos])
    yield from _listed("tubes", [_tube_row(v, t, annotations.classes) for v in annotations.videos for t in v.tubes])
    yield from _listed("splits", [dict(sides) for sides in annotations.splits], end="")
    yield "}"


def _listed(key: str, rows: Sequence[Any], end: str = ",") -> Iterator[str]:
    """A list with a line for each of its rows, so that a row is easy to find."""
    yield f' "{key}": ['
    for number, row in enumerate(rows, 1):
        yield f"  {json.dumps(row, ensure_ascii=False)}{',' * (number < len(rows))}"
    yield f" ]{end}"


def _video_row(video: AnnotatedVideo, folder: Path) -> dict[str, Any]:
    row: dict[str, Any] = {"name": video.name, "path": relative_to(video.path, folder)}
    row |= {"fps": None if video.fps is None else float(video.fps), "frames": int(video.frames)}
    row |= {"size": None if video.size_wh is None else [int(side) for side in video.size_wh]}
    if video.group != video.name:
        row["recording"] = video.group
    if video.judged is not None:
        row["judged_frames"] = video.judged.tolist()
    return row


def _tube_row(video: AnnotatedVideo, tube: Tube, classes: Sequence[str]) -> dict[str, Any]:
    row = {"video": video.name, "class": classes[tube.class_id], "person": int(tube.tracker_id or 0)}
    return row | {"frames": tube.frames.tolist(), "boxes": plain_numbers(tube.xyxy)}


def load_json(file: Path) -> Any:
    """What a JSON file holds, gzipped or not.

    Raises:
        InputError: it cannot be read or unpacked, or is too large.
        DatasetError: it is none.
    """
    with foreign(f"{file} is no JSON", DatasetError):
        return parse_json(read_within(file))


def _content(file: Path) -> dict[str, Any]:
    content = load_json(file)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DatasetError(f'{file} has no "format": "{FORMAT}": convert it with `yowo-deploy data import`')
    if not isinstance(content.get("version"), int) or content["version"] > VERSION:
        raise DatasetError(
            f"{file} is of format version {content.get('version')}, newer than {VERSION}: upgrade yowo-deploy"
        )
    return content


class _Reader:
    """Takes a data.json apart; what does not fit is refused, and left out if that returns."""

    def __init__(self, content: dict[str, Any], folder: Path, refuse: Refuse) -> None:
        self._content, self._folder, self._refuse = content, folder, refuse

    def names(self, where: str, value: Any) -> list[str]:
        """A list of different names."""
        if (fault := (fault_of_classes if where == "classes" else fault_of_names)(value)) is not None:
            self._refuse(where, fault)
        sound = isinstance(value, list) and all(isinstance(name, str) and name for name in value)
        return list(dict.fromkeys(value)) if sound else []

    def exclusive(self) -> int | None:
        """See `Annotations.exclusive`."""
        count = self._content.get("exclusive_classes", 0)
        if not is_whole(count):
            self._refuse("exclusive_classes", f"{short(count)}, expected a whole number")
            count = 0
        return int(count) if self._content.get("multi_label") else None

    def tubes(self, classes: Sequence[str]) -> dict[str, list[Tube]]:
        """By the name of their video."""
        found: dict[str, list[Tube]] = {}
        numbers = {name: number for number, name in enumerate(classes)}
        for number, row in enumerate(self._rows("tubes")):
            where = f"tubes[{number}]"
            if not isinstance(row.get("class"), str) or row["class"] not in numbers:
                self._refuse(where, f"class {short(row.get('class'))} is none of {', '.join(classes[:5])}, ...")
            elif (placed := self._frames_and_boxes(where, row)) is not None:
                person = row.get("person", number)
                if not is_whole(person):
                    self._refuse(where, f"person {short(person)}, expected a whole number")
                    continue
                tube = Tube(numbers[row["class"]], *placed, tracker_id=person)
                found.setdefault(str(row.get("video")), []).append(tube)
        return found

    def videos(self, tubes: dict[str, list[Tube]]) -> list[AnnotatedVideo]:
        """With their tubes."""
        found: dict[str, AnnotatedVideo] = {}
        for number, row in enumerate(self._rows("videos")):
            if (fault := fault_of_video(row, found)) is not None:
                self._refuse(f"videos[{number}]", fault)
            else:
                name, path = row["name"], row["path"]
                judged = np.array(row["judged_frames"], np.int64) if "judged_frames" in row else None
                size, group = row.get("size"), str(row.get("recording") or name)
                place = Path(os.path.normpath(self._folder / path))
                facts = (
                    row["frames"],
                    tuple(tubes.pop(name, [])),
                    tuple(size) if size else None,
                    judged,
                    row.get("fps"),
                )
                found[name] = AnnotatedVideo(name, group, place, *facts)
        for name in tubes:
            self._refuse("tubes", f"video {name!r} is not among the videos")
        return list(found.values())

    def splits(self, known: set[str]) -> Iterator[Sides]:
        """Each with its two sides."""
        for number, row in enumerate(self._rows("splits", [])):
            sides: dict[Split, tuple[str, ...]] = {}
            for side in get_args(Split):
                names = self.names(f"splits[{number}].{side}", row.get(side, []))
                for name in names:
                    if name not in known:
                        self._refuse(f"splits[{number}].{side}", f"video {name!r} is not among the videos")
                sides[side] = tuple(name for name in names if name in known)
            yield sides

    def _rows(self, key: str, default: Any = None) -> list[dict[str, Any]]:
        rows = self._content.get(key, default)
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self._refuse(key, f"{short(rows)}, expected a list of objects")
            return []
        return rows

    def _frames_and_boxes(self, where: str, row: dict[str, Any]) -> tuple[Int, Float] | None:
        listed = row.get("frames")
        # Of a text among them numpy would make one as long for each number.
        listed = listed if isinstance(listed, list) and set(map(type, listed)) <= {int} else []
        try:
            frames, boxes = np.array(listed), np.array(row.get("boxes"), np.float32)
        except (ValueError, TypeError, OverflowError):
            self._refuse(where, "boxes are not lists of four numbers")
            return None
        fault = fault_of_boxes(frames, boxes)
        if fault is not None:
            self._refuse(where, fault)
            return None
        return frames.astype(np.int64), boxes
