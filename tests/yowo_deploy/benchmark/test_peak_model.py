"""The matrix products are what they are said to be, in every precision that an engine has."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from yowo_deploy.arrays import Float
from yowo_deploy.backends.loader import open_model
from yowo_deploy.benchmark.peak_model import ANSWER, MACS, ROWS, SIDE, SPEC, gemm_weights, write_gemm
from yowo_deploy.model_files.onnx_reader import read_onnx_file
from yowo_deploy.spec import Precision


@pytest.fixture(scope="module")
def clip() -> Float:
    return np.random.default_rng(0).standard_normal((1, *SPEC.clip_shape)).astype(np.float32)


@pytest.fixture(scope="module")
def answer(clip: Float) -> Float:
    """In float64."""
    *weights, last = (weight.astype(np.float64) for weight in gemm_weights())
    rows = clip.reshape(ROWS, SIDE).astype(np.float64)
    for weight in weights:
        rows = np.maximum(rows @ weight, 0)
    return np.asarray((rows.mean(axis=0) @ last).reshape(ANSWER), np.float32)


# Relative to the largest answer. float32: sums of 1,024 products, sqrt(1024) * 2^-24 = 2e-6 a product, twice. Half
# precision and INT8 round every value by 2^-11 and by 1/64 of a deviation; the mean of 3,072 rows takes most of that
# away, so that the weights' own rounding is left: 2^-11, and 1/254 of the largest, which lies five deviations out.
@pytest.mark.parametrize(("precision", "limit"), [("fp32", 1e-5), ("fp16", 2**-10), ("int8", 5 / 254 * 2)])
@pytest.mark.parametrize("engine", ["openvino", "onnxruntime"])
def test_engines_compute_what_numpy_computes(
    engine: str, precision: Precision, limit: float, clip: Float, answer: Float, tmp_path: Path
) -> None:
    pytest.importorskip(engine)
    write_gemm(tmp_path / "gemm.onnx", precision)
    with open_model(tmp_path / "gemm.onnx", engine) as backend:
        found = backend.infer(clip)
    assert backend.spec.precision == precision
    assert np.abs(found - answer).max() <= limit * np.abs(answer).max()


def test_pytorch_computes_the_same(clip: Float, answer: Float) -> None:
    pytest.importorskip("torch")
    from yowo_training.torch_backend import TorchGemm

    found = TorchGemm().infer(clip)
    assert np.abs(found - answer).max() <= 1e-5 * np.abs(answer).max()


def test_multiply_adds_are_those_of_the_products_in_the_file(tmp_path: Path) -> None:
    onnx = pytest.importorskip("onnx")
    write_gemm(tmp_path / "gemm.onnx")
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "gemm.onnx"), strict_mode=True)
    onnx.checker.check_model(model, full_check=True)
    shapes = {each.name: list(each.dims) for each in model.graph.initializer}
    shapes |= {each.name: [d.dim_value for d in each.type.tensor_type.shape.dim] for each in model.graph.value_info}
    products = [node for node in model.graph.node if node.op_type == "MatMul"]
    assert sum(np.prod(shapes[node.input[0]]) * shapes[node.input[1]][1] for node in products) == MACS
    assert MACS > 6e9  # so many that starting and stopping an engine is nothing beside them


def test_int8_is_quantized_before_every_large_product(tmp_path: Path) -> None:
    write_gemm(tmp_path / "gemm.onnx", "int8")
    operators = read_onnx_file(tmp_path / "gemm.onnx").operators
    assert operators["QuantizeLinear"] == operators["MatMul"] - 1 == operators["DequantizeLinear"] / 2
