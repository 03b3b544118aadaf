"""A frame with its number and time, apart from the sources that give it, which load what a network needs."""

from __future__ import annotations

from typing import NamedTuple

from yowo_deploy.arrays import Frame


class TimedFrame(NamedTuple):
    """A frame of a source.

    Attributes:
        image: (H, W, 3) uint8 BGR, upright. Its size may change within a live source.
        index: its number in the source, from 0; frames that were dropped or suspect are numbers left out.
        timestamp: seconds since the first frame, rising strictly: as a file says when it is shown; else when it came.
    """

    image: Frame
    index: int  # type: ignore[assignment]  # also a method of tuples, which is never called on a frame
    timestamp: float
