"""Read and write CVAT for video 1.1: one XML a task."""

from __future__ import annotations

import importlib
import json
import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest
from pathlib import Path
from typing import IO, Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.data_json import Annotations, plain_numbers, relative_to
from yowo_deploy.datasets.formats.box_rows import UNKNOWN, Footage, Options, Rows
from yowo_deploy.datasets.formats.sidecar import KEY, file_names, read_remarks, remarks_of, subset_of
from yowo_deploy.datasets.validation import MAX_FRAMES
from yowo_deploy.errors import DatasetError, MissingExtraError
from yowo_deploy.files import MAX_BYTES

PERSON = "person"  # the attribute with the number of a person, as CVAT numbers tracks
MAX_ELEMENTS = 10_000_000  # of an XML: twice as many as boxes may be made of it
NOTHING = ("", "__undefined__", "none")  # values of an attribute that name no action

_CORNERS = ("xtl", "ytl", "xbr", "ybr")
_SHAPES = ("box", "polygon", "polyline", "points", "mask", "ellipse", "cuboid", "skeleton")


class _Key(NamedTuple):
    """A shape as the file has it, or the box around it."""

    frame: int
    outside: bool
    corners: tuple[float, ...]
    attributes: dict[str, str]


class _People:
    """Which person each track of a task is, by the attribute "person" or else by the track's number.

    A track that is drawn anew in a task with numbered persons has no number, or one that is taken: it gets a fresh one.
    """

    def __init__(self, tracks: Sequence[Any]) -> None:
        numbers = [each.text or "" for t in tracks for each in t.iter("attribute") if each.get("name") == PERSON]
        self._numbered = any(map(_is_number, numbers))
        ids = [track.get("id") or "" for track in tracks]
        self._fresh = 1 + max((int(text) for text in (*numbers, *ids) if _is_number(text)), default=-1)
        self._seen: dict[tuple[int, str, int], Sequence[float]] = {}

    def number(self, track: Any, keys: Sequence[_Key], shown: Sequence[tuple[int, str, Sequence[float]]]) -> int:
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


@dataclass
class _Task:
    """What is read of one task."""

    rows: Rows
    labels: list[str]
    people: _People
    boxed: Counter[str] = field(default_factory=Counter)  # shapes that the box around them stands for
    left_out: list[str] = field(default_factory=list)  # tracks without the attribute that is the action
    attributes: set[str] = field(default_factory=set)


def read_cvat(files: Sequence[Path], options: Options) -> tuple[list[str], list[Rows], list[str]]:
    """Tasks as CVAT exports them, XML or ZIP, or whole projects; a video each.

    Frames count from 0. Between two boxes of a track the corners move in a line; `outside` ends a tube; a box that is
    occluded is a box; of a polygon, a mask and the like, and of a box that is turned, the upright box around it is
    taken. The action is the label, or the value of an attribute from one keyframe to the next; commas separate
    several actions. A person is a track, or the value of the attribute "person".

    Returns:
        Names of classes, videos, notes for the user.

    Raises:
        MissingExtraError: defusedxml is not installed.
        DatasetError: a file that is none of this, names what is wrong and where; no track has the attribute.
    """
    tasks = [task for file in files for task in _tasks(file, options)]
    labels = list(dict.fromkeys(label for task in tasks for label in task.labels))
    used = dict.fromkeys(label for task in tasks for label in task.rows.label)
    if options.attribute is not None:
        labels = [label for label in labels if label in used]
    classes = [*labels, *(label for label in used if label not in labels)]
    return classes, [task.rows for task in tasks], list(_notes(tasks, options.attribute, list(used)))


def cvat_texts(annotations: Annotations, folder: Path) -> tuple[dict[Path, str], list[str]]:
    """One XML a video, named after it; CVAT takes each as the annotations of a task with that video."""
    names = file_names(video.name for video in annotations.videos)
    texts = ("\n".join(_xml(annotations, place, folder)) + "\n" for place in range(len(names)))
    return dict(zip((folder / f"{name}.xml" for name in names), texts, strict=True)), []


def interpolated(keys: Sequence[_Key]) -> Iterator[_Key]:
    """Every frame of a track in which it is to be seen, from its boxes in the order of frames."""
    for key, after in zip_longest(keys, keys[1:]):
        if key.outside:
            continue
        yield key
        if after is None:
            continue
        low, high = np.array(key.corners), np.array(after.corners)
        for frame in range(key.frame + 1, after.frame):
            share = (frame - key.frame) / (after.frame - key.frame)
            yield key._replace(frame=frame, corners=tuple((low + share * (high - low)).tolist()))


def _tree(file: Path) -> Any:
    try:
        # By name: the type checker knows no types of it.
        parser = importlib.import_module("defusedxml.ElementTree")
        refused: Any = importlib.import_module("defusedxml.common").DefusedXmlException
    except ImportError as error:
        raise MissingExtraError("defusedxml, which reads CVAT's XML,", "data") from error
    try:
        if not zipfile.is_zipfile(file):
            if file.stat().st_size > MAX_BYTES:
                raise DatasetError(f"{file} has more than {MAX_BYTES >> 20} MiB: export the tasks one by one")
            return _root(parser.iterparse(file, events=("start",)), file)
        with zipfile.ZipFile(file) as archive, _xml_of(archive, file) as stream:
            return _root(parser.iterparse(stream, events=("start",)), file)
    except (parser.ParseError, refused, OSError, zipfile.BadZipFile, UnicodeDecodeError, NotImplementedError) as error:
        raise DatasetError(f"{file} is no XML that can be trusted: {error}") from error


def _root(parsed: Any, file: Path) -> Any:
    """The first element, all others read into it."""
    root = None
    for number, (_, element) in enumerate(parsed):
        root = element if root is None else root
        if number > MAX_ELEMENTS:
            raise DatasetError(f"{file} has more than {MAX_ELEMENTS} elements: export the tasks one by one")
    return root


def has_xml(file: Path) -> bool:
    """Whether an archive holds an XML file."""
    try:
        with zipfile.ZipFile(file) as archive:
            return any(name.lower().endswith(".xml") for name in archive.namelist())
    except (OSError, zipfile.BadZipFile):
        return False


def _xml_of(archive: zipfile.ZipFile, file: Path) -> IO[bytes]:
    members = [member for member in archive.infolist() if member.filename.lower().endswith(".xml")]
    if len(members) != 1 or members[0].file_size > MAX_BYTES:
        limit = f"of {MAX_BYTES >> 20} MiB at most"
        raise DatasetError(f"{file} holds {len(members)} XML files, expected CVAT's annotations.xml {limit}")
    return archive.open(members[0])


def _tasks(file: Path, options: Options) -> Iterator[_Task]:
    """Each task of a file."""
    root = _tree(file)
    if root.tag != "annotations":
        raise DatasetError(f"{file} begins with <{root.tag}>, expected CVAT's <annotations>")
    if root.find("image") is not None:
        raise DatasetError(f"{file} is CVAT for images: export the task as `CVAT for video 1.1`")
    footage, tracks = Footage(file.parent, options), root.findall("track")
    tasks = list(root.iter("task")) or [root]
    for element in tasks:
        number = element.findtext("id")
        own = [t for t in tracks if len(tasks) == 1 or t.get("task_id") == number]
        declared = [*element.iter("label"), *root.iterfind("meta/project/labels/label")]
        labels = filter(None, (label.findtext("name") for label in declared))
        task = _Task(_rows(file, element, footage, own), list(labels), _People(own))
        for track in own:
            _add(task, track, file, options.attribute)
        yield task


def _rows(file: Path, task: Any, footage: Footage, tracks: Sequence[Any]) -> Rows:
    source = task.findtext("source") or task.findtext("name") or file.stem
    name = task.findtext("name") or (Path(source).stem if source else file.stem)
    try:
        width, height = (int(task.findtext(f"original_size/{side}") or 0) for side in ("width", "height"))
        stop, fps = int(task.findtext("stop_frame") or -1), float(task.findtext("fps") or 0)
        rows = footage.rows(name, footage.find(source), (width, height), stop + 1, fps)
        last = max((int(box.get("frame", 0)) for track in tracks for box in _shapes(track)), default=-1)
    except ValueError as error:
        raise DatasetError(f"{file}: in <meta>: {error}") from error
    rows.frames = rows.frames or last + 1  # boxes that are outside count, too
    rows.subset, rows.remarks = task.findtext("subset") or "", read_remarks(str(file), task.findtext(KEY))
    return rows


def _shapes(track: Any) -> Iterator[Any]:
    return (element for element in track if element.tag in _SHAPES)


def _add(task: _Task, track: Any, file: Path, attribute: str | None) -> None:
    """The boxes of one track, every frame of it."""
    where = f"{file}: track {track.get('id')}"
    try:
        keys = sorted((_key(shape, task.boxed) for shape in _shapes(track)), key=lambda key: key.frame)
        if not _is_number(track.get("id", "0")):
            raise ValueError("its id is no number")
    except (TypeError, ValueError, KeyError) as error:
        raise DatasetError(f"{where}: {error}") from error
    known = {name for key in keys for name in key.attributes}
    task.attributes |= known
    if attribute is not None and attribute not in known:
        task.left_out.append(where)
        return
    action, rows = "", task.rows
    first = len(rows.frame)
    for key in interpolated(keys):
        action = key.attributes.get(attribute, action) if attribute else track.get("label") or ""
        labels = (part.strip() for part in action.split(",")) if attribute else [action]
        for label in labels:
            if label and not (attribute and label.lower() in NOTHING):
                rows.add(key.frame, UNKNOWN, label, key.corners)
    shown = list(zip(rows.frame[first:], rows.label[first:], rows.box[first:], strict=True))
    rows.person[first:] = [task.people.number(track, keys, shown)] * len(shown)


def _key(shape: Any, boxed: Counter[str]) -> _Key:
    frame, angle = int(shape.attrib["frame"]), float(shape.get("rotation", 0))
    if not 0 <= frame < MAX_FRAMES:
        raise ValueError(f"frame {frame}, expected 0 to {MAX_FRAMES - 1}")
    if angle or shape.tag != "box":
        boxed[f"turned {shape.tag}" if angle else shape.tag] += 1
    attributes = {each.get("name", ""): each.text or "" for each in shape.iter("attribute")}
    points = np.array(_outline(shape), np.float64).reshape(-1, 2)
    if angle:
        points = _turned(points, angle)
    corners = tuple(points.reshape(-1).tolist()) if shape.tag == "box" and not angle else _around(points)
    return _Key(frame, shape.get("outside") == "1", corners, attributes)


def _outline(shape: Any) -> list[float]:
    """x y, x y, ... of points that the shape lies between."""

    def numbers(*names: str) -> list[float]:
        return [float(shape.attrib[name]) for name in names]

    match shape.tag:
        case "box":
            return numbers(*_CORNERS)
        case "ellipse":
            x, y, across, down = numbers("cx", "cy", "rx", "ry")
            return [x - across, y - down, x + across, y + down]
        case "mask":
            x, y, width, height = numbers("left", "top", "width", "height")
            return [x, y, x + width, y + height]
        case "cuboid":
            xs, ys = ([float(v) for k, v in sorted(shape.attrib.items()) if k[:2] in of] for of in _CUBOID)
            return [each for pair in zip(xs, ys, strict=True) for each in pair]
        case "skeleton":
            parts = [part for part in shape if part.tag == "points" and part.get("outside") != "1"]
            return [each for part in parts or list(shape.iter("points")) for each in _outline(part)]
        case _:
            return [float(each) for point in shape.attrib["points"].split(";") for each in point.split(",")]


_CUBOID = (("xt", "xb"), ("yt", "yb"))


def _turned(points: Any, degrees: float) -> Any:
    """Corners of the rectangle around the points after it turned about its middle."""
    (low, high), angle = (points.min(axis=0), points.max(axis=0)), np.deg2rad(degrees)
    middle, half = (low + high) / 2, (high - low) / 2
    along = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return middle + (half * np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])) @ along.T


def _around(points: Any) -> tuple[float, ...]:
    if not len(points):
        raise ValueError("a shape without points")
    return (*points.min(axis=0).tolist(), *points.max(axis=0).tolist())


def _notes(tasks: Sequence[_Task], attribute: str | None, used: Sequence[str]) -> Iterator[str]:
    """Notes for the user."""
    boxed = sum((task.boxed for task in tasks), Counter[str]())
    if boxed:
        shapes = ", ".join(f"{count} {shape}" for shape, count in sorted(boxed.items()))
        yield f"taken as the upright boxes around them: {shapes}"
    left_out = [where for task in tasks for where in task.left_out]
    named = sorted(set().union(*(task.attributes for task in tasks)) - {PERSON})
    if left_out and attribute is not None:
        if not any(task.rows.label for task in tasks) and attribute not in named:
            there = ", ".join(named) or "none at all"
            raise DatasetError(f"{left_out[0]} has no attribute {attribute!r}, nor has any other; there is {there}")
        yield f"{len(left_out)} tracks have no attribute {attribute!r} and are left out, the first: {left_out[0]}"
    if attribute is None and len(used) == 1 and named:
        yield f"every label is {used[0]!r}; if an attribute is the action: --action-from attribute:{named[0]}"


def _xml(annotations: Annotations, place: int, folder: Path) -> Iterator[str]:
    video = annotations.videos[place]
    width, height = video.size_wh or (0, 0)
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield "<annotations>\n <version>1.1</version>\n <meta>\n  <task>"
    facts: dict[str, object] = {"name": video.name, "size": video.frames, "mode": "interpolation", "start_frame": 0}
    facts |= {"stop_frame": video.frames - 1, "subset": subset_of(annotations, video.name)}
    facts |= {"fps": video.fps, "source": relative_to(video.path, folder)}
    facts |= {KEY: json.dumps(remarks_of(annotations, place), allow_nan=False)}
    yield from (f"   <{key}>{escape(str(value))}</{key}>" for key, value in facts.items() if value is not None)
    yield "   <labels>"
    for label in annotations.classes:
        person = f"<name>{PERSON}</name><mutable>False</mutable><input_type>number</input_type>"
        limits = "<default_value>-1</default_value><values>-1\n1000000\n1</values>"  # -1: `_People` decides
        attribute = f"<attributes><attribute>{person}{limits}</attribute></attributes>"
        yield f"    <label><name>{escape(label)}</name><type>rectangle</type>{attribute}</label>"
    yield "   </labels>"
    if video.size_wh:
        yield f"   <original_size><width>{width}</width><height>{height}</height></original_size>"
    yield "  </task>\n </meta>"
    for number, tube in enumerate(video.tubes):
        label = quoteattr(annotations.classes[tube.class_id])
        yield f' <track id="{number}" label={label} source="file">'
        yield from _boxes(tube, video.frames)
        yield " </track>"
    yield "</annotations>"


def _boxes(tube: Tube, frames: int) -> Iterator[str]:
    """Every box of a tube as a keyframe, and where the next frame has none, one that is outside."""
    present, last = set(tube.frames.tolist()), int(tube.frames[-1])
    for frame, corners in zip(tube.frames.tolist(), plain_numbers(tube.xyxy), strict=True):
        sides = " ".join(f'{side}="{value}"' for side, value in zip(_CORNERS, corners, strict=True))
        person = f'<attribute name="{PERSON}">{tube.tracker_id}</attribute>'
        yield f'  <box frame="{frame}" keyframe="1" outside="0" occluded="0" {sides} z_order="0">{person}</box>'
        if frame + 1 not in present and frame + 1 < max(frames, last):
            yield f'  <box frame="{frame + 1}" keyframe="1" outside="1" occluded="0" {sides} z_order="0">{person}</box>'
