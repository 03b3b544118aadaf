"""Read Label Studio's JSON export of video tasks, `videorectangle`."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, NamedTuple

from yowo_deploy.datasets.formats.box_rows import Facts, Footage, Options, Rows
from yowo_deploy.datasets.formats.video_paths import paths_in
from yowo_deploy.datasets.validation import MAX_FRAMES, real, whole
from yowo_deploy.errors import DatasetError, foreign
from yowo_deploy.video.suffixes import is_video

PERCENT_WH = (100, 100)  # the picture that boxes are measured in where the video is not there
SAME_RATE = 0.005  # by which two rates may differ: 29.97 is written as 30
SIDES = ("x", "y", "width", "height")


class _Timeline(NamedTuple):
    """How frames of the tool become frames of the file.

    Attributes:
        frames: of the file; 0 where unknown.
        fps: of the file, or of the tool where there is none.
        scale: frames of the file to one of the tool.
        size_wh: of the picture; None where the file is not there.
    """

    frames: int
    fps: float | None
    scale: float
    size_wh: tuple[int, int] | None


def read_labelstudio(
    file: Path, content: Sequence[dict[str, Any]], options: Options
) -> tuple[list[str], list[Rows], list[str]]:
    """Boxes in percent of the picture, frames from 1, in a line between keyframes; `enabled: false` ends a stretch.

    The tool counts frames at a rate of its own, 24 a second by default: keyframes are
    placed by their time where the file has another rate. A last keyframe that is enabled lasts to the end of the video,
    as the tool shows it. Of a box that is turned, about its first corner, the upright box around it is taken. A region
    is a person; it may have several labels. Of several annotations of a task the newest counts (`updated_at`),
    cancelled ones do not.

    Returns:
        Names of classes, videos, notes for the user.

    Raises:
        DatasetError: no such region, one that lacks a field, or that is turned in a video that is not there.
    """
    footage = Footage(file.parent, options)
    videos = [_task(f"{file}: task {number}", task, footage, options) for number, task in enumerate(content)]
    classes = list(dict.fromkeys(label for rows in videos for label in rows.label))
    if not classes:
        kinds = sorted({kind for rows in videos for kind in +rows.left_out})
        there = f"; there are {', '.join(kinds)}" if kinds else ""
        if options.attribute is not None:
            raise DatasetError(f"{file}: no region has choices of {options.attribute!r}, see --action-from{there}")
        raise DatasetError(f"{file}: no task has a region of type videorectangle with a label{there}")
    return classes, videos, []


def _task(where: str, task: dict[str, Any], footage: Footage, options: Options) -> Rows:
    with foreign(f"{where}: expected Label Studio's export as JSON", DatasetError):
        done = [each for each in task["annotations"] if not each.get("was_cancelled")]
        results = _newest(done)["result"] or [] if done else []
        path = footage.find(_reference(task["data"]))
        regions = [each for each in results if each.get("type") == "videorectangle"]
        facts = footage.facts(path)
        line = _timeline([each["value"] for each in regions], facts, options.fps)
        size_wh = facts.size_wh if facts else PERCENT_WH
        rows = Rows(options, path.stem, path, line.frames, size_wh, line.fps)
        rows.scale = [side / 100 for side in size_wh]
        rows.left_out += _left_out(task, done, results, options.attribute)
        choices_of: dict[Any, list[dict[str, Any]]] = {}
        for each in results:
            if options.attribute is not None and each.get("from_name") == options.attribute:
                choices_of.setdefault(each.get("id"), []).append(each)
        for person, region in enumerate(regions):
            labels = _labels(region, choices_of, options.attribute)
            rows.left_out["regions without a label"] += not labels
            rows.boxed["turned box"] += sum(
                bool(float(key.get("rotation") or 0)) for key in region["value"]["sequence"]
            )
            keys = sorted(region["value"]["sequence"], key=lambda key: whole(key["frame"]))
            placed = [_placed(key, line) for key in keys]
            options.count_worked_out((placed[-1][0] - placed[0][0] if placed else 0) * max(1, len(labels)))
            for frame, box in _moments(keys, placed, line, options):
                for label in labels:
                    rows.add(frame, person, label, box)
    if line.scale != 1:
        rate = f"{(line.fps or 0) / line.scale:g} frames/s, the file has {line.fps or 0:g}"
        rows.guessed.append(f"annotated at {rate}: placed by time")
    return rows


def _newest(annotations: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """By the time of the last change where each has one, else the last: exports list them in no certain order."""
    times = [_time(each.get("updated_at")) for each in annotations]
    known = [(time, place) for place, time in enumerate(times) if time is not None]
    return annotations[max(known)[1] if len(known) == len(times) else -1]


def _time(text: Any) -> datetime | None:
    """Of a time as the tool writes it, 2024-05-01T12:00:00.000000Z; None where it is none."""
    try:
        found = datetime.fromisoformat(re.sub("Z$", "+00:00", text))
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=timezone.utc)


def _reference(data: dict[str, Any]) -> str:
    """The address of the video: `video`, else the first text that ends as a video's, else the first text."""
    texts = [data["video"]] if "video" in data else list(data.values())
    texts = [text for text in texts if isinstance(text, str) and text]
    if not texts:
        raise ValueError(f"its data names no video: {', '.join(data) or 'nothing at all'}")
    return str(next((text for text in texts if any(map(is_video, paths_in(str(text))))), texts[0]))


def _left_out(
    task: dict[str, Any], done: Sequence[dict[str, Any]], results: Sequence[dict[str, Any]], attribute: str | None
) -> Counter[str]:
    """What is no box, or of no annotation that counts."""
    kinds = (str(each.get("type")) for each in results if attribute is None or each.get("from_name") != attribute)
    found = Counter(f"results of type {kind}" for kind in kinds if kind != "videorectangle")
    found["cancelled annotations"] = len(task["annotations"]) - len(done)
    found["older annotations of a task"] = max(len(done) - 1, 0)
    return found + Counter({kind: len(task.get(kind) or ()) for kind in ("predictions", "drafts")})


def _timeline(values: Sequence[dict[str, Any]], facts: Facts | None, fps: float | None) -> _Timeline:
    length = max((int(value.get("framesCount") or 0) for value in values), default=0)
    seconds = max((float(value.get("duration") or 0) for value in values), default=0.0)
    rate = length / seconds if length > 0 and seconds > 0 else None
    if facts is None:
        return _Timeline(length, rate or fps, 1.0, None)
    counted = rate or (length * facts.fps / facts.frames if length and facts.frames else facts.fps)
    # The tool rounds its count to a whole frame.
    same = abs(counted / facts.fps - 1) <= max(SAME_RATE, 1 / max(length, 1))
    return _Timeline(facts.frames or length, facts.fps, 1.0 if same else facts.fps / counted, facts.size_wh)


def _labels(region: dict[str, Any], choices_of: dict[Any, list[dict[str, Any]]], attribute: str | None) -> list[str]:
    """Of a region: its own, or the choices for it under the name of the attribute."""
    if attribute is None:
        return _names(region["value"].get("labels") or [])
    choices = choices_of.get(region.get("id"), ())
    return _names([name for each in choices for name in _names(each["value"].get("choices") or [])])


def _names(value: str | Sequence[str]) -> list[str]:
    """Of a list, or one alone."""
    return [value] if isinstance(value, str) else list(dict.fromkeys(value))


def _moments(
    keys: Sequence[dict[str, Any]], placed: Sequence[tuple[int, list[float]]], line: _Timeline, options: Options
) -> Iterator[tuple[int, list[float]]]:
    """Frames from 0 and corners in percent, of a sequence of keyframes in the order of frames, placed."""
    for number, (first, box) in enumerate(placed):
        after = placed[number + 1] if number + 1 < len(placed) else None
        end = after[0] if after else max(line.frames, first + 1)
        if not _is_enabled(keys[number]):
            end = min(end, first + 1)
        if after is None:
            options.count_worked_out(end - first)
        target = box if after is None else after[1]
        for frame in range(first, end):
            share = (frame - first) / (after[0] - first) if after else 0.0
            yield frame, [a + share * (b - a) for a, b in zip(box, target, strict=True)]


def _is_enabled(key: dict[str, Any]) -> bool:
    """Whether a box is seen from this keyframe on."""
    value = key.get("enabled", True)
    if value not in (True, False):
        raise ValueError(f"enabled is {value!r}, expected true or false")
    return bool(value)


def _placed(key: dict[str, Any], line: _Timeline) -> tuple[int, list[float]]:
    """Frame of the file, from 0, and corners in percent."""
    if whole(key["frame"]) < 1:
        raise ValueError(f"frame {key['frame']}, but Label Studio counts from 1")
    frame = round((whole(key["frame"]) - 1) * line.scale)
    if frame >= MAX_FRAMES:
        raise ValueError(f"frame {frame}, expected less than {MAX_FRAMES}")
    x, y, width, height = (real(key[side]) for side in SIDES)
    angle = math.radians(float(key.get("rotation") or 0))
    if not angle:
        return frame, [x, y, x + width, y + height]
    if line.size_wh is None:
        raise ValueError(f"the box of frame {key['frame']} is rotated, and its video is missing: give --videos")
    shape = line.size_wh[1] / line.size_wh[0]  # percent of the height to one of the width
    across = (width * math.cos(angle), -height * shape * math.sin(angle))
    down = (width * math.sin(angle) / shape, height * math.cos(angle))
    xs, ys = ([0.0, *of, sum(of)] for of in (across, down))
    return frame, [x + min(xs), y + min(ys), x + max(xs), y + max(ys)]
