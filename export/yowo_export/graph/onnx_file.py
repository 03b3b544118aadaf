"""Write a graph as an ONNX file that records its checksum."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir

from yowo_deploy.model_files.checksum import CHECKSUM_KEY, with_checksum
from yowo_deploy.model_files.protobuf import header

_LARGE = 1 << 16  # bytes of a weight that is written by itself
_GRAPH, _INITIALIZER, _RAW_DATA = 7, 5, 9  # of onnx.proto: fields of a model, a graph and a tensor
_NOTHING = ir.tensor(np.empty(0, np.uint8))


def write_onnx(model: ir.Model, path: Path) -> None:
    """Write it; a checksum from the file that the graph was read from is replaced."""
    model.metadata_props.pop(CHECKSUM_KEY, None)
    path.write_bytes(with_checksum(onnx_bytes(model)))


def onnx_bytes(model: ir.Model) -> bytes:
    """A graph as the bytes of an ONNX file, for tools that need none on the disk.

    protobuf doubles a buffer until all fits, and copies it: four bytes of new memory for each one of the file, which
    cost more than all else. Large weights are therefore written by themselves, once.
    """
    proto, large = _without_large_weights(model)
    heads, size = [], 0
    for tensor in proto.graph.initializer:
        head, follows = tensor.SerializeToString(), 0
        if tensor.name in large:
            follows = large[tensor.name].nbytes
            head += header(_RAW_DATA, follows)
        heads.append((tensor.name, header(_INITIALIZER, len(head) + follows) + head))
        size += len(heads[-1][1]) + follows
    proto.graph.ClearField("initializer")
    graph = proto.graph.SerializeToString()
    proto.ClearField("graph")
    stream = io.BytesIO()
    stream.writelines((proto.SerializeToString(), header(_GRAPH, len(graph) + size), graph))
    for name, head in heads:
        stream.write(head)
        if name in large:
            stream.write(large[name].tobytes())
    return stream.getvalue()


def _without_large_weights(model: ir.Model) -> tuple[onnx.ModelProto, dict[str, ir.TensorProtocol]]:
    """A graph whose large weights hold no bytes, and these weights by name."""
    large = {
        value: value.const_value
        for value in model.graph.initializers.values()
        if value.const_value is not None
        and value.const_value.dtype != ir.DataType.STRING
        and value.const_value.nbytes >= _LARGE
    }
    try:
        for value, weight in large.items():
            shape = ir.Shape(weight.shape.numpy())
            value.const_value = ir.LazyTensor(lambda: _NOTHING, weight.dtype, shape, name=value.name)
        proto: onnx.ModelProto = ir.to_proto(model)
    finally:
        for value, weight in large.items():
            value.const_value = weight
    by_name = {str(value.name): weight for value, weight in large.items()}
    for tensor in proto.graph.initializer:
        if tensor.name in by_name:
            tensor.ClearField("raw_data")
    return proto, by_name
