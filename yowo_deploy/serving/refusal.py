"""The error of a request that is refused, with its HTTP status."""

from __future__ import annotations

from yowo_deploy.errors import YowoError


class Refusal(YowoError):
    """A request that gets no answer.

    Args:
        status: of HTTP.
        text: for the client: what was found, what was expected. Never a path.
        reason: a word for metrics; the status by default.
    """

    def __init__(self, status: int, text: str, reason: str = "") -> None:
        self.status, self.reason = status, reason or str(status)
        super().__init__(text)
