"""`yowo_stream` as a model of Triton's Python backend: `package triton` copies this file into the repository.

Triton's stub ignores PYTHONPATH: the folders of this package and its libraries come from a parameter of the model's
configuration, `python_path`, and nothing but the standard library is imported before.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

STUB = "triton_python_backend_utils"  # which Triton's stub has, and no package


class TritonPythonModel:
    """The name and methods that the Python backend calls; one instance, one engine, a detector a sequence."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the model file beside this one."""
        config = json.loads(args["model_config"])
        given = {name: each["string_value"] for name, each in config.get("parameters", {}).items()}
        sys.path[:0] = [folder for folder in given.get("python_path", "").split(os.pathsep) if folder]
        models = importlib.import_module("yowo_deploy.serving.models")
        sequences = importlib.import_module("yowo_deploy.serving.sequences")
        detector = importlib.import_module("yowo_deploy.detector")
        open_model = importlib.import_module("yowo_deploy.backends.loader").open_model
        folder = os.path.join(args["model_repository"], args["model_version"])
        self._stub: Any = importlib.import_module(STUB)
        _check_arrays(self._stub)
        self._models: Any = models
        self._backend: Any = open_model(os.path.join(folder, given["file"]), streaming="many")
        batching = config["sequence_batching"]
        limits = batching["oldest"]["max_candidate_sequences"], int(batching["max_sequence_idle_microseconds"]) / 1e6
        self._sequences: Any = sequences.Sequences(lambda: detector.Detector(self._backend), *limits)

    def execute(self, requests: list[Any]) -> list[Any]:
        """An answer, or an error, for each request."""
        return [self._answer(request) for request in requests]

    def finalize(self) -> None:
        """Close the engine."""
        self._sequences.clear()
        self._backend.close()

    def _answer(self, request: Any) -> Any:
        from yowo_deploy.errors import YowoError

        stub = self._stub
        flags = request.flags()
        start, end = (
            bool(flags & getattr(stub, f"TRITONSERVER_REQUEST_FLAG_SEQUENCE_{side}")) for side in ("START", "END")
        )
        try:
            key = self._models.sequence_key({"sequence_id": request.correlation_id()})
            frame = stub.get_input_tensor_by_name(request, "frame").as_numpy().copy()  # the memory is Triton's
            outputs = self._models.stream_outputs(self._sequences.push(key, frame, start, end).detections)
        except YowoError as error:
            return stub.InferenceResponse(error=stub.TritonError(str(error)))
        return stub.InferenceResponse([stub.Tensor(name, array) for name, array in outputs.items()])


def _check_arrays(stub: Any) -> None:
    """Pass an array through the stub and back.

    Raises:
        InputError: a stub that was built for numpy 1 copies nothing where it finds numpy 2: frames hold what was in
            memory before, and answers have a shape and no bytes.
    """
    import numpy as np

    from yowo_deploy.errors import InputError

    given = np.arange(1, 7, dtype=np.int64)
    if not np.array_equal(stub.Tensor.from_dlpack("probe", stub.Tensor("probe", given).to_dlpack()).as_numpy(), given):
        raise InputError(
            f"this Triton cannot use numpy {np.__version__}, which it finds first: put numpy 1.26 before it"
        )
