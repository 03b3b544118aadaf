"""What every test may ask for: the project's folder, and real data that lives outside it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

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


def _folder_outside(variable: str, default: Path) -> Path:
    named = os.environ.get(variable)
    folder = Path(named) if named else default
    if folder.is_dir():
        return folder
    if named:  # A misspelt folder must not pass for a green run.
        pytest.fail(f"{variable}={named} is not a folder: correct it or unset it")
    pytest.skip(f"no {variable} set and no folder {os.path.relpath(default, ROOT)} beside the project")
