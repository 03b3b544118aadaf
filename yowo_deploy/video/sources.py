"""Video sources: files, folders, globs, webcams and network streams."""

from __future__ import annotations

import os
import threading
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

from yowo_deploy.background import Background
from yowo_deploy.closing import Closing, closed_on_error
from yowo_deploy.errors import InputError
from yowo_deploy.files import is_hidden, one_level
from yowo_deploy.plain_text import redacted
from yowo_deploy.video.cameras import (
    TIMEOUT_S,
    Camera,
    Captured,
    Connection,
    RemoteFile,
    connect_address,
    connect_webcam,
)
from yowo_deploy.video.container import HEAD, is_video_head
from yowo_deploy.video.ffmpeg_options import Address
from yowo_deploy.video.image_folder import ImageFolder
from yowo_deploy.video.reader import FrameSource, VideoReader, declared_frames
from yowo_deploy.video.suffixes import is_picture, is_video
from yowo_deploy.video.timed_frame import TimedFrame

Policy = Literal["wait", "drop-oldest"]

DEPTH = {"wait": 8, "drop-oldest": 2}  # frames: enough to even out decoding; as few as hide a thread's pace
MAX_WAITING_BYTES = 1 << 26
FILE_PATIENCE_S = 30.0
WEBCAM_DIGITS = 9  # that OpenCV takes
CLOSE_S = 2 * TIMEOUT_S  # the longest that a read and what follows it should take


@dataclass(frozen=True)
class Counts:
    """What became of a source's frames: captured = given + waiting + dropped + suspect, always.

    Attributes:
        captured: decoded so far.
        given: handed to the reader.
        waiting: decoded, and to be given next.
        dropped: by reason: "overtaken" by newer ones, or left when the source was "closed".
        suspect: by reason, not given: "before a key frame", "black", "repeated".
        reconnects: how often the source was lost and found.
    """

    captured: int
    given: int
    waiting: int
    dropped: Mapping[str, int]
    suspect: Mapping[str, int]
    reconnects: int

    def __str__(self) -> str:
        said = [f"{self.captured} frames captured, {self.given} given"]
        said += [f"{count} dropped ({reason})" for reason, count in self.dropped.items()]
        said += [f"{count} suspect ({reason})" for reason, count in self.suspect.items()]
        return ", ".join(said) + (f", {self.reconnects} reconnects" if self.reconnects else "")


class Feed(Protocol):
    """What a source is fed by, from one thread but for `stop`."""

    name: str
    live: bool
    fps: float
    size_wh: tuple[int, int]
    frames_declared: int

    @property
    def reconnects(self) -> int: ...
    def frames(self) -> Iterator[Captured]: ...
    def stop(self) -> None: ...
    def close(self) -> None: ...


class Source(Closing):
    """Frames of one source, decoded ahead in a thread of its own, which starts when the first frame is asked for.

        with open_source("rtsp://camera/stream") as source:
            for image, index, timestamp in source:
                ...
        print(source.counts)

    For one reader; `close` may be called from any thread, and ends the reader's iteration.

    Args:
        feed: opened; closed with the source.
        policy: "wait" for the reader, or "drop-oldest" frame that waits.
        depth: frames that may wait; fewer if they would take more than 64 MiB.
        give_suspect: give what is suspect as well; counted as given then.

    Attributes:
        name: of the file or address, without what may be a password.
        live: whether it goes on without us.
        fps: as it says; 25 where it says nothing.
        size_wh: (width, height) of the first frame.
        frames_declared: as a file counts them; 0 if it does not.

    Raises:
        InputError: an unknown policy, or a depth of less than one frame.
    """

    def __init__(self, feed: Feed, policy: Policy, depth: int | None = None, give_suspect: bool = False) -> None:
        if policy not in DEPTH:
            raise InputError(f"policy {policy!r} is not known, expected one of {', '.join(DEPTH)}")
        if depth is not None and depth < 1:
            raise InputError(f"depth is {depth}, expected at least one frame")
        self._feed, self.policy, self._give_suspect = feed, policy, give_suspect
        self._depth = DEPTH[policy] if depth is None else depth
        self.name, self.live, self.fps, self.size_wh = feed.name, feed.live, feed.fps, feed.size_wh
        self.frames_declared = feed.frames_declared
        self._changed = threading.Condition()
        self._waiting: deque[TimedFrame] = deque()
        self._captured = self._given = 0
        self._dropped: Counter[str] = Counter()
        self._suspect: Counter[str] = Counter()
        self._last_s, self._first_s = 0.0, 0.0
        self._ended = self._closed = False
        self._failure: BaseException | None = None
        self._thread: threading.Thread | None = None

    @property
    def counts(self) -> Counts:
        """As of now."""
        with self._changed:
            waiting = self._captured - self._given - self._dropped.total() - self._suspect.total()
            dropped, suspect = dict(self._dropped), dict(self._suspect)
            return Counts(self._captured, self._given, waiting, dropped, suspect, self._feed.reconnects)

    def __iter__(self) -> Iterator[TimedFrame]:
        """The frames that were not given yet, until the source ends or is closed.

        Raises:
            VideoError: the source fails; after the frames before.
        """
        while (timed := self._next()) is not None:
            yield timed

    def close(self) -> None:
        """End reading and release the source; safe to call twice. A read that does not return is not waited for beyond
        four seconds: its thread ends with it, or with the program."""
        self._stop()
        started = self._thread
        if started is None:
            self._feed.close()
        elif started is not threading.current_thread():
            started.join(CLOSE_S)
        self._leave()

    def _stop(self) -> None:
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._feed.stop()

    def _next(self) -> TimedFrame | None:
        with self._changed:
            if self._thread is None and not self._closed:
                self._thread = Background(self._run, self._stop, f"source {self.name}")
                self._thread.start()
            # In steps, or Ctrl-C would not get through on Windows.
            while not self._changed.wait_for(lambda: self._waiting or self._ended or self._closed, 0.5):
                continue
            if self._closed:
                return None
            if self._waiting:
                self._given += 1
                self._changed.notify_all()
                return self._waiting.popleft()
            failure, self._failure = self._failure, None
        if failure is not None:
            raise failure
        return None

    def _run(self) -> None:
        failure: BaseException | None = None
        try:
            for captured in self._feed.frames():
                if not self._take(captured):
                    break
        except BaseException as error:  # handed over, not swallowed: the reader raises it
            failure = error
        try:
            self._feed.close()
        except BaseException as error:  # as above; the reader would wait for ever
            failure = failure or error
        with self._changed:
            self._ended, self._failure = True, failure
            self._changed.notify_all()

    def _take(self, captured: Captured) -> bool:
        """Put a frame where the reader finds it, or count why not; false when no more are wanted."""
        with self._changed:
            timed = self._timed(captured)
            if captured.suspect is not None and not self._give_suspect:
                self._suspect[captured.suspect] += 1
                return not self._closed
            room = max(1, min(self._depth, MAX_WAITING_BYTES // max(1, captured.image.nbytes)))
            if self.policy == "wait":
                self._changed.wait_for(lambda: len(self._waiting) < room or self._closed)
            if self._closed:
                self._dropped["closed"] += 1
                return False
            while len(self._waiting) >= room:
                self._waiting.popleft()
                self._dropped["overtaken"] += 1
            self._waiting.append(timed)
            self._changed.notify_all()
            return True

    def _timed(self, captured: Captured) -> TimedFrame:
        """Some files say one time for two frames, or an earlier one for the later: the frame rate helps out there."""
        if self._captured == 0:
            self._first_s, seconds = captured.timestamp, 0.0
        else:
            seconds = captured.timestamp - self._first_s
            seconds = seconds if seconds > self._last_s else self._last_s + 1 / self.fps
        self._last_s = seconds
        self._captured += 1
        return TimedFrame(captured.image, self._captured - 1, seconds)

    def _leave(self) -> None:
        with self._changed:
            if self._waiting:
                self._dropped["closed"] += len(self._waiting)
            self._waiting.clear()


def open_source(
    text: str | os.PathLike[str],
    *,
    policy: Policy | None = None,
    allow_damaged: bool = False,
    depth: int | None = None,
    give_suspect: bool = False,
    timeout_s: float = TIMEOUT_S,
    patience_s: float | None = None,
    allow_hosts: Sequence[str] = (),
) -> Source:
    """The frames of a file, a folder of pictures, a glob, a webcam or a stream.

    Args:
        text: a path; a folder of numbered pictures; a pattern for such pictures, or for one file; the number of a
            webcam; an address that begins with rtsp://, rtsps://, http:// or https://. A file whose name is a
            number is "./0".
        policy: "wait" or "drop-oldest" when the reader is slower than the source. By default files wait, and what is
            live drops.
        allow_damaged: take what can be decoded of a broken file.
        depth: frames that may wait for the reader; 8 where the source waits, 2 where it drops.
        give_suspect: also give frames that are suspect, see `Counts`.
        timeout_s: of a stream: to open it, and for its next frame.
        patience_s: how long a lost source is tried again; for ever by default, 30 s for a file behind an address.
        allow_hosts: that an address may lead to by redirects and playlists, beside its own.

    Raises:
        InputError: no such file or picture, several files, an address of another kind.
        VideoError: it is there and gives no frame: damaged, empty, no answer. A source is tried again only when it
            has been there once.
    """
    with closed_on_error(_feed(os.fspath(text), allow_damaged, timeout_s, patience_s, allow_hosts)) as feed:
        return Source(feed, policy or ("drop-oldest" if feed.live else "wait"), depth, give_suspect)


def find_sources(text: str | os.PathLike[str]) -> list[str]:
    """What `open_source` takes one by one, of a text that may mean several files: a glob, or a folder of videos.

    Raises:
        InputError: a glob that fits nothing, or a folder with neither pictures nor other files.
    """
    said = os.fspath(text)
    if is_elsewhere(said):
        return [said]
    path = Path(said)
    if path.is_dir():
        found = _files(path, "*")
        if videos := [file for file in found if _is_video(file)]:
            found = videos  # pictures and text beside them may be what was made of them
        elif any(is_picture(file) for file in found):
            return [said]
    elif path.exists() or not _is_pattern(said):
        return [said]
    else:
        found = _files(path.parent, path.name)
        if found and all(is_picture(file) for file in found):
            return [said]
    if not found:
        raise InputError(f"{said} holds no file to read: expected a video, videos, or numbered pictures")
    return [str(file) for file in found]


def left_out(text: str | os.PathLike[str], found: Sequence[str]) -> list[str]:
    """Names of the files of a folder that `find_sources` found to be no videos, where it holds videos."""
    folder = Path(text)
    if is_elsewhere(os.fspath(text)) or not folder.is_dir() or list(found) == [os.fspath(text)]:
        return []
    return [file.name for file in _files(folder, "*") if str(file) not in found]


def is_choice(text: str) -> bool:
    """Whether a source is some of the pictures of a folder, by a pattern."""
    return not is_elsewhere(text) and _is_pattern(text) and not Path(text).exists()


def is_elsewhere(text: str) -> bool:
    """Whether a source is a webcam or behind an address, and no file here."""
    return text.isdecimal() or "://" in text


def shown_source(text: str) -> str:
    """A source as it may stand in messages and names of files: of an address nothing that may be a password.

    Raises:
        InputError: it is no address that `open_source` takes.
    """
    return Address.parse(text).shown if "://" in text else redacted(text)


class _LocalFile:
    """A file or a folder as a feed."""

    live, reconnects = False, 0

    def __init__(self, reader: FrameSource, name: str = "") -> None:
        self._reader, self.name, self.fps = reader, name or str(reader.path), reader.fps
        self.size_wh, self.frames_declared = reader.size_wh, reader.frames_declared

    def frames(self) -> Iterator[Captured]:
        for image in self._reader:
            yield Captured(image, self._reader.timestamp_s)

    def stop(self) -> None:
        """A read of a file returns by itself."""

    def close(self) -> None:
        self._reader.close()


def _feed(
    text: str, allow_damaged: bool, timeout_s: float, patience_s: float | None, allow_hosts: Sequence[str]
) -> Feed:
    if text.isdecimal():
        if len(text) > WEBCAM_DIGITS:
            raise InputError(f"webcam {text[:20]}... of {len(text)} digits, expected {WEBCAM_DIGITS} at most")
        number = int(text)
        return Camera(Connection(f"webcam {number}", lambda: connect_webcam(number), patience_s))
    if "://" in text:
        return _stream(Address.parse(text, allow_hosts), allow_damaged, timeout_s, patience_s)
    path = Path(text)
    if path.is_dir():
        return _LocalFile(ImageFolder(path))
    if is_choice(text):
        found = find_sources(text)
        if found == [text]:
            return _LocalFile(ImageFolder(path.parent, path.name), text)
        if len(found) > 1:
            raise InputError(
                f"{text} matches {len(found)} files, {found[0]} and others: open each by itself, see `find_sources`"
            )
        path = Path(found[0])
    return _LocalFile(VideoReader(path, allow_damaged))


def _stream(address: Address, allow_damaged: bool, timeout_s: float, patience_s: float | None) -> Feed:
    connection = Connection(address.shown, lambda: connect_address(address, timeout_s), patience_s)
    if declared_frames(connection.capture) == 0:
        return Camera(connection)
    connection.patience_s = FILE_PATIENCE_S if patience_s is None else patience_s
    return RemoteFile(connection, allow_damaged)


def _is_pattern(text: str) -> bool:
    return any(sign in text for sign in "*?[")


def _files(folder: Path, pattern: str) -> list[Path]:
    files = (file for file in folder.glob(one_level(pattern)) if not file.is_dir())  # a link that leads nowhere is one
    return sorted(file for file in files if not is_hidden(file.name))


def _is_video(file: Path) -> bool:
    """Whether a file is a video by its name, or, if that says neither video nor picture, by its first bytes."""
    if is_video(file) or is_picture(file):
        return is_video(file)
    try:
        with file.open("rb") as stream:
            return is_video_head(stream.read(HEAD))
    except OSError:
        return False
