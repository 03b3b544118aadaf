"""Where frames come from: files and folders of pictures. Knows readers and counts; nothing of models."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal, NamedTuple

from yowo_deploy.preprocess import Frame
from yowo_deploy.video import FrameSource, open_video


class TimedFrame(NamedTuple):
    """A frame of a source.

    Attributes:
        image: (H, W, 3) uint8 BGR.
        index: its number in the source, from 0; frames that were dropped are numbers left out.
        timestamp: seconds since the first frame.
    """

    image: Frame
    index: int  # type: ignore[assignment]  # also a method of tuples, which nobody calls on a frame
    timestamp: float


@dataclass(frozen=True)
class Counts:
    """What became of a source's frames: captured = given + waiting + dropped + suspect, always.

    Attributes:
        captured: decoded so far.
        given: handed to the reader.
        waiting: decoded, and to be given next.
        dropped, suspect: by reason.
        reconnects: how often the source was lost and found.
    """

    captured: int
    given: int
    waiting: int
    dropped: Mapping[str, int]
    suspect: Mapping[str, int]
    reconnects: int


class Source:
    """Frames of one file; `close` may be called from any thread, and ends the reader's iteration."""

    live = False

    def __init__(self, reader: FrameSource) -> None:
        self._reader, self.name = reader, str(reader.path)
        self.fps, self.size_wh, self.frames_declared = reader.fps, reader.size_wh, reader.frames_declared
        self._given, self._closed = 0, False

    @property
    def counts(self) -> Counts:
        """As of now."""
        return Counts(self._given, self._given, 0, {}, {}, 0)

    def __iter__(self) -> Iterator[TimedFrame]:
        for number, image in enumerate(self._reader):
            if self._closed:
                return
            self._given += 1
            yield TimedFrame(image, number, number / self.fps)

    def close(self) -> None:
        """End reading."""
        self._closed = True

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        self._reader.__exit__(None, None, None)


def open_source(
    text: str | os.PathLike[str],
    *,
    policy: Literal["wait", "drop-oldest"] | None = None,
    allow_damaged: bool = False,
) -> Source:
    """The frames of a file or of a folder of pictures; errors as `open_video` says."""
    return Source(open_video(text, allow_damaged))


def find_sources(text: str | os.PathLike[str]) -> list[str]:
    """What `open_source` takes one by one, of a text that may mean several files."""
    return [os.fspath(text)]
