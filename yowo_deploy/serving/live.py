"""Sources that are watched: their newest frame, who does what, and since when."""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from time import perf_counter
from typing import Any

import cv2
import numpy as np

from yowo_deploy.background import Background
from yowo_deploy.boxes import one_line
from yowo_deploy.closing import Closing
from yowo_deploy.detector import Detector
from yowo_deploy.errors import EngineError, ModelFileError, YowoError
from yowo_deploy.postprocess.actions import Action, Actions
from yowo_deploy.postprocess.events import Events, rounded_time
from yowo_deploy.result import Result
from yowo_deploy.serving.tensors import Json
from yowo_deploy.video.sources import Source, is_elsewhere, open_source, shown_source
from yowo_deploy.video.timed_frame import TimedFrame

MAX_BARS, MAX_EVENTS = 2000, 200  # that a page which is opened late gets
WIDEST = 1280  # pixels of a picture for the page
JPEG_QUALITY = 80
SILENT_S = 2.0  # without a frame a live source counts as lost
AGAIN_S = 5.0  # between two tries to open a camera that is not there

Bar = list[Any]  # person, class, score, first and last time


@dataclass
class Seen:
    """What a viewer has already: results, bars and events, by number."""

    result: int = 0
    bars: int = 0
    events: int = 0


@dataclass(frozen=True)
class _Newest:
    """The newest result, when it was there, and what is open in it."""

    number: int
    result: Result
    published: float
    open: list[Bar]


class Pictures:
    """JPEG files of results, each encoded once at most, in the thread that asks first.

    Args:
        draw: whether boxes are drawn into the picture.
    """

    def __init__(self, draw: bool) -> None:
        self._draw, self._busy = draw, threading.Lock()
        self._number, self._jpeg = 0, b""

    def of(self, number: int, result: Result) -> bytes:
        """The picture of result `number`."""
        with self._busy:
            if number != self._number:
                self._number, self._jpeg = number, _jpeg(result.plot() if self._draw else result.frame)
            return self._jpeg


@dataclass
class Watched:
    """One source as its viewers see it. `publish` and `end` are called from one thread, all else from any.

    Attributes:
        state: "starting", "live", "lost" or "ended".
        note: why it was lost or has ended, for people.
        source: while it is open.
    """

    name: str
    events: Events
    state: str = "starting"
    note: str = ""
    source: Source | None = None
    labels: tuple[str, ...] = ()
    _actions: Actions = field(default_factory=lambda: Actions(min_frames=2))
    _newest: _Newest | None = None
    _bars: deque[Bar] = field(default_factory=lambda: deque(maxlen=MAX_BARS))
    _told: deque[Json] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS))
    _counts: Seen = field(default_factory=Seen)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _wake: set[Callable[[], object]] = field(default_factory=set)
    _plain: Pictures = field(default_factory=lambda: Pictures(False))
    _drawn: Pictures = field(default_factory=lambda: Pictures(True))

    def publish(self, result: Result) -> None:
        """Take the next result; viewers get the newest when they are ready for it."""
        bars, told = list(map(_bar, self._actions.push(result))), self.events.push(result)
        following = _open_bars(self._actions, result.timestamp)
        with self._lock:
            self.state, self.note = "live", ""
            self._append(bars, told)
            self._counts.result += 1
            self._newest = _Newest(self._counts.result, result, perf_counter(), following)
        self.wake()

    def end(self, state: str, note: str = "") -> None:
        """The source is over, or lost for a while."""
        over = state == "ended"
        bars, told = (list(map(_bar, self._actions.close())), self.events.close()) if over else ([], [])
        with self._lock:
            self.state, self.note = state, note
            self._append(bars, told)
            if over and self._newest is not None:
                self._newest = _Newest(self._newest.number, self._newest.result, self._newest.published, [])
        self.wake()

    def watch(self, wake: Callable[[], object]) -> Callable[[], None]:
        """Call `wake`, which must return at once, with every news; returns what ends that."""
        with self._lock:
            self._wake.add(wake)
        return lambda: self._wake.discard(wake)

    @property
    def viewers(self) -> int:
        """Who watches."""
        return len(self._wake)

    def wake(self) -> None:
        """Tell every viewer that there may be news."""
        with self._lock:
            waiting = list(self._wake)
        for wake in waiting:
            wake()

    def news(self, seen: Seen) -> bool:
        """Whether there is a frame that a viewer has not seen."""
        return self._counts.result > seen.result

    def message(self, seen: Seen) -> tuple[Json, bytes]:
        """What a viewer does not know yet, which is noted, and the JPEG of the newest frame, b"" if it is known."""
        with self._lock:
            newest, counts = self._newest, self._counts
            head = {"state": self._state(newest), "note": self.note, "first_bar": counts.bars - len(self._bars)}
            head |= {"bars": _last(self._bars, counts.bars - seen.bars)}
            head |= {"events": _last(self._told, counts.events - seen.events)}
            fresh = newest is not None and newest.number > seen.result
            seen.result, seen.bars, seen.events = counts.result, counts.bars, counts.events
        head["source"] = self._account()
        if newest is None:
            return head, b""
        head |= _described(newest)
        return head, self._plain.of(newest.number, newest.result) if fresh else b""

    def drawn(self, seen: Seen) -> bytes:
        """The newest frame with its boxes as JPEG; b"" if a viewer has seen it."""
        newest = self._newest
        if newest is None or newest.number <= seen.result:
            return b""
        seen.result = newest.number
        return self._drawn.of(newest.number, newest.result)

    def _append(self, bars: list[Bar], told: list[Json]) -> None:
        self._bars.extend(bars)
        self._told.extend(told)
        self._counts.bars += len(bars)
        self._counts.events += len(told)

    def _state(self, newest: _Newest | None) -> str:
        silent = newest is not None and perf_counter() - newest.published > SILENT_S
        live = self.source is not None and self.source.live
        return "lost" if self.state == "live" and live and silent else self.state

    def _account(self) -> Json:
        if self.source is None:
            return {}
        counts = self.source.counts
        return {"fps": self.source.fps, "captured": counts.captured, "dropped": sum(counts.dropped.values())} | {
            "suspect": sum(counts.suspect.values()),
            "reconnects": counts.reconnects,
        }


class Hub(Closing):
    """Runs a detector over each source in a thread of its own, and keeps what their viewers see.

    Args:
        texts: what `open_source` takes.
        make: a new detector over the shared engine.
        events: a new event rule.
        observe: gets every result.
        fail: called when the engine cannot go on.
    """

    def __init__(
        self,
        texts: Iterable[str],
        make: Callable[[], Detector],
        events: Callable[[], Events],
        observe: Callable[[Result], object] = lambda result: None,
        fail: Callable[[str], object] = lambda fault: None,
    ) -> None:
        self._make, self._observe, self._fail = make, observe, fail
        self._texts = list(texts)
        self.watched = [Watched(name, events()) for name in _names(self._texts)]
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Begin to read."""
        for text, watched in zip(self._texts, self.watched, strict=True):
            thread = Background(partial(self._run, text, watched), self._over.set, f"watch {watched.name}")
            self._threads.append(thread)
            thread.start()

    def close(self) -> None:
        """End reading, and wait for the frames at work."""
        self._over.set()
        for watched in self.watched:
            if watched.source is not None:
                watched.source.close()
        for thread in self._threads:
            thread.join()

    def _run(self, text: str, watched: Watched) -> None:
        detector = self._make()
        watched.labels = detector.spec.labels
        while not self._over.is_set():
            try:
                self._read(text, watched, detector)
                watched.end("ended")
                return
            except (ModelFileError, EngineError):
                watched.end("ended", "the model gives no usable output")
                self._fail("its output was not usable")
                return
            except YowoError as error:
                again = is_elsewhere(text)
                watched.end("lost" if again else "ended", one_line(str(error)).replace(text, watched.name))
                if not again or self._over.wait(AGAIN_S):
                    return

    def _read(self, text: str, watched: Watched, detector: Detector) -> None:
        with open_source(text) as source:
            watched.source = source
            if self._over.is_set():
                return
            detector.reset(source.name)
            for result in detector.stream(source if source.live else self._paced(source), 1):
                self._observe(result)
                watched.publish(result)

    def _paced(self, frames: Iterable[TimedFrame]) -> Iterator[TimedFrame]:
        """Frames of a file not before their time."""
        began = perf_counter()
        for timed in frames:
            if self._over.wait(max(0.0, began + timed.timestamp - perf_counter())):
                return
            yield timed


def _names(texts: Iterable[str]) -> Iterator[str]:
    """For people: of a file without its folders, of an address without what may be a password; each one once."""
    seen: Counter[str] = Counter()
    for text in texts:
        name = shown_source(text) if is_elsewhere(text) else Path(text).name
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name} ({seen[name]})"


def packed(head: bytes, jpeg: bytes) -> bytes:
    """One message for the page: the length of the JSON (u32, little-endian), the JSON, the JPEG."""
    return len(head).to_bytes(4, "little") + head + jpeg


def bars_of(actions: Iterable[Action]) -> list[Bar]:
    """Bars of actions that are over."""
    return list(map(_bar, actions))


def _bar(action: Action) -> Bar:
    tube, times = action.tube, (rounded_time(action.first_time), rounded_time(action.last_time))
    return [tube.tracker_id, tube.class_id, round(tube.score, 4), *times]


def _open_bars(actions: Actions, now: float | None) -> list[Bar]:
    """As `_bar`, without a score; where the last one of each person ends nothing is said."""
    stretches = actions.open()
    ends = [
        after.first_time if after is not None and after.person == each.person else None
        for each, after in zip(stretches, [*stretches[1:], None], strict=False)
    ]
    return [
        [each.person, each.class_id, None, rounded_time(each.first_time), rounded_time(end)]
        for each, end in zip(stretches, ends, strict=True)
    ]


def _described(newest: _Newest) -> Json:
    result, found = newest.result, newest.result.detections
    height, width = result.orig_shape
    people = [-1] * len(found) if found.tracker_id is None else found.tracker_id.tolist()
    rows = zip(people, found.class_id.tolist(), found.confidence.tolist(), found.xyxy.tolist(), strict=True)
    return {
        "number": newest.number,
        "frame": result.frame_index,
        "time": rounded_time(result.timestamp),
        "size": [width, height],
        "age_ms": round(result.latency_ms + 1000 * (perf_counter() - newest.published), 1),
        "speed": {stage: round(value, 2) for stage, value in result.speed.items()},
        "latency_ms": round(result.latency_ms, 2),
        "people": [[who, kind, round(score, 4), *(round(side, 2) for side in box)] for who, kind, score, box in rows],
        "open": newest.open,
    }


def _last(items: deque[Any], count: int) -> list[Any]:
    """The newest `count` of them, or all that are left."""
    return list(items)[max(0, len(items) - count) :] if count > 0 else []


def _jpeg(frame_bgr: Any) -> bytes:
    if frame_bgr.shape[1] > WIDEST:
        height = max(1, round(frame_bgr.shape[0] * WIDEST / frame_bgr.shape[1]))
        frame_bgr = cv2.resize(frame_bgr, (WIDEST, height), interpolation=cv2.INTER_AREA)
    return bytes(np.asarray(cv2.imencode(".jpg", frame_bgr, [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])[1]))
