"""Read projects of VGG Image Annotator 3 with videos."""

from __future__ import annotations

import math
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from yowo_deploy.datasets.class_names import parted
from yowo_deploy.datasets.formats.box_rows import UNKNOWN, Footage, Options, Rows
from yowo_deploy.datasets.formats.video_paths import paths_in
from yowo_deploy.datasets.validation import real, text_in
from yowo_deploy.errors import DatasetError

SHAPES = {1: "point", 2: "rectangle", 3: "circle", 4: "ellipse", 5: "line", 6: "polyline", 7: "polygon", 8: "rectangle"}
MAX_STRETCHES = 1000  # of one video: each box is looked for in all of them
ROUNDING_S = 0.0006  # times are written with three decimals


def read_via(file: Path, content: dict[str, Any], options: Options) -> tuple[list[str], list[Rows], list[str]]:
    """Boxes at times in seconds, pixels of the video; the frame on show at a time is floor(second * fps).

    The action is an attribute, the only one or the one named; its value is an option, several parted by commas, or
    text. A box without it takes the actions of the stretches of time (without a box) around it. There are no persons:
    boxes that overlap from one annotated frame to the next are one. Other shapes become the upright box around them.

    Returns:
        Names of classes, videos, notes for the user.

    Raises:
        DatasetError: several attributes and none named, or a shape that is not known.
    """
    known, notes = _attribute(file, content["attribute"], options.attribute)
    names = {str(key): text_in(name) for key, name in content["attribute"][known].get("options", {}).items()}
    footage, videos, of_view = Footage(file.parent, options), [], dict[str, list[dict[str, Any]]]()
    for row in content["metadata"].values():
        of_view.setdefault(str(row["vid"]), []).append(row)
    for view, about in content["view"].items():
        if len(about["fid_list"]) != 1:  # of several files side by side a box does not name its own
            count = len(about["fid_list"]) or "no"
            raise DatasetError(f"{file}: view {view} has {count} file{'s' * (count != 'no')}, expected one")
        name = str(content["file"][str(about["fid_list"][0])]["fname"])
        rows = footage.rows(PureWindowsPath(paths_in(name)[0]).stem, footage.find(name))
        moments = [(row, _labels(row, known, names)) for row in of_view.get(view, ())]
        _add(rows, f"{file}: {rows.name}", moments)
        rows.looked_at = rows.frame
        videos.append(rows)
    strays = [row for view, of in of_view.items() if view not in content["view"] for row in of]
    if videos:
        videos[0].left_out["boxes of no view"] += sum(bool(row.get("xy")) for row in strays)
    return list(dict.fromkeys([*names.values(), *(label for rows in videos for label in rows.label)])), videos, notes


def _attribute(file: Path, attributes: dict[str, Any], named: str | None) -> tuple[str, list[str]]:
    """The id of the attribute that is the action."""
    names = {text_in(about["aname"]): key for key, about in attributes.items()}
    if named is None and len(names) != 1:
        raise DatasetError(f"{file} has the attributes {', '.join(names) or 'none'}: give --action-from attribute:NAME")
    if named is not None and named not in names:
        raise DatasetError(f"{file} has no attribute {named!r}, but {', '.join(names)}")
    chosen = named or next(iter(names))
    others = [name for name in names if name != chosen]
    unused = f"; not taken: {', '.join(others)}" if others else ""
    return names[chosen], [f"the action is the attribute {chosen!r}{unused}"]


def _add(rows: Rows, where: str, labelled: list[tuple[dict[str, Any], list[str]]]) -> None:
    """The boxes of a video, from its moments and their labels."""
    fps = rows.known_fps()
    if odd := [row["z"] for row, _ in labelled if not isinstance(row["z"], list)]:
        raise DatasetError(f"{where}: times {odd[0]!r}, expected a list of seconds")
    stretches = [(row["z"], labels) for row, labels in labelled if not row.get("xy") and len(row["z"]) == 2]
    if len(stretches) > MAX_STRETCHES:
        raise DatasetError(f"{where}: {len(stretches)} stretches of time, expected {MAX_STRETCHES} at most")
    seconds = np.sort([real(row["z"][0]) for row, _ in labelled if row.get("xy") and row["z"]])
    rows.left_out["attributes of a whole file"] += sum(not row.get("xy") and not row["z"] for row, _ in labelled)
    rows.left_out["stretches of time without a box"] += sum(
        int(np.searchsorted(seconds, float(b), "right") <= np.searchsorted(seconds, float(a)))
        for (a, b), _ in stretches
    )
    for row, labels in labelled:
        if not row.get("xy"):
            continue
        kind, *numbers = row["xy"]
        if kind not in SHAPES or len(row["z"]) != 1 or (kind == 2 and len(numbers) != 4):
            raise DatasetError(f"{where} at {row['z']} s: shape {row['xy']}, expected a rectangle at one time")
        if SHAPES[kind] != "rectangle":
            rows.boxed[SHAPES[kind]] += 1
        second, box = real(row["z"][0]), _around(kind, list(map(real, numbers)))
        if not labels:
            around = [of for (a, b), of in stretches if a <= second <= b]
            rows.options.count_worked_out(sum(map(len, around)), "boxes lie in so many stretches of time")
            labels = list(dict.fromkeys(label for of in around for label in of))
        rows.left_out["boxes without an action"] += not labels
        for label in labels:
            rows.add(math.floor((second + ROUNDING_S) * fps), UNKNOWN, label, box)


def _around(kind: int, numbers: list[float]) -> tuple[float, float, float, float]:
    """Corners of the upright box around a shape."""
    x, y, *sizes = numbers
    if SHAPES[kind] == "rectangle" and len(sizes) == 2:
        return x, y, x + sizes[0], y + sizes[1]
    if SHAPES[kind] in ("circle", "ellipse"):
        across, down = (sizes * 2)[:2]
        return x - across, y - down, x + across, y + down
    return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])


def _labels(row: dict[str, Any], known: str, options_of: dict[str, str]) -> list[str]:
    """Names of options, whose ids stand between commas; or, of an attribute of text, names between commas."""
    value = text_in(row.get("av", {}).get(known))
    parts = [value] if value in options_of else [part.strip() for part in value.split(",")]
    if not any(part in options_of for part in parts):
        return parted(value)
    return list(dict.fromkeys(options_of.get(part, part) for part in parts if part))
