"""What a worker does with a video: cut it, run the model over its pieces, link what was found."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple
from zlib import crc32

from yowo_deploy.archive.linking import record_of, results_of
from yowo_deploy.archive.parts import Part, PiecesDiffer
from yowo_deploy.archive.plan import Video
from yowo_deploy.archive.segments import Segment, cut, detect_segment
from yowo_deploy.archive.settings import ArchiveSettings, Stamp
from yowo_deploy.errors import InputError, foreign
from yowo_deploy.files import existing_file, one_level, write_text
from yowo_deploy.json_text import to_json
from yowo_deploy.video.sources import is_choice
from yowo_deploy.video.suffixes import is_picture
from yowo_deploy.worker_pool import Beat


class Link(NamedTuple):
    """The task to link a video whose pieces are all there."""

    pieces: tuple[Segment, ...]

    @property
    def video(self) -> Video:
        """Of the pieces."""
        return self.pieces[0].video


@dataclass(frozen=True)
class Done:
    """A video whose record is there.

    Attributes:
        seconds: of video.
        reused: it was there before.
    """

    seconds: float
    reused: bool = False


@dataclass(frozen=True)
class Cut:
    """A video that is not done.

    Attributes:
        pieces: all of it.
        missing: those without a part.
    """

    pieces: tuple[Segment, ...]
    missing: tuple[Segment, ...]


class ArchiveWorker:
    """A `Worker` with one engine: a `Video` is done or cut, a `Segment` gets its part, a `Link` its record."""

    def __init__(self, settings: ArchiveSettings) -> None:
        self._settings, self._detector = settings, settings.open_detector()
        self.greeting: Stamp = settings.stamp(self._detector.backend.name)
        self._shown = settings.shown_of(self._detector.spec)

    def do(self, task: Video | Segment | Link, beat: Beat) -> Done | Cut | None:
        """See `Worker`.

        Raises:
            InputError: a part that is there was made by another model, threshold or version; or see `detect_segment`.
        """
        if isinstance(task, Segment):
            self._detect(task, beat)
            return None
        return self._link(task.pieces, beat) if isinstance(task, Link) else self._begin(task, beat)

    def _begin(self, video: Video, beat: Beat) -> Done | Cut:
        record = self._settings.record(video)
        if record.is_file() and (known := _json(record)) and self._is_ours(video, known, self.greeting.of_records):
            return Done(known["seconds"], reused=True)
        pieces = tuple(cut(video, self._detector.lead_in_frames, self._settings.segment_s))
        missing = tuple(piece for piece in pieces if self._part(piece) is None)
        if len(missing) > 1:
            return Cut(pieces, missing)
        for piece in missing:
            self._detect(piece, beat)
        return self._link(pieces, beat)

    def _detect(self, segment: Segment, beat: Beat) -> Part:
        settings, video = self._settings, segment.video
        facts = {"stamp": self.greeting.of_parts, "source": video.path, "identity": _identity(video)}
        part = detect_segment(self._detector, segment, settings.allow_damaged, facts, beat)
        part.write(settings.part(video, segment.number))
        return part

    def _link(self, pieces: Sequence[Segment], beat: Beat) -> Done:
        parts = [part for piece in pieces if (part := self._part(piece)) is not None]
        try:
            if len(parts) < len(pieces):
                raise PiecesDiffer
            return self._write_record(pieces[0].video, parts)
        except PiecesDiffer:  # from its beginning to its end, as every video can be read
            whole = Segment(pieces[0].video)
            return self._write_record(whole.video, [self._part(whole) or self._detect(whole, beat)])

    def _write_record(self, video: Video, parts: Sequence[Part]) -> Done:
        settings, spec = self._settings, self._detector.spec
        results = results_of(parts, spec, self._shown, video.path, settings.whole_tubes)
        record = record_of(results, spec, settings.outputs, parts[0].facts["fps"])
        head = {"v": 1, "stamp": self.greeting.of_records, "source": video.path, "identity": _identity(video)}
        write_text(settings.record(video), to_json({**head, **record}) + "\n")
        return Done(record["seconds"])

    def _part(self, segment: Segment) -> Part | None:
        """What is stored of a piece; None where there is nothing, or what is damaged or of a file that has changed."""
        path = self._settings.part(segment.video, segment.number)
        if not path.is_file():
            return None
        try:
            part = Part.read(path)
        except InputError:
            return None
        if part.facts["stamp"] != self.greeting.of_parts:
            raise InputError(f"{path} was made with another model, threshold or version: give another folder")
        ours = self._is_ours(segment.video, part.facts, self.greeting.of_parts)
        return part if ours and (part.facts["first"], part.facts["end"]) == (segment.first, segment.end) else None

    def _is_ours(self, video: Video, facts: Mapping[str, Any], stamp: str) -> bool:
        return facts.get("stamp") == stamp and facts.get("identity") == _identity(video)


def _identity(video: Video) -> list[int]:
    """What changes with the file of a video: its size, and when it was written; of pictures their number, and a sum."""
    path = Path(video.path)
    if path.is_dir() or is_choice(video.path):  # a folder's own time stays where a picture in it is written anew
        here = path.iterdir() if path.is_dir() else path.parent.glob(one_level(path.name))
        pictures = sorted(filter(is_picture, here))
        facts = [f"{each.name} {found.st_size} {found.st_mtime_ns}" for each in pictures if (found := os.stat(each))]
        return [len(facts), crc32("\n".join(facts).encode(errors="surrogateescape"))]
    found = os.stat(existing_file(path, "video"))
    return [found.st_size, found.st_mtime_ns]


def _json(path: Path) -> dict[str, Any]:
    """What a record holds; nothing of a damaged one."""
    with suppress(InputError), foreign(str(path), InputError, OSError):
        return dict(json.loads(path.read_bytes()))
    return {}
