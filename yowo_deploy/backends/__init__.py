"""Engines that run a model file, one file each, behind one protocol."""

from yowo_deploy.backends.base import Backend
from yowo_deploy.backends.loader import open_model

__all__ = ["Backend", "open_model"]
