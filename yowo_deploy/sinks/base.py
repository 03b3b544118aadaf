"""The protocol of a sink, the end that sinks share, and several sinks as one."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from types import TracebackType
from typing import Protocol, TypeVar

from yowo_deploy.arrays import Frame
from yowo_deploy.closing import Closing
from yowo_deploy.errors import YowoError
from yowo_deploy.result import Result


class Sink(AbstractContextManager["Sink"], Protocol):
    """Takes every result of a video in order. Its file is complete if its block ends without an error, else absent."""

    def write(self, frame: Frame, result: Result) -> None:
        """Take the next result and its frame, (H, W, 3) uint8 BGR, or another picture of that size to draw on."""
        ...


S = TypeVar("S", bound="FileSink")


class FileSink:
    """A sink whose files are closed when its block ends, after the last that it has to write: whole or gone.

    Attributes:
        finishes_after_errors: whether the last is written after an error too, for a program that reads along.
    """

    finishes_after_errors = False
    _stack: ExitStack  # of what is open

    def _finish(self) -> None:
        """Write the last; nothing by default."""

    def __enter__(self: S) -> S:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if error is None or self.finishes_after_errors:
                self._finish()
        except BaseException as failure:
            self._stack.__exit__(type(failure), failure, failure.__traceback__)
            raise
        self._stack.__exit__(kind, error, trace)


class CallbackSink(Closing):
    """Calls a function with every frame, (H, W, 3) uint8 BGR, and result, in the thread that writes."""

    def __init__(self, function: Callable[[Frame, Result], object]) -> None:
        self._function = function

    def write(self, frame: Frame, result: Result) -> None:
        """Call the function, see `Sink.write`."""
        self._function(frame, result)


class Sinks:
    """Several sinks as one. A sink that fails is closed and left out; the stream and the others go on.

        with Sinks() as sinks:
            sinks.add("out.webm", VideoSink("out.webm", fps, size_wh))
            sinks.add("my alarm", CallbackSink(alarm))
            for result in detector.stream(frames):
                sinks.write(result.frame, result)

    Args:
        on_failure: called at once with name and error of one that fails.

    Attributes:
        failures: the error of each that failed, by name.
    """

    def __init__(self, on_failure: Callable[[str, Exception], object] | None = None) -> None:
        self._on_failure = on_failure
        self._alive: dict[str, Sink] = {}
        self.failures: dict[str, Exception] = {}

    def __len__(self) -> int:
        """Those that have not failed."""
        return len(self._alive)

    def add(self, name: str, sink: Sink) -> None:
        """Enter a sink and give it a name; what `__enter__` raises comes out here, before the stream begins."""
        self._alive[name] = sink.__enter__()

    def write(self, frame: Frame, result: Result) -> None:
        """Write to each sink, see `Sink.write`."""
        for name, sink in list(self._alive.items()):
            try:
                sink.write(frame, result)
            except Exception as error:  # a sink may fail with whatever it likes: the stream goes on
                self._fail(name, error)

    def drop(self, kind: type) -> None:
        """Close the sinks of a class and discard their files."""
        for name in [name for name, sink in self._alive.items() if isinstance(sink, kind)]:
            self._alive.pop(name).__exit__(KeyboardInterrupt, KeyboardInterrupt(), None)

    def __enter__(self) -> Sinks:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for name, sink in list(self._alive.items()):
            try:
                sink.__exit__(kind, error, trace)
            except Exception as failure:  # as above; the others are closed all the same
                if failure is not error:
                    self._told(name, failure)
        self._alive.clear()

    def _fail(self, name: str, error: Exception) -> None:
        sink = self._alive.pop(name)
        try:
            sink.__exit__(type(error), error, error.__traceback__)
        except Exception as second:  # as above; what our own say on the way out names the file and the remedy
            error = second if isinstance(second, YowoError) else error
        self._told(name, error)

    def _told(self, name: str, error: Exception) -> None:
        self.failures[name] = error
        if self._on_failure is not None:
            self._on_failure(name, error)
