"""Annotated videos, one reader a data set; `open_dataset` finds it by name."""

from yowo_deploy.datasets.base import AnnotatedVideo, Dataset, Split, split_present
from yowo_deploy.datasets.registry import open_dataset

__all__ = ["AnnotatedVideo", "Dataset", "Split", "open_dataset", "split_present"]
