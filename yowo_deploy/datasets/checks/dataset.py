"""Check a data.json and its videos, and correct what can be corrected safely."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from yowo_deploy.datasets.anchors import bad_anchors, box_sizes
from yowo_deploy.datasets.base import AnnotatedVideo, Split
from yowo_deploy.datasets.checks.video import Finding, Level, Rows, VideoCheck
from yowo_deploy.datasets.data_json import Annotations, NativeDataset, load_json, read_annotations

MIN_TUBES = 5  # of a class to train on


@dataclass
class Checked:
    """The findings, and the annotations with everything mended that can be.

    Attributes:
        whole: every row could be read, so that nothing is lost by writing `mended`.
    """

    mended: Annotations
    findings: list[Finding] = field(default_factory=list)
    whole: bool = True


def check_data(path: Path, decode: bool = True, on_video: Callable[[int], None] | None = None) -> Checked:
    """Look at every row and every video.

    Args:
        decode: decode every frame of the videos; else trust the metadata of their containers.
        on_video: called with the number of videos that are done.

    Raises:
        InputError: no such file.
        DatasetError: it is no JSON, or of another format.
    """
    broken: list[tuple[str, str]] = []
    annotations = read_annotations(path, lambda where, fault: broken.append((where, fault)))
    remedy = "correct it, or import again: `yowo-deploy data import`"
    found = [Finding("error", "row", f"{path}: {where}", fault, remedy) for where, fault in broken]
    rows = _rows(path, {where for where, _ in broken})
    starts = [video.name for video in annotations.videos if _begins_at_0(video)]
    videos = []
    for number, video in enumerate(annotations.videos, 1):
        elsewhere = any(name != video.name for name in starts[:2])
        videos.append(VideoCheck(path, video, rows[video.name], found, elsewhere).run(decode))
        if on_video:
            on_video(number)
    mended = replace(annotations, videos=tuple(videos))
    found += _findings_of_classes(path, mended)
    found += _findings_of_splits(path, mended)
    found += _findings_of_anchors(path, mended)
    return Checked(mended, found, not broken)


def _begins_at_0(video: AnnotatedVideo) -> bool:
    return any(tube.frames[0] == 0 for tube in video.tubes)


def _rows(path: Path, broken: set[str]) -> dict[str, Rows]:
    """Which rows of the file are a video and its tubes, in their order; those that cannot be read left out."""
    content = load_json(path)
    listed = {key: content[key] if isinstance(content.get(key), list) else [] for key in ("videos", "tubes")}
    found: dict[str, Rows] = {}
    for number, row in enumerate(listed["videos"]):
        if isinstance(row, dict) and f"videos[{number}]" not in broken:
            found[str(row.get("name"))] = Rows(number, [])
    for number, row in enumerate(listed["tubes"]):
        if isinstance(row, dict) and f"tubes[{number}]" not in broken and str(row.get("video")) in found:
            found[str(row.get("video"))].tubes.append(number)
    return found


def _findings_of_classes(path: Path, data: Annotations) -> Iterator[Finding]:
    alike: dict[str, str] = {}
    for name in data.classes:
        plain = name.strip().lower().replace(" ", "_").replace("-", "_")
        if plain in alike:
            fault = f"{alike[plain]!r} and {name!r} are two classes"
            yield Finding("warning", "class names", f"{path}: classes", fault, "one name for one action")
        alike.setdefault(plain, name)
    known = set(data.splits[0].get("train", ())) if data.splits else {video.name for video in data.videos}
    for number, count in enumerate(_tubes_by_class(data, known)):
        if count < MIN_TUBES:
            fault = f"{data.classes[number]!r} has {count} tube{'s' * (count != 1)} to train on"
            yield Finding("warning", "few tubes", f"{path}: classes[{number}]", fault, f"annotate {MIN_TUBES} or more")


def _tubes_by_class(data: Annotations, names: set[str]) -> list[int]:
    counts = Counter(tube.class_id for video in data.videos if video.name in names for tube in video.tubes)
    return [counts[number] for number in range(len(data.classes))]


def _findings_of_splits(path: Path, data: Annotations) -> Iterator[Finding]:
    videos = {video.name: video for video in data.videos}
    for number, sides in enumerate(data.splits):
        train, test = (set(sides.get(side, ())) for side in ("train", "test"))
        if not train or not test:
            continue
        where = f"{path}: splits[{number}]"
        in_train, in_test = _tubes_by_class(data, train), _tubes_by_class(data, test)
        for name, counts in zip(data.classes, zip(in_train, in_test, strict=True), strict=True):
            for side, count, other in (("train", *counts), ("test", *reversed(counts))):
                if not count and other:
                    fault = f"class {name!r} is missing from {side}"
                    level: Level = "error" if side == "train" else "warning"  # what is not tested can be learnt
                    yield Finding(level, "split", where, fault, "move or annotate a video with it")
        for kind, of in (("recording", lambda v: v.group), ("file", lambda v: _fingerprint(v.path))):
            on_side: dict[Split, dict[str, str]] = {
                "train": {of(videos[name]): name for name in sorted(train)},
                "test": {of(videos[name]): name for name in sorted(test)},
            }
            for same in sorted(set(on_side["train"]) & set(on_side["test"])):
                if same:
                    fault = (
                        f"{on_side['train'][same]} (train) and {on_side['test'][same]} (test) are of the same {kind}"
                    )
                    yield Finding("error", "leak", where, fault, "put both on one side")


def _findings_of_anchors(path: Path, data: Annotations) -> Iterator[Finding]:
    measured = [video for video in data.videos if video.tubes and video.size_wh]
    if any((tube.xyxy[:, 2:] > tube.xyxy[:, :2]).all(axis=1).any() for video in measured for tube in video.tubes):
        fault = bad_anchors(box_sizes(measured, NativeDataset.anchor_grid), np.array(NativeDataset.anchors))
        if fault:
            yield Finding("warning", "anchors", f"{path}: tubes", fault, "`yowo-deploy train` with --fit-anchors")


def _fingerprint(path: Path) -> str:
    """Of a file's length and first megabyte; "" where there is no file."""
    if not path.is_file():
        return ""
    with path.open("rb") as stream:
        return f"{path.stat().st_size} {hashlib.sha256(stream.read(1 << 20)).hexdigest()}"
