"""Results and events as lines of JSON."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Protocol

from yowo_deploy.arrays import Frame
from yowo_deploy.errors import OutputError
from yowo_deploy.files import atomic_write, make_folders
from yowo_deploy.json_text import to_json
from yowo_deploy.postprocess.events import Events
from yowo_deploy.result import Result
from yowo_deploy.sinks.base import FileSink

FRAMES_SCHEMA = Path(__file__).parent / "frames.schema.json"
EVENTS_SCHEMA = Path(__file__).parent / "events.schema.json"
ALERTS_SCHEMA = Path(__file__).parent / "alerts.schema.json"


class Messages(Protocol):
    """What makes messages of results: `Events`, `Rules`."""

    def push(self, result: Result) -> list[dict[str, Any]]:
        """Take the next result; returns the messages it causes."""
        ...

    def close(self) -> list[dict[str, Any]]:
        """The end messages of what is in progress."""
        ...


Target = str | os.PathLike[str] | Callable[[str], object]


def is_stream(path: str | os.PathLike[str]) -> bool:
    """Whether a path is a pipe or a device, which no file may replace."""
    return Path(path).exists() and not Path(path).is_file() and not Path(path).is_dir()


class Lines:
    """Text, line by line, into a file or to a function.

    Args:
        target: file to write, or a function that takes each line without its end.
        followed: write under the file's own name from the start, each line at once, for a program that reads along.
            Such a file stays as it is when the block fails. Pipes and devices are always written so.

    Attributes:
        stack: to exit when the block ends.

    Raises:
        OutputError: the file cannot be written.
    """

    def __init__(self, target: Target, followed: bool = False) -> None:
        self.stack = ExitStack()
        if callable(target):
            self.write = target
            return
        path = Path(target)
        followed = followed or is_stream(path)
        if not followed:
            path = self.stack.enter_context(atomic_write(path))
        try:
            make_folders(path.parent)
            stream = self.stack.enter_context(path.open("w", encoding="utf-8", buffering=1 if followed else -1))
        except OSError as error:
            raise OutputError(f"cannot write {path}: {error.strerror}; choose another output path") from error
        self.write = lambda line: stream.write(line + "\n")


class JsonSink(FileSink):
    """One line of JSON per frame, see `Result.to_json`; `frames.schema.json` lies beside this file.

    Args:
        target, followed: see `Lines`.
    """

    def __init__(self, target: Target, followed: bool = False) -> None:
        self._lines = Lines(target, followed)
        self._stack = self._lines.stack

    def write(self, frame: Frame, result: Result) -> None:
        """Append a line, see `Sink.write`."""
        self._lines.write(result.to_json())


class MessageSink(FileSink):
    """One line of JSON for each message; what is in progress when the block ends, even by an error, ends there.

    Args:
        target, followed: see `Lines`.
        messages: what makes them: `Rules` for alerts (`alerts.schema.json`), `Events` (`events.schema.json`).
    """

    finishes_after_errors = True

    def __init__(self, target: Target, messages: Messages, followed: bool = False) -> None:
        self._messages, self._lines = messages, Lines(target, followed)
        self._stack = self._lines.stack

    def write(self, frame: Frame, result: Result) -> None:
        """Append the messages of this result, see `Sink.write`."""
        self._tell(self._messages.push(result))

    def _finish(self) -> None:
        self._tell(self._messages.close())

    def _tell(self, messages: list[dict[str, Any]]) -> None:
        for message in messages:
            self._lines.write(to_json(message))


class EventSink(MessageSink):
    """One line of JSON for each message of `Events`.

    Args:
        target, followed: see `Lines`.
        events: with thresholds of your own; `Events()` by default.

    Attributes:
        events: see above.
    """

    def __init__(self, target: Target, events: Events | None = None, followed: bool = False) -> None:
        self.events = events or Events()
        super().__init__(target, self.events, followed)
