"""Open a data set by its name, or by its data.json."""

from __future__ import annotations

import importlib
from pathlib import Path

from yowo_deploy.datasets.base import Dataset
from yowo_deploy.datasets.data_json import NativeDataset, read_annotations
from yowo_deploy.errors import DatasetError, foreign

DATASETS = {
    "jhmdb21": "yowo_deploy.datasets.jhmdb:Jhmdb21",
    "ucf24": "yowo_deploy.datasets.ucf24:Ucf24",
    "ava": "yowo_deploy.datasets.ava:Ava",
    "synthetic": "yowo_deploy.datasets.synthetic.generator:Synthetic",
}


def open_dataset(name: str, folder: Path | None = None, split: int = 1) -> Dataset:
    """The reader for a data set by its name, or for a data.json.

    Args:
        name: one of `DATASETS`, or the path of a data.json.
        folder: where the videos and annotations of a named data set lie.
        split: number of the official split, from 1.

    Raises:
        DatasetError: the name is not known, or the folder is not that data set.
    """
    if name not in DATASETS:
        return _open_native(name, folder, split)
    if folder is None:
        raise DatasetError(f"the folder of {name} is not given: give it with --data DIR")
    module, reader = DATASETS[name].split(":")
    opened = getattr(importlib.import_module(module), reader)
    with foreign(f"{folder} cannot be read as {name}", DatasetError):
        dataset: Dataset = opened(folder, split)
        return dataset


def _open_native(name: str, folder: Path | None, split: int) -> Dataset:
    if not name.endswith((".json", ".json.gz")):
        raise DatasetError(
            f"data set {name!r} is not known, expected one of {', '.join(DATASETS)}, or a data.json "
            "(`yowo-deploy data import` makes one)"
        )
    if folder is not None:
        raise DatasetError(f"{name} contains the paths of its videos: leave --data out")
    return NativeDataset(read_annotations(name), name, split)
