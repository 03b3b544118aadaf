"""What every test may ask for: the project's folder, and real data that lives outside it."""

from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def project_root() -> Path:
    """The folder of setup.cfg."""
    return ROOT


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Real videos and annotations: `YOWO_DATA`, or `../shared/data`. Skips without them."""
    return _folder_outside("YOWO_DATA", ROOT.parent / "shared" / "data")


@pytest.fixture(scope="session")
def reference_dir() -> Path:
    """What the release really computes: `YOWO_REFERENCE`, or `../shared/reference`. Skips without it."""
    return _folder_outside("YOWO_REFERENCE", ROOT.parent / "shared" / "reference")


@pytest.fixture(scope="session")
def release_file(reference_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint in the release's layout: ResNeXt-101 for UCF101-24 at T = 16, weights by rule, 485 MB."""
    import torch

    weights = _official(reference_dir).state_dict(reference_dir / "official" / "resnext101.keys.txt", 24)
    path = tmp_path_factory.mktemp("release") / "yowo_ucf24_16f_best.pth"
    torch.save({"epoch": 5, "state_dict": {k: torch.from_numpy(v) for k, v in weights.items()}, "score": 0.8}, path)
    return path


@pytest.fixture(scope="session")
def release_clips(reference_dir: Path) -> NDArray[np.float32]:
    """The clip, (1, 3, 16, 224, 224), that the release's expected arrays belong to."""
    clips: NDArray[np.float32] = _official(reference_dir).clip(16)
    return clips


def _official(reference_dir: Path) -> ModuleType:
    """`official_checkpoint.py`, which makes the weights that the expected arrays were computed with."""
    sys.path.insert(0, str(reference_dir))
    try:
        return importlib.import_module("official_checkpoint")
    finally:
        sys.path.remove(str(reference_dir))


def _folder_outside(variable: str, default: Path) -> Path:
    named = os.environ.get(variable)
    folder = Path(named) if named else default
    if folder.is_dir():
        return folder
    if named:  # A misspelt folder must not pass for a green run.
        pytest.fail(f"{variable}={named} is not a folder: correct it or unset it")
    pytest.skip(f"no {variable} set and no folder {os.path.relpath(default, ROOT)} beside the project")
