"""The tree of errors is the one that is drawn."""

from __future__ import annotations

import pickle
import re

import pytest

from yowo_deploy import errors
from yowo_deploy.errors import InputError, MissingExtraError, ModelFileError, SpecError, YowoError, foreign


def test_the_tree_in_the_docstring_is_the_tree_of_the_classes() -> None:
    drawn: list[tuple[int, str]] = []
    parents = {}
    for line in (errors.__doc__ or "").splitlines():
        if found := re.match(r"[ │├└─]+(\w+Error)\b", line):
            depth = found.start(1)
            parents[found[1]] = next((name for at, name in reversed(drawn) if at < depth), "Exception")
            drawn.append((depth, found[1]))
    classes = [each for each in vars(errors).values() if isinstance(each, type) and issubclass(each, YowoError)]
    assert parents == {each.__name__: each.__mro__[1].__name__ for each in classes}
    assert len(parents) > 1


def test_a_missing_extra_says_how_to_install_it() -> None:
    error = MissingExtraError("openvino", "engines")
    assert error.extra == "engines"
    assert "run `pip install 'yowo-deploy[engines]'`" in str(error)


class Panic(BaseException):
    """As parsers in Rust raise it."""


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (RuntimeError("first line\nsecond line"), "first line second line"),
        (KeyError("x"), "KeyError: 'x'"),
        (ValueError(), "ValueError"),
        (MemoryError(), "MemoryError"),
        (RecursionError("too deep"), "too deep"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte"), "'utf-8' codec can't decode"),
        (Panic("a panic of theirs"), "a panic of theirs"),
        (StopIteration(), "StopIteration"),
        (ValueError("\x1b[31mred " + "x" * 10_000_000), r"\\u001b\[31mred"),
    ],
)
def test_whatever_a_foreign_parser_raises_is_one_line_of_ours(failure: BaseException, reason: str) -> None:
    with pytest.raises(ModelFileError, match=rf"^m\.onnx cannot be read: {reason}") as found, \
            foreign("m.onnx cannot be read", ModelFileError):  # fmt: skip
        raise failure
    assert "\n" not in str(found.value) and len(str(found.value)) < 500
    assert found.value.__cause__ is failure


@pytest.mark.parametrize(
    "failure", [KeyboardInterrupt(), SystemExit(143), GeneratorExit(), SpecError("ours"), OSError(28, "full")]
)
def test_ends_of_the_program_and_our_own_pass_the_door(failure: BaseException) -> None:
    with pytest.raises(type(failure)) as found, foreign("x", ModelFileError, OSError):
        raise failure
    assert found.value is failure


def test_errors_are_clean_wherever_they_are_shown() -> None:
    error = InputError("no 'rtsp:user:canary@host'\n\x1b[31m")
    assert str(error) == error.args[0] == str(pickle.loads(pickle.dumps(error)))
    assert "canary" not in repr(error) and str(error).isprintable()
