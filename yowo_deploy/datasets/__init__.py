"""Annotated videos, one reader a data set; `open_dataset` finds it by name."""

from yowo_deploy.datasets.base import AnnotatedVideo, Dataset, Split, open_dataset, split_present

__all__ = ["AnnotatedVideo", "Dataset", "Split", "open_dataset", "split_present"]
