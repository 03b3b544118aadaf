"""Turn checkpoints into model files that engines run, and prove that nothing was lost."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yowo_export.parity.prove import prove
    from yowo_export.pipeline import build, export
    from yowo_export.precision.lower_precision import LowerPrecision

__all__ = ["LowerPrecision", "build", "export", "prove"]

_HOME = {
    "LowerPrecision": "yowo_export.precision.lower_precision",
    "build": "yowo_export.pipeline",
    "export": "yowo_export.pipeline",
    "prove": "yowo_export.parity.prove",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
