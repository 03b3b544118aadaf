"""The two models that are served: frames of sequences, and raw clips."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.arrays import Planes
from yowo_deploy.backends.base import Backend
from yowo_deploy.boxes import Detections
from yowo_deploy.errors import EngineError, InputError, ModelFileError
from yowo_deploy.result import Result
from yowo_deploy.serving.refusal import Refusal
from yowo_deploy.serving.sequences import LONGEST_KEY, Key, Sequences
from yowo_deploy.serving.tensors import InferRequest, Json, TensorInfo
from yowo_deploy.spec import ModelSpec

STREAM, CLIP = "yowo_stream", "yowo_clip"
_FLAGS = ("sequence_start", "sequence_end")
_CONFIG_TYPES = {"UINT8": "TYPE_UINT8", "FP32": "TYPE_FP32", "INT64": "TYPE_INT64"}

STREAM_INPUTS = (TensorInfo("frame", "UINT8", (-1, -1, 3)),)
STREAM_OUTPUTS = (
    TensorInfo("boxes", "FP32", (-1, 4)),
    TensorInfo("scores", "FP32", (-1,)),
    TensorInfo("classes", "INT64", (-1,)),
    TensorInfo("people", "INT64", (-1,)),
)


class ServedModel(Protocol):
    """A model that takes requests. Threads may call it at once."""

    @property
    def name(self) -> str: ...
    @property
    def inputs(self) -> tuple[TensorInfo, ...]: ...
    @property
    def outputs(self) -> tuple[TensorInfo, ...]: ...

    def infer(self, request: InferRequest) -> dict[str, NDArray[Any]]:
        """The outputs by name.

        Raises:
            Refusal: the request cannot be answered.
        """
        ...


class Health:
    """Whether the engine may answer.

    Attributes:
        fault: why not; "" while it may. Once set it stays.
    """

    def __init__(self) -> None:
        self.fault = ""

    def check(self) -> None:
        """Raise a Refusal, 503, where it may not."""
        if self.fault:
            raise Refusal(503, f"the model is not ready: {self.fault}", "not ready")

    def fail(self, fault: str) -> Refusal:
        """Note a fault; what its request is answered with."""
        self.fault = self.fault or fault
        return Refusal(503, f"the model is not ready: {self.fault}", "not ready")


class StreamModel:
    """`yowo_stream`: one BGR frame of a sequence in, the people shown in it out, as `Detector.push` gives them.

    Args:
        observe: gets every result.
    """

    name, inputs, outputs = STREAM, STREAM_INPUTS, STREAM_OUTPUTS

    def __init__(self, sequences: Sequences, health: Health, observe: Callable[[Result], object]) -> None:
        self._sequences, self._health, self._observe = sequences, health, observe

    def infer(self, request: InferRequest) -> dict[str, NDArray[Any]]:
        """See `ServedModel`."""
        self._health.check()
        key, flags = sequence_key(request.parameters), [request.parameters.get(name, False) for name in _FLAGS]
        if not all(isinstance(flag, bool) for flag in flags):
            raise Refusal(400, f"{' and '.join(_FLAGS)} are true or false")
        result = guarded(self._health, lambda: self._sequences.push(key, request.inputs["frame"], *flags))
        self._observe(result)
        return stream_outputs(result.detections)


class ClipModel:
    """`yowo_clip`: clips as the network takes them in, its raw output out."""

    name = CLIP

    def __init__(self, backend: Backend, batch: tuple[int, int | None], health: Health) -> None:
        self._backend, self._health = backend, health
        self._least, self._most = batch
        self.inputs, self.outputs = clip_tensors(backend.spec, self._least if self._least == self._most else -1)
        self._widest = float(np.abs(_pixel_range(backend.spec)).max())

    def infer(self, request: InferRequest) -> dict[str, NDArray[Any]]:
        """See `ServedModel`."""
        self._health.check()
        clips: Planes = request.inputs["clips"]
        if len(clips) < self._least or (self._most is not None and len(clips) > self._most):
            raise Refusal(400, f"the model takes {self._least} to {self._most or 'any number of'} clips in a call")
        raw = guarded(self._health, lambda: self._backend.infer(clips))
        if not np.isfinite(raw).all():
            # What no frame becomes is the client's own doing, and must not end the service of the others.
            if not np.abs(clips).max() <= self._widest:
                raise Refusal(400, f"clips hold values that no frame has: expected at most {self._widest:g}")
            raise self._health.fail("its output was not finite")
        return {"raw": raw}


def sequence_key(parameters: Mapping[str, Any]) -> Key:
    """The `sequence_id` of a request.

    Raises:
        Refusal: there is none, or it is neither a number above 0 nor a short text.
    """
    key: Key = parameters.get("sequence_id", 0)
    is_number, is_text = type(key) is int and 0 < key < 1 << 64, isinstance(key, str) and 0 < len(key) <= LONGEST_KEY
    if not (is_number or is_text):
        raise Refusal(400, f"expected a sequence_id: a number above 0, or a text of 1 to {LONGEST_KEY} characters")
    return key


def stream_outputs(found: Detections) -> dict[str, NDArray[Any]]:
    """The outputs of `yowo_stream`, for the people shown in a frame, best first."""
    people = np.zeros(0, np.int64) if found.tracker_id is None else found.tracker_id
    return {
        "boxes": np.ascontiguousarray(found.xyxy),
        "scores": found.confidence,
        "classes": found.class_id,
        "people": people,
    }


def clip_tensors(spec: ModelSpec, batch: int = -1) -> tuple[tuple[TensorInfo, ...], tuple[TensorInfo, ...]]:
    """Inputs and outputs of `yowo_clip`, as exported files name them.

    Args:
        batch: clips per call where the number is fixed.
    """
    columns, rows = spec.grid_size
    clips = TensorInfo("clips", "UINT8" if spec.input_type == "uint8" else "FP32", (batch, *spec.clip_shape))
    return (clips,), (TensorInfo("raw", "FP32", (batch, spec.output_channels, rows, columns)),)


def model_config(model: ServedModel, labels: tuple[str, ...], idle_s: float, most: int) -> Json:
    """A model's configuration in Triton's words: batches stand in the shapes, and of sequences any may be next."""

    def entries(tensors: tuple[TensorInfo, ...]) -> list[Json]:
        return [
            {"name": each.name, "data_type": _CONFIG_TYPES[each.datatype], "dims": list(each.shape)} for each in tensors
        ]

    config: Json = {"name": model.name, "max_batch_size": 0}
    config |= {"input": entries(model.inputs), "output": entries(model.outputs)}
    if model.name == STREAM:
        idle = {"max_sequence_idle_microseconds": round(1e6 * idle_s), "oldest": {"max_candidate_sequences": most}}
        config |= {"sequence_batching": idle}
    return config | {"parameters": {"labels": {"string_value": "\n".join(labels)}}}


def guarded(health: Health, work: Callable[[], Any]) -> Any:
    """What `work` returns; errors of the engine make the model not ready, errors of the request are refused.

    Raises:
        Refusal: 400 or 503.
    """
    try:
        return work()
    except ModelFileError as error:
        raise health.fail("its output was not finite") from error
    except InputError as error:
        raise Refusal(400, str(error)) from error
    except EngineError as error:
        raise health.fail("its engine has ended") from error


def _pixel_range(spec: ModelSpec) -> NDArray[np.float64]:
    """(2, 3): what black and white become."""
    if spec.input_type == "uint8":
        return np.full((2, 3), 255.0)
    mean, std = np.array(spec.mean), np.array(spec.std)
    return np.stack([-mean / std, (1 - mean) / std])
