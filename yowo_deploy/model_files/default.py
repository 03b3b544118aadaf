"""The path of the model that comes with the package."""

from __future__ import annotations

import os
from pathlib import Path

DEFAULT = "default"
_SHIPPED = Path(__file__).parent.parent / "model_zoo" / "yowo-lite.onnx"


def model_path(name: str | os.PathLike[str]) -> Path:
    """The file that a user means: "default" is the model of the package, everything else a path."""
    return _SHIPPED if os.fspath(name) == DEFAULT else Path(name)
