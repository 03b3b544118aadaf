"""The tree of errors is the one that is drawn."""

from __future__ import annotations

import re

from yowo_deploy import errors
from yowo_deploy.errors import MissingExtraError, YowoError


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
