"""Pictures as files, whole or absent."""

from __future__ import annotations

import os
from importlib.util import find_spec
from pathlib import Path

import cv2

from yowo_deploy.arrays import Frame
from yowo_deploy.errors import MissingExtraError, OutputError
from yowo_deploy.files import atomic_write

PICTURES, PAGES = (".png", ".jpg", ".jpeg"), (".html", ".htm")


def check_plot(path: str | os.PathLike[str]) -> None:
    """Refuse a plot before any work is done for it.

    Raises:
        MissingExtraError: matplotlib, which draws it, is not installed.
        OutputError: the name does not end in .png.
    """
    if find_spec("matplotlib") is None:
        raise MissingExtraError("matplotlib, which draws plots,", "plots")
    check_suffix(path, ".png")


def write_picture(path: str | os.PathLike[str], image_bgr: Frame) -> None:
    """Write a picture, whole or not at all.

    Raises:
        OutputError: the name does not end in .png or .jpg, or it cannot be written.
    """
    check_suffix(path, *PICTURES)
    with atomic_write(path) as temporary:
        encoded, content = cv2.imencode(Path(path).suffix, image_bgr)
        if not encoded:
            raise OutputError(f"cannot write {path}: OpenCV did not encode it")
        temporary.write_bytes(content.tobytes())


def check_suffix(path: str | os.PathLike[str], *suffixes: str) -> None:
    """Refuse another name before any work is done for the file: it may be that of a video, or of annotations.

    Raises:
        OutputError: the name does not end in one of the suffixes.
    """
    if Path(path).suffix.lower() not in suffixes:
        raise OutputError(f"cannot write {path}: expected a name that ends in {' or '.join(suffixes)}")
