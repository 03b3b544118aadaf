"""Inference with a long-term feature bank (paper, section 3.4)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Protocol, runtime_checkable

from yowo_deploy.backends.base import Backend, Look
from yowo_deploy.errors import InputError


@runtime_checkable
class LongTerm(Protocol):
    """A backend whose 3-D branch can be replaced by a feature bank of the whole video."""

    def long_term(self, bank: str | os.PathLike[str]) -> Look:
        """Inference with the bank that `yowo-deploy features` wrote for one video."""
        ...


def bank_of(features: str | os.PathLike[str], video: str | os.PathLike[str]) -> Path:
    """The feature bank of a video: the file itself, or the one in a folder that `yowo-deploy features` wrote."""
    return Path(features) / f"{Path(video).stem}.npz" if Path(features).is_dir() else Path(features)


def long_term_look(backend: Backend, bank: str | os.PathLike[str]) -> Look:
    """Inference of `backend` with the feature bank of one video.

    Raises:
        InputError: the model is no checkpoint, or the bank belongs to another one.
        ModelFileError: the file is no feature bank.
    """
    if not isinstance(backend, LongTerm):
        raise InputError(f"--features needs a checkpoint: {backend.name} cannot run the branches of a model separately")
    return backend.long_term(bank)
