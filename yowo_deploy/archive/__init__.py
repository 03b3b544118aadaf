"""Detection over thousands of videos, by workers of this machine or of a Ray cluster, and search in what was found."""

from yowo_deploy.archive.find import Moment, cut_clips, find
from yowo_deploy.archive.linking import results_of
from yowo_deploy.archive.plan import Shard
from yowo_deploy.archive.progress import Progress
from yowo_deploy.archive.run import ArchiveSummary, Failure, batch

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
