"""Stored detections of a piece of a video: one file, whole or absent, that names what it was made with."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Frame
from yowo_deploy.boxes import Detections
from yowo_deploy.errors import InputError, foreign
from yowo_deploy.files import atomic_write
from yowo_deploy.result_linker import Unlinked

NEAR_S = 0.001  # by which the times of a frame may differ that was reached in two ways


class PiecesDiffer(Exception):
    """Frames that two pieces share are not the same: this video cannot be decoded from its key frames."""


@dataclass(frozen=True)
class Part:
    """What was found in a piece of a video.

    Attributes:
        facts: "stamp" (see `Stamp`), "source", "identity" of its file, "fps", "first" and "end" of the piece.
        rows: by name, of each frame: "number", "time" (s), "size" (width, height), "asked", "anew", "best", "count".
        boxes: by name, of each detection: "xyxy", "scores", "objectness".
        seen: (N, 3) number, time and checksum of the frames at both ends that the pieces beside this one see too.
    """

    facts: Mapping[str, Any]
    rows: Mapping[str, NDArray[Any]]
    boxes: Mapping[str, NDArray[Any]]
    seen: NDArray[np.float64]

    def write(self, path: Path) -> None:
        """Into a file of its own.

        Raises:
            OutputError: it cannot be written.
        """
        arrays = {**self.rows, **self.boxes, "seen": self.seen}
        packed = io.BytesIO()
        np.savez_compressed(packed, facts=_as_bytes(self.facts), **arrays)  # type: ignore[arg-type]
        with atomic_write(path) as temporary:
            temporary.write_bytes(packed.getvalue())

    @classmethod
    def read(cls, path: Path) -> Part:
        """From a file.

        Raises:
            InputError: it is damaged.
        """
        with foreign(f"{path} is damaged, remove it", InputError), np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
            facts = json.loads(arrays.pop("facts").tobytes())
            seen, boxes = arrays.pop("seen"), {name: arrays.pop(name) for name in _BOXES}
            return cls(facts, {name: arrays[name] for name in _ROWS}, boxes, seen)

    def frames(self) -> Iterator[Unlinked]:
        """What `ResultLinker` takes, with frames that have a size and no pixels."""
        ends = np.cumsum(self.rows["count"])
        for row, end in enumerate(ends.tolist()):
            number, seconds, size_wh, asked, anew, best, count = (self.rows[name][row].tolist() for name in _ROWS)
            found = self._detections(end - count, end) if asked else None
            yield Unlinked(number, _without_pixels(*size_wh), seconds, found, best, anew)

    def _detections(self, begin: int, end: int) -> Detections:
        xyxy, scores, objectness = (self.boxes[name][begin:end] for name in _BOXES)
        return Detections(xyxy, scores.max(axis=1), scores.argmax(axis=1), scores, objectness=objectness)


_ROWS = ("number", "time", "size", "asked", "anew", "best", "count")
_BOXES = ("xyxy", "scores", "objectness")


@dataclass
class PartBuilder:
    """Gathers the frames of a piece.

    Args:
        classes: of the model.
        edge: frames at either end of the piece that others see too; 0 for a whole video.
        first, end: of the piece; what comes before `first` is its lead-in. None: to the end of the video.
    """

    classes: int
    edge: int
    first: int = 0
    end: int | None = None
    _found: list[Unlinked] = field(default_factory=list)
    _seen: list[tuple[int, float, int]] = field(default_factory=list)

    def add(self, found: Unlinked) -> None:
        """Take the next frame."""
        seconds = found.timestamp or 0.0
        if found.number < self.first or (self.end is not None and found.number >= self.end - self.edge):
            self._seen.append((found.number, seconds, crc32(np.ascontiguousarray(found.image).data)))
        if found.number >= self.first:
            self._found.append(found._replace(image=_without_pixels(found.image.shape[1], found.image.shape[0])))

    def part(self, facts: Mapping[str, Any]) -> Part:
        """All of it."""
        columns: dict[str, list[Any]] = {name: [] for name in _ROWS}
        for each in self._found:
            size_wh = each.image.shape[1], each.image.shape[0]
            asked, count = each.detections is not None, len(each.detections or ())
            values = (each.number, each.timestamp or 0.0, size_wh, asked, each.is_anew, each.best_score, count)
            for name, value in zip(_ROWS, values, strict=True):
                columns[name].append(value)
        kinds = {"number": np.int64, "time": np.float64, "size": np.int32, "asked": bool, "anew": bool}
        kinds |= {"best": np.float64, "count": np.int64}
        rows = {name: np.array(values, kinds[name]) for name, values in columns.items()}
        found = [each.detections for each in self._found if each.detections is not None]
        found = found or [Detections.empty(self.classes)]
        boxes = {
            "xyxy": np.concatenate([each.xyxy for each in found]),
            "scores": np.concatenate([each.scores for each in found]),
            "objectness": np.concatenate([_objectness(each) for each in found]),
        }
        return Part(facts, rows, boxes, np.array(self._seen, np.float64).reshape(-1, 3))


def joined(parts: Sequence[Part]) -> Iterator[Unlinked]:
    """The frames of a video from its pieces, with times from its first frame on.

    Raises:
        PiecesDiffer: numbers, times or pixels of frames that two pieces share differ; perhaps after some frames.
    """
    known: dict[int, tuple[float, float]] = {}
    number, latest_s, first_s = 0, 0.0, None
    for part in parts:
        _agree(known, part)
        known |= {int(each): (seconds, checksum) for each, seconds, checksum in part.seen.tolist()}
        for found in part.frames():
            absolute_s = found.timestamp or 0.0
            first_s = absolute_s if first_s is None else first_s
            seconds = absolute_s - first_s
            if found.number != number or (number and seconds <= latest_s):
                raise PiecesDiffer
            number, latest_s = number + 1, seconds
            yield found._replace(timestamp=seconds)


def _agree(known: Mapping[int, tuple[float, float]], part: Part) -> None:
    """Whether the lead-in of a part is what the parts before it end with."""
    first = part.facts["first"]
    lead_in = {int(number): (seconds, checksum) for number, seconds, checksum in part.seen.tolist() if number < first}
    if first and (first - 1 not in lead_in or not lead_in.keys() <= known.keys()):
        raise PiecesDiffer
    for number, (seconds, checksum) in lead_in.items():
        known_s, known_checksum = known[number]
        if checksum != known_checksum or abs(seconds - known_s) > NEAR_S:
            raise PiecesDiffer


def _without_pixels(width: int, height: int) -> Frame:
    return np.broadcast_to(np.uint8(0), (height, width, 3))


def _objectness(found: Detections) -> NDArray[np.float32]:
    assert found.objectness is not None  # as `detect_and_best` gives it
    return found.objectness


def _as_bytes(facts: Mapping[str, Any]) -> NDArray[np.uint8]:
    return np.frombuffer(json.dumps(facts, sort_keys=True).encode(), np.uint8)
