"""Data sets by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from yowo_deploy.datasets.registry import DATASETS, open_dataset
from yowo_deploy.errors import DatasetError


@pytest.mark.parametrize("name", DATASETS)
def test_a_folder_that_is_not_the_data_set_is_refused(name: str, tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(DatasetError, match="not found"):
            open_dataset(name, folder)


def test_an_unknown_data_set_is_refused_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match=f"'kinetics' is not known, expected one of {', '.join(DATASETS)}"):
        open_dataset("kinetics", tmp_path)
