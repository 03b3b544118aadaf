"""Label Studio's JSON export of video tasks. Knows `videorectangle`; nothing of other formats."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from yowo_deploy.datasets.base import AnnotatedVideo
from yowo_deploy.datasets.formats.rows import Footage, Options, Rows, annotations_of, recording_of
from yowo_deploy.datasets.native import Annotations
from yowo_deploy.errors import DatasetError

PERCENT_WH = (100, 100)  # the picture that boxes are measured in where the video is not there
SIDES = ("x", "y", "width", "height")


def read_labelstudio(file: Path, content: Sequence[dict[str, Any]], options: Options) -> tuple[Annotations, list[str]]:
    """Boxes in percent of the picture, frames from 1, in a line between keyframes; `enabled: false` ends a stretch.

    A last keyframe that is enabled lasts to the end of the video, as the tool shows it. A region is a person; it may
    have several labels. Of several annotations of a task the newest counts, and cancelled ones do not.

    Raises:
        DatasetError: no such region, or one that is rotated or lacks a field; with its task.
    """
    footage = Footage(file.parent, options)
    parsed = [_task(f"{file}: task {number}", task, footage, options) for number, task in enumerate(content)]
    classes = list(dict.fromkeys(label for *_, rows in parsed for label in rows.label))
    if not classes:
        raise DatasetError(f"{file}: no task has a region of type videorectangle with a label")
    videos = []
    for name, path, frames, size_wh, fps, rows in parsed:
        scale = tuple(side / 100 for side in size_wh)
        facts = (path, frames, rows.tubes(classes, scale), size_wh)
        videos.append(AnnotatedVideo(name, recording_of(name), *facts, fps=fps))
    return annotations_of(classes, videos), []


def _task(where: str, task: dict[str, Any], footage: Footage, options: Options) -> tuple[Any, ...]:
    """Name, path, frames, size, frames a second and boxes in percent of one task."""
    try:
        data = task["data"]
        said = str(data["video"] if "video" in data else next(v for v in data.values() if isinstance(v, str)))
        done = [each for each in task["annotations"] if not each.get("was_cancelled")]
        results = done[-1]["result"] if done else []
        path = footage.find(said.partition("?d=")[2] or said)
        facts, rows, length, seconds = footage.facts(path), Rows(), 0, 0.0
        regions = [each for each in results if each.get("type") == "videorectangle"]
        for person, region in enumerate(regions):
            value = region["value"]
            length, seconds = int(value.get("framesCount", 0)), float(value.get("duration", 0))
            last = length or (facts.frames if facts else 0)
            labels = _labels(region, results, options.attribute)
            for frame, box in _moments(sorted(value["sequence"], key=lambda key: int(key["frame"])), last):
                for label in labels:
                    rows.add(frame, person, label, box)
    except (KeyError, TypeError, ValueError, AttributeError, StopIteration) as error:
        raise DatasetError(f"{where}: {error!r}; expected Label Studio's export as JSON") from error
    size_wh = facts.size_wh if facts else PERCENT_WH
    fps = facts.fps if facts else length / seconds if length and seconds else options.fps
    frames = length or (facts.frames if facts else 0) or max(rows.frame, default=-1) + 1
    return path.stem, path, frames, size_wh, fps, rows


def _labels(region: dict[str, Any], results: Sequence[dict[str, Any]], attribute: str | None) -> list[str]:
    """Of a region: its own, or what a choice for it says under the name of the attribute."""
    if attribute is None:
        return list(dict.fromkeys(region["value"].get("labels", [])))
    told = [each for each in results if each.get("id") == region.get("id") and each.get("from_name") == attribute]
    return list(dict.fromkeys(choice for each in told for choice in each["value"].get("choices", [])))


def _moments(keys: Sequence[dict[str, Any]], last: int) -> Iterator[tuple[int, list[float]]]:
    """Frames from 0 and corners in percent, of a sequence of keyframes in the order of frames."""
    for number, key in enumerate(keys):
        if float(key.get("rotation") or 0):
            raise ValueError(f"the box of frame {key['frame']} is rotated; boxes here are upright")
        first, box = int(key["frame"]) - 1, [float(key[side]) for side in SIDES]
        if first < 0:
            raise ValueError(f"frame {first + 1}, but Label Studio counts from 1")
        after = keys[number + 1] if number + 1 < len(keys) else None
        end = first + 1 if not key.get("enabled", True) else int(after["frame"]) - 1 if after else max(last, first + 1)
        target = box if after is None else [float(after[side]) for side in SIDES]
        for frame in range(first, end):
            share = (frame - first) / (end - first)
            x, y, w, h = (a + share * (b - a) for a, b in zip(box, target, strict=True))
            yield frame, [x, y, x + w, y + h]
