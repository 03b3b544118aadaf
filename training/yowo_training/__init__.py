"""Build and train YOWO models with PyTorch; not needed to run a model."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from yowo_training.checkpoints.onnx_weights import checkpoint_from_onnx
    from yowo_training.pipeline import prepare, preview_batch, train

__all__ = ["checkpoint_from_onnx", "prepare", "preview_batch", "train"]

_HOME = {
    "checkpoint_from_onnx": "yowo_training.checkpoints.onnx_weights",
    "prepare": "yowo_training.pipeline",
    "preview_batch": "yowo_training.pipeline",
    "train": "yowo_training.pipeline",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
