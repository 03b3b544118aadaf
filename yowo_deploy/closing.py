"""A mixin for context managers that only close, and closing on errors."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol, TypeVar

T = TypeVar("T", bound="Closing")


class Closable(Protocol):
    """What can be closed."""

    def close(self) -> None: ...


C = TypeVar("C", bound=Closable)


class Closing:
    """`with` closes it when the block ends, well or not. A subclass defines `close`, which is safe to call twice."""

    def close(self) -> None:
        """Release what is held; nothing by default."""

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


@contextmanager
def closed_on_error(resource: C) -> Iterator[C]:
    """Close a resource if the block that takes it over fails."""
    try:
        yield resource
    except BaseException:
        resource.close()
        raise
