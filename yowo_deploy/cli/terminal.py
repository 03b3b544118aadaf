"""Standard streams and signals of the command line: what leaves is clean, and every end has its exit code."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import click

from yowo_deploy.errors import OutputError, YowoError, reason_of
from yowo_deploy.plain_text import escaped, redacted_words, shown

TOLD = signal.SIGTERM, *((signal.SIGHUP,) if hasattr(signal, "SIGHUP") else ())
_CLOSED = {errno.EPIPE: "was closed by its reader", errno.EBADF: "is closed"}
_KEPT = "\n\r\t"


class CleanStream(io.TextIOWrapper):
    """A standard stream that escapes what would command a terminal, and shows nothing that may be a password.

    Args:
        name: of stdout, whose failures are errors; "" of stderr, about which nothing could be said.
    """

    def __init__(self, stream: io.TextIOWrapper, name: str) -> None:
        self._name = name
        super().__init__(stream.buffer, stream.encoding, "backslashreplace", line_buffering=stream.line_buffering)

    def write(self, text: str) -> int:
        """See `TextIOWrapper.write`.

        Raises:
            OutputError: it cannot be written.
        """
        with self._failures():
            super().write(escaped(redacted_words(text), _KEPT))
        return len(text)

    def flush(self) -> None:
        """See `TextIOWrapper.flush`; errors as of `write`."""
        with self._failures():
            super().flush()

    @contextlib.contextmanager
    def _failures(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # a ValueError of a closed one
            if self._name:
                number = getattr(error, "errno", errno.EBADF)
                why = _CLOSED[number] if number in _CLOSED else f"cannot be written: {reason_of(error)}"
                raise OutputError(f"{self._name} {why}") from error


@contextlib.contextmanager
def clean_streams() -> Iterator[None]:
    """stdout and stderr as `CleanStream` inside the block; closed ones as ones that cannot be written."""
    _fill_closed()
    before = sys.stdout, sys.stderr
    named: Any = zip(before, ("stdout", ""), strict=True)
    stdout, stderr = (CleanStream(each, name) for each, name in named)
    sys.stdout, sys.stderr = stdout, stderr
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        for stream in (stdout, stderr):
            with contextlib.suppress(OSError, ValueError, OutputError):
                stream.detach()


def _fill_closed() -> None:
    """Open descriptors 0 to 2 where they are closed, or a file opened later would be taken for stdout."""
    while (handle := os.open(os.devnull, os.O_RDONLY)) < 3:
        os.set_inheritable(handle, True)
    os.close(handle)
    for name, number in (("stdout", 1), ("stderr", 2)):
        if getattr(sys, name) is None:
            setattr(sys, name, io.TextIOWrapper(io.FileIO(number, "w", closefd=False), "utf-8"))


def _discard_stdout() -> None:
    """Let what stdout still holds go nowhere, or Python would complain when it ends."""
    with contextlib.suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@contextlib.contextmanager
def ended_by_signals() -> Iterator[None]:
    """Leave the block by SystemExit at SIGTERM and SIGHUP, so that files are tidied away; once: a second is ignored.

    So also where a library raises an error of its own in its place (locks, NumPy and PyTorch do), or swallows it.
    """
    report, received = sys.unraisablehook, list[int]()

    def leave(number: int, _: FrameType | None) -> None:
        for each in TOLD:
            signal.signal(each, signal.SIG_IGN)
        received.append(number)
        raise SystemExit(128 + number)

    def again(dropped: sys.UnraisableHookArgs) -> None:
        """Python drops what is raised in destructors and callbacks of weak references: the signal is sent again."""
        if not isinstance(dropped.exc_value, SystemExit):
            report(dropped)
            return
        number = int(dropped.exc_value.code or 0) - 128
        signal.signal(number, leave)
        threading.Timer(0.01, os.kill, (os.getpid(), number)).start()  # when this has returned

    before = {each: signal.getsignal(each) for each in TOLD}
    try:
        for each, handler in before.items():
            if handler is signal.SIG_DFL:  # under nohup SIGHUP is ignored
                signal.signal(each, leave)
                sys.unraisablehook = again
    except ValueError:  # not the main thread, which alone hears signals
        before = {}
    try:
        yield
    finally:
        sys.unraisablehook = report
        for each, handler in before.items():
            signal.signal(each, handler)
        if received:
            raise SystemExit(128 + received[0])


def run(command: Callable[[], object]) -> int:
    """Call a command of click's; every error is one line on stderr.

    Returns:
        The exit code: 1 for an error of ours, of the system or of memory, 2 for a wrong argument, 130 after Ctrl-C.
    """
    try:
        code = _code_of(command)
        sys.stdout.flush()
    except OutputError as error:
        click.echo(f"Error: {error}", err=True)
        _discard_stdout()
        return 1
    return code


def _is_of_memory(error: BaseException) -> bool:
    """Whether memory, of the machine or a GPU, was too small; PyTorch has RuntimeErrors for that."""
    kind, said = type(error).__name__, str(error)
    return isinstance(error, MemoryError) or kind == "OutOfMemoryError" or "can't allocate memory" in said


def _code_of(command: Callable[[], object]) -> int:
    try:
        code = command()
    except click.ClickException as error:
        if isinstance(error, click.UsageError) and error.ctx is not None:
            click.echo(f"{error.ctx.get_usage()}\nTry '{error.ctx.command_path} --help' for help.\n", err=True)
        click.echo(f"Error: {shown(error.format_message())}", err=True)
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return 130
    except OutputError:
        raise
    except YowoError as error:
        click.echo(f"Error: {error}", err=True)
    except (MemoryError, RuntimeError) as error:
        if not _is_of_memory(error):
            raise
        click.echo(
            "Error: not enough memory: give a smaller --batch, --size or --clip, or end other programs", err=True
        )
    except OSError as error:  # of the system, about a file that no reader or writer of ours has named
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {shown(f'{where}{reason_of(error)}')}", err=True)
    else:
        return code if isinstance(code, int) else 0
    return 1
