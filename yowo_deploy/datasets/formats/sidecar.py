"""Remarks: facts that the formats of other tools lack, as one JSON in a place that the tools ignore.

`data export` writes it, `data import` reads it back, so that nothing is lost on the way; a tool that writes the file
anew drops it, and then the format's own fields are all there is.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple, get_args

import numpy as np

from yowo_deploy.arrays import Int
from yowo_deploy.datasets.base import AnnotatedVideo, Split
from yowo_deploy.datasets.data_json import Annotations, Sides, refuse_faults
from yowo_deploy.datasets.validation import is_whole
from yowo_deploy.errors import DatasetError, foreign
from yowo_deploy.files import refuse_existing, writable_folder, write_text
from yowo_deploy.json_text import parse_json

KEY = "yowo_deploy"
MOST_SPLITS = 1000  # that remarks name
LONGEST_NAME = 200  # bytes of the names of files, which suffixes are added to
_SIDES = get_args(Split)
_UNSPEAKABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")

Start = tuple[str, int, int]  # class, person and first frame of a tube


# From annotations and a folder to the texts of files, and to notes of what other tools will not see.
TextsOf = Callable[[Annotations, Path], tuple[dict[Path, str], list[str]]]


class Written(NamedTuple):
    """What a writer did.

    Attributes:
        files: that it wrote.
        lost: what `data import` will not give back, a sentence each.
        notes: what other tools will not see, though `data import` does, a sentence each.
    """

    files: list[Path]
    lost: list[str]
    notes: list[str]


@dataclass(frozen=True)
class Remarks:
    """Of one video.

    Attributes:
        place: of the video in its data set.
        recording: see `AnnotatedVideo.group`.
        sides: on which it is, split by split.
        exclusive, judged_classes: see `Annotations`; classes by name.
        judged: see `AnnotatedVideo`.
        tubes: one each, in their order; between two starts all boxes of a person and class are of one tube.
    """

    place: int
    recording: str
    sides: tuple[tuple[Split, ...], ...]
    exclusive: int | None
    judged_classes: tuple[str, ...]
    judged: Int | None
    tubes: tuple[Start, ...]

    @property
    def subset(self) -> str:
        """The side in the first split, as tools name it; see `subset_of`."""
        return next((side.capitalize() for side in (self.sides or ((),))[0]), "")


def remarks_of(data: Annotations, place: int) -> dict[str, Any]:
    """Of a video of `data`, as JSON has them; `read_remarks` takes them."""
    video, names = data.videos[place], data.classes
    return {
        "place": place,
        "recording": video.group,
        "sides": [[side for side in _SIDES if video.name in sides.get(side, ())] for sides in data.members],
        "exclusive_classes": data.exclusive,
        "judged_classes": [names[class_id] for class_id in data.judged_classes],
        "judged_frames": None if video.judged is None else video.judged.tolist(),
        "tubes": [[names[t.class_id], int(t.tracker_id or 0), int(t.frames[0])] for t in video.tubes],
    }


def read_remarks(where: str, value: Any) -> Remarks | None:
    """Remarks from JSON or what it holds; None where there are none.

    Raises:
        DatasetError: they are damaged.
    """
    if value is None or value == "":
        return None
    with foreign(f"{where}: what yowo-deploy noted there is damaged, take it out", DatasetError):
        found = parse_json(value.encode()) if isinstance(value, str) else value
        judged, exclusive, tubes = found["judged_frames"], found["exclusive_classes"], found["tubes"]
        whole = [found["place"], *(judged or ()), *(number for _, *numbers in tubes for number in numbers)]
        texts = [found["recording"], *found["judged_classes"], *(name for name, *_ in tubes)]
        sides = tuple(tuple(side for side in _SIDES if side in of) for of in found["sides"])
        sound = all(map(is_whole, whole)) and all(isinstance(text, str) and text for text in texts)
        sound = sound and len(sides) <= MOST_SPLITS and all(len(tube) == 3 for tube in tubes)
        if not sound or not (exclusive is None or is_whole(exclusive)):
            raise ValueError("a value that is not allowed")
        frames = None if judged is None else np.array(judged, np.int64)
        starts = tuple((name, person, first) for name, person, first in tubes)
        classes = tuple(found["judged_classes"])
        return Remarks(found["place"], found["recording"], sides, exclusive, classes, frames, starts)


def with_remarks(data: Annotations, remarks: Sequence[Remarks | None]) -> Annotations:
    """`data` as it was before it went through a format, as far as that is noted.

    Args:
        remarks: of each video. What concerns the whole set counts where every video has it and all agree: several
            sets may have been put together since. Where the file has another side of the first split than was noted,
            it was changed since: the file is right.
    """
    videos = [_noted(video, each) for video, each in zip(data.videos, remarks, strict=True)]
    known = [each for each in remarks if each is not None]
    if len(known) < len(videos):
        return replace(data, videos=tuple(videos))
    order = sorted(range(len(videos)), key=lambda number: known[number].place)
    names = [data.videos[number].name for number in order]
    splits = _splits(names, [known[number].sides for number in order])
    found = [{side: frozenset(of) for side, of in sides.items()} for sides in data.splits[:1]]
    if any(_subset(found, name) != known[n].subset for name, n in zip(names, order, strict=True)):
        splits = (*data.splits, *splits[1:]) if data.splits else ()
    of_set = {(each.exclusive, each.judged_classes) for each in known}
    exclusive, judged = of_set.pop() if len(of_set) == 1 else (data.exclusive, ())
    place = {name: number for number, name in enumerate(data.classes)}
    places = tuple(place[name] for name in judged if name in place)
    return Annotations(data.classes, tuple(videos[number] for number in order), splits, exclusive, places)


def _noted(video: AnnotatedVideo, remarks: Remarks | None) -> AnnotatedVideo:
    return video if remarks is None else replace(video, group=remarks.recording, judged=remarks.judged)


def _splits(names: Sequence[str], sides: Sequence[tuple[tuple[Split, ...], ...]]) -> tuple[Sides, ...]:
    count = min(map(len, sides), default=0)
    return tuple(
        {side: tuple(n for n, of in zip(names, sides, strict=True) if side in of[number]) for side in _SIDES}
        for number in range(count)
    )


def _subset(splits: Sequence[Mapping[Split, frozenset[str]]], name: str) -> str:
    return next((side.capitalize() for side in _SIDES if splits and name in splits[0].get(side, ())), "")


def subset_of(annotations: Annotations, name: str) -> str:
    """What a tool calls the side of a video in the first split: "Train", "Test" or "" where it is on none."""
    return _subset(annotations.members, name)


def write_files(
    texts_of: TextsOf, data: Annotations, folder: Path, overwrite: bool = False, *, judged: bool = True
) -> Written:
    """Write what `texts_of` makes of `data`.

    Args:
        judged: the format can hold which frames were annotated.

    Raises:
        DatasetError: the annotations cannot be written: a fault, no video, or a name that is no single line.
        OutputError: a file is there already, and `overwrite` is false.
    """
    refuse_faults(data)
    if not data.videos:
        raise DatasetError("no video in it: nothing to write")
    for name in (*data.classes, *(video.name for video in data.videos)):
        if name != name.strip() or _UNSPEAKABLE.search(name):
            raise DatasetError(
                f"{name!r} begins or ends with a blank, or has characters that cannot be printed: rename it"
            )
    texts, notes = texts_of(data, folder)
    for file in texts:
        refuse_existing(file, overwrite)
    writable_folder(folder)
    for file, text in texts.items():
        write_text(file, text)
    return Written(list(texts), _lost(data), [*notes, *_notes(data, judged)])


def _lost(data: Annotations) -> list[str]:
    """What no format keeps: two tubes of one person and class at a time."""
    found = [(v, tube) for v in data.videos for tube in _entangled(v)]
    if not found:
        return []
    video, (name, person) = found[0][0], (data.classes[found[0][1][0]], found[0][1][1])
    where = f"the first: {video.name!r}, person {person}, {name!r}"
    total = sum(len(video.tubes) for video in data.videos)
    return [f"{len(found)} of {total} tubes overlap in time with another of their person and class ({where})"]


def _entangled(video: AnnotatedVideo) -> list[tuple[int, int]]:
    spans = sorted((t.class_id, int(t.tracker_id or 0), int(t.frames[0]), int(t.frames[-1])) for t in video.tubes)
    return [before[:2] for before, after in pairwise(spans) if before[:2] == after[:2] and after[2] <= before[3]]


def _notes(data: Annotations, judged: bool) -> list[str]:
    """What only the remarks hold, in one sentence."""
    there = {
        f"{len(data.splits) - 1} more split{'s' * (len(data.splits) != 2)}": len(data.splits) > 1,
        "classes that exclude each other": bool(data.exclusive),
        "judged classes": bool(data.judged_classes),
        "judged frames": not judged and any(video.judged is not None for video in data.videos),
    }
    found = [what for what, is_there in there.items() if is_there]
    return [f"only for `data import`, because the format cannot express it: {', '.join(found)}"] if found else []


def file_names(names: Iterable[str]) -> list[str]:
    """A file name for each name: of one part, in one folder, different from all others even where case is ignored."""
    taken: Counter[str] = Counter()
    found = []
    for name in names:
        plain = re.sub(r'[/\\:*?"<>|]', "_", name)
        plain = plain.encode()[:LONGEST_NAME].decode(errors="ignore").strip(" .") or "_"
        unique = plain
        while taken[unique.lower()]:
            taken[plain.lower()] += 1
            unique = f"{plain}_{taken[plain.lower()]}"
        taken[unique.lower()] += 1
        found.append(unique)
    return found
