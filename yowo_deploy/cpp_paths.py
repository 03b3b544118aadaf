"""Folders of the C++ headers and the CMake package."""

from __future__ import annotations

from pathlib import Path


def get_include() -> str:
    """The folder to give a C++ compiler, for `#include <yowo/yowo.hpp>`."""
    return str(Path(__file__).parent / "include")


def get_cmake_dir() -> str:
    """The folder to give CMake as `yowo_deploy_DIR`, for `find_package(yowo_deploy CONFIG)`."""
    return str(Path(__file__).parent / "cmake")
