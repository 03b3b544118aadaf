"""Quantize convolutions to INT8 with explicit Q/DQ nodes, by a policy per engine."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import onnx
import onnx_ir as ir
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

from yowo_export.graph.builder import kernel_axes, only_reader
from yowo_export.graph.conv3d_as_2d import TAP_KEY
from yowo_export.graph.source import add_shapes

RANGED = ("Conv", "Relu", "Clip")  # operators for whose inputs and outputs `quantize` needs ranges
Target = Literal["openvino", "onnxruntime", "tensorrt"]


@dataclass(frozen=True)
class Policy:
    """Which layers an engine runs faster in INT8, and in which form.

    Attributes:
        stem: whether the 3-D convolution that reads the frames is quantized.
        grouped_3d: whether 3-D convolutions in groups are.
        grouped_2d: whether 2-D ones are, depthwise among them.
        outputs: whether the output of a convolution is quantized before its activation function too: ONNX Runtime has
            INT8 kernels for that form only.
        unsigned: whether activations go to 0...255 with a zero point, which gives ReLU outputs twice as many steps;
            else to -127...127 around 0.
        half_rest: whether the rest of the graph goes to half precision.
        conv3d_as_2d: whether 3-D convolutions are replaced by 2-D ones first, where some have groups.
        shortcuts: whether the earlier of two convolutions that are added gives INT8 too: the later one is then fused
            with the sum and writes INT8, where both would else move four bytes per number.
    """

    stem: bool
    grouped_3d: bool
    grouped_2d: bool
    outputs: bool
    unsigned: bool
    half_rest: bool
    conv3d_as_2d: bool
    shortcuts: bool = False


# Milliseconds are DEPLOYMENT_FACTS', of ResNeXt-101 at T = 16 on two cores.
POLICIES: Mapping[Target, Policy] = {
    # Everything in INT8: 75 ms; stem 52 -> 21.5, grouped 35 -> 15, 1x1x1 98 -> 27. Shortcuts made it 1.03 times faster.
    "openvino": Policy(True, True, True, False, unsigned=True, half_rest=False, conv3d_as_2d=False, shortcuts=True),
    # Slower in INT8: a grouped 3x3x3 2.8 -> 18.7 ms, the stem 17.5 -> 58.8; dense ones take a third of the time. With
    # the former two in float as 2-D convolutions and the 1x1x1 ones in INT8, CPU time of one thread is 1.37 times less
    # than with 3-D convolutions. Depthwise ones in float cost yowo-lite 4 to 7 % of its speed and gain 0.3 points of
    # frame-mAP.
    "onnxruntime": Policy(False, False, False, outputs=True, unsigned=True, half_rest=False, conv3d_as_2d=True),
    # From reports, not benchmarked: no INT8 gain on grouped Conv3d; channels per group and input in multiples of four.
    # Symmetric, as TensorRT takes zero points of 0 only; the rest in half precision, its fastest float.
    "tensorrt": Policy(False, False, True, outputs=False, unsigned=False, half_rest=True, conv3d_as_2d=False),
}


def quantizable(model: ir.Model, target: Target) -> list[ir.Node]:
    """The convolutions that the target's policy allows."""
    policy = POLICIES[target]
    return [node for node in model.graph if node.op_type == "Conv" and _allowed(node, policy)]


def has_grouped_3d(model: ir.Model) -> bool:
    """Whether a 3-D convolution works in groups of channels."""
    return any(kernel_axes(node) == 3 and node.attributes.get_int("group", 1) > 1 for node in model.graph)


def quantize(model: onnx.ModelProto, ranges: TensorsData, nodes: Collection[str], target: Target) -> onnx.ModelProto:
    """A copy with the named convolutions in INT8: weights by output channel around 0, activations by tensor.

    Before: float32 at opset 20, which is the newest that ONNX Runtime's quantizer takes; every node has a name.

    Args:
        ranges: of the inputs and outputs of `RANGED`.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if not nodes:
        return copy
    policy, wanted, operators = POLICIES[target], list(nodes), ["Conv"]
    options: dict[str, Any] = {"ActivationSymmetric": not policy.unsigned, "WeightSymmetric": True}
    options["QuantizeBias"] = False
    if not policy.outputs:
        options["OpTypesToExcludeOutputQuantization"] = ["Conv"]
    else:  # the quantizer leaves out a Relu or Clip behind a convolution: 0...255 cuts off just so
        written = {node.output[0] for node in copy.graph.node if node.name in nodes}
        operators += ["Relu", "Clip"]
        wanted += [n.name for n in copy.graph.node if n.op_type in operators and n.input[0] in written]
    activation = QuantType.QUInt8 if policy.unsigned else QuantType.QInt8
    add_shapes(copy)
    # The quantizer's own mark of a model whose values have shapes: without, it goes through files to infer them.
    copy.metadata_props.add(key="onnx.infer", value="onnxruntime.quant")
    quantizer = QDQQuantizer(copy, True, False, QuantType.QInt8, activation, ranges, wanted, [], operators, options)
    for name in _shortcuts(copy, nodes) if policy.shortcuts else ():
        quantizer.quantize_activation_tensor(name)
    quantizer.quantize_model()
    made: onnx.ModelProto = quantizer.model.model
    return made


def _shortcuts(model: onnx.ModelProto, nodes: Collection[str]) -> list[str]:
    """Outputs of the earlier one of each two named convolutions that are added."""
    by_output = {node.output[0]: node.name for node in model.graph.node if node.op_type == "Conv"}
    order = {name: place for place, name in enumerate(by_output)}
    sums = [node.input for node in model.graph.node if node.op_type == "Add"]
    return [min(pair, key=order.__getitem__) for pair in sums if all(by_output.get(value) in nodes for value in pair)]


def quantize_before_pooling(model: ir.Model) -> bool:
    """Move Q/DQ from behind a MaxPool to before it: rounding commutes with the maximum, so no answer changes.

    The pool then reads a quarter of the bytes, and the convolution before it can write INT8.

    Before: any graph. After: no MaxPool whose only reader is a QuantizeLinear.

    Returns:
        Whether anything was moved.
    """
    moved = False
    for pool in list(model.graph):
        round_ = only_reader(pool.outputs[0]) if pool.op_type == "MaxPool" else None
        back = only_reader(round_.outputs[0]) if round_ is not None and round_.op_type == "QuantizeLinear" else None
        if round_ is None or back is None:
            continue
        source = pool.inputs[0]
        back.outputs[0].replace_all_uses_with(pool.outputs[0])
        round_.replace_input_with(0, source)
        pool.replace_input_with(0, back.outputs[0])
        for value in (round_.outputs[0], back.outputs[0]):
            value.shape = source.shape if source is not None and value.type is not None else None
        model.graph.remove([round_, back])
        model.graph.insert_before(pool, [round_, back])
        moved = True
    return moved


def _allowed(node: ir.Node, policy: Policy) -> bool:
    weights = node.inputs[1]
    if weights is None or weights.shape is None:
        return False
    if TAP_KEY in node.metadata_props:
        return False  # each part of a sum would be rounded by itself, and the errors add up
    is_3d = kernel_axes(node) == 3
    if weights.shape[1] == 3:  # reads frames
        return is_3d and policy.stem  # the 2-D stem gains little and costs yowo-lite more scores than any other block
    grouped = node.attributes.get_int("group", 1) > 1
    return not grouped or (policy.grouped_3d if is_3d else policy.grouped_2d)
