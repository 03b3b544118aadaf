"""The errors that the toolkit raises on purpose.

    YowoError
    ├── InputError             the user's file, flag or frame is not what it should be
    │   ├── SpecError          a model's description is missing, broken or of a newer format
    │   ├── ModelFileError     a checkpoint, ONNX file or plan cannot be used
    │   ├── VideoError         a video cannot be read or written
    │   └── DatasetError       annotations or their videos are missing or inconsistent
    ├── EngineError            an engine's process died
    ├── MissingExtraError      an optional dependency is not installed
    ├── OutputError            a result cannot be written
    └── ParityError            two models disagree beyond the limit

A message says what was found, what was expected, and what to do. It is one line, without secrets and control
characters, see `plain_text`: an application may log it, the command line prints it and exits with code 1. Any other
exception but one of the system (OSError) is a bug and shows its traceback.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from yowo_deploy.plain_text import shown


class YowoError(Exception):
    """The root: catch it to catch all of them."""

    def __init__(self, message: object = "") -> None:
        super().__init__(shown(message))


class InputError(YowoError):
    """An argument or an input file is not what it should be."""


class SpecError(InputError):
    """A model's description is missing, broken or of a newer format."""


class ModelFileError(InputError):
    """A checkpoint, ONNX file or plan cannot be used."""


class VideoError(InputError):
    """A video cannot be read or written."""


class DatasetError(InputError):
    """Annotations or their videos are missing or inconsistent."""


class EngineError(YowoError):
    """An engine died, gave no answer, or was used after it was closed."""


class OutputError(YowoError):
    """A result cannot be written."""


class ParityError(YowoError):
    """Two models disagree beyond the limit."""


class MissingExtraError(YowoError):
    """An optional dependency is not installed; the message gives the command that installs it."""

    def __init__(self, what: str, extra: str) -> None:
        self.what, self.extra = what, extra
        super().__init__(f"{what} is not installed: run `pip install 'yowo-deploy[{extra}]'`")

    def __reduce__(self) -> tuple[type[MissingExtraError], tuple[str, str]]:
        return MissingExtraError, (self.what, self.extra)  # else it could not come back from another process


@contextmanager
def foreign(complaint: str, kind: type[YowoError] = InputError, *passing: type[BaseException]) -> Iterator[None]:
    """A door for a foreign parser or engine: whatever it raises inside the block becomes one error of ours.

    Args:
        complaint: names the file and what could not be done with it; the reason is added.
        kind: of the error.
        passing: exceptions that pass, beside our own and those that end a program.

    Raises:
        YowoError: of `kind`.
    """
    through: tuple[type[BaseException], ...] = (YowoError, KeyboardInterrupt, SystemExit, GeneratorExit, *passing)
    try:
        yield
    except through:
        raise
    except BaseException as failure:  # panics of parsers in Rust are no Exception
        raise kind(f"{complaint}: {reason_of(failure)}") from failure


def reason_of(failure: BaseException) -> str:
    """Why something failed, in one line: the text of an exception, with its kind where the text is no sentence."""
    name = type(failure).__name__
    said = shown(getattr(failure, "strerror", None) or failure, 300)
    return said if " " in said and not isinstance(failure, LookupError) else f"{name}: {said}" if said else name
