"""Folders of frames and of labels as the official YOWO code reads them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.base import AnnotatedVideo, Split
from yowo_deploy.datasets.box_files import read_table
from yowo_deploy.datasets.box_table import BoxTable
from yowo_deploy.datasets.tube_builder import tubes_of
from yowo_deploy.errors import DatasetError
from yowo_deploy.files import is_hidden
from yowo_deploy.video.suffixes import is_picture

ANNOTATED_WH = (320, 240)  # of published labels, whatever the pictures are (OFFICIAL_YOWO, "Preprocessing")


def is_yowo_layout(folder: Path) -> bool:
    """Whether a folder has the official `labels/` in it."""
    return (folder / "labels").is_dir()


def yowo_table(folder: Path, split: Split, number: int) -> BoxTable:
    """`labels/<class>/<name>/00001.txt` of every frame that `trainlist.txt` or `testlist.txt` names.

    Raises:
        DatasetError: the list, or a label that it names, is missing or cannot be read.
    """
    return read_table(list_file(folder, split, number), truth=True)


def yowo_videos(
    folder: Path, table: BoxTable, labels: Sequence[str], size_wh: tuple[int, int] | None = ANNOTATED_WH
) -> list[AnnotatedVideo]:
    """`rgb-images/<class>/<name>/00001.jpg` with the boxes of the table, in pixels of `size_wh`.

    The labels name no persons, so boxes are chained to tubes by overlap. Names of clips of one recording differ in the
    number at their end.

    Raises:
        DatasetError: a class that is not in `labels`, or pictures that do not begin with number 1.
    """
    frames = {f"{path.parent.name}_{path.name}": path for path in (folder / "rgb-images").glob("*/*") if path.is_dir()}
    for path in frames.values():
        _refuse_other_start(path)
    absent = folder / "rgb-images"
    tubes = tubes_of(table, labels)
    return [annotated(name, frames.get(name, absent / name), of, size_wh) for name, of in tubes.items()]


def yowo_labels(tables: Iterable[BoxTable]) -> tuple[str, ...]:
    """Names for classes of one's own: each is called as the folder that most of its boxes lie in.

    Raises:
        DatasetError: a class that is no number from 1 to 100,000.
    """
    seen: dict[int, Counter[str]] = {}
    for table in tables:
        known = np.array([int(name) if name.isdecimal() and len(name) < 9 else 0 for name in table.classes])
        numbers = known[table.class_id]
        table.refuse((numbers < 1) | (numbers > 100_000), "the class is no number from 1 on")
        for number, file in zip(numbers.tolist(), table.file.tolist(), strict=True):
            seen.setdefault(number, Counter())[Path(table.files[file]).parent.parent.name] += 1
    names = {number: found.most_common(1)[0][0] for number, found in seen.items()}
    taken = [names.get(number, f"class {number}") for number in range(1, max(names, default=0) + 1)]
    counts = Counter(taken)
    return tuple(name if counts[name] == 1 else f"{name} {number}" for number, name in enumerate(taken, 1))


def first_number(folder: Path) -> int:
    """Of the pictures in a folder, whose names end with their numbers; 1 where none has a number."""
    pictures = (path for path in folder.iterdir() if is_picture(path) and not is_hidden(path.name))
    numbers = (re.search(r"(\d+)$", path.stem) for path in pictures)
    return min((int(number.group(1)) for number in numbers if number), default=1)


def _refuse_other_start(folder: Path) -> None:
    """Labels name the picture that they are of; a folder's frames are counted from its first picture."""
    if (first := first_number(folder)) != 1:
        raise DatasetError(f"{folder} begins with picture {first}, expected 1: labels are named by its number")


def annotated(
    name: str, path: Path, tubes: Sequence[Tube], size_wh: tuple[int, int] | None = ANNOTATED_WH
) -> AnnotatedVideo:
    """A video whose tubes count frames from 1, in pixels of `size_wh`.

    Raises:
        DatasetError: a tube begins before the first frame.
    """
    from_zero = tuple(Tube(tube.class_id, tube.frames - 1, tube.xyxy) for tube in tubes)
    if any(tube.frames[0] < 0 for tube in from_zero):
        raise DatasetError(f"{name} is annotated before its first frame: frames in its files count from 1")
    frames = max(int(tube.frames[-1]) + 1 for tube in from_zero)
    return AnnotatedVideo(name, re.sub(r"_c?\d+$", "", name), path, frames, from_zero, size_wh)


def refuse_absent_split(folder: Path, number: int) -> None:
    """Raise a DatasetError where a folder has neither list of a split behind the first."""
    if number > 1 and not [*folder.glob(f"trainlist{number:02d}.txt"), *folder.glob(f"testlist{number:02d}.txt")]:
        raise DatasetError(
            f"{folder}: trainlist{number:02d}.txt not found, needed for split {number}, nor its test list"
        )


def split_lists(folder: Path, split: Split) -> list[Path]:
    """`testlist.txt` and `testlist01.txt` of a folder; where there is neither, lists of other names.

    The release's `testlist_video.txt` lies beside them and names no frames.
    """
    found = sorted(folder.glob(f"{split}list*.txt"))
    return [path for path in found if re.fullmatch(r"[a-z]+\d*", path.stem)] or found


def list_file(folder: Path, split: Split, number: int) -> Path:
    """`testlist02.txt` of a folder, or its only test list for split 1.

    Raises:
        DatasetError: it is not there.
    """
    found = split_lists(folder, split)
    numbered = [path for path in found if path.stem.endswith(f"{number:02d}")]
    if not numbered and (len(found) != 1 or number != 1):
        raise DatasetError(f"{folder}: {split}list{number:02d}.txt not found, needed for split {number}")
    return (numbered or found)[0]
