"""Facts of a video file by its container: times of its packets, its edit list, and whether its end is missing."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Int
from yowo_deploy.errors import VideoError, foreign
from yowo_deploy.files import native_path
from yowo_deploy.video.ffmpeg_options import FILES_ONLY, capture_options, silent_opencv

MOV_BOXES = (b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"pnot")
EBML, FLV, ASF = b"\x1aE\xdf\xa3", b"FLV\x01", b"\x30\x26\xb2\x75"
CONTAINERS = "MP4, MOV, AVI, MKV, WebM, FLV, MPEG, OGG or ASF"
# Matroska, FLV, MPEG programme stream, OGG, ASF; then bare MPEG-2, MPEG-4 (UCF101-24's clips are such) and H.264.
_MAGIC: tuple[bytes, ...] = (EBML, FLV, b"\x00\x00\x01\xba", b"OggS", ASF)
_MAGIC += (b"\x00\x00\x01\xb3", b"\x00\x00\x01\xb0", b"\x00\x00\x00\x01")
HEAD = 2048  # bytes by which a file is recognised
_SEGMENT, _CLUSTER = 0x18538067, 0x1F43B675
_ASF_PROPERTIES = bytes.fromhex("a1dcab8c47a9cf118ee400c00c205365")  # whose object holds the file's size
MAX_EDITS = 100  # parts of a track that are looked at
MAX_TABLE = 1 << 26  # bytes of a table of an MP4 that are read
MAX_FRAMES = 1 << 23  # of a track whose table is expanded, eight million: three days
MAX_PARTS = 1_000_000  # of a file that are looked at, four hours of FLV; a file of empty ones has 131,000 a MiB
DIFFERENT = 0.9  # share of the frames that have a time of their own; two shown at once are known of phones and browsers
AGREES_S = 0.1  # by which the length of a video may differ from its source's


def is_video_head(head: bytes) -> bool:
    """Whether a file that begins with these bytes, `HEAD` or all there are, is a video of one of `CONTAINERS`."""
    return (
        head[4:8] in MOV_BOXES
        or head.startswith(_MAGIC)
        or (head.startswith(b"RIFF") and head[8:12] == b"AVI ")
        or _is_transport_stream(head)
    )


def _is_transport_stream(head: bytes) -> bool:
    """Packets that begin with G: of 188 bytes, 192 with a time before each (camcorders), or 204 with parity (DVB).

    What was recorded from the air begins within a packet; but no text does, which FFmpeg may take for a playlist.
    """
    aligned = (head[start::step][:3] for start, step in ((0, 188), (4, 192), (0, 204)))
    if any(each == b"GGG" for each in aligned):
        return True
    is_text = all(9 <= byte <= 13 or 32 <= byte <= 126 for byte in head[:4])
    within = (head[start::step] for step in (188, 192, 204) for start in range(0 if is_text else step))
    return any(len(each) >= 5 and each.count(b"G") == len(each) for each in within)


class KeyFrames(NamedTuple):
    """Times of the frames of a video stream by its packets, in the order in which they are shown.

    Attributes:
        times_s: of all frames, ascending; empty where two have the same time.
        keys: numbers of the key frames, from which on frames can be decoded without those before.
    """

    times_s: NDArray[np.float64]
    keys: Int


class Packets(NamedTuple):
    """The packets of a video stream.

    Attributes:
        frames: packets of frames that are shown. Those that an edit list hides are counted too.
        first_s, last_s: earliest and latest time.
        step_s: median of the steps between two times.
        times: different ones; much fewer than frames where times begin anew, as in files that were put together.
    """

    frames: int
    first_s: float
    last_s: float
    step_s: float
    times: int

    @property
    def seconds(self) -> float:
        """From the first frame to the end of the last; 0 where there are no times."""
        if self.times < DIFFERENT * self.frames:
            return self.frames * self.step_s
        span = self.last_s - self.first_s
        return span + self.step_s if span > 0 else 0.0


def mean_fps(frames: int, seconds: float, stated: float) -> float:
    """Frames per second of a video of known length; the stated rate where it fits, or no length is known.

    Browsers state 1000, phones the shortest step between two frames; a rate may be absent. Rounded times, as Matroska's
    milliseconds, leave a rate that fits as it is.
    """
    if frames < 2 or seconds <= 0 or (stated > 0 and abs(frames / stated - seconds) <= min(AGREES_S, 1.5 / stated)):
        return stated
    return float(f"{frames / seconds:.9g}")


def open_capture(path: Path, raw: bool = False) -> cv2.VideoCapture:
    """A local file in OpenCV's FFmpeg; nothing is printed where it cannot be opened.

    Args:
        raw: gives packets, undecoded.
    """
    parameters = [cv2.CAP_PROP_FORMAT, -1] if raw else []
    door = foreign(f"{path} cannot be opened", VideoError)
    with door, silent_opencv(), native_path(path) as name, capture_options(FILES_ONLY):
        return cv2.VideoCapture(name, cv2.CAP_FFMPEG, parameters)


def read_packets(path: Path) -> Packets:
    """Go through the packets of a video file, without decoding any."""
    with foreign(f"{path} cannot be read", VideoError):
        return _packets(open_capture(path, raw=True))


def read_key_frames(path: Path) -> KeyFrames:
    """As `read_packets`, for the times and key frames."""
    with foreign(f"{path} cannot be read", VideoError):
        shown = sorted(_shown_packets(open_capture(path, raw=True)))
    times = np.array([seconds for seconds, _ in shown], np.float64)
    if len(np.unique(times)) < len(times):
        return KeyFrames(times[:0], np.zeros(0, np.int64))
    return KeyFrames(times, np.flatnonzero([is_key for _, is_key in shown]))


def _shown_packets(capture: cv2.VideoCapture) -> Iterator[tuple[float, bool]]:
    """Time of each packet whose frame is shown, and whether that is a key frame."""
    hides_frames = int(capture.get(cv2.CAP_PROP_FOURCC)) == cv2.VideoWriter.fourcc(*"VP80")
    while capture.grab():
        if not (hides_frames and _is_hidden_vp8(capture)):
            is_key = capture.get(cv2.CAP_PROP_LRF_HAS_KEY_FRAME) > 0
            yield capture.get(cv2.CAP_PROP_POS_MSEC) / 1000, is_key
    capture.release()


def _packets(capture: cv2.VideoCapture) -> Packets:
    seconds = [each for each, _ in _shown_packets(capture)]
    times = np.unique(seconds)
    if len(times) < 2:
        return Packets(len(seconds), 0.0, 0.0, 0.0, len(times))
    return Packets(len(seconds), float(times[0]), float(times[-1]), float(np.median(np.diff(times))), len(times))


def _is_hidden_vp8(capture: cv2.VideoCapture) -> bool:
    """Whether a packet is a reference frame that is not shown: bit 4 of the frame tag, RFC 6386, 9.1."""
    found, packet = capture.retrieve()
    return bool(found and packet.size and not int(packet.flat[0]) >> 4 & 1)


def is_cut(path: Path) -> bool | None:
    """Whether a file ends before its container's structure does; None where the structure does not say.

    MP4 and MOV by their boxes (ISO 14496-12), Matroska and WebM by their elements (RFC 8794), AVI by its RIFF chunks,
    FLV by its tags, ASF by the size in its header.
    """
    size = path.stat().st_size
    with path.open("rb") as stream:
        head = stream.read(1 << 16)
        if head[4:8] in MOV_BOXES:
            return max((end for _, _, end in boxes(stream, 0, size)), default=0) > size
        if head.startswith(EBML):
            return _end_of_elements(stream, size) > size
        if head.startswith(b"RIFF"):
            return None if head[4:8] == bytes(4) else _end_of_chunks(stream, size) > size
        if head.startswith(FLV):
            return _end_of_tags(stream, size) > size
    at = head.find(_ASF_PROPERTIES) + 40
    return int.from_bytes(head[at : at + 8], "little") > size if head.startswith(ASF) and at >= 40 else None


class MovTimes(NamedTuple):
    """How long the video of an MP4 or MOV file lasts.

    Attributes:
        media_s: all of its frames; 0 in a fragmented file, whose tables do not hold them.
        shown_s: the parts that its edit list shows; None where it has none.
        shown: frames in those parts; None where there are no such parts, or where the tables do not fit together.
    """

    media_s: float = 0.0
    shown_s: float | None = None
    shown: int | None = None


def mov_times(path: Path) -> MovTimes:
    """Of the first video track; of a file of another container as if it said nothing."""
    size, ticks = path.stat().st_size, 0
    with path.open("rb") as stream:
        if stream.read(8)[4:8] not in MOV_BOXES:
            return MovTimes()
        moov = [box for box in boxes(stream, 0, size) if box[0] == b"moov"]
        inside = [box for _, begin, after in moov for box in boxes(stream, begin, min(after, size))]
        for kind, start, end in inside if all(kind != b"mvex" for kind, _, _ in inside) else ():
            if kind == b"mvhd":
                ticks = timescale(_content(stream, start, end))
            if kind != b"trak":
                continue
            found = dict(reversed(list(_descend(stream, start, end))))  # the first of each: `minf` may have a hdlr
            if found.get(b"hdlr", b"")[8:12] == b"vide":
                return _track_times(found, ticks, size)
    return MovTimes()


def _track_times(found: dict[bytes, bytes], ticks: int, size: int) -> MovTimes:
    """By the table of durations: that in the header is longer where FFmpeg cut the file without encoding it anew.

    Args:
        found: contents of the track's boxes.
        ticks: of the movie, a second.
        size: of the file, bytes: a frame has one at least.
    """
    per_second = max(1, timescale(found.get(b"mdhd", b"")))
    steps, offsets = (_expanded(found.get(kind, b""), size) for kind in (b"stts", b"ctts"))
    ends = np.cumsum(steps)
    media_s = float(ends[-1]) / per_second if len(ends) else 0.0
    edits = list(_edits(found.get(b"elst", b"")))
    if not (ticks and any(length for length, _ in edits)):
        return MovTimes(media_s)
    shown_s = sum(length for length, _ in edits) / ticks
    if len(offsets) not in (0, len(ends)):
        return MovTimes(media_s, shown_s)
    times = ends - steps + (offsets.astype(np.int32) if len(offsets) else 0)  # also of version 0 as QuickTime reads it
    # Lengths are rounded to ticks of the movie: what would show for half of one is behind the end.
    parts = [(first, first + (length - 0.5) * per_second / ticks) for length, first in edits]
    return MovTimes(media_s, shown_s, sum(int(((first <= times) & (times < end)).sum()) for first, end in parts))


def _expanded(table: bytes, most: int) -> Int:
    """A value for each sample, of pairs of a count and a value; none where that would be more than `most`."""
    length = int.from_bytes(table[4:8], "big")
    pairs = np.frombuffer(table[8 : 8 + 8 * min(length, (len(table) - 8) // 8)], ">u4").reshape(-1, 2).astype(np.int64)
    return np.repeat(pairs[:, 1], pairs[:, 0]) if pairs[:, 0].sum() <= min(most, MAX_FRAMES) else pairs[:0, 1]


def timescale(content: bytes) -> int:
    """Ticks a second, of an mvhd or mdhd box."""
    at = 20 if content[:1] == b"\x01" else 12
    return int.from_bytes(content[at : at + 4], "big")


def _edits(content: bytes) -> Iterator[tuple[int, int]]:
    """Of the parts that are shown: length in ticks of the movie, first time in ticks of the track.

    An entry without media only shifts what follows.
    """
    wide = 8 if content[:1] == b"\x01" else 4
    for number in range(min(int.from_bytes(content[4:8], "big"), MAX_EDITS, len(content) // wide)):
        entry = content[8 + number * (2 * wide + 4) :][: 2 * wide]
        first = int.from_bytes(entry[wide:], "big", signed=True)
        if first >= 0:
            yield int.from_bytes(entry[:wide], "big"), first


def _descend(stream: BinaryIO, start: int, end: int, depth: int = 0) -> Iterator[tuple[bytes, bytes]]:
    """Kind and content of the boxes of a track that matter here."""
    for kind, inside, after in boxes(stream, start, end):
        if kind in (b"edts", b"mdia", b"minf", b"stbl") and depth < 4:
            yield from _descend(stream, inside, after, depth + 1)
        elif kind in (b"elst", b"hdlr", b"mdhd", b"stts", b"ctts"):
            yield kind, _content(stream, inside, after)


def _content(stream: BinaryIO, start: int, end: int) -> bytes:
    stream.seek(start)
    return stream.read(min(end - start, MAX_TABLE))


def boxes(stream: BinaryIO, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Kind, begin of the content and end of each box; the last may end behind `end`. After `MAX_PARTS` none."""
    for _ in range(MAX_PARTS):
        if at + 8 > end:
            return
        stream.seek(at)
        head = stream.read(16)
        size, begin = int.from_bytes(head[:4], "big"), at + 8
        if size == 1:
            size, begin = int.from_bytes(head[8:16], "big"), at + 16
        size = size or end - at  # to the end of the file
        if size < begin - at:
            return
        yield head[4:8], begin, at + size
        at += size


def _end_of_elements(stream: BinaryIO, size: int) -> int:
    """Where the last element of a Matroska file ends; those of unknown size are entered."""
    at = 0
    for _ in range(MAX_PARTS):
        if at >= size:
            return at
        stream.seek(at)
        head = stream.read(12)
        id_length = 9 - head[0].bit_length() if head[0] else 9
        length = 9 - head[id_length].bit_length() if id_length < len(head) and head[id_length] else 9
        if id_length > 4 or length > 8 or id_length + length > len(head):
            return size  # no element: padding behind the last one, or damage
        value = int.from_bytes(head[id_length : id_length + length], "big") & ((1 << 7 * length) - 1)
        unknown = value == (1 << 7 * length) - 1
        at += id_length + length
        if not unknown:
            at += value
        elif int.from_bytes(head[:id_length], "big") not in (_SEGMENT, _CLUSTER):
            return size
    return size


def _end_of_chunks(stream: BinaryIO, size: int) -> int:
    """Where the last RIFF chunk of an AVI file ends; one larger than 1 GB has several."""
    at = 0
    for _ in range(MAX_PARTS):
        if at + 8 > size:
            return at
        stream.seek(at)
        head = stream.read(8)
        if head[:4] != b"RIFF":
            return at  # padding
        at += 8 + int.from_bytes(head[4:], "little")
    return size


def _end_of_tags(stream: BinaryIO, size: int) -> int:
    """Where the last tag of an FLV file ends, with the size that follows each."""
    at = 13
    for _ in range(MAX_PARTS):
        if at >= size:
            return at
        stream.seek(at)
        at += 15 + int.from_bytes(stream.read(4)[1:], "big")
    return size
