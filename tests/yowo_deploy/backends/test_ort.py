"""ONNX Runtime's providers: the one that was asked for or an error, and bound memory gives what a plain run gives."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from yowo_deploy.backends.base import Staged
from yowo_deploy.backends.loader import open_model
from yowo_deploy.errors import InputError, ModelFileError, OutputError
from yowo_deploy.model_files import onnx_reader
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import OnnxFile, read_onnx_file
from yowo_deploy.prefetch import map_ahead
from yowo_deploy.spec import ModelSpec

pytest.importorskip("onnxruntime")
ort = pytest.importorskip("yowo_deploy.backends.ort")

CUDA, TENSORRT, RTX = (ort._PROVIDERS[kind] for kind in ("cuda", "tensorrt", "tensorrt-rtx"))
CPU = "CPUExecutionProvider"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, onnx_model: Callable[..., Any], spec: ModelSpec) -> Path:
    path = tmp_path_factory.mktemp("models") / "small.onnx"
    path.write_bytes(onnx_model(spec).SerializeToString())
    return path


class Asked:
    """Stands for a GPU build of ONNX Runtime: notes what a session was asked for, and runs it on the CPU."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, starts: bool = True, error: Exception | None = None) -> None:
        self.providers: list[Any] = []
        self.preloaded = False
        real = ort.ort.InferenceSession

        def session(path: str, options: Any, providers: list[Any], enable_fallback: int) -> Any:
            assert enable_fallback == 0
            self.providers = providers
            if error is not None:
                raise error
            opened = real(path, options, providers=[CPU])
            names = [entry if isinstance(entry, str) else entry[0] for entry in providers]
            opened.get_providers = lambda: [*names, CPU] if starts else [CPU]
            return opened

        def preload() -> None:
            print("Failed to load a library")  # as the real one does, to stdout
            self.preloaded = True

        monkeypatch.setattr(ort.ort, "InferenceSession", session)
        monkeypatch.setattr(ort.ort, "get_available_providers", lambda: [TENSORRT, CUDA, RTX, CPU])
        monkeypatch.setattr(ort.ort, "preload_dlls", preload)


@pytest.mark.parametrize(
    ("device", "providers"),
    [
        ("cpu", [CPU]),
        ("cuda", [(CUDA, {"device_id": 0, "use_tf32": 0})]),
        ("cuda:1", [(CUDA, {"device_id": 1, "use_tf32": 0})]),
        ("tensorrt:2", [(TENSORRT, {"device_id": 2}), (CUDA, {"device_id": 2, "use_tf32": 0})]),
        ("tensorrt-rtx:1", [(RTX, {"device_id": 1})]),
    ],
)
def test_a_device_is_a_provider_and_a_number(
    device: str, providers: list[Any], file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = Asked(monkeypatch)
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "0")
    monkeypatch.delenv("NVIDIA_TF32_OVERRIDE")
    open_model(file, "onnxruntime", device)
    # TensorRT behind ONNX Runtime has no other way to keep 23 bits.
    assert os.environ.get("NVIDIA_TF32_OVERRIDE") == ("0" if device == "tensorrt:2" else None)
    assert asked.providers == providers
    assert asked.preloaded == (device != "cpu")
    assert capsys.readouterr().out == ""


def test_compiled_models_are_kept_where_a_provider_compiles(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, folder = Asked(monkeypatch), tmp_path / "kept"
    open_model(file, "onnxruntime", "tensorrt", cache=folder)
    kept = {"trt_engine_cache_enable": "True", "trt_engine_cache_path": str(folder)}  # "1" is refused there
    assert folder.is_dir() and asked.providers[0][1] == {"device_id": 0} | kept
    open_model(file, "onnxruntime", "tensorrt-rtx", cache=folder)
    assert asked.providers[0][1]["nv_runtime_cache_path"] == str(folder)
    for device in ("cpu", "cuda"):
        with pytest.raises(InputError, match=f"has no compiled model to cache on {device}"):
            open_model(file, "onnxruntime", device, cache=folder)
    with pytest.raises(OutputError, match="cannot write into"):
        open_model(file, "onnxruntime", "tensorrt", cache=file)


@pytest.mark.parametrize("device", ["cuda", "cuda:1", "tensorrt", "tensorrt-rtx"])
def test_a_provider_that_does_not_start_is_an_error_and_not_the_cpu(
    device: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Asked(monkeypatch, starts=False)
    with pytest.raises(InputError, match=r"could not start \w+ and would run on the CPU.*yowo-deploy doctor"):
        open_model(file, "onnxruntime", device)


def test_what_a_provider_refuses_is_one_line_and_no_fallback(
    file: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Asked(monkeypatch, error=RuntimeError("CUDA failure 101: invalid device ordinal\n at somewhere.cc"))
    with pytest.raises(ModelFileError, match=r"on cuda:7: CUDA failure 101: invalid device ordinal at somewhere.cc$"):
        open_model(file, "onnxruntime", "cuda:7")
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("device", ["npu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "CUDA", "cuda:1\n"])
def test_a_device_outside_the_grammar_is_refused(device: str, file: Path) -> None:
    with pytest.raises(InputError, match="expected cpu, cuda, tensorrt or tensorrt-rtx"):
        open_model(file, "onnxruntime", device)


def test_an_empty_device_is_not_taken_for_none_given(file: Path) -> None:
    with pytest.raises(InputError, match="device is an empty text"):
        open_model(file, "onnxruntime", "")


@pytest.mark.parametrize(
    ("device", "remedy"),
    [
        ("cuda", r"pip uninstall -y onnxruntime && pip install 'yowo-deploy\[cuda\]'"),
        ("tensorrt", r"pip uninstall -y onnxruntime && pip install 'yowo-deploy\[cuda\]'"),
        ("tensorrt-rtx", r"pip install 'yowo-deploy\[onnxruntime-rtx\]'"),
    ],
)
def test_a_provider_that_this_wheel_lacks_is_named_with_its_remedy(
    device: str, remedy: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ort.ort, "get_available_providers", lambda: [CPU])
    monkeypatch.setattr(ort, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=f"has no {ort._PROVIDERS[device]}; it has {CPU}: run `{remedy}`"):
        open_model(file, device=device)  # without a backend: only ONNX Runtime knows such devices


def test_the_rtx_plugin_is_registered_and_gives_the_gpu_of_that_number(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "onnxruntime_ep_nv_tensorrt_rtx.py").write_text("def get_library_path(): return 'the library'")
    monkeypatch.syspath_prepend(tmp_path)
    registered: list[tuple[str, str]] = []
    added: list[Any] = []
    devices = [SimpleNamespace(ep_name=name) for name in (CPU, RTX, RTX)]
    asked = Asked(monkeypatch)
    monkeypatch.setattr(ort.ort, "get_available_providers", lambda: [CPU])
    monkeypatch.setattr(ort.ort, "register_execution_provider_library", lambda *call: registered.append(call))
    monkeypatch.setattr(ort.ort, "get_ep_devices", lambda: devices)
    options = SimpleNamespace(add_provider_for_devices=lambda *call: added.append(call))
    assert ort._providers("tensorrt-rtx", 1, None, options) == [] == asked.providers
    assert registered == [(RTX, "the library")] and added == [([devices[2]], {})]
    with pytest.raises(InputError, match="has 2 devices, expected a number below that, found 2"):
        ort._providers("tensorrt-rtx", 2, None, options)


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8", "bf16"])
def test_a_file_runs_in_its_own_precision_and_in_no_other(
    precision: Any, onnx_model: Callable[..., Any], spec: ModelSpec, tmp_path: Path
) -> None:
    path = tmp_path / "own.onnx"
    path.write_bytes(onnx_model(spec.replace(precision=precision)).SerializeToString())
    assert open_model(path, "onnxruntime", precision=precision).spec == open_model(path, "onnxruntime").spec
    other = "fp16" if precision != "fp16" else "fp32"
    with pytest.raises(InputError, match=f"is {precision}: leave --precision {other} out"):
        open_model(path, "onnxruntime", precision=other)  # type: ignore[arg-type]


def test_bound_memory_gives_what_a_plain_run_gives_whatever_the_order_of_batches(file: Path, spec: ModelSpec) -> None:
    session = ort.ort.InferenceSession(str(file), providers=[CPU])
    memory = ort.DeviceMemory(session, spec, "cpu", 0)
    random = np.random.default_rng(0)
    answers = []
    for batch in (2, 2, 1, 3, 2):
        clips = random.random((batch, *spec.clip_shape), np.float32)
        answers.append((memory(clips), session.run(None, {"clip": clips})[0]))
    for bound, plain in answers:  # after the last call: no call changed an earlier answer
        assert np.array_equal(bound, plain)


def test_a_call_taken_apart_has_copies_on_a_gpu_alone(
    file: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips, real = np.random.default_rng(0).random((2, *spec.clip_shape), np.float32), ort.DeviceMemory
    with open_model(file, "onnxruntime") as plain:
        assert isinstance(plain, Staged)
        expected, spent = plain.infer_in_stages(clips)
    assert list(spent) == ["infer"] and spent["infer"] > 0
    Asked(monkeypatch)
    monkeypatch.setattr(ort, "DeviceMemory", lambda session, spec, kind, index: real(session, spec, "cpu", 0))
    with open_model(file, "onnxruntime", "cuda") as bound:
        assert isinstance(bound, Staged)
        found, spent = bound.infer_in_stages(clips)
    assert np.array_equal(found, expected) and list(spent) == ["copy in", "infer", "copy out"]


def test_threads_share_the_bound_memories_of_a_gpu(
    file: Path, spec: ModelSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[str, int]] = []
    real = ort.DeviceMemory

    def on_cpu(session: Any, spec: ModelSpec, kind: str, index: int) -> Any:
        made.append((kind, index))
        return real(session, spec, "cpu", 0)

    clips = [np.random.default_rng(seed).random((1 + seed % 2, *spec.clip_shape), np.float32) for seed in range(24)]
    with open_model(file, "onnxruntime") as plain:
        expected = [plain.infer(clip) for clip in clips]
    Asked(monkeypatch)
    monkeypatch.setattr(ort, "DeviceMemory", on_cpu)
    with open_model(file, "onnxruntime", "cuda:1", parallel=2) as bound:
        found = list(map_ahead(bound.infer, clips, 4))
    assert made == [("cuda", 1)] * 2
    assert all(np.array_equal(one, other) for one, other in zip(found, expected, strict=True))


def test_large_weights_go_beside_the_model_and_give_the_same_bits(file: Path, spec: ModelSpec) -> None:
    for path in (file, model_path("default")):
        read = read_onnx_file(path)
        model, weights = read.model_and_weights()
        assert weights and len(model) + sum(map(len, weights.values())) < 1.02 * len(read.model_bytes()) + 2000
        clips = np.random.default_rng(0).random((1, *read.spec.clip_shape), np.float32)
        plain = ort.ort.InferenceSession(read.model_bytes(), providers=[CPU])
        [expected] = plain.run(None, {plain.get_inputs()[0].name: clips})
        with open_model(path, "onnxruntime") as opened:
            assert np.array_equal(opened.infer(clips), expected)


def test_quantized_weights_go_beside_the_model_as_well(
    onnx_model: Callable[..., Any], spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnx = pytest.importorskip("onnx")
    monkeypatch.setattr(onnx_reader, "_LARGE", 500)
    node, side = onnx.helper.make_node, spec.stride
    model = onnx_model(
        spec,
        nodes=[
            node("QuantizeLinear", ["clip", "step", "zero"], ["rounded"]),
            node("DequantizeLinear", ["rounded", "step", "zero"], ["seen"]),
            node("DequantizeLinear", ["small", "step", "middle"], ["kernel"]),
            node("Conv", ["seen", "kernel"], ["with_time"], strides=[spec.clip_length, side, side]),
            node("Squeeze", ["with_time", "time"], ["raw"]),
        ],
    )
    kernel = onnx.numpy_helper.to_array(model.graph.initializer[0])
    constants = {"small": kernel, "step": np.array(0.01), "zero": np.array(128), "middle": np.array(0)}
    kinds = {"small": np.int8, "step": np.float32, "zero": np.uint8, "middle": np.int8}
    constants["small"] = np.random.default_rng(0).integers(-99, 99, kernel.shape)
    del model.graph.initializer[0]
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(each.astype(kinds[name]), name) for name, each in constants.items()
    )
    path = tmp_path / "int8.onnx"
    path.write_bytes(model.SerializeToString())
    assert list(map(len, read_onnx_file(path).model_and_weights()[1].values())) == [kernel.size]
    clips = np.random.default_rng(0).random((2, *spec.clip_shape), np.float32)
    plain = ort.ort.InferenceSession(read_onnx_file(path).model_bytes(), providers=[CPU])
    with open_model(path, "onnxruntime") as opened:
        assert np.array_equal(opened.infer(clips), plain.run(None, {"clip": clips})[0])


def test_a_session_is_made_of_what_was_read_whatever_lies_there_later(
    file: Path, spec: ModelSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clips = np.random.default_rng(0).random((1, *spec.clip_shape), np.float32)
    with open_model(file, "onnxruntime") as opened:
        expected = opened.infer(clips)
    copy = Path(shutil.copy(file, tmp_path))

    def then_changed(path: Path, sha256: str | None) -> OnnxFile:
        found = read_onnx_file(path, sha256)
        path.write_bytes(b"of another")
        return found

    monkeypatch.setattr(ort, "read_onnx_file", then_changed)
    monkeypatch.chdir(tmp_path)
    with open_model(copy, "onnxruntime") as opened:
        assert np.array_equal(opened.infer(clips), expected)


def test_a_session_copies_the_weights_that_lay_beside_its_model(file: Path, spec: ModelSpec) -> None:
    model, weights = read_onnx_file(file).model_and_weights()
    given, options = {name: bytearray(values) for name, values in weights.items()}, ort.ort.SessionOptions()
    options.add_external_initializers_from_files_in_memory(
        list(given), list(given.values()), list(map(len, given.values()))
    )
    session = ort.ort.InferenceSession(model, options, providers=[CPU])
    clips = np.random.default_rng(0).random((1, *spec.clip_shape), np.float32)
    before = session.run(None, {"clip": clips})[0]
    for values in given.values():
        values[:] = bytes(len(values))
    assert before.any() and np.array_equal(session.run(None, {"clip": clips})[0], before)


def test_no_file_on_a_disk_is_taken_for_a_weight(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = read_onnx_file(file)
    model, weights = read.model_and_weights()
    assert not {*weights} & {*read.model_and_weights()[1]}  # names anew at every call
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Exception, match=next(iter(weights))):
        ort.ort.InferenceSession(model, providers=[CPU])


def test_a_runtime_that_takes_no_weights_from_memory_and_other_providers_get_the_model_whole(file: Path) -> None:
    read = read_onnx_file(file)
    assert ort._given(read, "cpu", object()) == ort._given(read, "cuda", ort.ort.SessionOptions()) == read.model_bytes()
    assert len(ort._given(read, "cpu", ort.ort.SessionOptions())) < len(read.model_bytes()) // 2


@pytest.mark.gpu
@pytest.mark.skipif(not shutil.which("nvidia-smi"), reason="no NVIDIA GPU: nvidia-smi is not installed")
@pytest.mark.parametrize("device", ["cuda", "tensorrt", "tensorrt-rtx"])
def test_a_gpu_gives_what_the_cpu_gives(device: str, file: Path, spec: ModelSpec) -> None:
    if ort._PROVIDERS[device] not in ort.ort.get_available_providers():
        pytest.skip(f"this onnxruntime has no {ort._PROVIDERS[device]}")
    clips = np.random.default_rng(0).random((3, *spec.clip_shape), np.float32)
    with open_model(file, "onnxruntime") as cpu, open_model(file, "onnxruntime", device, parallel=2) as gpu:
        # 36 products of at most 2 in any order, see test_base; twice, for a batch of two and one of three.
        assert np.abs(gpu.infer(clips) - cpu.infer(clips)).max() < 36 * 10 * 2**-24
        assert np.abs(gpu.infer(clips[:2]) - cpu.infer(clips[:2])).max() < 36 * 10 * 2**-24
        assert isinstance(gpu, Staged)
        found, spent = gpu.infer_in_stages(clips)
        assert np.array_equal(found, gpu.infer(clips)) and "infer" in spent
