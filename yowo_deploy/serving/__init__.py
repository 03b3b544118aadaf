"""Serve models over HTTP: the Open Inference Protocol (KServe v2), metrics and a live page.

`from yowo_deploy.serving import app` gives an ASGI application; it needs the extra [serve].
"""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from yowo_deploy.errors import MissingExtraError

if TYPE_CHECKING:
    from yowo_deploy.serving.application import app

__all__ = ["app"]


def __getattr__(name: str) -> Any:
    if name != "app":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    for library in ("starlette", "prometheus_client"):
        if find_spec(library) is None:
            raise MissingExtraError(library, "serve")
    return importlib.import_module("yowo_deploy.serving.application").app
