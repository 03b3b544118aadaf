"""Refuse unknown keyword arguments with the nearest known one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar

from yowo_deploy.errors import InputError

P = ParamSpec("P")
R = TypeVar("R")


def checked_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """The function; it raises an InputError that names the nearest argument for a keyword that it does not have."""
    return _checked(function, signature(function).parameters)


def checked_keywords_with(passed_to: Callable[..., object], *chosen: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """As `checked_keywords`, of a function that passes its `**options` on to another one, whose arguments `chosen` it
    sets by itself."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        own = (name for name, each in signature(function).parameters.items() if each.kind is not each.VAR_KEYWORD)
        passed = (name for name in signature(passed_to).parameters if name not in chosen)
        return _checked(function, dict.fromkeys([*own, *passed]))

    return decorate


def _checked(function: Callable[P, R], names: Iterable[str]) -> Callable[P, R]:
    known = [name for name in names if name not in ("self", "cls")]
    called = function.__qualname__.removesuffix(".__init__")

    @wraps(function)
    def checked(*args: P.args, **keywords: P.kwargs) -> R:
        for name in keywords:
            if name not in known:
                nearest = nearest_name(name, known)
                hint = f"did you mean {nearest!r}?" if nearest else f"expected some of {', '.join(known)}"
                raise InputError(f"{called} has no argument {name!r}: {hint}")
        return function(*args, **keywords)

    return checked


def nearest_name(name: str, known: Sequence[str]) -> str | None:
    """The known name that begins with this one, or this one with it, else one spelt alike; None: there is none."""
    begun = [each for each in known if each.startswith(name) or name.startswith(each)]
    return next(iter(begun or get_close_matches(name, known, 1)), None)
