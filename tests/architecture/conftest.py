"""The product's source files, for the tests that read them."""

from __future__ import annotations

from pathlib import Path

import pytest

PACKAGE_FOLDERS = ("yowo_deploy", "training/yowo_training", "export/yowo_export")


@pytest.fixture(scope="session")
def package_folders(project_root: Path) -> list[Path]:
    """The folders of the three packages that the wheel installs."""
    return [project_root / folder for folder in PACKAGE_FOLDERS]


@pytest.fixture(scope="session")
def product_modules(package_folders: list[Path]) -> dict[str, Path]:
    """Every module of the product: dotted name -> file. A package's name stands for its `__init__.py`."""
    modules = {
        ".".join(file.relative_to(folder.parent).with_suffix("").parts).removesuffix(".__init__"): file
        for folder in package_folders
        for file in sorted(folder.rglob("*.py"))
    }
    assert modules, "no product file found: are the folders in PACKAGE_FOLDERS right?"
    return modules
