"""Run YOWO action detectors: open a model file, push frames, get detections.

Importing this package needs numpy alone; everything heavier is imported when its name is first used.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from yowo_deploy.version import __version__

if TYPE_CHECKING:
    from yowo_deploy.backends.base import Backend
    from yowo_deploy.backends.loader import open_model
    from yowo_deploy.benchmark.record import bench
    from yowo_deploy.boxes import Detections
    from yowo_deploy.cpp_paths import get_cmake_dir, get_include
    from yowo_deploy.detection.outputs import Outputs
    from yowo_deploy.detection.receivers import Receivers
    from yowo_deploy.detection.run import detect
    from yowo_deploy.detector import Detector, Result
    from yowo_deploy.errors import YowoError
    from yowo_deploy.evaluation import Evaluation, evaluate
    from yowo_deploy.spec import ModelSpec
    from yowo_deploy.stream_pool import StreamPool
    from yowo_deploy.video.sources import open_source

__all__ = [
    "Backend",
    "Detections",
    "Detector",
    "Evaluation",
    "ModelSpec",
    "Outputs",
    "Receivers",
    "Result",
    "StreamPool",
    "YowoError",
    "__version__",
    "bench",
    "detect",
    "evaluate",
    "get_cmake_dir",
    "get_include",
    "open_model",
    "open_source",
]

_HOME = {
    "Backend": "yowo_deploy.backends.base",
    "open_model": "yowo_deploy.backends.loader",
    "bench": "yowo_deploy.benchmark.record",
    "Detections": "yowo_deploy.boxes",
    "Outputs": "yowo_deploy.detection.outputs",
    "Receivers": "yowo_deploy.detection.receivers",
    "detect": "yowo_deploy.detection.run",
    "Evaluation": "yowo_deploy.evaluation",
    "evaluate": "yowo_deploy.evaluation",
    "Detector": "yowo_deploy.detector",
    "Result": "yowo_deploy.detector",
    "ModelSpec": "yowo_deploy.spec",
    "get_cmake_dir": "yowo_deploy.cpp_paths",
    "get_include": "yowo_deploy.cpp_paths",
    "StreamPool": "yowo_deploy.stream_pool",
    "YowoError": "yowo_deploy.errors",
    "open_source": "yowo_deploy.video.sources",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(_HOME[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
