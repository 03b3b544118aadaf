"""How far a run over an archive has come, as numbers, a line of text and a line of JSON."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from yowo_deploy.json_text import to_json


@dataclass(frozen=True)
class Progress:
    """How far a run has come.

    Attributes:
        videos, done, failed: of this run; `reused` of those that are done were there before.
        video_s: seconds of video that the model was run over in this run.
        elapsed_s: since it began.
        workers: seconds of video by worker.
    """

    videos: int
    done: int
    failed: int
    reused: int
    video_s: float
    elapsed_s: float
    workers: Mapping[int, float]

    @property
    def hours_an_hour(self) -> float:
        """Hours of video in an hour."""
        return self.video_s / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """Seconds to the end, if the videos that are left take as long as those before; None before the first."""
        ran = self.done + self.failed - self.reused
        return self.elapsed_s / ran * (self.videos - self.done - self.failed) if ran else None

    def to_json(self) -> str:
        """All numbers as one line."""
        elapsed = max(self.elapsed_s, 1e-9)
        line: dict[str, Any] = {
            "videos": self.videos,
            "done": self.done,
            "failed": self.failed,
            "reused": self.reused,
            "video_s": round(self.video_s, 3),
            "elapsed_s": round(self.elapsed_s, 3),
            "hours_an_hour": round(self.hours_an_hour, 3),
            "workers": [round(seconds / elapsed, 3) for seconds in self.workers.values()],
            "left_s": None if self.left_s is None else round(self.left_s, 1),
        }
        return to_json(line)

    def __str__(self) -> str:
        rates = ", ".join(f"{seconds / max(self.elapsed_s, 1e-9):.1f}" for seconds in self.workers.values())
        left = "" if self.left_s is None else f", {_duration(self.left_s)} left"
        failed = f", {self.failed} failed" if self.failed else ""
        return f"{self.hours_an_hour:.1f} h of video/h (by worker {rates}){failed}{left}"


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    return f"{seconds:.0f} s" if minutes < 2 else f"{minutes} min" if minutes < 120 else f"{minutes / 60:.0f} h"
