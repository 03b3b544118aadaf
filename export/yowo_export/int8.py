"""INT8 as explicit Q/DQ nodes around convolutions: which ones, for which engine. Knows ONNX Runtime's quantizer."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any, Literal

import onnx
import onnx_ir as ir
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorsData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer

Target = Literal["openvino", "onnxruntime", "tensorrt"]


@dataclass(frozen=True)
class Policy:
    """What an engine runs well in INT8.

    Attributes:
        stem: whether the 3-D convolution that reads the frames is quantized.
        grouped_3d: whether 3-D convolutions in groups are.
        outputs: whether what a convolution puts out is quantized before its activation function too: ONNX Runtime
            has INT8 kernels for that form alone.
        half_rest: whether the rest of the graph goes to half precision.
    """

    stem: bool
    grouped_3d: bool
    outputs: bool
    half_rest: bool


# Milliseconds are DEPLOYMENT_FACTS', of ResNeXt-101 at T = 16 on two cores.
POLICIES: Mapping[Target, Policy] = {
    # 75 ms for all in INT8: stem 52 -> 21.5, grouped 35 -> 15, 1x1x1 98 -> 27.
    "openvino": Policy(stem=True, grouped_3d=True, outputs=False, half_rest=False),
    # A grouped 3x3x3 takes 2.8 -> 18.7 ms there, the stem 17.5 -> 58.8, dense ones a third.
    "onnxruntime": Policy(stem=False, grouped_3d=False, outputs=True, half_rest=False),
    # Reports: no INT8 gain on grouped Conv3d; groups and inputs want multiples of four channels. Not measured here.
    "tensorrt": Policy(stem=False, grouped_3d=False, outputs=False, half_rest=True),
}


def quantizable(model: ir.Model, target: Target) -> list[ir.Node]:
    """The convolutions that the target's policy allows."""
    policy = POLICIES[target]
    return [node for node in model.graph if node.op_type == "Conv" and _allowed(node, policy)]


def quantize(model: onnx.ModelProto, ranges: TensorsData, nodes: Collection[str], target: Target) -> onnx.ModelProto:
    """A copy with the named convolutions in INT8: weights by output channel, activations by tensor, zero at 0.

    Before: float32 at opset 20, which is the newest that ONNX Runtime's quantizer takes; every node has a name.

    Args:
        ranges: of the inputs and outputs of convolutions.
    """
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    if not nodes:
        return copy
    policy = POLICIES[target]
    options: dict[str, Any] = {"ActivationSymmetric": True, "WeightSymmetric": True, "QuantizeBias": False}
    if not policy.outputs:
        options["OpTypesToExcludeOutputQuantization"] = ["Conv"]
    quantizer = QDQQuantizer(
        copy, True, False, QuantType.QInt8, QuantType.QInt8, ranges, list(nodes), [], ["Conv"], options
    )
    quantizer.quantize_model()
    made: onnx.ModelProto = quantizer.model.model
    return made


def quantize_before_pooling(model: ir.Model) -> bool:
    """Let a MaxPool read INT8 where only INT8 is read of it: rounding commutes with the maximum, so nothing changes.

    What goes into the pool is a quarter of the bytes then, and the convolution before it can write them at once.

    Before: any graph. After: no MaxPool whose only reader is a QuantizeLinear.

    Returns:
        Whether anything was moved.
    """
    moved = False
    for pool in list(model.graph):
        uses = list(pool.outputs[0].uses()) if pool.op_type == "MaxPool" else []
        if len(uses) != 1 or uses[0].node.op_type != "QuantizeLinear" or pool.outputs[0].is_graph_output():
            continue
        round_, source = uses[0].node, pool.inputs[0]
        backs = [use.node for use in round_.outputs[0].uses()]
        if len(backs) != 1:
            continue
        [back] = backs
        back.outputs[0].replace_all_uses_with(pool.outputs[0])
        round_.replace_input_with(0, source)
        pool.replace_input_with(0, back.outputs[0])
        model.graph.remove([round_, back])
        model.graph.insert_before(pool, [round_, back])
        moved = True
    return moved


def _allowed(node: ir.Node, policy: Policy) -> bool:
    weights = node.inputs[1]
    if weights is None or weights.shape is None:
        return False
    is_3d = len(weights.shape) == 5
    if is_3d and weights.shape[1] == 3:
        return policy.stem
    group = node.attributes.get("group")
    return policy.grouped_3d or not (is_3d and group is not None and group.as_int() > 1)
