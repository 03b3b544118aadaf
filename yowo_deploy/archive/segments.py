"""Pieces of long videos: where they are cut, and detection in one of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from yowo_deploy.archive.parts import Part, PartBuilder
from yowo_deploy.archive.plan import Video
from yowo_deploy.detector import Detector
from yowo_deploy.video.container import KeyFrames, read_key_frames
from yowo_deploy.video.reader import VideoReader
from yowo_deploy.video.sources import open_source
from yowo_deploy.video.timed_frame import TimedFrame


class Segment(NamedTuple):
    """A piece of a video.

    Attributes:
        number: from 0; None for the whole video, read from its beginning to its end.
        first, end: frames; an end of None is that of the video.
        lead_in: frames before it that are seen first.
        lead_in_s: when the first of them is shown, as the file says.
    """

    video: Video
    number: int | None = None
    first: int = 0
    end: int | None = None
    lead_in: int = 0
    lead_in_s: float = 0.0


def cut(video: Video, lead_in: int, segment_s: float) -> list[Segment]:
    """The pieces of a video: each begins at the first key frame that is `segment_s` behind the begin of the one before.

    The last one is at least as long. What has no index of key frames, or is not a file that can be sought in, is one.

    Args:
        lead_in: frames that each is to see first.

    Raises:
        VideoError: it cannot be opened.
    """
    path = Path(video.path)
    if not path.is_file():
        return [Segment(video)]
    with VideoReader(path, allow_damaged=True) as reader:
        can_seek = reader.can_seek
    found = read_key_frames(path) if can_seek else None
    if found is None or not len(found.times_s):
        return [Segment(video)]
    return segments_at(video, found, cut_places(found, segment_s), lead_in)


def cut_places(found: KeyFrames, segment_s: float) -> list[int]:
    """Numbers of the key frames at which pieces begin, but for the first."""
    places, begin_s = [], found.times_s[0]
    latest_s = found.times_s[-1] - segment_s
    for number in found.keys.tolist():
        if begin_s + segment_s <= found.times_s[number] <= latest_s:
            places.append(number)
            begin_s = found.times_s[number]
    return places


def segments_at(video: Video, found: KeyFrames, places: Sequence[int], lead_in: int) -> list[Segment]:
    """The pieces of a video that is cut at these frames, key frames or not."""
    if not places:
        return [Segment(video)]
    ends = [*places, None]
    pieces = [Segment(video, 0, 0, places[0])]
    for number, (first, end) in enumerate(zip(places, ends[1:], strict=True), 1):
        before = min(lead_in, first)
        pieces.append(Segment(video, number, first, end, before, float(found.times_s[first - before])))
    return pieces


def detect_segment(
    detector: Detector, segment: Segment, allow_damaged: bool, facts: dict[str, Any], beat: Callable[[float], None]
) -> Part:
    """Run a model over a piece of a video.

    Args:
        facts: of the part, see `Part`; "fps", "first" and "end" are added.
        beat: receives seconds of video, frame by frame.

    Raises:
        VideoError: it cannot be read.
    """
    edge = detector.lead_in_frames if segment.number is not None else 0
    builder = PartBuilder(detector.spec.classes, edge, segment.first, segment.end)
    begin = segment.first - segment.lead_in
    with ExitStack() as stack:
        if segment.number is None:
            source = stack.enter_context(open_source(segment.video.path, allow_damaged=allow_damaged))
            frames, fps = iter(source), source.fps
        else:
            reader = stack.enter_context(VideoReader(segment.video.path, allow_damaged))
            frames, fps = _frames(reader, segment, begin), reader.fps
        for found in detector.detections(frames, begin, segment.lead_in):
            builder.add(found)
            beat(0.0 if found.number < segment.first else 1 / fps)
    return builder.part({**facts, "fps": fps, "first": segment.first, "end": segment.end})


def _frames(reader: VideoReader, segment: Segment, begin: int) -> Iterator[TimedFrame]:
    if begin and not reader.start_at(begin, segment.lead_in_s):
        return  # which is found when the pieces are joined
    count = None if segment.end is None else segment.end - begin
    for number, image in enumerate(islice(reader, count), begin):
        yield TimedFrame(image, number, reader.timestamp_s)
