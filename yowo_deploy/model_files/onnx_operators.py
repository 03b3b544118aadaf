"""The operators that our exporter writes: their inputs, outputs and the ranges of their attributes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from yowo_deploy.errors import ModelFileError
from yowo_deploy.model_files.onnx_graph import Attribute, Node

# A line each: name, number of inputs and of outputs; then attributes as name=lowest:highest of a whole number,
# name=*lowest:highest of each in a list, name=f of a finite float, name=A,B of one of these texts. "!" marks one that
# must be given. Indented lines go on with the one before.
# The C++ runtime has the same text.
OPERATOR_RULES = """
Add 2:2 1:1
Attention 3:3 1:1 scale=f q_num_heads!=1:64 kv_num_heads!=1:64
AveragePool 1:1 1:1 auto_pad=NOTSET ceil_mode=0:0 count_include_pad=0:1 dilations=*1:1
  kernel_shape!=*1:1024 pads=*0:512 strides=*1:1024
BatchNormalization 5:5 1:1 epsilon=f momentum=f training_mode=0:0
Cast 1:1 1:1 to!=1:16 saturate=0:1
Clip 1:3 1:1
Concat 1:1024 1:1 axis!=-8:7
Conv 2:3 1:1 auto_pad=NOTSET dilations=*1:64 group=1:65536 kernel_shape=*1:1024 pads=*0:512 strides=*1:1024
DequantizeLinear 2:3 1:1 axis=-8:7 block_size=0:0
Div 2:2 1:1
Exp 1:1 1:1
HardSwish 1:1 1:1
Identity 1:1 1:1
LeakyRelu 1:1 1:1 alpha=f
MatMul 2:2 1:1
Max 1:1024 1:1
MaxPool 1:1 1:1 auto_pad=NOTSET ceil_mode=0:0 dilations=*1:1 kernel_shape!=*1:1024 pads=*0:512
  storage_order=0:0 strides=*1:1024
Mul 2:2 1:1
Neg 1:1 1:1
Pad 2:3 1:1 mode=constant
QuantizeLinear 2:3 1:1 axis=-8:7 block_size=0:0 saturate=0:1
ReduceMean 1:2 1:1 axes=*-8:7 keepdims=0:1 noop_with_empty_axes=0:0
Relu 1:1 1:1
Reshape 2:2 1:1 allowzero=0:1
Resize 3:4 1:1 antialias=0:0 coordinate_transformation_mode=half_pixel cubic_coeff_a=f
  exclude_outside=0:0 extrapolation_value=f keep_aspect_ratio_policy=stretch mode=linear,nearest
  nearest_mode=floor
Sigmoid 1:1 1:1
Slice 3:5 1:1
Softmax 1:1 1:1 axis=-8:7
SpaceToDepth 1:1 1:1 blocksize!=1:64
Split 1:2 1:1024 axis=-8:7 num_outputs=1:1024
Squeeze 1:2 1:1
Sub 2:2 1:1
Sum 1:1024 1:1
Tanh 1:1 1:1
Transpose 1:1 1:1 perm=*0:7
Unsqueeze 2:2 1:1
"""


@dataclass(frozen=True)
class _Attribute:
    """What an attribute may be: `kind` is the type of its value, `values` those allowed, None for any finite float."""

    kind: type
    values: range | tuple[str, ...] | None
    needed: bool

    def fits(self, value: Attribute) -> bool:
        """Whether a value is one of those."""
        if not isinstance(value, self.kind):
            return False
        if isinstance(value, float):
            return math.isfinite(value)
        each = value if isinstance(value, tuple) else (value,)
        return len(each) <= _MAX_LIST and self.values is not None and all(one in self.values for one in each)


@dataclass(frozen=True)
class _Operator:
    inputs: range
    outputs: range
    attributes: dict[str, _Attribute]


def _range(text: str) -> range:
    low, high = text.split(":")
    return range(int(low), int(high) + 1)


def _attribute(name: str, text: str) -> tuple[str, _Attribute]:
    needed = name.endswith("!")
    if text == "f":
        found = _Attribute(float, None, needed)
    elif ":" in text:
        found = _Attribute(tuple if text[0] == "*" else int, _range(text.lstrip("*")), needed)
    else:
        found = _Attribute(str, tuple(text.split(",")), needed)
    return name.rstrip("!"), found


def _operator(line: str) -> tuple[str, _Operator]:
    name, inputs, outputs, *attributes = line.split()
    named = dict(_attribute(*each.split("=")) for each in attributes)
    return name, _Operator(_range(inputs), _range(outputs), named)


_OPERATORS = dict(map(_operator, OPERATOR_RULES.replace("\n  ", " ").split("\n")[1:-1]))
OPERATORS = frozenset(_OPERATORS)
_MAX_LIST = 16
_OPTIONAL = ("Clip", "Resize")  # whose inputs behind the first may be left out


def check_nodes(nodes: Sequence[Node]) -> None:
    """Refuse nodes that are not of this language.

    Raises:
        ModelFileError: an operator, a number of inputs or outputs, or an attribute that is not in the table; the
            message lacks the name of the file.
    """
    for node in nodes:
        if node.operator not in _OPERATORS:
            raise ModelFileError(f"uses the operator {node.operator[:60]!r}, which no YOWO graph has, so it is refused")
        rule = _OPERATORS[node.operator]
        left_out = "" in node.inputs[:1] or ("" in node.inputs and node.operator not in _OPTIONAL)
        if len(node.inputs) not in rule.inputs or len(node.outputs) not in rule.outputs or left_out:
            raise ModelFileError(
                f"gives {node.operator} {len(node.inputs)} inputs and {len(node.outputs)} outputs, so it is refused"
            )
        for name, value in node.attributes.items():
            if name not in rule.attributes or not rule.attributes[name].fits(value):
                raise ModelFileError(
                    f"gives {node.operator} the attribute {name[:60]!r} = {str(value)[:60]}, which no YOWO graph does, "
                    "so it is refused"
                )
        for name, attribute in rule.attributes.items():
            if attribute.needed and name not in node.attributes:
                raise ModelFileError(f"gives {node.operator} no attribute {name!r}, so it is refused")
