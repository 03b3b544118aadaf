"""Rows of boxes as files list them, and the annotated videos that they make.

Every format's reader makes `Rows`, one for each video; `annotations_of` makes tubes and a data set of them.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import count
from pathlib import Path
from typing import NamedTuple

import numpy as np

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.base import AnnotatedVideo, Split
from yowo_deploy.datasets.data_json import Annotations
from yowo_deploy.datasets.formats.row_tubes import UNKNOWN as UNKNOWN
from yowo_deploy.datasets.formats.row_tubes import divided, people_by_overlap, taken_numbers
from yowo_deploy.datasets.formats.sidecar import Remarks, with_remarks
from yowo_deploy.datasets.formats.video_paths import folded, paths_in, stored_name
from yowo_deploy.datasets.validation import MAX_FRAMES
from yowo_deploy.errors import DatasetError, InputError
from yowo_deploy.files import is_hidden, visible_files
from yowo_deploy.video.reader import open_video
from yowo_deploy.video.suffixes import is_picture, is_video

MAX_BOXES = 5_000_000  # of one import, nine times UCF101-24
MOST_KINDS = 20  # that a note lists
MAX_WORKED_OUT = 1_000_000  # frames between keyframes, of one import: two keyframes far apart would make any number


class Facts(NamedTuple):
    """Rate, size and length of a video file."""

    fps: float
    size_wh: tuple[int, int]
    frames: int


@dataclass(frozen=True)
class Options:
    """What a user may have to give, because the format lacks it.

    Attributes:
        videos: folders to look for videos in, besides that of the annotations.
        action_from: "label", or "attribute:NAME".
        start_s: second of the annotation at which a video begins.
        fps: of videos whose files are not there.
        max_boxes: that one import may make; `replace(options)` counts anew.
        max_worked_out: of them, those that no line of a file lists: frames between keyframes, labels of stretches.
        unreadable: what is wrong with videos that are there and cannot be read, found so far.
    """

    videos: tuple[Path, ...] = ()
    action_from: str = "label"
    start_s: float = 0.0
    fps: float | None = None
    max_boxes: int = MAX_BOXES
    max_worked_out: int = MAX_WORKED_OUT
    unreadable: dict[Path, str] = field(default_factory=dict, init=False, repr=False, compare=False)
    _worked_out: list[int] = field(default_factory=lambda: [0], init=False, repr=False, compare=False)
    _counted: Iterator[int] = field(default_factory=count, init=False, repr=False, compare=False)
    _rows: Iterator[int] = field(default_factory=count, init=False, repr=False, compare=False)
    _listed: dict[Path, dict[str, list[Path]]] = field(default_factory=dict, init=False, repr=False, compare=False)

    def count_row(self) -> None:
        """Raise a DatasetError for more than `max_boxes` rows of text, before all are read and boxes are made."""
        if next(self._rows) >= self.max_boxes:
            raise DatasetError(f"more than {self.max_boxes} rows: import the videos in parts")

    def count_box(self) -> None:
        """Raise a DatasetError for more than `max_boxes` boxes."""
        if next(self._counted) >= self.max_boxes:
            raise DatasetError(
                f"more than {self.max_boxes} boxes after interpolation between keyframes: import the videos in parts"
            )

    def count_worked_out(self, frames: int, cause: str = "keyframes lie so far apart") -> None:
        """Raise a DatasetError before more than `max_worked_out` rows are made that a file does not list."""
        self._worked_out[0] += max(0, frames)
        if self._worked_out[0] > self.max_worked_out:
            raise DatasetError(
                f"{cause} that more than {self.max_worked_out} boxes would be interpolated: import the videos in parts"
            )

    def footage_below(self, root: Path) -> dict[str, list[Path]]:
        """Videos and folders of pictures, by name and by name without its suffix; looked for once."""
        if root not in self._listed:
            found = self._listed[root] = {}
            footage = [file for file in visible_files(root) if is_video(file) or is_picture(file)]
            for file in dict.fromkeys(file.parent if is_picture(file) else file for file in footage):
                # No file's name begins with a slash: the key of names that a web application changed.
                names = {file.name, file.stem, f"/{stored_name(file.name)}"}
                for name in names | {folded(name) for name in names}:
                    found.setdefault(name, []).append(file)
        return self._listed[root]

    @property
    def attribute(self) -> str | None:
        """The attribute that names the action, or None where the label does.

        Raises:
            DatasetError: `action_from` is neither.
        """
        kind, _, name = self.action_from.partition(":")
        if self.action_from != "label" and (kind != "attribute" or not name):
            raise DatasetError(f"--action-from is {self.action_from!r}, expected label or attribute:NAME")
        return name or None


class Footage:
    """Finds the videos that annotations name, and looks into them."""

    def __init__(self, folder: Path, options: Options) -> None:
        self._folder, self._options = folder, options
        self._facts: dict[Path, Facts | None] = {}

    @cached_property
    def _below(self) -> list[dict[str, list[Path]]]:
        roots = (root for root in (self._folder, *self._options.videos) if root.is_dir())
        return [found for root in roots if (found := self._options.footage_below(root))]

    def _named(self, name: str) -> list[Path]:
        exact = [file for found in self._below for file in found.get(name, ())]
        return exact or [file for found in self._below for file in found.get(folded(name), ())]

    def find(self, reference: str) -> Path:
        """The file that annotations refer to: by its path, else by its name; where there is none, its path beside them.

        Args:
            reference: see `paths_in`.

        Raises:
            DatasetError: several files have that name.
        """
        paths = paths_in(reference)
        places = [Path(os.path.normpath(self._folder / path)) for path in paths]
        literal = self._folder / reference  # ? and # are characters of a name, too
        if there := next(filter(is_footage, [*places, Path(os.path.normpath(literal))]), None):
            return there
        if not self._below:
            return places[0]
        names = [re.split(r"[/\\]", path.rstrip("/\\"))[-1] for path in paths]
        names += [re.sub(r"^[0-9a-f]{8}-", "", name) for name in names]  # which Label Studio puts before it
        names += [n.removesuffix(Path(n).suffix) for n in names if is_video(n)]
        names += [f"/{stored_name(name)}" for name in names]
        found = next((files for name in names if name and (files := self._named(name))), [places[0]])
        whole = [file for file in found if file.as_posix().endswith(paths[0])] or found
        if len(whole) > 1 and len({file.resolve() for file in whole}) > 1:
            raise DatasetError(f"video {paths[0]!r} may be {whole[0]} or {whole[1]}: name one folder with --videos")
        return whole[0]

    def everything(self) -> list[Path]:
        """All videos and folders of pictures in the folders of --videos; beside the annotations where none is given."""
        roots = self._options.videos or (self._folder,)
        listed = [file for root in roots for files in self._options.footage_below(root).values() for file in files]
        return list({file.resolve(): file for file in listed}.values())

    def only(self, what: str, name: str, size_wh: tuple[int, int], frames: int) -> tuple[Path | None, str]:
        """The only footage there, for annotations that do not name theirs, unless it is another; and a note.

        Args:
            what: of the annotations, for the note.
            name: that the footage could be given, to be found by.
            size_wh, frames: its (width, height), and least length; 0 where unknown.
        """
        there, unnamed = self.everything(), f"{what} does not name its video"
        remedy = f"give --videos a folder with only its video, or rename that to {name!r}"
        if len(there) != 1:
            return None, f"{unnamed}, and {len(there)} are there: {remedy}"
        facts = self.facts(there[0])
        if facts and ((all(size_wh) and facts.size_wh != size_wh) or 0 < facts.frames < frames):
            other = f"{facts.size_wh[0]}x{facts.size_wh[1]}, {facts.frames} frames"
            return None, f"{unnamed}, and the only one there, {there[0].name}, is another ({other}): {remedy}"
        return there[0], f"{unnamed}: the only one there is used, {there[0].name}"

    def facts(self, path: Path) -> Facts | None:
        """Of a file, read once; None where it is not there or cannot be read."""
        if path not in self._facts:
            self._facts[path] = None
            try:
                if os.path.exists(path):
                    with open_video(path, allow_damaged=True) as reader:
                        self._facts[path] = Facts(reader.fps, reader.size_wh, reader.frames_declared)
            except InputError as error:  # an empty file, too
                self._options.unreadable[path] = str(error)
        return self._facts[path]

    def rows(
        self, name: str, path: Path, size: tuple[int, int] = (0, 0), frames: int = 0, fps: float | None = None
    ) -> Rows:
        """Empty rows of a video; what the annotations leave at 0 is taken from the file.

        Its frames a second are `Options.fps` where there is no file, and where it is a folder, which has no rate.
        """
        facts = self.facts(path)
        if facts is None:
            return Rows(self._options, name, path, frames, size if all(size) else None, fps or self._options.fps)
        of_file = facts.fps if path.is_file() else self._options.fps or facts.fps
        found = Rows(
            self._options, name, path, frames or facts.frames, size if all(size) else facts.size_wh, fps or of_file
        )
        if not (fps or path.is_file() or self._options.fps):
            found.guessed.append(f"a folder of pictures has no rate: {of_file:g} frames/s are taken (--fps)")
        return found


def is_footage(place: Path) -> bool:
    """Whether it is a file, or a folder with pictures: a video may be called as some other folder is."""
    if not os.path.isdir(place):
        return os.path.isfile(place)
    with os.scandir(place) as entries:
        return any(is_picture(entry.name) and not is_hidden(entry.name) for entry in entries)


@dataclass
class Rows:
    """A video as annotations describe it, and its boxes, one row a box and label.

    Attributes:
        frames: of the video; 0 where unknown.
        size_wh, fps: None where unknown.
        frame, person, label, box: of each row.
        scale: pixels to a unit of the boxes, across and down.
        looked_at: frames that were annotated, all of the boxes' among them; a tube ends where it lacks one of them.
            None: every frame.
        judged: frames that the file names, with boxes or without, where those are more than the frames with boxes.
        subset: what the file calls the side of the video: train; or val, test.
        remarks: what `data export` noted.
        boxed: shapes that the upright box around them stands for, by kind.
        left_out: what of the file is in no tube, by kind.
        guessed: conventions that the file does not state, a clause each.
    """

    options: Options = field(default_factory=Options)
    name: str = ""
    path: Path = Path()
    frames: int = 0
    size_wh: tuple[int, int] | None = None
    fps: float | None = None
    frame: list[int] = field(default_factory=list)
    person: list[int] = field(default_factory=list)
    label: list[str] = field(default_factory=list)
    box: list[Sequence[float]] = field(default_factory=list)
    scale: Sequence[float] = (1, 1)
    looked_at: Iterable[int] | None = None
    judged: Iterable[int] | None = None
    subset: str = ""
    remarks: Remarks | None = None
    boxed: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    guessed: list[str] = field(default_factory=list)

    def known_fps(self) -> float:
        """Frames a second, for formats that count seconds.

        Raises:
            DatasetError: they are unknown.
        """
        if self.fps is None:
            raise DatasetError(
                f"{self.path} cannot be read, so its frames a second are not known: give --videos or --fps"
            )
        return self.fps

    def add(self, frame: int, person: int, label: str, box: Sequence[float]) -> None:
        """Append a row; `box` is corners in any one unit.

        Raises:
            DatasetError: no video has such a frame, or there are too many boxes.
        """
        if not 0 <= frame < MAX_FRAMES:
            raise DatasetError(f"frame {frame}, expected 0 to {MAX_FRAMES - 1}")
        self.options.count_box()
        self.frame.append(frame)
        self.person.append(person)
        self.label.append(label)
        self.box.append(box)

    def tubes(self, classes: Sequence[str]) -> tuple[Tube, ...]:
        """Each stretch of frames in which one person does one thing; boxes without a person are chained by overlap.

        Where the video has remarks, those decide which box is in which tube.
        """
        if not self.frame:
            return ()
        numbers = {name: number for number, name in enumerate(classes)}
        frame, person = np.array(self.frame, np.int64), np.array(self.person, np.int64)
        when = (
            frame
            if self.looked_at is None
            else np.searchsorted(np.unique(np.fromiter(self.looked_at, np.int64)), frame)
        )
        class_id = np.array([numbers[label] for label in self.label], np.int64)
        with np.errstate(over="ignore"):  # becomes infinite, which is refused with its video
            boxes = (np.array(self.box, np.float64) * np.tile(self.scale, 2)).astype(np.float32)
        taken = taken_numbers(frame, person, class_id, boxes)
        if len(taken) and self.remarks is None:
            self.guessed.append(
                f"{len(taken)} boxes have the person's number of another box in that frame: treated as others, the "
                f"first in frame {frame[taken].min()}"
            )
        person[taken] = UNKNOWN
        if (person == UNKNOWN).any():
            person = people_by_overlap(when, person, boxes)
        noted = self.remarks.tubes if self.remarks else ()
        starts = [(who, numbers[name], first) for name, who, first in noted if name in numbers]
        return divided(frame, when, person, class_id, boxes, starts)

    def video(self, name: str, classes: Sequence[str]) -> AnnotatedVideo:
        """The annotated video, called `name`."""
        judged = None if self.judged is None else np.array(sorted(set(self.judged)), np.int64)
        frames = self.frames or 1 + max(self.frame, default=-1)
        if judged is not None and len(judged) and not self.frames:
            frames = max(frames, 1 + int(judged[-1]))
        group = recording_of(self.name)
        group = name if group == self.name else group
        video = AnnotatedVideo(name, group, self.path, frames, self.tubes(classes), self.size_wh, fps=self.fps)
        is_implied = judged is None or np.array_equal(judged, video.annotated_frames())
        return video if is_implied else replace(video, judged=judged)


def annotations_of(classes: Iterable[str], found: Sequence[Rows]) -> Annotations:
    """A data set of the videos, with the sides that they name. A box may have several classes if one has.

    Raises:
        DatasetError: two videos have one name, or there is none.
    """
    if not found:
        raise DatasetError("no video in it")
    classes, names = tuple(classes), _names(found)
    if twice := next((name for name, count in Counter(names).items() if count > 1), None):
        raise DatasetError(f"two videos are called {twice!r}: import them one by one, or rename one")
    videos = tuple(rows.video(name, classes) for name, rows in zip(names, found, strict=True))
    sides: dict[Split, list[str]] = {"train": [], "test": []}
    for name, rows in zip(names, found, strict=True):
        if rows.subset:
            sides["test" if rows.subset.lower().startswith(("val", "test")) else "train"].append(name)
        if rows.subset and not rows.subset.lower().startswith(("val", "test", "train")):
            rows.guessed.append(f"subset {rows.subset!r} is to train on")
    splits = ({side: tuple(of) for side, of in sides.items()},) if any(sides.values()) else ()
    exclusive = 0 if any(map(_several_labels, videos)) else None
    return with_remarks(Annotations(classes, videos, splits, exclusive), [rows.remarks for rows in found])


def notes_of(found: Sequence[Rows]) -> list[str]:
    """What was guessed, taken for something else, or left out, for the user; a sentence each."""
    guessed: dict[str, list[str]] = {}
    for rows in found:
        late = sum(frame >= rows.frames for frame in rows.frame) if rows.frames else 0
        clauses = [f"{late} boxes lie behind the last frame: --start, --fps, or another video?"] * bool(late)
        if empty := sum(not (box[2] > box[0] and box[3] > box[1]) for box in rows.box):
            clauses.append(f"{empty} boxes end where they begin, or before: see `data check`")
        if rows.box and tuple(rows.scale) == (1, 1) != rows.size_wh and max(map(max, rows.box)) <= 1:
            clauses.append("no corner is above 1, as of fractions of the picture: taken as pixels")
        for clause in dict.fromkeys([*rows.guessed, *clauses]):
            guessed.setdefault(clause, []).append(rows.name)
    notes = [f"{clause} ({_first_of(names)})" for clause, names in guessed.items()]
    boxed, left_out = Counter[str](), Counter[str]()
    for rows in found:
        boxed.update(rows.boxed)
        left_out.update(rows.left_out)
    for counts, title in ((+boxed, "taken as the upright boxes around them"), (+left_out, "left out")):
        listed = [f"{count} {kind}" for kind, count in sorted(counts.most_common(MOST_KINDS))]
        if others := len(counts) - len(listed):
            listed.append(f"{others} more kinds")
        notes += [f"{title}: {', '.join(listed)}"] * bool(listed)
    return notes


def _first_of(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{len(names)} videos, the first: {names[0]}"


def _names(found: Sequence[Rows]) -> list[str]:
    """Of the videos; of several files with one name those of the files: tools let tasks share a name."""
    paths: dict[str, set[Path]] = {}
    for rows in found:
        paths.setdefault(rows.name, set()).add(rows.path)
    return [r.name if len(paths[r.name]) == 1 else f"{r.path.parent.name}/{r.path.stem}" for r in found]


def _several_labels(video: AnnotatedVideo) -> bool:
    """Whether a person does two things at once."""
    if len(video.tubes) < 2:
        return False
    rows = [np.column_stack([np.full(len(tube), tube.tracker_id), tube.frames]) for tube in video.tubes]
    return len(np.unique(np.concatenate(rows), axis=0)) < sum(map(len, rows))


def recording_of(name: str) -> str:
    """The recording that a video was cut from, where its name ends as a part's does: `yard_c02`, `yard-part3`."""
    return re.sub(r"[_-](?:c|clip|part|seg|segment|chunk)[_-]?\d+$", "", name, flags=re.IGNORECASE) or name
