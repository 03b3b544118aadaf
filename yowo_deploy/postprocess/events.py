"""Begin, update and end of actions while a video runs, each reported once."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from yowo_deploy.boxes import FrameResult
from yowo_deploy.errors import InputError
from yowo_deploy.postprocess.zones import Presence, Zones

EVENT_VERSION = 1
Kind = Literal["new", "update", "end"]
Json = dict[str, Any]


class Events:
    """Results in, messages out, in Frigate's words: `type` new, update or end. Of each id one new and one end.

    An event is one person doing one thing. It begins with a score above `on` that then stays at `off` or above for
    `min_frames` frames, and is over when the score has been below `off` for so many. Frames where the person is not
    shown count as 0. Of classes that hold at once each has its own event.

    Args:
        on, off: score above which an event begins, and below which it ends.
        min_frames: frames before "new", and before "end".
        update_frames: frames from "new" or "update" to the next "update".
        zones: messages then say in which zones the person is, and in which the event was (`entered_zones`).

    Raises:
        InputError: `off` above `on`, or fewer than one frame.
    """

    def __init__(
        self,
        on: float = 0.5,
        off: float = 0.3,
        min_frames: int = 8,
        update_frames: int = 25,
        zones: Zones | None = None,
    ) -> None:
        if not 0 <= off <= on <= 1:
            raise InputError(f"events begin above {on:g} and end below {off:g}: expected 0 <= off <= on <= 1")
        if min_frames < 1 or update_frames < 1:
            raise InputError(f"events need {min_frames} and {update_frames} frames: expected 1 or more")
        self._on, self._off, self._min_frames, self._update_frames = on, off, min_frames, update_frames
        self._events: dict[tuple[int, int], _Event] = {}
        self._begun, self._best = 0, 0.0
        self._names: tuple[str, ...] = ()
        self._zones = zones

    def push(self, result: FrameResult) -> list[Json]:
        """Take the next result; returns the messages it causes."""
        self._names = result.names
        found, seen = result.detections, {}
        self._best = max(self._best, float(found.scores.max(initial=0)))
        present = self._zones.push(result) if self._zones else {}
        for row, who in enumerate([] if found.tracker_id is None else found.tracker_id.tolist()):
            for class_id in (found.scores[row] >= self._off).nonzero()[0].tolist():
                seen[who, class_id] = row
                if found.scores[row, class_id] > self._on and (who, class_id) not in self._events:
                    self._events[who, class_id] = _Event(result.source, result.frame_index, result.timestamp)
        messages = []
        for key in sorted(self._events):
            event = self._events[key]
            if key in seen:
                event.see(result, seen[key], key[1], present.get(key[0]))
            else:
                event.low += 1
            kind = self._kind(event)
            self._begun += kind == "new"
            if kind is not None:
                messages.append(self._message(kind, key, event))
            if kind == "end" or (event.low and not event.begun):
                del self._events[key]
        return messages

    def close(self) -> list[Json]:
        """The end messages of the events in progress."""
        messages = [self._message("end", key, event) for key, event in sorted(self._events.items()) if event.begun]
        self._events.clear()
        return messages

    def nothing(self) -> str:
        """Why there was no event so far, and which option to lower; "" where there was one."""
        if self._begun:
            return ""
        text = f"no events: no action above {self._on:g} for {self._min_frames} frames; best score {self._best:.2g}"
        if not self._best:
            return text
        return f"{text} (lower --on{' or --min-frames' if self._best > self._on else ''})"

    def _kind(self, event: _Event) -> Kind | None:
        event.silent += 1
        if not event.begun:
            believed = event.seen >= self._min_frames and event.looks >= min(2, self._min_frames)
            return "new" if not event.low and believed else None
        if event.low >= self._min_frames:
            return "end"
        return "update" if event.silent >= self._update_frames else None

    def _message(self, kind: Kind, key: tuple[int, int], event: _Event) -> Json:
        event.begun, event.silent = True, 0
        who, class_id = key
        zones = {"zones": list(event.zones), "entered_zones": list(event.entered)} if self._zones else {}
        return {
            "v": EVENT_VERSION,
            "type": kind,
            "id": f"{event.start_frame}-{who}-{class_id}",
            "label": self._names[class_id],
            "score": round(event.score, 5),
            "top_score": round(event.top_score, 5),
            "start_time": rounded_time(event.start_time),
            "end_time": rounded_time(event.last_time) if kind == "end" else None,
            "box": event.box,
            "person_id": who,
            "source": event.source,
            "frame": event.frame,
            **zones,
        }


@dataclass
class _Event:
    """What is known of an event.

    Attributes:
        seen: frames with a score of `off` or above.
        looks: those of them at which the engine was asked: one alone, held for a while, begins no event.
        low: frames below it, in a row.
        silent: frames since a message.
        begun: whether "new" was given.
        zones: in which the person is; `entered`: has been during the event, in order.
    """

    source: str
    start_frame: int
    start_time: float | None
    frame: int = 0
    last_time: float | None = None
    box: tuple[float, ...] = ()
    score: float = 0.0
    top_score: float = 0.0
    seen: int = 0
    looks: int = 0
    low: int = 0
    silent: int = 0
    begun: bool = False
    zones: tuple[str, ...] = ()
    entered: dict[str, None] = field(default_factory=dict)

    def see(self, result: FrameResult, row: int, class_id: int, present: Presence | None) -> None:
        self.looks += not result.carried
        self.frame, self.last_time = result.frame_index, result.timestamp
        self.box = tuple(round(float(side), 2) for side in result.detections.xyxy[row])
        self.score = float(result.detections.scores[row, class_id])
        self.top_score = max(self.top_score, self.score)
        self.seen += 1
        self.low = 0
        self.zones = present.zones if present else ()
        self.entered |= dict.fromkeys(self.zones)


def rounded_time(seconds: float | None) -> float | None:
    """As files give it, to a tenth of a millisecond."""
    return None if seconds is None else round(seconds, 4)
