"""Free the number of clips in a graph that was traced with one number, in half the time of tracing it with a symbol."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from yowo_export.graph.builder import numbers_of

BATCH = "batch"  # the name of the free dimension
_SHAPES = {"Reshape": 1, "Expand": 1, "Resize": 3}  # which input of an operator is the shape of its output


def free_batch(model: ir.Model, count: int) -> bool:
    """Make the graph of `count` clips one of any number of clips.

    Before: every shape is known; the inputs of the graph are (count, ...).
    After: the first dimension of all that depends on the inputs is `BATCH`, and each Reshape infers it. Unchanged where
    the clips may be anywhere else: in another dimension, in a constant, or in the shape that Expand or Resize makes.

    Returns:
        Whether it is free now.
    """
    dependent = dict.fromkeys(model.graph.inputs)
    shapes: dict[ir.Value, list[int]] = {}
    for node in model.graph:
        if dependent.keys().isdisjoint(node.inputs):
            continue
        for place, value in enumerate(node.inputs):
            if value is None or value in dependent:
                continue
            if place == _SHAPES.get(node.op_type):
                sizes = numbers_of(value) if value.is_initializer() else None
                if sizes is None or node.op_type != "Reshape" or sizes[0] != count or sizes.min() < 1:
                    return False
                shapes[value] = [-1, *sizes[1:].tolist()]
            elif _may_be_of_clips(value, count):
                return False
        dependent |= dict.fromkeys(node.outputs)
    if not all(value.shape is not None and value.shape[:1] == (count,) for value in dependent):
        return False
    for value in dependent:
        assert value.shape is not None
        value.shape = ir.Shape([BATCH, *value.shape[1:]])
    for value, free in shapes.items():
        value.const_value = ir.tensor(np.array(free, np.int64), name=value.name)
    return True


def _may_be_of_clips(constant: ir.Value, count: int) -> bool:
    """Whether a constant may have a row for each clip."""
    return constant.shape is None or (len(constant.shape) > 1 and constant.shape[0] == count)
