"""Messages of events for other machines: ids that are unique everywhere, Unix times, and Frigate's form."""

from __future__ import annotations

import re
from collections.abc import Callable
from secrets import token_hex
from time import time
from typing import Any, Literal

from yowo_deploy.postprocess.events import Events
from yowo_deploy.result import Result
from yowo_deploy.sinks.jsonl import Messages

EventsFormat = Literal["yowo", "frigate"]
EVENTS_FORMATS: tuple[EventsFormat, ...] = ("yowo", "frigate")
Json = dict[str, Any]


class Addressed:
    """The messages of a maker, made to leave the machine.

    "source" is the name that the receiver knows, "time" the Unix time of the message, and "id" is unique over sources
    and restarts: the maker's own behind eight hexadecimal digits of this stream.

    Args:
        maker: `Events()` by default.
        source: name of the camera in messages; the results' own by default.
        clock: Unix time.
    """

    def __init__(
        self, maker: Messages | None = None, source: str | None = None, clock: Callable[[], float] = time
    ) -> None:
        self._maker, self._source, self._clock = maker or Events(), source, clock
        self._run = token_hex(4)

    def push(self, result: Result) -> list[Json]:
        """Take the next result."""
        return [self._addressed(message) for message in self._maker.push(result)]

    def close(self) -> list[Json]:
        """The ends of what goes on."""
        return [self._addressed(message) for message in self._maker.close()]

    def _addressed(self, message: Json) -> Json:
        source = message.get("source", "") if self._source is None else self._source
        unique = f"{self._run}-{message['id']}"
        return {**message, "id": unique, "source": source, "time": round(self._clock(), 3)}


class FrigateForm:
    """Messages as Frigate publishes them: `{"type", "before", "after"}`, with Unix times."""

    def __init__(self) -> None:
        self._before: dict[str, Json] = {}

    def of(self, message: Json, now_s: float | None) -> Json:
        """The form of a message of `Addressed`.

        Args:
            now_s: time of the newest result in its source, in which the message has its start; None where unknown.
        """
        after = self._state(message, now_s)
        before = self._before.get(message["id"], after)
        if message["type"] == "end":
            self._before.pop(message["id"], None)
        else:
            self._before[message["id"]] = after
        return {"type": message["type"], "before": before, "after": after}

    def _state(self, message: Json, now_s: float | None) -> Json:
        sent, start, end = message["time"], message.get("start_time"), message.get("end_time")
        begun = self._before.get(message["id"], {}).get("start_time")
        box = [round(side) for side in message.get("box", ())]
        return {
            "id": message["id"],
            "camera": message["source"],
            "frame_time": sent,
            "snapshot_time": sent,
            "label": name_of(message),
            "sub_label": None,
            "top_score": message.get("top_score", 0.0),
            "false_positive": False,
            "start_time": begun or _unix(start, now_s, sent),
            "end_time": _unix(end, now_s, sent) if message["type"] == "end" else None,
            "score": message.get("score", 0.0),
            "box": box,
            "area": (box[2] - box[0]) * (box[3] - box[1]) if len(box) == 4 else 0,
            "region": box,
            "current_zones": list(message.get("zones", ())),
            "entered_zones": list(message.get("entered_zones", ())),
            "thumbnail": None,
            "has_snapshot": False,
            "has_clip": False,
            "stationary": False,
            "motionless_count": 0,
            "position_changes": 0,
        }


def name_of(message: Json) -> str:
    """The rule of an alert, or the action of an event."""
    return message.get("rule") or message.get("label") or "event"


def level_of(name: str) -> str:
    """A name as one level of a topic, or a part of an address: letters, digits, points and dashes; never empty."""
    return re.sub(r"[^\w.-]+", "_", name.rpartition("://")[2]).strip("_.") or "source"


def _unix(seconds: float | None, now_s: float | None, now_unix: float) -> float:
    """A time of a source as Unix time, given both of now."""
    return round(now_unix if seconds is None or now_s is None else now_unix - (now_s - seconds), 3)
