"""Alerts: an action, in a zone, for so long, at these times of the day."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from yowo_deploy.boxes import FrameResult
from yowo_deploy.errors import InputError
from yowo_deploy.keywords import nearest_name
from yowo_deploy.postprocess.events import rounded_time
from yowo_deploy.postprocess.zones import MAX_NAME, Presence, Stay, Zones, time_of

ALERT_VERSION = 1
DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_TIMES = re.compile(r"(?:([a-z]{3})(?:-([a-z]{3}))? )?(\d\d):(\d\d)-(\d\d):(\d\d)")
MAX_RULES = 100
Json = dict[str, Any]


@dataclass(frozen=True)
class Times:
    """A part of the day, on some days of the week; one that ends before it begins goes on after midnight.

    Attributes:
        days: 0 is Monday; of the day on which the part begins.
        begin, end: minutes since midnight; the end is no longer in it.
    """

    days: frozenset[int]
    begin: int
    end: int

    @classmethod
    def parse(cls, text: str) -> Times:
        """Parse "22:00-06:00", "mon-fri 08:00-18:00" or "sun 00:00-24:00".

        Raises:
            InputError: the text is of another form.
        """
        found = _TIMES.fullmatch(text)
        if not found or any(day not in (None, *DAYS) for day in found.group(1, 2)):
            raise InputError(f"times {text[:MAX_NAME]!r} are not of the form 22:00-06:00 or mon-fri 08:00-18:00")
        first, last = (None if day is None else DAYS.index(day) for day in (found[1], found[2] or found[1]))
        hours = [int(number) for number in found.group(3, 4, 5, 6)]
        begin, end = 60 * hours[0] + hours[1], 60 * hours[2] + hours[3]
        if max(hours[1], hours[3]) > 59 or begin >= 1440 or end > 1440 or begin == end:
            raise InputError(f"times {text!r} are not two different times of a day")
        if first is None or last is None:
            return cls(frozenset(range(7)), begin, end)
        return cls(frozenset((first + step) % 7 for step in range((last - first) % 7 + 1)), begin, end)

    def hold(self, moment: datetime) -> bool:
        """Whether a moment lies in it."""
        minute, day = 60 * moment.hour + moment.minute, moment.weekday()
        if self.begin < self.end:
            return day in self.days and self.begin <= minute < self.end
        return (day in self.days and minute >= self.begin) or ((day - 1) % 7 in self.days and minute < self.end)


@dataclass(frozen=True)
class Rule:
    """A condition that makes an alert.

    Attributes:
        name: as messages give it.
        actions: labels, one of which must apply; empty: any action.
        zones: names of zones, in one of which the person must be; empty: anywhere.
        for_s: seconds for which it must hold before the alert begins; absences up to the patience of the zones do not
            count.
        score: of the action, above which it begins.
        keep_score: at or above which it goes on; 0.6 of `score` by default.
        people: least number at once, in each zone by itself; if 2 or more, the alert names the zone, not a person.
        times: parts of the day; empty: always.

    Raises:
        InputError: a value outside its range.
    """

    name: str
    actions: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    for_s: float = 0.0
    score: float = 0.35
    keep_score: float | None = None
    people: int = 1
    times: tuple[Times, ...] = ()

    def __post_init__(self) -> None:
        if not self.name.strip() or len(self.name) > MAX_NAME or not self.name.isprintable():
            raise InputError(f"a rule is named {self.name[:MAX_NAME]!r}: expected 1 to {MAX_NAME} printable characters")
        if not 0 <= self.for_s < math.inf:
            raise InputError(f"rule {self.name!r} must hold for {self.for_s:g} s, expected 0 or more")
        if not 0 <= self.keep <= self.score <= 1:
            raise InputError(
                f"rule {self.name!r} begins above {self.score:g} and goes on from {self.keep:g}: "
                "expected 0 <= keep_score <= score <= 1"
            )
        if not 1 <= self.people <= 1000:
            raise InputError(f"rule {self.name!r} needs {self.people} people, expected 1 to 1000")

    @property
    def keep(self) -> float:
        """The score at which it goes on."""
        return 0.6 * self.score if self.keep_score is None else self.keep_score


class Rules:
    """Results in, messages out: `type` new when a rule has held for its time, end when it no longer does.

    Args:
        rules: each with a name of its own.
        labels: class names of the model.
        zones: those that the rules name.
        clock: the time of day at a result, from its seconds; by default now, whatever the result says.

    Raises:
        InputError: an action that the model does not have, an unknown zone, or two rules of one name.
    """

    def __init__(
        self,
        rules: Sequence[Rule],
        labels: Sequence[str],
        zones: Zones | None = None,
        clock: Callable[[float], datetime] | None = None,
    ) -> None:
        self.zones = zones or Zones(())
        names = [rule.name for rule in rules]
        if len(names) > MAX_RULES or len(set(names)) < len(names):
            raise InputError(f"rules are named {', '.join(names[:9])}: expected up to {MAX_RULES} different names")
        for rule in rules:
            _refuse_unknown(rule, "action", rule.actions, labels)
            _refuse_unknown(rule, "zone", rule.zones, self.zones.names)
        self._rules, self._clock = tuple(rules), clock or (lambda seconds: datetime.now())
        self._classes = {rule.name: [labels.index(action) for action in rule.actions] for rule in rules}
        self._alerts: dict[tuple[int, int, str], _Alert] = {}  # by rule, person (-1: several) and zone
        self._before = -math.inf

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the rules."""
        return tuple(rule.name for rule in self._rules)

    def push(self, result: FrameResult) -> list[Json]:
        """Take the next result; returns the messages it causes."""
        now, present = time_of(result), self.zones.push(result)
        moment = self._clock(now)
        messages = []
        for number, rule in enumerate(self._rules):
            if not rule.times or any(times.hold(moment) for times in rule.times):
                for who, zone, rows in self._held(number, rule, result, present):
                    messages += self._go_on((number, who, zone), result, rows, present, now)
        for key in sorted(k for k, alert in self._alerts.items() if alert.stay.is_over(now, self.zones.patience_s)):
            messages += self._end(key)
        self._before = now
        return messages

    def close(self) -> list[Json]:
        """The end messages of the alerts in progress."""
        return [message for key in sorted(self._alerts) for message in self._end(key)]

    def _held(
        self, number: int, rule: Rule, result: FrameResult, present: Mapping[int, Presence]
    ) -> Iterator[tuple[int, str, list[int]]]:
        """Person (-1: several), zone and rows of the detections for which a rule holds in this frame."""
        ids = [] if result.detections.tracker_id is None else result.detections.tracker_id.tolist()
        if rule.people == 1:
            for row, person in enumerate(ids):
                inside = not rule.zones or any(zone in rule.zones for zone in present[person].zones)
                if inside and self._does(rule, result, row, (number, person, "") in self._alerts):
                    yield person, "", [row]
            return
        for zone in rule.zones or ("",):
            begun = (number, -1, zone) in self._alerts
            rows = [
                row
                for row, person in enumerate(ids)
                if (not zone or zone in present[person].zones) and self._does(rule, result, row, begun)
            ]
            if len(rows) >= rule.people:
                yield -1, zone, rows

    def _does(self, rule: Rule, result: FrameResult, row: int, begun: bool) -> bool:
        if not rule.actions:
            return True
        best = result.detections.scores[row, self._classes[rule.name]].max()  # float32, as the limits are compared
        return bool(best >= rule.keep if begun else best > rule.score)

    def _go_on(
        self,
        key: tuple[int, int, str],
        result: FrameResult,
        rows: Sequence[int],
        present: Mapping[int, Presence],
        now: float,
    ) -> list[Json]:
        rule = self._rules[key[0]]
        alert = self._alerts.get(key)
        if alert is None:
            alert = self._alerts[key] = _Alert(Stay(now, now), result.frame_index, result.timestamp, result.source)
        alert.stay.go_on(now, self._before)
        alert.see(result, rows[0], self._classes[rule.name])
        alert.people = len(rows)
        alert.zones = (key[2],) if key[2] else present[key[1]].zones if key[1] >= 0 else ()
        if alert.begun or alert.stay.seconds < rule.for_s:
            return []
        alert.begun = True
        return [self._message("new", key, alert)]

    def _end(self, key: tuple[int, int, str]) -> list[Json]:
        alert = self._alerts.pop(key)
        return [self._message("end", key, alert)] if alert.begun else []

    def _message(self, kind: str, key: tuple[int, int, str], alert: _Alert) -> Json:
        number, who, zone = key
        return {
            "v": ALERT_VERSION,
            "type": kind,
            "id": f"{alert.start_frame}-{number}-{zone if who < 0 else who}",
            "rule": self._rules[number].name,
            "label": alert.label,
            "score": round(alert.score, 5),
            "top_score": round(alert.top_score, 5),
            "seconds": round(alert.stay.seconds, 4),
            "people": alert.people,
            "zones": list(alert.zones),
            "start_time": rounded_time(alert.start_time),
            "end_time": rounded_time(alert.last_time) if kind == "end" else None,
            "box": alert.box,
            "person_id": who if who >= 0 else None,
            "source": alert.source,
            "frame": alert.frame,
        }


@dataclass
class _Alert:
    """What is known of a rule that holds; `begun` whether "new" was reported."""

    stay: Stay
    start_frame: int
    start_time: float | None
    source: str
    frame: int = 0
    last_time: float | None = None
    label: str | None = None
    score: float = 0.0
    top_score: float = 0.0
    people: int = 0
    zones: tuple[str, ...] = ()
    box: list[float] = field(default_factory=list)
    begun: bool = False

    def see(self, result: FrameResult, row: int, classes: Sequence[int]) -> None:
        scores = result.detections.scores[row]
        best = max(classes, key=lambda each: float(scores[each])) if classes else int(result.detections.class_id[row])
        self.frame, self.last_time, self.label = result.frame_index, result.timestamp, result.names[best]
        self.score = float(scores[best])
        self.top_score = max(self.top_score, self.score)
        self.box = [round(float(side), 2) for side in result.detections.xyxy[row]]


def since(start: datetime) -> Callable[[float], datetime]:
    """A clock for `Rules` of a video that began at `start`."""
    return lambda seconds: start + timedelta(seconds=seconds)


def _refuse_unknown(rule: Rule, what: str, given: Sequence[str], known: Sequence[str]) -> None:
    for name in given:
        if name not in known:
            nearest = nearest_name(name, known)
            hint = f": did you mean {nearest!r}?" if nearest else f"; there are {', '.join(known) or 'none'}"
            raise InputError(f"rule {rule.name!r} names the {what} {name[:MAX_NAME]!r}, which does not exist{hint}")
