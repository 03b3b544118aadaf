"""The layers of an ONNX file: names, shapes and predecessors."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from yowo_deploy.model_files.onnx_graph import FLOATS
from yowo_deploy.model_files.onnx_reader import read_onnx_file
from yowo_export.graph.module_names import OUTPUT_KEY

# Operators that move or round values and are not layers of a network; conversion to lower precision inserts them.
_NO_LAYER = {"Cast", "QuantizeLinear", "DequantizeLinear", "Identity"}


@dataclass(frozen=True)
class Layer:
    """A node of a graph that computes something.

    Attributes:
        name: of the node, see `name_blocks`.
        value: name of its output.
        module: the module of the PyTorch model that returns the same; "" where there is none.
        shape: of the output for one clip, without the batch axis.
        feeds: names of the layers directly before it.
    """

    name: str
    value: str
    module: str
    shape: tuple[int, ...]
    feeds: tuple[str, ...]

    @property
    def bytes(self) -> int:
        """Of its output for one clip in float32."""
        return 4 * math.prod(self.shape)


def layers_of(file: Path) -> list[Layer]:
    """The layers of a file's graph in its order; its weights are not loaded.

    Args:
        file: an ONNX file that passes `read_onnx_file`.
    """
    found: list[Layer] = []
    read_file = read_onnx_file(file)
    # For every value that depends on the input: the layers that it directly follows from.
    before: dict[str, tuple[str, ...]] = {each.name: () for each in read_file.graph.inputs}
    for node in read_file.graph.nodes:
        read = [before[name] for name in node.inputs if name in before]
        if not read:
            continue  # it prepares a weight
        feeds = tuple(dict.fromkeys(name for names in read for name in names))
        dtype, shape = read_file.values[node.outputs[0]]
        if node.name and node.operator not in _NO_LAYER and dtype in FLOATS:
            found.append(Layer(node.name, node.outputs[0], node.note(OUTPUT_KEY), shape[1:], feeds))
            feeds = (node.name,)
        for name in node.outputs:
            before[name] = feeds
    return found
