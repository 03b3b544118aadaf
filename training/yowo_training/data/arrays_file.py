"""Read the arrays of an .npz, which may be of anyone."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.errors import YowoError, foreign
from yowo_deploy.files import RATIO, UNPACKED


def read_arrays(file: Path, complaint: str, kind: type[YowoError], *names: str) -> list[NDArray[Any]]:
    """The arrays of these names; nothing is unpickled, and no more is unpacked than an archive of its size should hold.

    Raises:
        YowoError: of `kind`, with the complaint: it is no .npz, is damaged, lacks an array or holds far more than its
            size.
    """
    with foreign(complaint, kind):
        if not zipfile.is_zipfile(file):
            raise ValueError("it is no .npz of arrays")
        with zipfile.ZipFile(file) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > UNPACKED + RATIO * file.stat().st_size:
            raise ValueError(f"it unpacks to {unpacked >> 20} MiB, far more than its size: damaged, or made to deceive")
        with np.load(file, allow_pickle=False) as stored:
            return [stored[name] for name in names]
