"""Import annotations of any known format, and export them.

An import has one way: a format's reader makes rows of boxes, the rows become videos with tubes, and those are
validated. Readers of public data sets and of the official YOWO folders make the videos themselves.
"""

from __future__ import annotations

import os
import re
import zipfile
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, get_args

import numpy as np

from yowo_deploy.datasets.ava import CSV
from yowo_deploy.datasets.base import AnnotatedVideo, Dataset, Split, split_present
from yowo_deploy.datasets.box_files import AVA_COLUMNS, csv_rows, read_list
from yowo_deploy.datasets.data_json import FORMAT, Annotations, load_json, refuse_faults
from yowo_deploy.datasets.formats.ava_csv import VIDEOS, ava_texts, read_ava_csv
from yowo_deploy.datasets.formats.box_rows import Facts, Footage, Options, Rows, annotations_of, notes_of
from yowo_deploy.datasets.formats.cocovid import cocovid_texts, read_cocovid
from yowo_deploy.datasets.formats.cvat import has_xml, read_cvat
from yowo_deploy.datasets.formats.cvat_writer import cvat_texts
from yowo_deploy.datasets.formats.labelstudio import read_labelstudio
from yowo_deploy.datasets.formats.mot import mot_texts, read_mot
from yowo_deploy.datasets.formats.sidecar import Written, write_files
from yowo_deploy.datasets.formats.via import read_via
from yowo_deploy.datasets.registry import open_dataset
from yowo_deploy.datasets.ucf24 import ANNOTATIONS as UCF24_ANNOTATIONS
from yowo_deploy.datasets.yowo_folders import (
    ANNOTATED_WH,
    is_yowo_layout,
    split_lists,
    yowo_labels,
    yowo_table,
    yowo_videos,
)
from yowo_deploy.errors import DatasetError, InputError, foreign
from yowo_deploy.files import existing_file, visible_files
from yowo_deploy.plain_text import shown

FORMATS = ("cvat", "ava", "cocovid", "via", "labelstudio", "jhmdb21", "ucf24", "yowo-folders", "mot")
WRITERS: dict[str, Callable[[Annotations, Path, bool], Written]] = {
    "cvat": partial(write_files, cvat_texts, judged=False),
    "ava": partial(write_files, ava_texts),
    "cocovid": partial(write_files, cocovid_texts),
    "mot": partial(write_files, mot_texts, judged=False),
}
_JSON: dict[str, Callable[[Path, Any, Options], tuple[list[str], list[Rows], list[str]]]] = {
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
    with foreign(f"{source} cannot be read", DatasetError):
        found = _of_folder(source) if source.is_dir() else _of_file(existing_file(source, "annotation"))
    if found is None:
        raise DatasetError(
            f"{source} has a format that was not recognised; if it is one of {', '.join(FORMATS)}, name it with --from"
        )
    return found


def import_annotations(source: Path, kind: str, options: Options) -> tuple[Annotations, list[str]]:
    """Read annotations of one of `FORMATS`.

    Args:
        source: a file, or a folder of files.
        kind: one of `FORMATS`.
        options: where the videos are, and what the format does not say.

    Returns:
        The annotations, and notes for the user: what had to be guessed.

    Raises:
        InputError: there is no such file.
        DatasetError: a file is not as its format has it; names file and place.
    """
    options = replace(options)  # which counts the boxes of this import
    if not source.is_dir():
        existing_file(source, "annotation")
    try:
        with foreign(f"{source} is not as {kind} has it", DatasetError):
            annotations, notes = _read(source, kind, options)
    except DatasetError as error:
        if shown(source) in str(error):
            raise
        raise DatasetError(f"{source}: {error}") from error
    annotations, shared = _one_recording_a_file(annotations)
    if faults := list(options.unreadable.values()):
        shared.append(f"{len(faults)} videos cannot be read, the first: {faults[0]}")
    return annotations, [*notes, *shared]


def _read(source: Path, kind: str, options: Options) -> tuple[Annotations, list[str]]:
    if kind in ("jhmdb21", "ucf24", "yowo-folders") or (kind == "ava" and _is_ava(source)):
        annotations, notes = _videos(source if source.is_dir() else source.parent, kind, options)
    else:
        classes, rows, notes = _rows(source, kind, options)
        annotations, notes = annotations_of(classes, rows), [*notes, *notes_of(rows)]
    refuse_faults(annotations)
    return annotations, notes


def _one_recording_a_file(data: Annotations) -> tuple[Annotations, list[str]]:
    """Put videos of one file into one recording, so that no split separates them, and note them."""
    first: dict[Path, AnnotatedVideo] = {}
    videos, notes = [], []
    for video in data.videos:
        other = first.setdefault(video.path, video) if os.path.exists(video.path) else video
        if other is not video:
            notes.append(f"{other.name} and {video.name} are both of {video.path}")
        videos.append(replace(video, group=other.group))
    return replace(data, videos=tuple(videos)), notes


def _is_ava(source: Path) -> bool:
    """Whether a folder is AVA itself, rather than videos of one's own in its format."""
    return source.is_dir() and any((source / name).is_file() for name in CSV.values())


def _rows(source: Path, kind: str, options: Options) -> tuple[list[str], list[Rows], list[str]]:
    """Names of classes, the rows of each video, and notes."""
    match kind:
        case "ava":
            files = _files(source, "*.csv", (VIDEOS,))
            classes, rows, notes = read_ava_csv(files, options)
        case "cvat":
            files = _cvat_files(source)
            classes, rows, notes = read_cvat(files, options)
        case "mot":
            is_truth = not source.is_dir() or any(visible_files(source, "gt.txt"))
            files = _files(source, "gt.txt" if is_truth else "*.txt", ("labels.txt",))
            classes, rows, notes = read_mot(files, options)
        case "cocovid" | "via" | "labelstudio":
            found = _files(source, "*.json")
            files = [each for each in found if not (source.is_dir() and _is_ours(each))] or found
            if len(files) > 1:
                raise DatasetError(f"{source} holds {len(files)} JSON files: name one of them")
            classes, rows, notes = _JSON[kind](files[0], load_json(files[0]), options)
        case _:
            raise InputError(f"format {kind!r} is not known, expected one of {', '.join(FORMATS)}")
    return classes, rows, [*notes, *_not_read(source, files)]


def _not_read(source: Path, files: Sequence[Path]) -> list[str]:
    """Files of a folder that may be annotations, too."""
    suffixes = (".xml", ".zip", ".json", ".csv")
    below = (file for file in sorted(source.rglob("*")) if file.suffix.lower() in suffixes and file not in files)
    seen = (file for file in below if not any(part.startswith((".", "__MACOSX")) for part in file.parts))
    others = [file for file in seen if file.name != VIDEOS and not _is_ours(file)] if source.is_dir() else []
    return [f"not read: {len(others)} other files, the first {others[0]}"] if others else []


def _of_folder(folder: Path) -> str | None:
    if (folder / "JHMDB-GT.json.gz").is_file():
        return "jhmdb21"
    if any((folder / name).is_file() for name in UCF24_ANNOTATIONS):
        return "ucf24"
    if is_yowo_layout(folder) and (folder / "rgb-images").is_dir():
        return "yowo-folders"
    if any((folder / name).is_file() for name in (*CSV.values(), VIDEOS)):
        return "ava"
    if any(visible_files(folder, "gt.txt")):
        return "mot"
    for pattern in ("*.xml", "*.zip", "*.json", "*.csv", "*.txt"):
        others = (file for file in visible_files(folder, pattern) if not _is_ours(file))
        kinds = {kind for file in islice(others, 20) if (kind := _of_file(file))}
        if kinds:
            return min(kinds)
    return None


def _is_ours(file: Path) -> bool:
    """Whether it is a data.json, as an import leaves one behind."""
    if not file.name.lower().endswith((".json", ".json.gz")):
        return False
    try:
        content = load_json(file)
    except DatasetError:
        return False
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
        with file.open(encoding="utf-8", errors="replace", newline="") as stream:
            return "ava" if len(next(filter(None, csv_rows(stream.read(4096))), [])) in AVA_COLUMNS else None
    if name.endswith(".txt"):
        with file.open(encoding="utf-8", errors="replace") as stream:
            return "mot" if re.fullmatch(r"\d+,\s*-?\d+(,\s*-?[\d.]+){5,8}\s*", stream.readline(4096)) else None
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
    found = [file for file in visible_files(source, pattern) if file.name not in but and "excluded" not in file.name]
    if not found:
        raise DatasetError(f"no {pattern} found below {source}")
    return found


def _cvat_files(source: Path) -> list[Path]:
    """XML and archives with one, of a folder; an archive of videos may lie beside them."""
    if not source.is_dir():
        return [source]
    files = [(file, file.suffix.lower()) for file in visible_files(source)]
    found = [file for file, suffix in files if suffix == ".xml" or (suffix == ".zip" and has_xml(file))]
    if not found:
        raise DatasetError(f"no .xml, and no .zip that contains one, found below {source}")
    return found


def _videos(folder: Path, kind: str, options: Options) -> tuple[Annotations, list[str]]:
    """Every split of a public data set, or official YOWO folders with classes of one's own."""
    own = kind == "yowo-folders"
    labels, splits, exclusive, judged_classes = _yowo_splits(folder) if own else _public_splits(kind, folder)
    footage, videos, absent = Footage(folder, options), dict[str, AnnotatedVideo](), 0
    for video in (video for sides in splits for of_side in sides.values() for video in of_side):
        if video.name not in videos:
            absent += not video.path.exists()
            path = video.path if video.path.exists() or not options.videos else footage.find(video.path.name)
            size_wh = _labelled_size(video, footage.facts(path)) if own else video.size_wh
            videos[video.name] = _settled(replace(video, path=path, size_wh=size_wh), footage)
    notes = [f"{absent} of {len(videos)} videos are missing: their fps is not known"] if absent else []
    if own:
        notes += [*_sizes(videos.values(), footage), *_unseen(folder, videos)]
    named = tuple({side: tuple(video.name for video in of) for side, of in sides.items()} for sides in splits)
    return Annotations(labels, tuple(videos.values()), named, exclusive, judged_classes), notes


# Labels, the videos of each side by split, and what `Annotations` calls `exclusive` and `judged_classes`.
_Found = tuple[tuple[str, ...], list[dict[Split, Sequence[AnnotatedVideo]]], int | None, tuple[int, ...]]


def _public_splits(name: str, folder: Path) -> _Found:
    readers: list[Dataset] = []
    while len(readers) < 10:
        try:
            readers.append(open_dataset(name, folder, len(readers) + 1))
        except DatasetError:
            if not readers:
                raise
            break
    sides = [side for side in get_args(Split) if name != "ava" or (folder / CSV[side]).is_file()]
    splits = [{side: reader.videos(side) for side in sides} for reader in readers]
    first = readers[0]
    return first.labels, splits, first.exclusive if first.rules == "ava" else None, first.judged_classes


def _yowo_splits(folder: Path) -> _Found:
    listed = [side for side in get_args(Split) if split_lists(folder, side)]
    tables = {side: yowo_table(folder, side, 1) for side in listed}
    if not tables:
        raise DatasetError(f"{folder} has no trainlist.txt or testlist.txt that names its labels")
    for table in tables.values():
        are_fractions = bool(len(table)) and bool((table.xyxy <= 1).all())
        table.refuse(np.full(len(table), are_fractions), "no corner is above 1: expected pixels, not YOLO's fractions")
    labels = yowo_labels(tables.values())
    return labels, [{side: yowo_videos(folder, of, labels, None) for side, of in tables.items()}], None, ()


def _labelled_size(video: AnnotatedVideo, facts: Facts | None) -> tuple[int, int]:
    """Of the picture that labels of one's own are of: the picture that is there, where the boxes lie within it."""
    far = np.max([tube.xyxy[:, 2:].max(axis=0) for tube in video.tubes], axis=0)
    is_official = facts is None or ((far > facts.size_wh).any() and (far <= ANNOTATED_WH).all())
    return facts.size_wh if facts and not is_official else ANNOTATED_WH


def _sizes(videos: Iterable[AnnotatedVideo], footage: Footage) -> Iterator[str]:
    """In which pixels the boxes of official folders were taken to be, where those are not of 320x240 pictures."""
    taken = Counter((video.size_wh == ANNOTATED_WH, footage.facts(video.path)) for video in videos)
    official = "{}x{}".format(*ANNOTATED_WH)
    for (is_official, facts), count in taken.items():
        picture = "{}x{}".format(*facts.size_wh) if facts else "unknown size"
        if not is_official:
            yield f"boxes are taken as pixels of the pictures, {picture}, not of {official} (in {count} videos)"
        elif picture != official:
            yield f"boxes are taken as pixels of {official}, though the pictures are of {picture} (in {count} videos)"


def _unseen(folder: Path, videos: Collection[str]) -> Iterator[str]:
    """Videos that the lists name, and no label has a box of."""
    files = (file for side in get_args(Split) for file in split_lists(folder, side))
    listed = {name for file in files for name in read_list(file)[0]}
    if absent := sorted(listed - set(videos)):
        yield f"left out: {len(absent)} videos without a box, the first: {absent[0]}"


def _settled(video: AnnotatedVideo, footage: Footage) -> AnnotatedVideo:
    """With a number for every person, rate and size of the file, and corners in pixels where they were shares."""
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


def only_present(annotations: Annotations) -> Annotations:
    """Without absent videos, classes that then have no tube, and splits without training videos.

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
