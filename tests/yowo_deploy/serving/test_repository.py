"""Model repositories: what is in them, and the Python backend's model on a stub of the stub."""

from __future__ import annotations

import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.hostile.spec_texts import in_plan
from yowo_deploy.arrays import Frame
from yowo_deploy.detector import Detector
from yowo_deploy.errors import InputError, OutputError
from yowo_deploy.model_files.plan_record import PlanFile, to_name
from yowo_deploy.serving.repository import to_pbtxt, write_ovms, write_triton
from yowo_deploy.serving.triton_model import TritonPythonModel
from yowo_deploy.spec import ModelSpec


@pytest.fixture(scope="module")
def model(spec: ModelSpec, onnx_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    onnx = pytest.importorskip("onnx")
    file = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(onnx_model(spec.replace(confidence_threshold=0.02)), file)
    return file


def test_a_repository_for_triton_is_whole(model: Path, tmp_path: Path, spec: ModelSpec) -> None:
    folder = write_triton(model, tmp_path / "repository", "/a:/b")
    files = {str(each.relative_to(folder)) for each in folder.rglob("*") if each.is_file()}
    assert files == {
        "README.md", "client.py",
        "yowo_stream/config.pbtxt", "yowo_stream/labels.txt", "yowo_stream/1/model.py", "yowo_stream/1/yowo.onnx",
        "yowo_clip/config.pbtxt", "yowo_clip/labels.txt", "yowo_clip/1/model.onnx",
    }  # fmt: skip
    assert (folder / "yowo_clip/1/model.onnx").read_bytes() == model.read_bytes()
    assert (folder / "yowo_stream/labels.txt").read_text().split() == list(spec.labels)
    stream, clip = ((folder / name / "config.pbtxt").read_text() for name in ("yowo_stream", "yowo_clip"))
    for line in ('backend: "python"', "dims: [-1, -1, 3]", 'key: "python_path" value { string_value: "/a:/b" }'):
        assert line in stream
    assert "max_candidate_sequences: 32" in stream and "max_sequence_idle_microseconds: 30000000" in stream
    assert 'backend: "onnxruntime"' in clip and "dims: [-1, 3, 3, 4, 8]" in clip and "sequence_batching" not in clip


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_number_of_clips_is_in_the_configuration(
    batch: int, model: Path, tmp_path: Path, spec: ModelSpec
) -> None:
    """Triton loads no model whose configuration leaves open what its graph fixes; a video has one clip at a time."""
    fixed = fixed_to(batch, model, tmp_path)
    if batch > 1:
        with pytest.raises(
            InputError, match="takes at least 4 clips a call, and yowo_stream has one at a time: export "
        ):
            write_triton(fixed, tmp_path / "repository")
        assert not (tmp_path / "repository").exists()
        return
    clip = (write_triton(fixed, tmp_path / "repository") / "yowo_clip/config.pbtxt").read_text()
    columns, rows = spec.grid_size
    assert "dims: [1, 3, 3, 4, 8]" in clip and f"dims: [1, {spec.output_channels}, {rows}, {columns}]" in clip


@pytest.mark.parametrize(("batch", "dims"), [((1, 1, 1), "[1, 3, 3, 4, 8]"), ((1, 4, 8), "[-1, 3, 3, 4, 8]")])
def test_the_clips_of_a_plan_are_those_it_was_built_for(
    batch: tuple[int, int, int], dims: str, tmp_path: Path, spec: ModelSpec
) -> None:
    """A plan of a fixed graph has that number in its shape; of an open one, any number within its range is taken."""
    plan = PlanFile(spec, "tensorrt", "10.8.0", "8.9", "ab" * 32, batch)
    (tmp_path / "m.plan").write_bytes(in_plan(to_name(plan)[0].split(" ", 4)[-1]))
    assert (
        f"dims: {dims}" in (write_triton(tmp_path / "m.plan", tmp_path / "made") / "yowo_clip/config.pbtxt").read_text()
    )


def test_a_plan_for_several_clips_a_call_has_no_stream(tmp_path: Path, spec: ModelSpec) -> None:
    plan = PlanFile(spec, "tensorrt", "10.8.0", "8.9", "ab" * 32, (2, 4, 8))
    (tmp_path / "m.plan").write_bytes(in_plan(to_name(plan)[0].split(" ", 4)[-1]))
    with pytest.raises(InputError, match=r"takes at least 2 clips a call, and yowo_stream has one .*build it without"):
        write_triton(tmp_path / "m.plan", tmp_path / "made")


def fixed_to(batch: int, model: Path, folder: Path) -> Path:
    """The file for so many clips a call."""
    onnx = pytest.importorskip("onnx")
    loaded = onnx.load(model)
    for value in (*loaded.graph.input, *loaded.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = batch
    onnx.save(loaded, folder / "fixed.onnx")
    return folder / "fixed.onnx"


def test_what_is_there_is_kept(model: Path, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("x")
    for write in (write_triton, write_ovms):
        with pytest.raises(OutputError, match="already"):
            write(model, tmp_path)


def test_a_repository_for_model_server_has_clips(model: Path, tmp_path: Path) -> None:
    folder = write_ovms(model, tmp_path / "ovms")
    assert (folder / "yowo_clip/1/model.onnx").read_bytes() == model.read_bytes()
    [entry] = json.loads((folder / "config.json").read_text())["model_config_list"]
    assert entry["config"]["name"] == "yowo_clip"


def test_a_checkpoint_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"PK\x03\x04 and so on")
    with pytest.raises(InputError, match="export it first"):
        write_triton(tmp_path / "x.pth", tmp_path / "repository")


def test_texts_are_quoted() -> None:
    assert to_pbtxt({"name": 'a "b"\n', "n": 3, "parameters": {"x": {"string_value": 'c"}'}}}) == (
        'name: "a \\"b\\"\\n"\nn: 3\nparameters { key: "x" value { string_value: "c\\"}" } }\n'
    )


class Tensor:
    """As the stub's: a name, and an array."""

    def __init__(self, name: str, array: Any) -> None:
        self.name, self._array = name, array

    def as_numpy(self) -> Any:
        return self._array

    def to_dlpack(self) -> Any:
        return self._array

    @staticmethod
    def from_dlpack(name: str, capsule: Any) -> Tensor:
        return Tensor(name, capsule)


class Request:
    """A frame of a sequence."""

    def __init__(self, frame: Any, key: Any, flags: int) -> None:
        self.frame, self._key, self._flags = frame, key, flags

    def correlation_id(self) -> Any:
        return self._key

    def flags(self) -> int:
        return self._flags


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Stands in for the stub's module."""
    stub: Any = types.ModuleType("triton_python_backend_utils")
    stub.TRITONSERVER_REQUEST_FLAG_SEQUENCE_START, stub.TRITONSERVER_REQUEST_FLAG_SEQUENCE_END = 1, 2
    stub.get_input_tensor_by_name = lambda request, name: Tensor(name, request.frame)
    stub.Tensor, stub.TritonError = Tensor, str
    stub.InferenceResponse = lambda outputs=(), error=None: (error, {each.name: each.as_numpy() for each in outputs})
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", stub)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return stub


@pytest.fixture
def triton(model: Path, tmp_path: Path, stub: Any) -> Iterator[TritonPythonModel]:
    """The model of the Python backend, initialised as Triton does it."""
    made = initialised(model, tmp_path)
    yield made
    made.finalize()


def initialised(model: Path, tmp_path: Path) -> TritonPythonModel:
    folder = write_triton(model, tmp_path / "repository") / "yowo_stream"
    config = {
        "parameters": {"file": {"string_value": "yowo.onnx"}},
        "sequence_batching": {"oldest": {"max_candidate_sequences": 2}, "max_sequence_idle_microseconds": "30000000"},
    }
    made = TritonPythonModel()
    made.initialize({"model_config": json.dumps(config), "model_repository": str(folder), "model_version": "1"})
    return made


def test_the_python_backend_gives_what_a_detector_gives(
    triton: TritonPythonModel, model: Path, frames: list[Frame]
) -> None:
    with Detector.open(model) as alone:
        for number, frame in enumerate(frames):
            flags = (number == 0) + 2 * (number == len(frames) - 1)
            [(error, outputs)] = triton.execute([Request(frame, 7, flags)])
            found = alone.push(frame).detections
            assert error is None and outputs["boxes"].tobytes() == found.xyxy.tobytes()
            assert outputs["people"].tolist() == found.tracker_id.tolist() and len(outputs["scores"]) == len(found)
    assert len(triton._sequences) == 0


def test_the_python_backend_does_not_load_where_arrays_lose_their_bytes(
    model: Path, tmp_path: Path, stub: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tensor, "from_dlpack", lambda name, given: Tensor(name, np.zeros_like(given)))
    with pytest.raises(InputError, match=r"put numpy 1\.26 before it"):
        initialised(model, tmp_path)


def test_an_error_of_one_request_is_its_own(triton: TritonPythonModel, frames: list[Frame]) -> None:
    answers = triton.execute([Request(frames[0], 1, 0), Request(frames[0], "door", 1), Request(frames[0], 0, 1)])
    assert [error is None for error, _ in answers] == [False, True, False]
