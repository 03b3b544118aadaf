"""A network small enough to write down: one convolution, as an ONNX model for the engines and in plain numpy. Results
made up by hand: a person or two, who do what the test says."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import Engine, check_clips
from yowo_deploy.boxes import Detections
from yowo_deploy.result import Result
from yowo_deploy.spec import METADATA_KEY, ModelSpec


@pytest.fixture(scope="session")
def spec() -> ModelSpec:
    """Of the small network: every length differs from every other, so that no two can be mixed up."""
    return ModelSpec(
        labels=("walk", "sit", "stand"),
        anchors=((1.5, 1.0), (0.5, 2.0)),
        clip_length=3,
        frame_stride=2,
        input_size=(8, 4),
        stride=2,
    )


@pytest.fixture(scope="session")
def weights() -> Callable[[ModelSpec], Float]:
    """The convolution of a spec: (A * (5 + C), 3, T, stride, stride), one kernel position for each grid cell."""
    return _weights


def _weights(spec: ModelSpec) -> Float:
    shape = (spec.output_channels, 3, spec.clip_length, spec.stride, spec.stride)
    kernel = np.random.default_rng(0).standard_normal(shape)
    return np.asarray(kernel * 3 / np.sqrt(kernel[0].size), np.float32)  # answers of a size that decodes to some boxes


class NumpyBackend(Engine):
    """The small network in numpy: the reference for the engines, and a backend where the engine does not matter."""

    name = "numpy"

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self.times_closed = 0
        self.batches: list[int] = []
        self._kernel = _weights(spec)

    def infer(self, clips: NDArray[np.float32]) -> Float:
        clips = check_clips(clips, self.spec)
        self.batches.append(len(clips))
        (columns, rows), side = self.spec.grid_size, self.spec.stride
        tiles = clips.reshape(len(clips), 3, self.spec.clip_length, rows, side, columns, side)
        return np.asarray(np.einsum("bktrycx,oktyx->borc", tiles, self._kernel), np.float32)

    def close(self) -> None:
        self.times_closed += 1


@pytest.fixture(scope="session")
def numpy_backend() -> Callable[[ModelSpec], NumpyBackend]:
    """Makes a `NumpyBackend` for a spec."""
    return NumpyBackend


@pytest.fixture(scope="session")
def onnx_model() -> Callable[..., Any]:
    """Makes the small network as an `onnx.ModelProto`; other nodes, inputs or a spec that lies on request."""
    onnx = pytest.importorskip("onnx")

    def make(spec: ModelSpec, nodes: Sequence[Any] | None = None, said: str | None = None, **graph: Any) -> Any:
        helper = onnx.helper
        kernel, (columns, rows), side = _weights(spec), spec.grid_size, spec.stride
        nodes = nodes or [
            helper.make_node("Conv", ["clip", "kernel"], ["with_time"], strides=[spec.clip_length, side, side]),
            helper.make_node("Squeeze", ["with_time", "time"], ["raw"]),
        ]
        clip = helper.make_tensor_value_info("clip", onnx.TensorProto.FLOAT, ["batch", *spec.clip_shape])
        raw = helper.make_tensor_value_info(
            "raw", onnx.TensorProto.FLOAT, ["batch", spec.output_channels, rows, columns]
        )
        initializers = [
            onnx.numpy_helper.from_array(kernel, "kernel"),
            onnx.numpy_helper.from_array(np.array([2], np.int64), "time"),
        ]
        made = helper.make_graph(
            nodes, "small", graph.pop("inputs", [clip]), graph.pop("outputs", [raw]), initializers, **graph
        )
        model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        helper.set_model_props(model, {METADATA_KEY: spec.to_json() if said is None else said})
        return model

    return make


_NAMES = ("歩く\n", "run $5", "sit")
_SIZE_WH = (64, 48)


@pytest.fixture(scope="session")
def made_up() -> Callable[..., Result]:
    """`made_up(7, {0: [0.5, 0.1, 0]})`: frame 7, where person 0 has these scores; other fields of `Result` by name."""
    return _made_up


def _made_up(number: int, people: dict[int, list[float]] | None = None, **others: Any) -> Result:
    people = people or {}
    scores = np.array(list(people.values()), np.float32).reshape(-1, len(_NAMES))
    boxes = np.array([[8 + who, 8, 40 + who, 40] for who in people], np.float32).reshape(-1, 4)
    found = Detections(boxes, scores.max(axis=1), scores.argmax(axis=1), scores, np.array(list(people), np.int64))
    frame = np.full((_SIZE_WH[1], _SIZE_WH[0], 3), 10 * number % 250, np.uint8)
    kind = others.pop("kind", Result)
    given: dict[str, Any] = {"timestamp": number / 25, "source": "yard.avi", **others}
    made: Result = kind(number, frame, found, _NAMES, {"infer": 1.0}, **given)
    return made
