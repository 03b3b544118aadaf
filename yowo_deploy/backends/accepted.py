"""Hashes of the model files that this user has run or made."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

from yowo_deploy.errors import OutputError
from yowo_deploy.files import sha256_of, write_text

MOST = 4096  # hashes, the newest: 266 kB
_LINE = re.compile(r"[0-9a-f]{64}")


def list_path() -> Path | None:
    """The list: yowo-deploy/accepted in the folder for state of the XDG rules; None where there is no home."""
    chosen = os.environ.get("XDG_STATE_HOME", "")
    with suppress(RuntimeError):
        base = Path(chosen) if os.path.isabs(chosen) else Path.home() / ".local" / "state"
        return base / "yowo-deploy" / "accepted"
    return None


def is_accepted(sha256: str) -> bool:
    """Whether a file of this hash is in the list."""
    return sha256 in _hashes()


def accept(file: str | os.PathLike[str]) -> None:
    """Put a file of one's own making into the list."""
    accept_hash(sha256_of(file))


def accept_hash(sha256: str) -> None:
    """Put the hash of a file into the list. Where that cannot be written the file stays unknown."""
    path = list_path()
    if path is None:
        return
    known = [each for each in _hashes() if each != sha256]
    with suppress(OutputError):
        write_text(path, "".join(f"{each}\n" for each in [*known, sha256][-MOST:]))


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
