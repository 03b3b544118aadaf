"""Engines that run a model file, one file each, behind one protocol."""

from yowo_deploy.backends.base import Backend, open_model

__all__ = ["Backend", "open_model"]
