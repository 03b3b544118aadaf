"""OpenVINO: layers are computed in the precision that was said, and a model is only given what was compiled of it."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yowo_deploy.arrays import Float
from yowo_deploy.backends.base import Backend
from yowo_deploy.backends.loader import open_model
from yowo_deploy.errors import InputError, OutputError
from yowo_deploy.spec import ModelSpec

pytest.importorskip("openvino")
onnx = pytest.importorskip("onnx")
ov = pytest.importorskip("yowo_deploy.backends.ov")
helper, numpy_helper = onnx.helper, onnx.numpy_helper

MakeFile = Callable[..., Path]


def has_bf16() -> bool:
    return "BF16" in ov.ov.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")


needs_bf16 = pytest.mark.skipif(not has_bf16(), reason="this CPU has no bf16")


@pytest.fixture
def make_file(onnx_model: Callable[..., Any], spec: ModelSpec, tmp_path: Path) -> MakeFile:
    """Writes a network of two convolutions whose graph is of a precision, and whose spec says so."""

    def make(precision: Any, seed: int = 0, batch: int = 0) -> Path:
        nodes, weights = _graph(spec, precision, seed)
        model = onnx_model(spec.replace(precision=precision), nodes)
        model.graph.initializer.extend(weights)
        if batch:
            for port in (*model.graph.input, *model.graph.output):
                port.type.tensor_type.shape.dim[0].dim_value = batch
        onnx.checker.check_model(model, full_check=True)
        path = tmp_path / f"{precision}_{seed}.onnx"
        path.write_bytes(model.SerializeToString())
        return path

    return make


def _graph(spec: ModelSpec, precision: str, seed: int) -> tuple[list[Any], list[Any]]:
    kernel = np.random.default_rng(seed).standard_normal((32, 3, 1, 1, 1)).astype(np.float32)
    last = np.random.default_rng(seed + 1).standard_normal((spec.output_channels, 32, spec.clip_length, 2, 2)) / 8
    last = last.astype(np.float32)
    strides = {"strides": [spec.clip_length, 2, 2]}
    squeeze = helper.make_node("Squeeze", ["with_time", "time"], ["raw"])
    if precision == "int8":
        return _quantized(kernel, last, strides, squeeze)
    if precision != "fp16":
        weights = [numpy_helper.from_array(kernel, "first"), numpy_helper.from_array(last, "last")]
        first = helper.make_node("Conv", ["clip", "first"], ["hidden"])
        return [first, helper.make_node("Conv", ["hidden", "last"], ["with_time"], **strides), squeeze], weights
    weights = [
        numpy_helper.from_array(array.astype(np.float16), name) for array, name in ((kernel, "first"), (last, "last"))
    ]
    nodes = [
        helper.make_node("Cast", ["clip"], ["half"], to=onnx.TensorProto.FLOAT16),
        helper.make_node("Conv", ["half", "first"], ["hidden"]),
        helper.make_node("Conv", ["hidden", "last"], ["half_out"], **strides),
        helper.make_node("Cast", ["half_out"], ["with_time"], to=onnx.TensorProto.FLOAT),
        squeeze,
    ]
    return nodes, weights


def _quantized(kernel: Float, last: Float, strides: dict[str, Any], squeeze: Any) -> tuple[list[Any], list[Any]]:
    nodes, weights = [], []

    def scalar(name: str, value: float, dtype: Any) -> str:
        weights.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def activation(name: str, scale: float) -> str:
        inputs = [scalar(f"{name}_scale", scale, np.float32), scalar(f"{name}_zero", 128, np.uint8)]
        nodes.append(helper.make_node("QuantizeLinear", [name, *inputs], [f"{name}_q"]))
        nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *inputs], [f"{name}_dq"]))
        return f"{name}_dq"

    def weight(name: str, array: Float) -> str:
        scale = float(np.abs(array).max() / 127)
        weights.append(numpy_helper.from_array(np.round(array / scale).astype(np.int8), f"{name}_q"))
        inputs = [f"{name}_q", scalar(f"{name}_scale", scale, np.float32), scalar(f"{name}_zero", 0, np.int8)]
        nodes.append(helper.make_node("DequantizeLinear", inputs, [name]))
        return name

    clip, first = activation("clip", 1 / 127), weight("first", kernel)
    nodes.append(helper.make_node("Conv", [clip, first], ["hidden"]))
    hidden, second = activation("hidden", 6 / 127), weight("last", last)
    nodes.append(helper.make_node("Conv", [hidden, second], ["with_time"], **strides))
    return [*nodes, squeeze], weights


def precisions(backend: Backend) -> set[str]:
    """In which the convolutions were really computed."""
    backend.infer(clips_of(backend.spec))
    operations = backend._session.compiled.get_runtime_model().get_ops()  # type: ignore[attr-defined]
    told = [operation.get_rt_info() for operation in operations]
    return {str(info["runtimePrecision"].value) for info in told if info["layerType"].value == "Convolution"}


def clips_of(spec: ModelSpec) -> Float:
    return np.random.default_rng(5).random((2, *spec.clip_shape), np.float32)


@pytest.mark.parametrize(
    ("of_file", "asked", "computed"),
    [
        ("fp32", None, {"f32"}),
        ("fp32", "fp32", {"f32"}),
        ("fp16", None, {"f32"}),
        ("fp16", "fp16", {"f32"}),
        ("fp16", "fp32", {"f32"}),
        ("int8", None, {"i8", "u8"}),
        ("int8", "int8", {"i8", "u8"}),
        ("bf16", "fp32", {"f32"}),
        pytest.param("bf16", None, {"bf16"}, marks=needs_bf16),
        pytest.param("fp32", "bf16", {"bf16"}, marks=needs_bf16),
        pytest.param("int8", "bf16", {"i8", "u8"}, marks=needs_bf16),
    ],
)
def test_layers_are_computed_in_the_precision_that_was_said(
    of_file: str, asked: Any, computed: set[str], make_file: MakeFile
) -> None:
    found = precisions(open_model(make_file(of_file), "openvino", precision=asked))
    assert found and found <= computed


def test_a_half_file_is_its_half_weights_in_single_arithmetic(make_file: MakeFile, spec: ModelSpec) -> None:
    half, single = (open_model(make_file(of), "openvino").infer(clips_of(spec)) for of in ("fp16", "fp32"))
    # Three roundings of 2^-11, of the clip and of two layers' weights, whose signs do not add up.
    assert 0 < np.abs(half - single).max() < 3 * 2**-11 * np.abs(single).max()


@pytest.mark.parametrize(
    ("of_file", "asked", "expected"),
    [
        ("fp32", "int8", "in bf16 or fp32, not in int8"),
        ("fp32", "fp16", "in bf16 or fp32, not in fp16"),
        ("fp16", "int8", "in bf16 or fp16 or fp32, not in int8"),
        ("int8", "fp32", "in bf16 or int8, not in fp32"),
        ("bf16", "fp16", "in bf16 or fp32, not in fp16"),
    ],
)
def test_a_precision_that_the_file_is_not_in_is_refused(
    of_file: str, asked: Any, expected: str, make_file: MakeFile
) -> None:
    with pytest.raises(InputError, match=expected):
        open_model(make_file(of_file), "openvino", precision=asked)


def rounded_to(kind: Any, file: Path, target: Path) -> Path:
    """The network, its clips and all weights rounded to 8 bits: clips to `kind`, weights to int8."""
    model, nodes, tensors = onnx.load(file), [], []
    names = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Conv":
            for at, step in ((0, 4 / 127), (1, float(np.abs(names[node.input[1]]).max()) / 127)):
                name, zero = node.input[at], np.zeros((), kind if at == 0 else np.int8)
                tensors += [numpy_helper.from_array(np.float32(step), f"{name}_s{at}")]
                tensors += [numpy_helper.from_array(zero, f"{name}_z{at}")]
                given = [f"{name}_s{at}", f"{name}_z{at}"]
                if at:
                    stored = np.rint(names[name] / step).astype(np.int8)
                    tensors += [numpy_helper.from_array(stored, f"{name}_q")]
                else:
                    nodes.append(helper.make_node("QuantizeLinear", [name, *given], [f"{name}_q"]))
                nodes.append(helper.make_node("DequantizeLinear", [f"{name}_q", *given], [f"{name}_d"]))
                node.input[at] = f"{name}_d"
        nodes.append(node)
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.extend(tensors)
    onnx.save(model, target)
    return target


def test_int8_that_overflows_is_refused_and_any_other_is_computed(
    onnx_model: Callable[..., Any], spec: ModelSpec, tmp_path: Path
) -> None:
    """Wherever it was opened, a file for TensorRT answered with 0.4 of the largest output next to the truth."""
    pytest.importorskip("onnxruntime")
    wide = spec.replace(input_size=(64, 64), stride=4, precision="int8")
    onnx.save(onnx_model(wide), tmp_path / "m.onnx")
    signed = rounded_to(np.int8, tmp_path / "m.onnx", tmp_path / "signed.onnx")
    with pytest.raises(InputError, match="export it with --int8 --target openvino, or give --backend onnxruntime"):
        open_model(signed, "openvino")
    unsigned = rounded_to(np.uint8, tmp_path / "m.onnx", tmp_path / "unsigned.onnx")
    clips = 4 * np.random.default_rng(0).random((1, *wide.clip_shape), np.float32)
    with open_model(signed, "onnxruntime") as other, open_model(unsigned, "openvino") as ours:
        expected = other.infer(clips)  # no value is below zero, so both round alike
        assert np.abs(ours.infer(clips) - expected).max() <= 1e-5 * np.abs(expected).max()


@pytest.mark.parametrize(
    ("of_file", "asked", "others"), [("fp32", "bf16", "fp32"), ("bf16", None, "fp32"), ("int8", "bf16", "int8")]
)
def test_a_cpu_without_bf16_says_so(
    of_file: str, asked: Any, others: str, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Old(ov.ov.Core):  # type: ignore[misc]
        def get_property(self, *_: str) -> list[str]:
            return ["FP32", "INT8"]

    monkeypatch.setattr(ov.ov, "Core", Old)
    with pytest.raises(InputError, match=f"this CPU has no bf16.*give --precision {others}$"):
        open_model(make_file(of_file), "openvino", precision=asked)


def test_clips_of_an_open_batch_run_one_after_the_other(make_file: MakeFile, spec: ModelSpec) -> None:
    clips = clips_of(spec)
    with open_model(make_file("fp32"), "openvino") as backend:
        assert backend._session.compiled.input(0).get_partial_shape().is_static  # type: ignore[attr-defined]
        alone = np.concatenate([backend.infer(clips[:1]), backend.infer(clips[1:])])
        assert np.array_equal(backend.infer(clips), alone)
        values = backend.outputs(clips, ["hidden"])  # type: ignore[attr-defined]
        assert all(len(value) == 2 for value in values.values())


def test_a_value_without_a_batch_is_that_of_its_clip(make_file: MakeFile, spec: ModelSpec) -> None:
    path = make_file("fp32")
    model = onnx.load(path)
    model.graph.node.append(helper.make_node("ReduceMean", ["raw", "all"], ["middle"], keepdims=0))
    model.graph.initializer.append(numpy_helper.from_array(np.arange(4), "all"))
    model.graph.output.append(helper.make_tensor_value_info("middle", onnx.TensorProto.FLOAT, []))
    path.write_bytes(model.SerializeToString())
    clip = clips_of(spec)[:1]
    session = ov._Session(path)
    found = session.values(clip, ["middle", "raw"])
    assert found["middle"].shape == () and found["middle"] == pytest.approx(found["raw"].mean(), abs=1e-5)


def test_a_file_with_a_fixed_batch_runs_it_at_once(make_file: MakeFile, spec: ModelSpec) -> None:
    with open_model(make_file("fp32", batch=2), "openvino") as backend:
        assert backend._session.compiled.input(0).shape[0] == 2  # type: ignore[attr-defined]
        assert len(backend.infer(clips_of(spec))) == 2


def test_what_was_compiled_is_kept_and_taken_again_by_the_same_model_alone(
    make_file: MakeFile, spec: ModelSpec, tmp_path: Path
) -> None:
    folder = tmp_path / "made" / "cache"

    def from_cache(path: Path) -> bool:
        with open_model(path, "openvino", cache=folder) as cached, open_model(path, "openvino") as fresh:
            assert np.array_equal(cached.infer(clips_of(spec)), fresh.infer(clips_of(spec)))
            return bool(cached._session.compiled.get_property("LOADED_FROM_CACHE"))  # type: ignore[attr-defined]

    one, other = make_file("fp32"), make_file("fp32", seed=7)
    assert [from_cache(one), len(os.listdir(folder))] == [False, 1]
    assert [from_cache(one), len(os.listdir(folder))] == [True, 1]
    assert [from_cache(other), len(os.listdir(folder))] == [False, 2]
    other.replace(one)  # another model under the same name
    assert from_cache(one) and len(os.listdir(folder)) == 2
    for kept in folder.iterdir():  # a disk that was full
        kept.chmod(0o600)
        os.truncate(kept, 1000)
    assert not from_cache(one)


@needs_bf16
def test_a_cached_model_is_computed_in_the_precision_asked_for_now(make_file: MakeFile, tmp_path: Path) -> None:
    for precision, computed in (("bf16", {"bf16"}), ("fp32", {"f32"}), ("bf16", {"bf16"})):
        opened = open_model(make_file("fp32"), "openvino", precision=precision, cache=tmp_path / "cache")  # type: ignore[arg-type]
        assert precisions(opened) == computed


def test_a_cache_that_cannot_be_written_is_refused(make_file: MakeFile, tmp_path: Path) -> None:
    taken = tmp_path / "file"
    taken.touch()
    for folder in (taken, taken / "below", Path("/proc/none")):
        with pytest.raises(OutputError, match=f"cannot write into {folder}"):
            open_model(make_file("fp32"), "openvino", cache=folder)
