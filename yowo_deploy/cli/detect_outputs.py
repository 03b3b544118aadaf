"""Where `detect` puts what it finds: names of files for one source or many, and the sinks that write them."""

from __future__ import annotations

import os
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from yowo_deploy.cli.console import refuse_overwriting
from yowo_deploy.errors import InputError, OutputError
from yowo_deploy.model_files.default import model_path
from yowo_deploy.postprocess.events import Events
from yowo_deploy.sinks import AnnotationsSink, EventSink, JsonSink, Sink, TimelineSink, TubesSink, VideoSink
from yowo_deploy.sinks.jsonl import is_stream
from yowo_deploy.video.sources import Source, is_choice, shown_source

STDOUT = "-"
SUFFIXES = {
    "output": ".webm",
    "json": ".jsonl",
    "events": ".events.jsonl",
    "tubes": ".tubes.json",
    "timeline": ".png",
    "save_json": ".data.json",
}
_TO_STDOUT = ("json", "events")


@dataclass(frozen=True)
class Wish:
    """What to write, as the options say.

    Attributes:
        texts: what was given, by the name of the option.
        events: on, off and frames of `Events`.
    """

    texts: Mapping[str, str]
    events: tuple[float, float, int]

    def places(self, sources: Sequence[str], model: str, overwrite: bool) -> list[dict[str, str]]:
        """For each source the file of each option; "-" is stdout.

        Raises:
            InputError: several sources for one file, or of one name.
            OutputError: nothing to write, a file that is there already or is the input itself.
        """
        if not self.texts:
            raise OutputError(
                "nowhere to put what is found: give -o out.webm, --json out.jsonl, or --json - for stdout"
            )
        if all(self.texts.get(option) == STDOUT for option in _TO_STDOUT):
            raise OutputError("--json and --events cannot both go to stdout: give one of them a file")
        for option, text in self.texts.items():
            if text == STDOUT and option not in _TO_STDOUT:
                raise OutputError(f"--{option.replace('_', '-')} cannot go to stdout: give the name of a file")
        places = [
            {option: _place(text, SUFFIXES[option], name, len(sources) > 1) for option, text in self.texts.items()}
            for name in _names(sources)
        ]
        files = [os.path.realpath(file) for each in places for file in each.values() if file != STDOUT]
        if doubled := sorted({file for file in files if files.count(file) > 1}):
            raise InputError(f"{doubled[0]} would be written twice: give each output, and sources of one name, its own")
        if "save_json" in self.texts and (some := [each for each in sources if is_choice(each)]):
            raise InputError(f"--save-json names videos and whole folders of pictures: {some[0]} is neither")
        for source, each in zip(sources, places, strict=True):
            _refuse(source, model, each, overwrite)
        return places

    def sinks(self, places: Mapping[str, str], source: Source, labels: tuple[str, ...]) -> Iterator[tuple[str, Sink]]:
        """Name and sink of each option, one after the other: each is to be entered before the next is asked for.

        Raises:
            YowoError: see the sinks.
        """
        makers: dict[str, Callable[[str], Sink]] = {
            "output": lambda path: VideoSink(path, source.fps, source.size_wh),
            "json": lambda path: JsonSink(to_stdout if path == STDOUT else path, source.live),
            "events": lambda path: EventSink(to_stdout if path == STDOUT else path, Events(*self.events), source.live),
            "tubes": lambda path: TubesSink(path, source.name, labels),
            "timeline": lambda path: TimelineSink(path, Path(source.name).name, labels),
            "save_json": lambda path: AnnotationsSink(path, source.name, source.fps, source.size_wh, labels),
        }
        for option, path in places.items():
            yield "stdout" if path == STDOUT else path, makers[option](path)


def to_stdout(line: str) -> None:
    """Print a line.

    Raises:
        OutputError: nobody reads any more.
    """
    try:
        click.echo(line)
    except BrokenPipeError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python would complain when it ends
        raise OutputError("nobody reads what goes to stdout any more") from error


def _names(sources: Sequence[str]) -> Iterator[str]:
    """For files; channels of one recorder, whose addresses differ in what is not shown, are numbered."""
    seen: Counter[str] = Counter()
    for source in sources:
        file = Path(source)
        if known := file.stem if file.is_file() else file.name if file.is_dir() else "":
            yield known
            continue
        name = re.sub(r"[^\w.-]+", "_", shown_source(source)).strip("_.") or "source"
        seen[name] += 1
        yield name if seen[name] == 1 else f"{name}_{seen[name]}"


def _place(text: str, suffix: str, name: str, several: bool) -> str:
    if text == STDOUT:
        return text
    if "{name}" in text:
        return text.replace("{name}", name)
    if text.endswith(("/", os.sep)) or Path(text).is_dir():
        return str(Path(text) / f"{name}{suffix}")
    if several:
        raise InputError(f"several sources cannot go into one {text}: give a folder, as out/, or a name with {{name}}")
    return text


def _refuse(source: str, model: str, places: Mapping[str, str], overwrite: bool) -> None:
    for option, path in places.items():
        if path == STDOUT or (option in _TO_STDOUT and is_stream(path)):
            continue
        if is_stream(path):
            raise OutputError(f"{path} is no file: only --json and --events go to pipes and devices")
        refuse_overwriting(source, path)
        refuse_overwriting(str(model_path(model)), path)
        if Path(path).exists() and not overwrite:
            raise OutputError(f"{path} is there already: give another name, or --overwrite")
