"""Read CVAT for video 1.1: one XML a task, a job or a project."""

from __future__ import annotations

import importlib
import re
import zipfile
from collections import ChainMap, Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from yowo_deploy.datasets.class_names import parted
from yowo_deploy.datasets.formats.box_rows import UNKNOWN, Footage, Options, Rows, is_footage
from yowo_deploy.datasets.formats.cvat_shapes import PERSON, SHAPES, Key, Listed, interpolated, key_of
from yowo_deploy.datasets.formats.sidecar import KEY, read_remarks
from yowo_deploy.errors import DatasetError, MissingExtraError, foreign
from yowo_deploy.files import MAX_BYTES, RATIO, UNPACKED, is_hidden

# Bytes that elements take at most, counted as they are made: so much of any XML, and so many times its size.
MADE, TIMES = 64 << 20, 12
_ELEMENT, _ATTRIBUTE = 160, 110
NOTHING = ("", "__undefined__", "none")  # values of an attribute that name no action
_SIZE = ("original_size/width", "original_size/height")
CHECKBOX, DEFAULT = "checkbox", "default"  # an `input_type`; CVAT's word for no subset


class _People:
    """Which person each track of a task is, by the attribute "person" or else by the track's number.

    A track that is drawn anew in a task with numbered persons has no number, or one that is taken: it gets a fresh one.
    """

    def __init__(self, tracks: Sequence[Any]) -> None:
        numbers = [each.text or "" for t in tracks for each in t.iterfind("*/attribute") if each.get("name") == PERSON]
        self._numbered = any(map(_is_number, numbers))
        ids = [track.get("id") or "" for track in tracks]
        self._fresh = 1 + max((int(text) for text in (*numbers, *ids) if _is_number(text)), default=-1)
        self._seen: dict[tuple[int, str, int], Sequence[float]] = {}

    def number(self, track: Any, keys: Sequence[Key], shown: Sequence[tuple[int, str, Sequence[float]]]) -> int:
        """Of the next track, with the frame, action and corners of each of its boxes."""
        number = next(filter(_is_number, (key.attributes.get(PERSON, "") for key in keys)), None)
        person = self._fresh if number is None and self._numbered else int(number or track.get("id", "0"))
        if any(self._seen.get((person, label, frame), box) != box for frame, label, box in shown):
            person = self._fresh  # one person cannot be in two places
        self._fresh += person == self._fresh
        self._seen |= {(person, label, frame): box for frame, label, box in shown}
        return person


def _is_number(text: str) -> bool:
    return text.isdecimal() and len(text) < 10


class _Attribute(NamedTuple):
    """As a label declares it: text, number, select, radio or checkbox, and the values of choice."""

    kind: str = ""
    values: frozenset[str] = frozenset()

    def actions(self, name: str, value: str) -> list[str]:
        """What a value says is done; of a checkbox its own name, and of free text the names between commas."""
        if self.kind == CHECKBOX:
            return [name] if value.lower() == "true" else []
        if value.lower() in NOTHING:
            return []
        return [value] if value in self.values or self.kind not in ("", "text") else parted(value)


@dataclass
class _Task:
    """What is read of one task.

    Attributes:
        labels: that a track can have, which parts of skeletons cannot.
        declared: attributes by the name of their label and their own.
        offset: to which the frames of the task are added in the file.
        job: its number, where it is one.
        bare: tracks without the attribute that is the action.
        attributes: that shapes have.
        absent: frames that tracks do not list, where boxes would be.
    """

    rows: Rows
    labels: list[str]
    declared: Mapping[tuple[str, str], _Attribute]
    people: _People
    listed: Listed
    offset: int = 0
    job: str = ""
    bare: list[str] = field(default_factory=list)
    attributes: set[str] = field(default_factory=set)
    absent: set[int] = field(default_factory=set)


def read_cvat(files: Sequence[Path], options: Options) -> tuple[list[str], list[Rows], list[str]]:
    """Tasks and jobs as CVAT exports them, XML or ZIP, or whole projects; a video each.

    Frames count from 0. Between two boxes of a track the corners move in a line, but not through frames that were
    deleted, see `Listed`; `outside` ends a tube, of a skeleton when all its points are; a box that is occluded is a
    box; of a polygon, a mask and the like, and of a box that is turned, the upright box around it is taken. The action
    is the label, or the value of an attribute from one keyframe to the next, see `_Attribute.actions`. A person is a
    track, or the value of the attribute "person". A job, and a task of pictures, do not name what they are of: that is
    the only footage there.

    Returns:
        Names of classes, videos, notes for the user.

    Raises:
        MissingExtraError: defusedxml is not installed.
        DatasetError: a file that is none of this, names what is wrong and where; no track has the attribute.
    """
    tasks = [task for file in files for task in _tasks(file, options)]
    _tell_jobs_apart(tasks)
    if {task.rows.subset for task in tasks} <= {"", DEFAULT}:
        for task in tasks:
            task.rows.subset = ""
    labels = dict.fromkeys(label for task in tasks for label in task.labels)
    used = dict.fromkeys(label for task in tasks for label in task.rows.label)
    if options.attribute is not None:
        labels = {label: None for label in labels if label in used}
    classes = list(labels | used)
    return classes, [task.rows for task in tasks], list(_notes(tasks, options.attribute, list(used)))


def _tree(file: Path) -> Any:
    try:
        # By name: the type checker knows no types of it.
        parser = importlib.import_module("defusedxml.ElementTree")
    except ImportError as error:
        raise MissingExtraError("defusedxml, which reads CVAT's XML,", "data") from error
    with foreign(f"{file} is no XML that can be trusted", DatasetError):
        if not zipfile.is_zipfile(file):
            if file.stat().st_size > MAX_BYTES:
                raise DatasetError(f"{file} has more than {MAX_BYTES >> 20} MiB: export the tasks one by one")
            return _root(parser.iterparse(file, events=("start",)), file, file.stat().st_size)
        with zipfile.ZipFile(file) as archive:
            member = _xml_of(archive, file)
            with archive.open(member) as stream:
                return _root(parser.iterparse(stream, events=("start",)), file, member.file_size)


def _root(parsed: Any, file: Path, size: int) -> Any:
    """The first element, all others read into it."""
    root, made = None, 0
    for _, element in parsed:
        root = element if root is None else root
        made += _ELEMENT + _ATTRIBUTE * len(element.attrib)
        if made > MADE + TIMES * size:
            raise DatasetError(f"{file} has more elements than annotations of its size: export the tasks one by one")
    return root


def has_xml(file: Path) -> bool:
    """Whether an archive holds an XML file."""
    try:
        with foreign(f"{file} is no archive", DatasetError), zipfile.ZipFile(file) as archive:
            return bool(_xml_members(archive))
    except DatasetError:
        return False


def _xml_members(archive: zipfile.ZipFile) -> list[zipfile.ZipInfo]:
    found = [member for member in archive.infolist() if member.filename.lower().endswith(".xml")]
    return [member for member in found if not any(map(is_hidden, PurePosixPath(member.filename).parts))]


def _xml_of(archive: zipfile.ZipFile, file: Path) -> zipfile.ZipInfo:
    members = _xml_members(archive)
    if len(members) != 1:
        remedy = "" if members else "; of another format: unpack it, and import what is in it"
        raise DatasetError(f"{file} holds {len(members)} XML files, expected CVAT's annotations.xml{remedy}")
    limit = min(MAX_BYTES, UNPACKED + RATIO * members[0].compress_size)
    if members[0].file_size > limit:
        raise DatasetError(f"{file} holds an XML of more than {limit >> 20} MiB: export the tasks one by one")
    return members[0]


def _tasks(file: Path, options: Options) -> Iterator[_Task]:
    """Each task or job of a file."""
    root = _tree(file)
    if root.tag != "annotations":
        raise DatasetError(f"{file} begins with <{root.tag}>, expected CVAT's <annotations>")
    if root.find("image") is not None:
        raise DatasetError(f"{file} is CVAT for images: export the task as `CVAT for video 1.1`")
    footage, tracks = Footage(file.parent, options), root.findall("track")
    elements = list(root.iter("task")) or list(root.iter("job")) or [root]
    single = len(elements) == 1
    of_task: dict[str | None, list[Any]] = {}
    for track in tracks:
        of_task.setdefault(track.get("task_id"), []).append(track)
    owned = [tracks if single else of_task.get(_text(each, "id"), []) for each in elements]
    offsets = _offsets(elements, owned)
    of_project = _declared(root.iterfind("meta/project/labels/label"))
    of_file = {path: _text(root, f"meta/{path}") for path in ("source", *_SIZE)}
    for number, (element, own, offset) in enumerate(zip(elements, owned, offsets or [0] * len(elements), strict=True)):
        rows = _rows(file, of_file, element, footage, own, offset)
        # Of many tasks each has its own alone, so that those of no other are gone through.
        labels, attributes, parts = _declared(element.iter("label") if single else element.iterfind("labels/label"))
        if not number:
            labels, parts = [*labels, *of_project[0]], parts + of_project[2]
        rows.left_out["labels of parts of skeletons"] += parts
        known = ChainMap(of_project[1], attributes)
        task = _Task(rows, labels, known, _People(own), _listed(element, own, offset), offset)
        task.job = _text(element, "id") if element.tag == "job" else ""
        for track in own:
            _add(task, track, file, options.attribute)
        if deleted := sorted(task.absent.difference(task.listed.frames or ())):
            rows.guessed.append(f"frames that no track lists were deleted in CVAT: {_spans(deleted)}")
        if not single and offsets is None:
            rows.guessed.append("frames of a project's tasks start from 0 in each task")
        yield task
    rows.left_out["tracks of no task"] += len(tracks) - sum(map(len, owned))
    rows.left_out.update(f"<{each.tag}> elements" for each in root if each.tag not in ("version", "meta", "track"))


def _declared(labels: Iterable[Any]) -> tuple[list[str], dict[tuple[str, str], _Attribute], int]:
    """Names, and attributes by the names of their label and their own; how many others are of parts of skeletons."""
    names, attributes, parts = list[str](), dict[tuple[str, str], _Attribute](), 0
    for label in labels:
        name = _text(label, "name")
        if _text(label, "parent"):
            parts += 1
            continue
        names += [name] * bool(name)
        for each in label.iterfind("attributes/attribute"):
            values = frozenset(_text(each, "values").splitlines())
            attributes[name, _text(each, "name")] = _Attribute(_text(each, "input_type").lower(), values)
    return names, attributes, parts


def _text(element: Any, path: str) -> str:
    return (element.findtext(path) or "").strip()


def _number(element: Any, path: str, default: int = 0) -> int:
    return int(_text(element, path) or default)


def _step(element: Any) -> int:
    """Every which frame of the video is in a task."""
    found = re.search(r"step\s*=\s*(\d+)", _text(element, "frame_filter"))
    return max(1, int(found.group(1))) if found else 1


def _offsets(tasks: Sequence[Any], tracks: Sequence[Sequence[Any]]) -> list[int] | None:
    """In a project the frames of a task are counted on from those of the tasks before it in its subset.

    None where the frames of a task do not lie where that would put them: a file in which each task counts anew.
    """
    offsets, offset, subset = list[int](), 0, ""
    for task, own in zip(tasks, tracks, strict=True):
        if (name := _text(task, "subset")) != subset:
            offset, subset = 0, name
        start, length = _number(task, "start_frame"), _step(task) * _number(task, "size")
        frames = [int(shape.get("frame", 0)) for track in own for shape in _shapes(track)]
        if offset and frames and not offset + start <= min(frames) <= max(frames) <= offset + start + length:
            return None
        offsets.append(offset)
        offset += start + length
    return offsets


def _listed(element: Any, tracks: Sequence[Any], offset: int) -> Listed:
    shapes = [shape for track in tracks for shape in _shapes(track)]
    every = any(shape.get("keyframe") == "0" for shape in shapes)
    frames = frozenset(int(shape.get("frame", 0)) - offset for shape in shapes) if every else None
    return Listed(_number(element, "start_frame"), _step(element), frames)


def _rows(
    file: Path, of_file: Mapping[str, str], task: Any, footage: Footage, tracks: Sequence[Any], offset: int
) -> Rows:
    is_job = task.tag == "job"
    source, name = _text(task, "source") or of_file["source"], _text(task, "name")
    if not (source or name or is_job):
        name = file.stem
    try:
        # Of a job it stands beside <job>.
        width, height = (_number(task, side) or int(of_file[side] or 0) for side in _SIZE)
        stop, fps = _number(task, "stop_frame", -1), float(_text(task, "fps") or 0)
        last = max((int(box.get("frame", 0)) - offset for track in tracks for box in _shapes(track)), default=-1)
        what = f"job {_text(task, 'id')}" if is_job else f"task {name!r}"
        path, note = _path(footage, source, name, what, (width, height), last + 1)
        rows = footage.rows(name or path.stem, path, (width, height), stop + 1, fps)
    except ValueError as error:
        raise DatasetError(f"{file}: in <meta>: {error}") from error
    rows.frames = rows.frames or last + 1  # boxes that are outside count, too
    rows.guessed += [note] * bool(note)
    rows.subset, rows.remarks = _text(task, "subset"), read_remarks(str(file), _text(task, KEY))
    return rows


def _path(
    footage: Footage, source: str, name: str, what: str, size_wh: tuple[int, int], frames: int
) -> tuple[Path, str]:
    """Of the footage, and how it was found where the annotations do not name it; "" where they do."""
    path = footage.find(source or name or what)
    if source or is_footage(path):
        return path, ""
    only, note = footage.only(what, name or what, size_wh, frames)
    return only or path, note


def _tell_jobs_apart(tasks: Sequence[_Task]) -> None:
    """Several jobs of one video are called after it and their number."""
    names = Counter(task.rows.name for task in tasks)
    for task in tasks:
        if task.job and names[task.rows.name] > 1:
            task.rows.name += f" job {task.job}"


def _shapes(track: Any) -> Iterator[Any]:
    return (element for element in track if element.tag in SHAPES)


def _add(task: _Task, track: Any, file: Path, attribute: str | None) -> None:
    """The boxes of one track, every frame of it."""
    where, rows = f"{file}: track {track.get('id')}", task.rows
    try:
        keys = sorted((key_of(shape, rows.boxed) for shape in _shapes(track)), key=lambda key: key.frame)
        if not _is_number(track.get("id", "0")):
            raise ValueError("its id is not a number")
    except (TypeError, ValueError, KeyError) as error:
        raise DatasetError(f"{where}: {error}") from error
    rows.left_out.update(f"<{each.tag}> elements" for each in track if each.tag not in SHAPES)
    rows.left_out["shapes of a track in one frame but the last"] += len(keys) - len({key.frame for key in keys})
    keys = list({key.frame: key for key in keys}.values())
    known = {name for key in keys for name in key.attributes}
    task.attributes |= known
    names = [name for name in _names(attribute, known) if name in known]
    if attribute is not None and not names:
        task.bare.append(where)
        return
    label, first = (track.get("label") or "").strip(), len(rows.frame)
    values, read, actions = dict.fromkeys(names, ""), None, [label] * bool(label)
    kinds = {name: _kind(task, label, name, keys) for name in names}
    own = [key._replace(frame=key.frame - task.offset) for key in keys]
    listed = task.listed
    if any(shape.get("keyframe") == "0" for shape in _shapes(track)):
        # Of the track alone: CVAT leaves out the keyframe that ended a stretch where its frame was deleted.
        listed = listed._replace(frames=frozenset(key.frame for key in own))
    for key in interpolated(own, listed, task.absent.add, rows.options.count_worked_out):
        if attribute is not None and key.attributes is not read:  # of a keyframe, not of a frame worked out from it
            read = key.attributes
            values |= {name: read[name] for name in names if name in read}
            actions = list(dict.fromkeys(each for name in names for each in kinds[name].actions(name, values[name])))
        rows.left_out["boxes without an action"] += not actions
        for action in actions:
            rows.add(key.frame, UNKNOWN, action, key.corners)
    shown = list(zip(rows.frame[first:], rows.label[first:], rows.box[first:], strict=True))
    rows.person[first:] = [task.people.number(track, keys, shown)] * len(shown)


def _names(attribute: str | None, known: Collection[str]) -> list[str]:
    """Attributes that are actions: one, or several with commas between."""
    return [] if attribute is None else [attribute] if attribute in known else parted(attribute)


def _kind(task: _Task, label: str, name: str, keys: Sequence[Key]) -> _Attribute:
    """As declared; else what has no values but true and false is a checkbox."""
    values = {key.attributes[name].lower() for key in keys if name in key.attributes}
    return task.declared.get((label, name), _Attribute(CHECKBOX if values <= {"true", "false"} else ""))


def _spans(frames: Sequence[int]) -> str:
    """`8 to 11, 15`, of frames in their order."""
    there = set(frames)
    starts = [frame for frame in frames if frame - 1 not in there]
    ends = [frame for frame in frames if frame + 1 not in there]
    found = [f"{a} to {b}" if b > a else str(a) for a, b in zip(starts, ends, strict=True)]
    return ", ".join(found[:5]) + (", ..." if len(found) > 5 else "")


def _notes(tasks: Sequence[_Task], attribute: str | None, used: Sequence[str]) -> Iterator[str]:
    """Notes for the user."""
    bare = [where for task in tasks for where in task.bare]
    named = sorted(set().union(*(task.attributes for task in tasks)) - {PERSON})
    if bare and attribute is not None:
        if not set(_names(attribute, named)) & set(named):
            there = ", ".join(named) or "none at all"
            raise DatasetError(f"{bare[0]} has no attribute {attribute!r}, nor has any other; there is {there}")
        yield f"{len(bare)} tracks have no attribute {attribute!r} and are left out, the first: {bare[0]}"
    taken = set(_names(attribute, named))
    if unused := [name for name in named if name not in taken]:
        is_likely = attribute is None and len(used) == 1
        hint = f"; if one is the action: --action-from attribute:{unused[0]}" if is_likely else ""
        yield f"attributes that are not taken: {', '.join(unused)}{hint}"
