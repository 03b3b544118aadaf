"""Output files of `detect`: their names for one source or several, and the sinks that write them."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from yowo_deploy.errors import InputError, OutputError, reason_of
from yowo_deploy.files import refuse_existing, refuse_overwriting
from yowo_deploy.json_text import json_for
from yowo_deploy.model_files.default import model_path
from yowo_deploy.postprocess.events import Events
from yowo_deploy.postprocess.rule_files import parse_zone, read_rules, read_zones
from yowo_deploy.postprocess.rules import Rules
from yowo_deploy.postprocess.zones import Anchor, Zones
from yowo_deploy.sinks import (
    AnnotationsSink,
    EventSink,
    JsonSink,
    MessageSink,
    Sink,
    TimelineSink,
    TubesSink,
    VideoSink,
)
from yowo_deploy.sinks.jsonl import Messages, is_stream
from yowo_deploy.spec import ModelSpec
from yowo_deploy.video.sources import Source, is_choice, is_elsewhere, shown_source

STDOUT = "-"
LONGEST_NAME = 255  # bytes, on every usual file system
SUFFIXES = {
    "video": ".webm",
    "json": ".jsonl",
    "events": ".events.jsonl",
    "alerts": ".alerts.jsonl",
    "tubes": ".tubes.json",
    "timeline": ".png",
    "annotations": ".data.json",
}
OPTIONS = {"video": "output", "annotations": "save-json"}  # of the command line, where it is not the field's name
_TO_STDOUT = ("json", "events", "alerts")
# The files of a run folder, which is what is written where no output is chosen.
RUN_FOLDER = {"video": "{name}.webm", "json": "detections.jsonl", "events": "events.jsonl", "timeline": "timeline.png"}


@dataclass(frozen=True)
class Outputs:
    """The files to write; by default `RUN_FOLDER` in runs/detect/{name}, the timeline if matplotlib is installed.

    Each is the name of a file, a folder (`out/`), or a name with `{name}`, which becomes the name of the source. The
    last two are for several sources.

    Attributes:
        video: the annotated video, .webm, or .mp4 with the [video] extra.
        json: one line of JSON per frame; "-" is stdout.
        events: one line of JSON when an event starts, continues or ends; "-" is stdout.
        alerts: one line of JSON when a rule of `rules` begins or ceases to hold; "-" is stdout.
        tubes: JSON of every tube.
        timeline: picture of the tubes over time, .png, with the [plots] extra.
        annotations: data.json to correct and train on.
        on: an event starts above this score; the model's `event_on` by default.
        off: an event ends below this score; the model's `event_off` by default.
        min_frames: consecutive frames above `on`, or below `off`, that start or end an event.
        trail: frames over which the video shows each person's path.
        zone: zones of the picture, each as `parse_zone` takes it.
        zones: file of more zones, see `read_zones`.
        zone_anchor: which point of a box must be in a zone, see `Zones`.
        rules: file of rules, see `read_rules`.
    """

    video: str | None = None
    json: str | None = None
    events: str | None = None
    alerts: str | None = None
    tubes: str | None = None
    timeline: str | None = None
    annotations: str | None = None
    on: float | None = None
    off: float | None = None
    min_frames: int = 8
    trail: int = 0
    zone: tuple[str, ...] = ()
    zones: str | None = None
    zone_anchor: Anchor = "bottom"
    rules: str | None = None

    @property
    def given(self) -> dict[str, str]:
        """The outputs that are named, by field."""
        return {name: text for name in SUFFIXES if (text := getattr(self, name)) is not None}

    @property
    def chosen(self) -> dict[str, str]:
        """The outputs that are to be written, by field."""
        files = RUN_FOLDER if find_spec("matplotlib") else {k: v for k, v in RUN_FOLDER.items() if k != "timeline"}
        files = files | ({"alerts": "alerts.jsonl"} if self.rules else {})
        return self.given or {name: f"runs/detect/{{name}}/{file}" for name, file in files.items()}

    def places(self, sources: Sequence[str], model: str, overwrite: bool) -> list[dict[str, str]]:
        """The file of each output, for each source; "-" is stdout.

        Args:
            sources: as `detect` takes them; their names become those of files.
            model: its file, which must not be written.
            overwrite: allow files that exist.

        Returns:
            For each source a dict from the field of an output to its file.

        Raises:
            InputError: several sources for one file, or of one name.
            OutputError: a file that exists or is the input itself.
        """
        chosen = self.chosen
        if len(to_stdout := [name for name in _TO_STDOUT if chosen.get(name) == STDOUT]) > 1:
            raise OutputError(f"--{' and --'.join(to_stdout)} cannot both go to stdout: give one of them a file")
        if self.alerts and not self.rules:
            raise InputError("--alerts needs rules: give a file of them with --rules")
        for name, text in chosen.items():
            if text == STDOUT and name not in _TO_STDOUT:
                raise OutputError(f"--{OPTIONS.get(name, name)} cannot go to stdout: give the name of a file")
        places = [
            {name: _place(text, SUFFIXES[name], stem, len(sources) > 1) for name, text in chosen.items()}
            for stem in _names(sources)
        ]
        files = [os.path.realpath(file) for each in places for file in each.values() if file != STDOUT]
        if doubled := sorted({file for file in files if files.count(file) > 1}):
            raise InputError(f"{doubled[0]} would be written twice: give each output, and sources of one name, its own")
        if "annotations" in chosen and (some := [each for each in sources if is_choice(each)]):
            raise InputError(f"--save-json is for videos and whole folders of pictures: {some[0]} is neither")
        for source, each in zip(sources, places, strict=True):
            _refuse(source, model, each, overwrite)
        return places

    def event_rule(self, spec: ModelSpec) -> Events:
        """`Events` with these thresholds, or the model's.

        Raises:
            InputError: `off` above `on`.
        """
        on = spec.event_on if self.on is None else self.on
        off = min(on, spec.event_off) if self.off is None else self.off
        return Events(on, off, self.min_frames, zones=self.new_zones() if self._has_zones else None)

    def messages(self, spec: ModelSpec) -> Messages:
        """What receivers get: the alerts of `rules`, or events if there are no rules. Raises as these do."""
        return self.alert_rules(spec.labels) if self.rules else self.event_rule(spec)

    def check_files(self) -> None:
        """Refuse invalid zones and rules, even if no output needs them.

        Raises:
            InputError: see `new_zones` and `read_rules`.
        """
        self.new_zones()
        if self.rules:
            read_rules(self.rules)

    @property
    def _has_zones(self) -> bool:
        return bool(self.zone or self.zones)

    def new_zones(self) -> Zones:
        """New `Zones` for a new video.

        Raises:
            InputError: see `Zone`, `Zones` and `read_zones`.
        """
        more = read_zones(self.zones) if self.zones else []
        return Zones([*map(parse_zone, self.zone), *more], self.zone_anchor)

    def alert_rules(self, labels: Sequence[str]) -> Rules:
        """New `Rules` for a new video.

        Raises:
            InputError: see `Rules` and `read_rules`.
        """
        return Rules(read_rules(self.rules) if self.rules else [], labels, self.new_zones())

    def sinks(self, places: Mapping[str, str], source: Source, spec: ModelSpec) -> Iterator[tuple[str, Sink]]:
        """Name and sink of each output, one after the other: enter each before the next is made.

        Args:
            places: of this source, from `places`.
            source: of the frames; its rate, size and name go into the files.
            spec: of the model.

        Raises:
            YowoError: see the sinks.
        """
        labels = spec.labels
        makers: dict[str, Callable[[str], Sink]] = {
            "video": lambda path: VideoSink(
                path, source.fps, source.size_wh, self.trail, self.new_zones().zones if self._has_zones else ()
            ),
            "json": lambda path: JsonSink(to_stdout if path == STDOUT else path, source.live),
            "events": lambda path: EventSink(to_stdout if path == STDOUT else path, self.event_rule(spec), source.live),
            "alerts": lambda path: MessageSink(
                to_stdout if path == STDOUT else path, self.alert_rules(labels), source.live
            ),
            "tubes": lambda path: TubesSink(path, source.name, labels),
            "timeline": lambda path: TimelineSink(path, Path(source.name).name, labels),
            "annotations": lambda path: AnnotationsSink(path, source.name, source.fps, source.size_wh, labels),
        }
        for name, path in places.items():
            yield "stdout" if path == STDOUT else path, makers[name](path)


def to_stdout(line: str) -> None:
    """Write a line of JSON to stdout, whatever its encoding is.

    Raises:
        OutputError: it cannot be written, or the reader of the pipe is gone.
    """
    try:
        sys.stdout.write(f"{json_for(line, sys.stdout.encoding)}\n")
        sys.stdout.flush()
    except OSError as error:
        raise OutputError(f"stdout cannot be written: {reason_of(error)}") from error


def _names(sources: Sequence[str]) -> Iterator[str]:
    """For files; channels of one recorder, whose addresses differ in what is not shown, are numbered."""
    seen: Counter[str] = Counter()
    for source in sources:
        file, here = Path(source), not is_elsewhere(source)  # an address may be longer than the name of a file can be
        if here and (file.is_file() or file.is_dir()):
            known = file.stem if file.is_file() else os.path.basename(os.path.abspath(file))
            yield known if known.strip(".") else "source"  # a file named ...mp4 would be written into the folder above
            continue
        name = re.sub(r"[^\w.-]+", "_", shown_source(source)).strip("_.") or "source"
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}_{seen[name]}"


def _place(text: str, suffix: str, name: str, several: bool) -> str:
    if text == STDOUT:
        return text
    if "{name}" in text:
        return text.replace("{name}", _fitting(name, text))
    if text.endswith(("/", os.sep)) or Path(text).is_dir():
        return str(Path(text) / f"{_fitting(name, '{name}' + suffix)}{suffix}")
    if several:
        raise InputError(f"several sources cannot go into one {text}: give a folder, as out/, or a name with {{name}}")
    return text


def _fitting(name: str, pattern: str) -> str:
    """As much of a name as file systems take where it stands in for `{name}`: else a run would fail at its end."""
    while name and any(len(os.fsencode(p.replace("{name}", name))) > LONGEST_NAME for p in Path(pattern).parts):
        name = name[:-1]
    return name


def _refuse(source: str, model: str, places: Mapping[str, str], overwrite: bool) -> None:
    for name, path in places.items():
        if path == STDOUT or (name in _TO_STDOUT and is_stream(path)):
            continue
        if is_stream(path):
            raise OutputError(f"{path} is not a regular file: only --json and --events go to pipes and devices")
        refuse_overwriting(source, path)
        refuse_overwriting(model_path(model), path)
        refuse_existing(path, overwrite)
