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

A message says what was found, what was expected, and what to do. The command line prints it as one line and
exits with code 1; any other exception is a bug and shows its traceback.
"""

from __future__ import annotations


class YowoError(Exception):
    """The root: catch it to catch all of them."""


class InputError(YowoError):
    """What was given is not what it should be."""


class SpecError(InputError):
    """A model's description is missing, broken or of a newer format."""


class ModelFileError(InputError):
    """A checkpoint, ONNX file or plan cannot be used."""


class VideoError(InputError):
    """A video cannot be read or written."""


class DatasetError(InputError):
    """Annotations or their videos are missing or inconsistent."""


class EngineError(YowoError):
    """An engine's process died."""


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
