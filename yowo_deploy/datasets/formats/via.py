"""Read projects of VGG Image Annotator 3 with videos."""

from __future__ import annotations

import math
from collections import Counter
from pathlib import Path
from typing import Any

from yowo_deploy.datasets.formats.box_rows import UNKNOWN, Footage, Options, Rows
from yowo_deploy.errors import DatasetError

SHAPES = {1: "point", 2: "rectangle", 3: "circle", 4: "ellipse", 5: "line", 6: "polyline", 7: "polygon", 8: "rectangle"}
ROUNDING_S = 0.0006  # times are written with three decimals
_NO_ACTION = "no action"


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
    names = {str(key): str(name) for key, name in content["attribute"][known].get("options", {}).items()}
    footage, boxed, videos = Footage(file.parent, options), Counter[str](), []
    for view, about in content["view"].items():
        name = str(content["file"][str(about["fid_list"][0])]["fname"])
        rows = footage.rows(Path(name).stem, footage.find(name))
        moments = [row for row in content["metadata"].values() if str(row["vid"]) == view]
        _add(rows, f"{file}: {rows.name}", [(row, _labels(row, known, names)) for row in moments], boxed)
        rows.looked_at = rows.frame
        videos.append(rows)
    strays = sum(bool(row.get("xy")) and str(row["vid"]) not in content["view"] for row in content["metadata"].values())
    for count, what in ((boxed.pop(_NO_ACTION, 0), "have no action"), (strays, "are of no view")):
        if count:
            notes.append(f"{count} boxes {what} and are left out")
    if boxed:
        shapes = ", ".join(f"{count} {shape}" for shape, count in sorted(boxed.items()))
        notes.append(f"taken as the upright boxes around them: {shapes}")
    return list(dict.fromkeys([*names.values(), *(label for rows in videos for label in rows.label)])), videos, notes


def _attribute(file: Path, attributes: dict[str, Any], named: str | None) -> tuple[str, list[str]]:
    """The id of the attribute that is the action."""
    names = {str(about["aname"]): key for key, about in attributes.items()}
    if named is None and len(names) != 1:
        raise DatasetError(f"{file} has the attributes {', '.join(names) or 'none'}: say --action-from attribute:NAME")
    if named is not None and named not in names:
        raise DatasetError(f"{file} has no attribute {named!r}, but {', '.join(names)}")
    chosen = named or next(iter(names))
    return names[chosen], [f"the action is the attribute {chosen!r}"]


def _add(rows: Rows, where: str, labelled: list[tuple[dict[str, Any], list[str]]], boxed: Counter[str]) -> None:
    """The boxes of a video, from its moments and their labels; count shapes that are no rectangles."""
    fps = rows.known_fps()
    stretches = [(row["z"], labels) for row, labels in labelled if not row.get("xy") and len(row["z"]) == 2]
    for row, labels in labelled:
        if not row.get("xy"):
            continue
        kind, *numbers = row["xy"]
        if kind not in SHAPES or len(row["z"]) != 1:
            raise DatasetError(f"{where} at {row['z']} s: shape {kind}, expected a rectangle at one time")
        if SHAPES[kind] != "rectangle":
            boxed[SHAPES[kind]] += 1
        second, box = float(row["z"][0]), _around(kind, list(map(float, numbers)))
        labels = labels or [each for (a, b), of in stretches if a <= second <= b for each in of]
        boxed[_NO_ACTION] += not labels
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
    parts = [part.strip() for part in str(row.get("av", {}).get(known, "")).split(",")]
    return list(dict.fromkeys(options_of.get(part, part) for part in parts if part))
