"""CVAT for video 1.1: one XML a task. Knows its tracks and keyframes; nothing of other formats."""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from yowo_deploy.artifacts import writable_folder, write_text
from yowo_deploy.boxes import Tube
from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.formats.rows import Footage, Options, Rows, annotations_of, recording_of, sides_of, subset_of
from yowo_deploy.datasets.native import Annotations, plain_numbers, relative_to
from yowo_deploy.errors import DatasetError, MissingExtraError

PERSON = "person"  # the attribute by which we tell persons, as CVAT tells tracks
MAX_BYTES = 1 << 30  # of the XML in an archive
NOTHING = ("", "__undefined__", "none")  # values of an attribute that name no action

_CORNERS = ("xtl", "ytl", "xbr", "ybr")


class _Key(NamedTuple):
    """A box as the file has it."""

    frame: int
    outside: bool
    corners: tuple[float, ...]
    attributes: dict[str, str]


def read_cvat(files: Sequence[Path], options: Options) -> tuple[Annotations, list[str]]:
    """Tasks as CVAT exports them, XML or ZIP, or whole projects; a video each.

    Frames count from 0. Between two boxes of a track the corners move in a line; `outside` ends a tube; a box that is
    occluded is a box. The action is the label, or what an attribute says from one keyframe to the next: several actions
    are told apart by commas. A person is a track, or what the attribute "person" says.

    Returns:
        The annotations, and notes for the user.

    Raises:
        MissingExtraError: defusedxml is not installed.
        DatasetError: a file that is none of this, names what is wrong and where.
    """
    tasks = [task for file in files for task in _tasks(file, options)]
    labels = list(dict.fromkeys(label for _, declared, *_ in tasks for label in declared))
    used = dict.fromkeys(label for *_, rows, _ in tasks for label in rows.label)
    if options.attribute is not None:
        labels = [label for label in labels if label in used]
    classes = [*labels, *(label for label in used if label not in labels)]
    videos = [replace(video, tubes=rows.tubes(classes)) for video, _, rows, _ in tasks]
    sides = sides_of((video.name, subset) for video, _, _, subset in tasks)
    notes = _hints(files, classes) if options.attribute is None and len(used) == 1 else []
    return annotations_of(classes, videos, sides), notes


def write_cvat(annotations: Annotations, folder: Path) -> list[Path]:
    """One XML a video, named after it; CVAT takes each as the annotations of a task with that video."""
    writable_folder(folder)
    files = []
    for video in annotations.videos:
        file = folder / f"{video.name.replace('/', '_')}.xml"
        if file in files:
            raise DatasetError(f"two videos would be written to {file}: rename one")
        write_text(file, "\n".join(_xml(annotations, video, folder)) + "\n")
        files.append(file)
    return files


def interpolated(keys: Sequence[_Key]) -> Iterator[_Key]:
    """Every frame of a track in which it is to be seen, from its boxes in the order of frames."""
    for key, after in zip(keys, [*keys[1:], None], strict=True):
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
            return parser.parse(file).getroot()
        with zipfile.ZipFile(file) as archive, _xml_of(archive, file) as stream:
            return parser.parse(stream).getroot()
    except (parser.ParseError, refused, OSError, zipfile.BadZipFile, UnicodeDecodeError) as error:
        raise DatasetError(f"{file} is no XML that can be trusted: {error}") from error


def _xml_of(archive: zipfile.ZipFile, file: Path) -> IO[bytes]:
    members = [member for member in archive.infolist() if member.filename.lower().endswith(".xml")]
    if len(members) != 1 or members[0].file_size > MAX_BYTES:
        raise DatasetError(f"{file} holds {len(members)} XML files, expected CVAT's annotations.xml of 1 GiB at most")
    return archive.open(members[0])


def _tasks(file: Path, options: Options) -> Iterator[tuple[AnnotatedVideo, list[str], Rows, str]]:
    """Each task of a file: its video without tubes, the labels it declares, its boxes and its subset."""
    root = _tree(file)
    if root.tag != "annotations":
        raise DatasetError(f"{file} begins with <{root.tag}>, expected CVAT's <annotations>")
    if root.find("image") is not None:
        raise DatasetError(f"{file} is CVAT for images: export the task as `CVAT for video 1.1`")
    footage, tracks = Footage(file.parent, options), root.findall("track")
    tasks = list(root.iter("task")) or [root]
    for task in tasks:
        number = task.findtext("id")
        own = [t for t in tracks if len(tasks) == 1 or t.get("task_id") == number]
        declared = [
            label.findtext("name") or "" for label in (*task.iter("label"), *root.iterfind("meta/project/labels/label"))
        ]
        video = _video(file, task, footage, own)
        rows = Rows()
        for track in own:
            _add(rows, track, file, options.attribute)
        yield video, list(filter(None, declared)), rows, task.findtext("subset") or ""


def _video(file: Path, task: Any, footage: Footage, tracks: Sequence[Any]) -> AnnotatedVideo:
    source = task.findtext("source") or task.findtext("name") or file.stem
    name = task.findtext("name") or (Path(source).stem if source else file.stem)
    path = footage.find(source)
    facts = footage.facts(path)
    size = (task.findtext("original_size/width"), task.findtext("original_size/height"))
    last = max((int(box.get("frame", 0)) for track in tracks for box in track.iter("box")), default=-1)
    try:
        size_wh = (int(size[0]), int(size[1])) if size[0] and size[1] else facts.size_wh if facts else None
        stop = task.findtext("stop_frame")
        frames = int(stop) + 1 if stop else facts.frames if facts else last + 1
        fps = float(task.findtext("fps") or 0) or (facts.fps if facts else None)
    except ValueError as error:
        raise DatasetError(f"{file}: in <meta>: {error}") from error
    return AnnotatedVideo(name, task.findtext("recording") or recording_of(name), path, frames, (), size_wh, fps=fps)


def _add(rows: Rows, track: Any, file: Path, attribute: str | None) -> None:
    """The boxes of one track, every frame of it."""
    where = f"{file}: track {track.get('id')}"
    try:
        keys = sorted(map(_key, track.iter("box")), key=lambda key: key.frame)
        said = (key.attributes.get(PERSON, "") for key in keys)
        person = int(next(filter(str.isdecimal, said), track.get("id", "0")))
    except (TypeError, ValueError, KeyError) as error:
        raise DatasetError(f"{where}: {error}") from error
    known = {name for key in keys for name in key.attributes}
    if attribute is not None and keys and attribute not in known:
        raise DatasetError(f"{where} has no attribute {attribute!r}, but {', '.join(sorted(known)) or 'none at all'}")
    action = ""
    for key in interpolated(keys):
        action = key.attributes.get(attribute, action) if attribute else track.get("label") or ""
        for label in (part.strip() for part in action.split(",")) if attribute else [action]:
            if label.lower() not in NOTHING:
                rows.add(key.frame, person, label, key.corners)


def _key(box: Any) -> _Key:
    if float(box.get("rotation", 0)):
        raise ValueError(f"the box of frame {box.get('frame')} is rotated; boxes here are upright")
    attributes = {each.get("name", ""): each.text or "" for each in box.iter("attribute")}
    corners = tuple(float(box.attrib[side]) for side in _CORNERS)
    return _Key(int(box.attrib["frame"]), box.get("outside") == "1", corners, attributes)


def _hints(files: Sequence[Path], classes: Sequence[str]) -> list[str]:
    """What to say where every track has one label, and attributes that could be the action."""
    found = {each.get("name") for file in files for each in _tree(file).iter("attribute") if each.get("name")}
    named = sorted(str(name) for name in found - {PERSON})
    if not named:
        return []
    return [f"every label is {classes[0]!r}; if an attribute is the action: --action-from attribute:{named[0]}"]


def _xml(annotations: Annotations, video: AnnotatedVideo, folder: Path) -> Iterator[str]:
    width, height = video.size_wh or (0, 0)
    yield '<?xml version="1.0" encoding="utf-8"?>'
    yield "<annotations>\n <version>1.1</version>\n <meta>\n  <task>"
    facts = {"name": video.name, "size": video.frames, "mode": "interpolation", "start_frame": 0}
    facts |= {"stop_frame": video.frames - 1, "subset": subset_of(annotations, video.name)}
    facts |= {"fps": video.fps, "recording": video.group, "source": relative_to(video.path, folder)}
    yield from (f"   <{key}>{escape(str(value))}</{key}>" for key, value in facts.items() if value is not None)
    yield "   <labels>"
    for label in annotations.classes:
        person = f"<name>{PERSON}</name><mutable>False</mutable><input_type>number</input_type>"
        limits = "<default_value>0</default_value><values>0\n1000000\n1</values>"
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
    present = set(tube.frames.tolist())
    for frame, corners in zip(tube.frames.tolist(), plain_numbers(tube.xyxy), strict=True):
        sides = " ".join(f'{side}="{value}"' for side, value in zip(_CORNERS, corners, strict=True))
        person = f'<attribute name="{PERSON}">{tube.tracker_id}</attribute>'
        yield f'  <box frame="{frame}" keyframe="1" outside="0" occluded="0" {sides} z_order="0">{person}</box>'
        if frame + 1 not in present and frame + 1 < frames:
            yield f'  <box frame="{frame + 1}" keyframe="1" outside="1" occluded="0" {sides} z_order="0">{person}</box>'
