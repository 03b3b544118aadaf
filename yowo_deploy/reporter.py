"""Messages, errors and progress of long calls."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext

from yowo_deploy.plain_text import shown

_LOG = logging.getLogger("yowo_deploy")


class Reporter:
    """Receives what a long call reports while it runs; this one logs to the logger `yowo_deploy`.

    Subclass it to show progress elsewhere; the command line draws bars.
    """

    def message(self, text: str) -> None:
        """A note for the user, one line."""
        _LOG.info(shown(text))

    def error(self, text: str) -> None:
        """Something failed and the call continues without it, one line."""
        _LOG.error(shown(text))

    def progress(self, label: str, total: float | None) -> AbstractContextManager[Callable[..., None]]:
        """A context in which a task runs; it gives a function of the amount done so far and, optionally, a note.

        Args:
            total: the amount of work; None if it has no known end.
        """
        return nullcontext(lambda done, note="": None)
