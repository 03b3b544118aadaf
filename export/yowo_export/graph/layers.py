"""The layers of an ONNX file: names, shapes and predecessors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import onnx
import onnx_ir as ir

from yowo_deploy.model_files.onnx_reader import without_weights
from yowo_export.graph.module_names import OUTPUT_KEY

# Operators that move or round values and are not layers of a network; conversion to lower precision inserts them.
_NO_LAYER = {"Cast", "QuantizeLinear", "DequantizeLinear", "Constant", "Identity", "Shape"}
_FLOATS = {ir.DataType.FLOAT, ir.DataType.FLOAT16, ir.DataType.BFLOAT16}


@dataclass(frozen=True)
class Layer:
    """A node of a graph that computes something.

    Attributes:
        name: of the node, see `name_blocks`.
        value: name of its output.
        module: the module of the PyTorch model that returns the same; "" where there is none.
        shape: of the output for one clip, without the batch axis; () where the file does not record it.
        feeds: names of the layers directly before it.
    """

    name: str
    value: str
    module: str
    shape: tuple[int, ...]
    feeds: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of its output for one clip in float32; 0 where the shape is unknown."""
        return 4 * math.prod(self.shape) if self.shape else 0


def layers_of(file: Path) -> list[Layer]:
    """The layers of a file's graph in its order; its weights are not loaded.

    Args:
        file: an ONNX file that passes `read_onnx_file`.
    """
    model = ir.from_proto(onnx.load_model_from_string(without_weights(file)))
    found: list[Layer] = []
    # For every value that depends on the input: the layers that it directly follows from.
    before: dict[ir.Value | None, tuple[str, ...]] = dict.fromkeys(model.graph.inputs, ())
    for node in model.graph:
        read = [before[value] for value in node.inputs if value in before]
        if not read:
            continue  # it prepares a weight
        feeds = tuple(dict.fromkeys(name for names in read for name in names))
        output = node.outputs[0]
        if node.name and node.op_type not in _NO_LAYER and (output.dtype is None or output.dtype in _FLOATS):
            module = node.metadata_props.get(OUTPUT_KEY, "")
            found.append(Layer(str(node.name), str(output.name), module, _shape_of(output), feeds))
            feeds = (str(node.name),)
        for value in node.outputs:
            before[value] = feeds
    return found


def _shape_of(value: ir.Value) -> tuple[int, ...]:
    sides = list(value.shape or ())[1:]
    return tuple(side for side in sides if isinstance(side, int)) if all(isinstance(s, int) for s in sides) else ()
