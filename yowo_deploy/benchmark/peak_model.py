"""A chain of matrix products as a model file, which measures the peak rate of a backend."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from yowo_deploy.arrays import Float
from yowo_deploy.model_files.onnx_writer import model, node, numbers, tensor, whole_number
from yowo_deploy.spec import ModelSpec, Precision

SIDE, PRODUCTS = 1024, 2
SPEC = ModelSpec(
    labels=("anything",), anchors=((1.0, 1.0),), clip_length=4, input_size=(512, 512), stride=32, name="gemm"
)
ROWS = int(np.prod(SPEC.clip_shape)) // SIDE
ANSWER = (1, SPEC.output_channels, *SPEC.grid_size[::-1])
MACS = PRODUCTS * ROWS * SIDE * SIDE + SIDE * int(np.prod(ANSWER))
_FLOAT, _HALF = 1, 10  # ONNX's numbers of types
_REACH = 4.0  # of what INT8 can say: the values are normal with a deviation of 1 or less


def write_gemm(path: Path, precision: Precision = "fp32") -> None:
    """Write the model: a clip read as a (3072, 1024) matrix, two products with (1024, 1024), and a small one.

    A ReLU stands between two products, or a backend could multiply their weights beforehand; the mean of the rows makes
    the answer small. "int8" is quantized as our exporter does it for CPUs, unsigned values and signed weights; "fp16"
    has its products in half precision; "bf16" is the backend's own conversion, so its file is that of "fp32".
    """
    *weights, last = gemm_weights()
    tensors = [tensor("matrix", np.array([ROWS, SIDE])), tensor("answer", np.array(ANSWER)), tensor("last", last)]
    nodes = [node("Reshape", ("clip", "matrix"), "rows" if precision == "fp16" else "x0")]
    if precision == "fp16":
        nodes.append(node("Cast", ("rows",), "x0", whole_number("to", _HALF)))
    if precision == "int8":
        tensors += [tensor("step", np.array(_REACH / 128, np.float32)), tensor("weight_step", _weight_step(weights))]
        tensors += [tensor("signed", np.array(128, np.uint8)), tensor("unsigned", np.array(0, np.uint8))]
    for index, weight in enumerate(weights):
        if precision == "int8":
            zero = "unsigned" if index else "signed"
            nodes += [
                node("QuantizeLinear", (f"x{index}", "step", zero), f"q{index}"),
                node("DequantizeLinear", (f"q{index}", "step", zero), f"d{index}"),
                node("DequantizeLinear", (f"stored{index}", "weight_step"), f"weight{index}"),
            ]
            tensors.append(tensor(f"stored{index}", np.rint(weight / _weight_step(weights)).astype(np.int8)))
        else:
            tensors.append(tensor(f"weight{index}", weight.astype(np.float16 if precision == "fp16" else np.float32)))
        values = f"d{index}" if precision == "int8" else f"x{index}"
        nodes.append(node("MatMul", (values, f"weight{index}"), f"y{index}"))
        nodes.append(node("Relu", (f"y{index}",), f"x{index + 1}"))
    top = f"x{len(weights)}"
    if precision == "fp16":
        nodes.append(node("Cast", (top,), "single", whole_number("to", _FLOAT)))
        top = "single"
    nodes.append(node("ReduceMean", (top,), "mean", numbers("axes", (0,))))
    nodes += [node("MatMul", ("mean", "last"), "row"), node("Reshape", ("row", "answer"), "raw")]
    path.write_bytes(model(nodes, tensors, ANSWER, SPEC.replace(precision=precision)))


def gemm_weights() -> list[Float]:
    """`PRODUCTS` matrices (1024, 1024) and the last, (1024, numbers in the answer)."""
    random = np.random.default_rng(0)
    sides = [SIDE] * PRODUCTS + [int(np.prod(ANSWER))]
    return [(random.standard_normal((SIDE, side)) / SIDE**0.5).astype(np.float32) for side in sides]


def _weight_step(weights: list[Float]) -> Float:
    return np.array(max(np.abs(weight).max() for weight in weights) / 127, np.float32)
