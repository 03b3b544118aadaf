"""A mixin for context managers that only close."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T", bound="Closing")


class Closing:
    """`with` closes it when the block ends, well or not. A subclass defines `close`, which is safe to call twice."""

    def close(self) -> None:
        """Release what is held; nothing by default."""

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
