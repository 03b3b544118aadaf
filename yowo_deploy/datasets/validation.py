"""Validate the values of a data.json; each fault is one line.

The reader refuses by these rules what it finds, and the writer by the same ones what it is given, so that nothing is
written that cannot be read.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Float

MAX_FRAMES = 10_000_000  # of a video: 46 hours at 60 frames/s. What counts frames allocates by them
MAX_NUMBER = 1 << 31
_TOO_FAR = f"expected less than {MAX_FRAMES}"
LONGEST_NAME = 255  # bytes, of a part of a path: no file can be called so


def is_whole(value: Any) -> bool:
    """Whether it is a whole number from 0 that fits 31 bits."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < MAX_NUMBER


def real(value: Any) -> float:
    """A number from JSON or text; `1_0` is none, which Python's own `float` takes for ten.

    Raises:
        ValueError, TypeError: it is none.
    """
    if isinstance(value, str) and "_" in value:
        raise ValueError(f"{value!r}, expected a number")
    return float(value)


def whole(value: Any) -> int:
    """A whole number from JSON or text, where tools write 1.0 for 1.

    Raises:
        ValueError: it is none.
    """
    with contextlib.suppress(ValueError, OverflowError, TypeError):
        if isinstance(value, int | str) and not isinstance(value, bool) and "_" not in str(value):
            with contextlib.suppress(ValueError):
                return int(value)
        if (found := real(value)) == int(found) and not isinstance(value, bool):
            return int(found)
    raise ValueError(f"{value!r}, expected a whole number")


def text_in(value: Any) -> str:
    """A name from JSON, where tools write 7 for "7"; "" of null.

    Raises:
        ValueError: it is a list, an object, or true or false.
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float | None):
        raise ValueError(f"{short(value)}, expected a text")
    return "" if value is None else str(value)


def short(value: Any) -> str:
    """As JSON of 40 characters at most, for a message."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 40 else f"{text[:37]}..."


def fault_of_names(names: Any) -> str | None:
    """Of a list of different names."""
    if not isinstance(names, (list, tuple)) or not all(isinstance(name, str) and name for name in names):
        return f"{short(names)}, expected a list of names"
    if unwritable := next((name for name in names if _unwritable(name)), None):
        return f"{unwritable!r} has characters that are none of a text: rename it"
    return "a name occurs twice" if len(set(names)) < len(names) else None


def fault_of_classes(names: Any) -> str | None:
    """Of a list of different names that a model can carry."""
    fault = fault_of_names(names)
    unseen = [] if fault else [name for name in names if not name.isprintable()]
    return f"{unseen[0]!r} has characters that cannot be seen: rename it" if unseen else fault


def fault_of_video(row: dict[str, Any], taken: Iterable[str] = ()) -> str | None:
    """Of a row of `videos`.

    Args:
        taken: names that other videos have.
    """
    name, path = row.get("name"), row.get("path")
    fps, size, judged = row.get("fps"), row.get("size"), row.get("judged_frames", [])
    for what, text in (("name", name), ("path", path)):
        if isinstance(text, str) and _unwritable(text):
            return f"{what} {text!r} has characters that are none of a text: rename it"
    if not isinstance(name, str) or not name or name in taken:
        return f"name {short(name)}, expected one that no other video has"
    if not isinstance(path, str):
        return f"path {short(path)}, expected that of a file or of a folder of frames"
    if any(len(part.encode()) > LONGEST_NAME for part in re.split(r"[/\\]", path)):
        return f"path {short(path)} has a part of more than {LONGEST_NAME} bytes: no file is called so"
    if not is_whole(row.get("frames")) or row["frames"] > MAX_FRAMES:
        return f"frames {short(row.get('frames'))}, expected a whole number up to {MAX_FRAMES}"
    if fps is not None and not (isinstance(fps, (int, float)) and 1 / MAX_NUMBER <= fps <= MAX_NUMBER):
        return f"fps {short(fps)}, expected frames a second, or null"
    if size is not None and not (
        isinstance(size, (list, tuple)) and len(size) == 2 and all(is_whole(s) and s for s in size)
    ):
        return f"size {short(size)}, expected [width, height], or null"
    if not isinstance(judged, list) or not all(map(is_whole, judged)) or judged != sorted(set(judged)):
        return "judged_frames are not an ascending list of whole numbers"
    return f"judged_frames reach {judged[-1]}, {_TOO_FAR}" if judged and judged[-1] >= MAX_FRAMES else None


def fault_of_boxes(frames: NDArray[Any], boxes: Float) -> str | None:
    """Of the frames of a tube, which ascend, and its (F, 4) corners."""
    if frames.ndim != 1 or not len(frames) or frames.dtype.kind not in "iu":
        return "frames are not a list of whole numbers"
    if boxes.shape != (len(frames), 4):
        return f"{len(frames)} frames and boxes of shape {boxes.shape}, expected four numbers for each frame"
    if frames.min() < 0 or (frames[1:] <= frames[:-1]).any():
        return "frames do not ascend from 0 or later"
    if frames.max() >= MAX_FRAMES:
        return f"frames reach {frames.max()}, {_TOO_FAR}"
    return None if np.isfinite(boxes).all() else "a corner is not a finite number"


def _unwritable(text: str) -> bool:
    """Whether it holds what would command a terminal, or halves of characters, as names that are not UTF-8 do."""
    return re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", text) is not None
