"""Serve models over HTTP: the Open Inference Protocol (KServe v2), metrics and a live page.

`from yowo_deploy.serving import app, run`, then `run(app("yowo.onnx"))`; it needs the extra [serve].
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from yowo_deploy.errors import MissingExtraError

if TYPE_CHECKING:
    from yowo_deploy.serving.application import app
    from yowo_deploy.serving.server import run

__all__ = ["app", "run"]

_MODULES = {"app": ("application", ("starlette", "prometheus_client")), "run": ("server", ("uvicorn", "httptools"))}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, libraries = _MODULES[name]
    for library in libraries:
        if find_spec(library) is None:
            raise MissingExtraError(library, "serve")
    return getattr(importlib.import_module(f"yowo_deploy.serving.{module}"), name)
