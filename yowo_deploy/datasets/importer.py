"""From any annotations to the native ones: tells formats apart, and hands over. Parses nothing but JSON itself."""

from __future__ import annotations

import csv
import os
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np

from yowo_deploy.datasets.ava import CSV
from yowo_deploy.datasets.base import AnnotatedVideo, Dataset, Split, split_present
from yowo_deploy.datasets.data_json import FORMAT, Annotations, Sides, load_json, refuse_faults
from yowo_deploy.datasets.formats.ava_csv import VIDEOS, read_ava_csv, write_ava_csv
from yowo_deploy.datasets.formats.box_rows import Allowance, Footage, Options
from yowo_deploy.datasets.formats.cocovid import read_cocovid, write_cocovid
from yowo_deploy.datasets.formats.cvat import has_xml, read_cvat, write_cvat
from yowo_deploy.datasets.formats.labelstudio import read_labelstudio
from yowo_deploy.datasets.formats.mot import read_mot, write_mot
from yowo_deploy.datasets.formats.sidecar import Written
from yowo_deploy.datasets.formats.via import read_via
from yowo_deploy.datasets.registry import open_dataset
from yowo_deploy.datasets.ucf24 import ANNOTATIONS as UCF24_ANNOTATIONS
from yowo_deploy.datasets.yowo_folders import is_release_layout, release_videos
from yowo_deploy.errors import DatasetError, InputError
from yowo_deploy.files import read_within

Imported = tuple[Annotations, list[str]]

FORMATS = ("cvat", "ava", "cocovid", "via", "labelstudio", "jhmdb21", "ucf24", "release-folders", "mot")
WRITERS: dict[str, Callable[[Annotations, Path, bool], Written]] = {
    "cvat": write_cvat,
    "ava": write_ava_csv,
    "cocovid": write_cocovid,
    "mot": write_mot,
}
_JSON: dict[str, Callable[[Path, Any, Options], Imported]] = {
    "cocovid": read_cocovid,
    "via": read_via,
    "labelstudio": read_labelstudio,
}


def recognise(source: Path) -> str:
    """The format of a file or folder, by what is in it.

    Raises:
        InputError: it is not there.
        DatasetError: it is none that is known.
    """
    if not os.path.exists(source):
        raise InputError(f"annotations not found: {source}")
    found = _of_folder(source) if source.is_dir() else _of_file(source)
    if found is None:
        raise DatasetError(
            f"{source} is in no format that is known here; if it is one of {', '.join(FORMATS)}, say so with --from"
        )
    return found


# What files from annotation tools bring about in readers that take a value for what its format says it is.
_MALFORMED = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError, RuntimeError, csv.Error, zlib.error)


def import_annotations(source: Path, kind: str, options: Options) -> Imported:
    """Read annotations of one of `FORMATS`.

    Returns:
        The annotations, and notes for the user: what had to be guessed.

    Raises:
        InputError: there is no such file.
        DatasetError: a file is not as its format has it; names file and place.
    """
    options = replace(options, allowance=Allowance(options.allowance.left))  # of this import
    try:
        annotations, notes = _read(source, kind, options)
        refuse_faults(annotations)
    except DatasetError as error:
        if str(source) in str(error):
            raise
        raise DatasetError(f"{source}: {error}") from error
    except _MALFORMED as error:
        raise DatasetError(f"{source} is not as {kind} has it: {type(error).__name__}, {error}") from error
    annotations, shared = _one_recording_a_file(annotations)
    return annotations, [*notes, *shared]


def _one_recording_a_file(data: Annotations) -> tuple[Annotations, list[str]]:
    """Videos that are of one file never part into train and test; told, for two names may have found one file."""
    first: dict[Path, AnnotatedVideo] = {}
    videos, notes = [], []
    for video in data.videos:
        other = first.setdefault(video.path, video) if os.path.exists(video.path) else video
        if other is not video:
            notes.append(f"{other.name} and {video.name} are both of {video.path}")
        videos.append(replace(video, group=other.group))
    return replace(data, videos=tuple(videos)), notes


def _read(source: Path, kind: str, options: Options) -> Imported:
    folder = source if source.is_dir() else source.parent
    match kind:
        case "jhmdb21" | "ucf24":
            return _dataset(kind, folder, options)
        case "ava" if source.is_dir() and any((source / name).is_file() for name in CSV.values()):
            return _dataset(kind, folder, options)
        case "release-folders":
            return _release(folder), []
        case "ava":
            return read_ava_csv(_files(source, "*.csv", (VIDEOS,)), options)
        case "cvat":
            return read_cvat(_cvat_files(source), options)
        case "mot":
            return read_mot(_files(source, "gt.txt"), options)
        case "cocovid" | "via" | "labelstudio":
            found = _files(source, "*.json")
            [file, *others] = [each for each in found if not (source.is_dir() and _is_ours(each))] or found
            if others:
                raise DatasetError(f"{source} holds {1 + len(others)} JSON files: name one of them")
            return _JSON[kind](file, load_json(file), options)
    raise InputError(f"format {kind!r} is not known, expected one of {', '.join(FORMATS)}")


def _of_folder(folder: Path) -> str | None:
    if (folder / "JHMDB-GT.json.gz").is_file():
        return "jhmdb21"
    if any((folder / name).is_file() for name in UCF24_ANNOTATIONS):
        return "ucf24"
    if is_release_layout(folder) and (folder / "rgb-images").is_dir():
        return "release-folders"
    if any((folder / name).is_file() for name in (*CSV.values(), VIDEOS)):
        return "ava"
    if any(folder.rglob("gt.txt")):
        return "mot"
    for pattern in ("*.xml", "*.zip", "*.json", "*.csv"):
        others = (file for file in sorted(folder.rglob(pattern)) if not _is_ours(file))
        kinds = {kind for file in islice(others, 20) if (kind := _of_file(file))}
        if kinds:
            return min(kinds)
    return None


def _is_ours(file: Path) -> bool:
    """Whether it is a data.json, as an import leaves one behind."""
    if not file.name.lower().endswith((".json", ".json.gz")):
        return False
    content = load_json(file)
    return isinstance(content, dict) and content.get("format") == FORMAT


def _of_file(file: Path) -> str | None:
    name = file.name.lower()
    if name in ("gt.txt", "det.txt"):
        return "mot"
    if name.startswith(("jhmdb-gt.json", "pyannot.json")):
        return "jhmdb21" if name.startswith("jhmdb") else "ucf24"
    if zipfile.is_zipfile(file) or name.endswith(".xml"):
        return "cvat"
    if name.endswith(".csv"):
        with file.open(encoding="utf-8", errors="replace") as stream:
            return "ava" if len(stream.readline(4096).split(",")) in (2, 7, 8) else None
    if not name.endswith((".json", ".json.gz")):
        return None
    content = load_json(file)
    if isinstance(content, list):
        return "labelstudio" if content and isinstance(content[0], dict) and "data" in content[0] else None
    if not isinstance(content, dict):
        return None
    if content.get("format") == FORMAT:
        raise DatasetError(f"{file} is a data.json already: nothing to import")
    for kind, keys in {
        "via": {"attribute", "view", "metadata"},
        "cocovid": {"images", "annotations", "categories"},
    }.items():
        if keys <= set(content):
            return kind
    return None


def _files(source: Path, pattern: str, but: Sequence[str] = ()) -> list[Path]:
    if not source.is_dir():
        return [source]
    found = [file for file in sorted(source.rglob(pattern)) if file.name not in but and "excluded" not in file.name]
    if not found:
        raise DatasetError(f"no {pattern} below {source}")
    return found


def _cvat_files(source: Path) -> list[Path]:
    """XML and archives with one, of a folder; an archive of videos may lie beside them."""
    if not source.is_dir():
        return [source]
    files = [(file, file.suffix.lower()) for file in sorted(source.rglob("*"))]
    found = [file for file, suffix in files if suffix == ".xml" or (suffix == ".zip" and has_xml(file))]
    if not found:
        raise DatasetError(f"no .xml, nor a .zip with one, below {source}")
    return found


def _dataset(name: str, folder: Path, options: Options) -> Imported:
    """Every split of a data set that has a reader of its own."""
    readers: list[Dataset] = []
    while len(readers) < 10:
        try:
            readers.append(open_dataset(name, folder, len(readers) + 1))
        except DatasetError:
            if not readers:
                raise
            break
    footage, videos, splits, absent = Footage(folder, options), dict[str, AnnotatedVideo](), list[Sides](), set()
    for reader in readers:
        sides: dict[Split, tuple[str, ...]] = {}
        for side in get_args(Split):
            if name == "ava" and not (folder / CSV[side]).is_file():
                continue
            found = reader.videos(side)
            for video in found:
                if video.name not in videos:
                    path = video.path if video.path.exists() or not options.videos else footage.find(video.path.name)
                    videos[video.name] = _settled(replace(video, path=path), footage)
                    absent |= set() if path.exists() else {video.name}
            sides[side] = tuple(video.name for video in found)
        splits.append(sides)
    first = readers[0]
    exclusive = first.exclusive if first.rules == "ava" else None
    notes = [f"{len(absent)} of {len(videos)} videos are not there: their fps is not known"] if absent else []
    return Annotations(first.labels, tuple(videos.values()), tuple(splits), exclusive, first.judged_classes), notes


def _settled(video: AnnotatedVideo, footage: Footage) -> AnnotatedVideo:
    """With a number for every person, and with what the file says of itself; corners of shares in its pixels."""
    facts = footage.facts(video.path)
    tubes, size_wh = video.tubes, video.size_wh
    if size_wh == (1, 1) and facts is not None:
        size_wh, scale = facts.size_wh, np.tile(np.array(facts.size_wh, np.float32), 2)
        tubes = tuple(replace(tube, xyxy=tube.xyxy * scale) for tube in tubes)
    numbered = tuple(
        tube if tube.tracker_id is not None else replace(tube, tracker_id=number) for number, tube in enumerate(tubes)
    )
    fps, size_wh = video.fps or (facts.fps if facts else None), size_wh or (facts.size_wh if facts else None)
    return replace(video, tubes=numbered, size_wh=size_wh, fps=fps)


def _release(folder: Path) -> Annotations:
    """The release's folders with classes of one's own: a class is called as the folders that hold its number."""
    videos: dict[str, AnnotatedVideo] = {}
    sides: dict[Split, tuple[str, ...]] = {}
    labels = _release_labels(folder)
    for side in get_args(Split):
        if any(folder.glob(f"{side}list*.txt")):
            found = release_videos(folder, side, 1, labels)
            videos |= {video.name: _settled(video, Footage(folder, Options())) for video in found}
            sides[side] = tuple(video.name for video in found)
    if not videos:
        raise DatasetError(f"{folder} has no trainlist.txt or testlist.txt that names its labels")
    return Annotations(labels, tuple(videos.values()), (sides,))


def _release_labels(folder: Path) -> tuple[str, ...]:
    seen: dict[int, Counter[str]] = {}
    for kind in sorted(path for path in (folder / "labels").iterdir() if path.is_dir()):
        for file in sorted(kind.glob("*/*.txt")):
            for line in read_within(file).decode().split("\n"):
                number = line.partition(" ")[0]
                if number.isdecimal():
                    seen.setdefault(int(number), Counter())[kind.name] += 1
    names = {number: found.most_common(1)[0][0] for number, found in seen.items()}
    if min(names, default=1) < 1 or max(names, default=0) > 100_000:
        raise DatasetError(f"{folder / 'labels'}: class {min(names)}, expected 1 or more: the release counts from 1")
    taken = [names.get(number, f"class {number}") for number in range(1, max(names, default=0) + 1)]
    return tuple(name if taken.count(name) == 1 else f"{name} {number}" for number, name in enumerate(taken, 1))


def only_present(annotations: Annotations) -> Annotations:
    """Without videos that are not there, classes that nobody does then, and splits with nothing to train on.

    Raises:
        DatasetError: no video is there.
    """
    videos, _ = split_present(annotations.videos)
    used = sorted({tube.class_id for video in videos for tube in video.tubes})
    # The exclusive classes are the first ones: all stay where there are some.
    kept = list(range(len(annotations.classes))) if annotations.exclusive else used
    places = {class_id: place for place, class_id in enumerate(kept)}
    moved = [replace(v, tubes=tuple(replace(tube, class_id=places[tube.class_id]) for tube in v.tubes)) for v in videos]
    names = {video.name for video in videos}
    splits = [{side: tuple(n for n in of if n in names) for side, of in sides.items()} for sides in annotations.splits]
    return replace(
        annotations,
        classes=tuple(annotations.classes[class_id] for class_id in kept),
        videos=tuple(moved),
        splits=tuple(sides for sides in splits if sides.get("train")),
        judged_classes=tuple(places[each] for each in annotations.judged_classes if each in places),
    )


def with_test_share(annotations: Annotations, share: float) -> Annotations:
    """With a split of its own: whole recordings to test on, until every class that has several has its share there."""
    recordings: dict[str, list[AnnotatedVideo]] = {}
    for video in annotations.videos:
        recordings.setdefault(video.group, []).append(video)
    tubes = {group: Counter(t.class_id for v in videos for t in v.tubes) for group, videos in recordings.items()}
    total = sum(tubes.values(), Counter[int]())
    tested: Counter[int] = Counter()
    chosen: set[str] = set()
    order = np.random.default_rng(0).permutation(sorted(recordings)).tolist()
    for class_id, _ in sorted(total.items(), key=lambda item: item[1]):
        holders = [group for group in order if tubes[group][class_id]]
        for group in holders[:-1]:
            leaves = all(total[c] - tested[c] > n for c, n in tubes[group].items() if group not in chosen)
            if tested[class_id] < share * total[class_id] and group not in chosen and leaves:
                chosen.add(group)
                tested += tubes[group]
    sides: dict[Split, tuple[str, ...]] = {
        "train": tuple(video.name for video in annotations.videos if video.group not in chosen),
        "test": tuple(video.name for video in annotations.videos if video.group in chosen),
    }
    return replace(annotations, splits=(sides,))
