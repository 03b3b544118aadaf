"""The videos of an archive: from arguments and lists to names, ids and shards."""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from yowo_deploy.archive.tables import read_paths
from yowo_deploy.errors import InputError, foreign
from yowo_deploy.files import existing_file, lines_of, read_within
from yowo_deploy.video.sources import find_sources, is_elsewhere, shown_source

LISTS = (".txt", ".list", ".csv", ".parquet")
COLUMNS = ("path", "video", "source", "file")  # of tables; else the first one


class Video(NamedTuple):
    """One video of an archive.

    Attributes:
        path: as it was given.
        key: of its files in the results: a hash of the path.
    """

    path: str
    key: str


@dataclass(frozen=True)
class Shard:
    """Share `number` of `count`, from 1: a stable hash of each video's path decides in which share it is.

    Raises:
        InputError: a number that is not among 1 to `count`.
    """

    number: int = 1
    count: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self.count:
            raise InputError(f"shard {self.number}/{self.count} does not exist: expected 1/N to N/N")

    @classmethod
    def parse(cls, text: str) -> Shard:
        """The shard of a text as `3/16`.

        Raises:
            InputError: it is of another form.
        """
        found = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        if found is None:
            raise InputError(f"shard {text!r} is not understood, expected I/N, as 3/16")
        return cls(int(found[1]), int(found[2]))

    def holds(self, video: Video) -> bool:
        """Whether a video is in it."""
        return int(video.key, 16) % self.count == self.number - 1


def plan(sources: Sequence[str | os.PathLike[str]], shard: Shard | None = None) -> list[Video]:
    """The videos of a run, in the order of the arguments, each once. None of them is opened.

    Args:
        sources: what `find_sources` takes; also lists of those: .txt with one in each line, .csv and .parquet with a
            column "path" (or "video", "source", "file"; else the first one).
        shard: a share of them.

    Raises:
        InputError: a list or a folder cannot be read, a webcam or an address, or there is no video at all.
    """
    paths = dict.fromkeys(path for source in sources for path in _expanded(os.fspath(source)))
    if not paths:
        raise InputError("no video found: give files, folders, or a list of paths")
    videos = [Video(path, hashlib.sha256(os.fsencode(path)).hexdigest()[:24]) for path in paths]
    return [each for each in videos if shard is None or shard.holds(each)]


def _expanded(source: str) -> Iterator[str]:
    listed = source.lower().endswith(LISTS) and not Path(source).is_dir()
    for each in _listed(source) if listed else (source,):
        if is_elsewhere(each):
            raise InputError(f"{shown_source(each)} is not a file: `batch` reads files, use `detect` for cameras")
        if listed and not any(sign in each for sign in "*?["):
            yield each  # as it stands: what is wrong with one of many is found when its turn comes
        else:
            yield from find_sources(each)


def _listed(source: str) -> Iterator[str]:
    """The paths of a list; those that are not absolute count from the folder of the list."""
    file = existing_file(source, "list of videos")
    suffix = file.suffix.lower()
    if suffix == ".parquet":
        found = read_paths(file, COLUMNS)
    else:
        text = read_within(file).decode("utf-8", "surrogateescape").removeprefix("\ufeff")
        found = _of_csv(text) if suffix == ".csv" else [line.strip() for line in lines_of(text)]
    folder = os.path.dirname(source)
    for path in found:
        if path and not (suffix == ".txt" and path.startswith("#")):
            yield path if "://" in path else os.path.join(folder, path)


def _of_csv(text: str) -> list[str]:
    with foreign("the list of videos is no csv"):
        rows = list(csv.reader(io.StringIO(text)))
    if not rows:
        return []
    names = [name.strip().lower() for name in rows[0]]
    column = next((names.index(name) for name in COLUMNS if name in names), None)
    body = rows if column is None else rows[1:]
    return [row[column or 0].strip() for row in body if len(row) > (column or 0)]
