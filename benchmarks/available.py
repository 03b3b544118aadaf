"""What this machine can run, asked before hours of work and not after."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

from yowo_deploy.backends.loader import open_model
from yowo_deploy.diagnostics.probe_model import write_one_layer
from yowo_deploy.errors import InputError, MissingExtraError
from yowo_deploy.spec import Precision


def why_not(engine: str, precision: Precision | None = None) -> str:
    """Why no model runs on an engine in a precision here, for the row of a table; "" where one does. Takes a moment."""
    with TemporaryDirectory() as folder:
        write_one_layer(Path(folder) / "one.onnx")
        try:
            open_model(Path(folder) / "one.onnx", engine, precision=precision).close()
        except MissingExtraError:
            return "not installed"
        except InputError:
            return "not on this processor"
    return ""
