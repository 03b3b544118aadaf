"""Pictures as files, whole or absent. Knows cv2 and names of files; nothing of what is in a picture."""

from __future__ import annotations

import os
from pathlib import Path

import cv2

from yowo_deploy.arrays import Frame
from yowo_deploy.errors import OutputError
from yowo_deploy.files import atomic_write


def write_picture(path: str | os.PathLike[str], image_bgr: Frame) -> None:
    """Write a picture, whole or not at all.

    Raises:
        OutputError: the name does not end in .png or .jpg, or it cannot be written.
    """
    if Path(path).suffix.lower() not in (".png", ".jpg", ".jpeg"):
        raise OutputError(f"cannot write {path}: expected a name that ends in .png or .jpg")
    with atomic_write(path) as temporary:
        if not cv2.imwrite(str(temporary), image_bgr):
            raise OutputError(f"cannot write {path}: OpenCV did not encode it")
