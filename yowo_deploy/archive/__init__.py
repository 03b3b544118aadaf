"""Detection over thousands of videos, by workers of this machine or of a Ray cluster, and search in what was found.

A search needs neither detectors nor videos: names are imported when they are first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yowo_deploy.archive.linking import results_of
    from yowo_deploy.archive.plan import Shard
    from yowo_deploy.archive.progress import Progress
    from yowo_deploy.archive.run import ArchiveSummary, Failure, batch
    from yowo_deploy.archive.search import Moment, cut_clips, find

__all__ = [
    "ArchiveSummary",
    "Failure",
    "Moment",
    "Progress",
    "Shard",
    "batch",
    "cut_clips",
    "find",
    "results_of",
]

_HOME = {
    "results_of": "linking",
    "Shard": "plan",
    "Progress": "progress",
    **dict.fromkeys(("ArchiveSummary", "Failure", "batch"), "run"),
    **dict.fromkeys(("Moment", "cut_clips", "find"), "search"),
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
