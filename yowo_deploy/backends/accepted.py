"""Hashes of the model files that this user has run or made."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from yowo_deploy.errors import OutputError
from yowo_deploy.files import sha256_of, write_text
from yowo_deploy.model_files.default import DEFAULT, model_path

MOST = 4096  # hashes, the newest: 266 kB
_LINE = re.compile(r"[0-9a-f]{64}")


def list_path() -> Path | None:
    """The list: yowo-deploy/accepted in the folder for state of the XDG rules; None where there is no home."""
    chosen = os.environ.get("XDG_STATE_HOME", "")
    with suppress(RuntimeError):
        base = Path(chosen) if os.path.isabs(chosen) else Path.home() / ".local" / "state"
        return base / "yowo-deploy" / "accepted"
    return None


def is_accepted(file: Path) -> bool:
    """Whether a file is the model of the package, or is in the list."""
    return os.path.realpath(file) == os.path.realpath(model_path(DEFAULT)) or sha256_of(file) in _hashes()


def accept(file: str | os.PathLike[str]) -> None:
    """Put a file into the list. Where that cannot be written it stays unknown."""
    path, digest = list_path(), sha256_of(file)
    if path is None:
        return
    known = [each for each in _hashes() if each != digest]
    with suppress(OutputError):
        write_text(path, "".join(f"{each}\n" for each in [*known, digest][-MOST:]))


def _hashes() -> list[str]:
    """From the oldest to the newest; none of a list that others may have written."""
    path = list_path()
    try:
        if path is None or path.stat().st_size > 2 * 65 * MOST:
            return []
        found = path.stat()
        if hasattr(os, "getuid") and (found.st_uid not in (0, os.getuid()) or found.st_mode & 0o022):
            return []
        return [line for line in path.read_text("ascii", "replace").splitlines() if _LINE.fullmatch(line)]
    except OSError:
        return []
