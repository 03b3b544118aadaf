"""Maps of neighbouring frames, computed for one pair, are those that the clip has of every pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from yowo_export.graph.builder import NodeBuilder
from yowo_export.streaming.pairs import Pairs, find_pairs

LENGTH, SIDE = 6, 4
FLOAT = ir.TensorType(ir.DataType.FLOAT)

Make = Callable[[NodeBuilder, ir.Value], ir.Value]


def frames(count: int) -> ir.Value:
    return ir.Value(name=f"frames_{count}", type=FLOAT, shape=ir.Shape([1, count, SIDE, SIDE]))


def graph_of(make: Make) -> tuple[ir.Graph, Pairs | None]:
    """A graph that reads the grey frames of a clip, and what is found in it."""
    graph = ir.Graph([frames(LENGTH)], [], nodes=[], opset_imports={"": 23}, name="clip")
    new = NodeBuilder(graph, "clip", ir.DataType.FLOAT)
    grey = new.node("Identity", [graph.inputs[0]])
    graph.outputs.append(make(new, grey))
    return graph, find_pairs(graph, grey, LENGTH)


def run(graph: ir.Graph, output: ir.Value, given: np.ndarray[Any, Any]) -> Any:
    """What the graph gives as a value."""
    graph.outputs[:] = [output]
    model = ir.to_proto(ir.Model(graph, ir_version=10)).SerializeToString()
    options = ort.SessionOptions()
    options.log_severity_level = 3  # of constants that no node reads
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {graph.inputs[0].name: given})[0]


def assert_each_place_is_the_clips(graph: ir.Graph, pairs: Pairs) -> None:
    clip = np.random.default_rng(0).random((1, LENGTH, SIDE, SIDE), np.float32)
    places, span = pairs.window.length, pairs.window.kernel
    whole = run(graph, pairs.value, clip).reshape(1, pairs.maps, places, SIDE, SIDE)
    seen = frames(span)
    graph.inputs[:], graph.outputs[:] = [seen], []
    new = NodeBuilder(graph, "one", ir.DataType.FLOAT)
    one = pairs.last(new, lambda age: new.channels(seen, span - 1 - age, span - age))
    for node in [node for node in graph if str(node.name).startswith("clip")][::-1]:
        graph.remove(node, safe=True)
    for place, start in enumerate(pairs.window.begins):
        np.testing.assert_array_equal(run(graph, one, clip[:, start : start + span]), whole[:, :, place])


def part(new: NodeBuilder, value: ir.Value, start: int, end: int, axis: int = 1) -> ir.Value:
    return new.node("Slice", [value, *(new.constant([each]) for each in (start, end, axis))])


def some(new: NodeBuilder, grey: ir.Value, numbers: Sequence[int]) -> ir.Value:
    return new.node("Concat", [part(new, grey, each, each + 1) for each in numbers], {"axis": 1})


def with_number(operator: str, number: float) -> Make:
    return lambda new, x: new.node(operator, [x, new.constant(np.float32(number))])


def clipped(new: NodeBuilder, x: ir.Value) -> ir.Value:
    return new.node("Clip", [x, new.constant(np.float32(-0.4)), new.constant(np.float32(0.7))])


def smooth(new: NodeBuilder, x: ir.Value) -> ir.Value:
    return new.node("AveragePool", [x], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]})


def slope(new: NodeBuilder, x: ir.Value) -> ir.Value:
    return new.node("Pad", [part(new, x, 1, SIDE - 1, 3), new.constant([0, 0, 0, 1, 0, 0, 0, 1])])


def centred(new: NodeBuilder, x: ir.Value) -> ir.Value:
    return new.node("Sub", [x, new.node("ReduceMean", [x, new.constant([-2, -1])])])


def coarse(new: NodeBuilder, x: ir.Value) -> ir.Value:
    half = new.node("AveragePool", [x], {"kernel_shape": [2, 2], "strides": [2, 2]})
    return new.node("Resize", [half, None, new.constant(np.float32([1, 1, 2, 2]))], {"mode": "linear"})


def by_channel(new: NodeBuilder, x: ir.Value) -> ir.Value:
    """As a batch norm: another factor for each."""
    numbers = np.arange(1, LENGTH, dtype=np.float32).reshape(1, -1, 1, 1)
    return new.node("Mul", [x, new.constant(numbers)])


def among_channels(new: NodeBuilder, x: ir.Value) -> ir.Value:
    return new.node("Sub", [x, new.node("ReduceMean", [x, new.constant([1])])])


def moved(new: NodeBuilder, x: ir.Value) -> ir.Value:
    """One channel on, and a zero."""
    return new.node("Pad", [part(new, x, 1, LENGTH), new.constant([0, 0, 0, 0, 0, 1, 0, 0])])


def backwards(new: NodeBuilder, x: ir.Value) -> ir.Value:
    return new.node("Slice", [x, *(new.constant([each]) for each in (-1, -LENGTH, 1, -1))])


ALIKE = [with_number("Mul", 1.7), with_number("Add", 0.3), clipped, smooth, slope, centred, coarse]
MIXED = [by_channel, among_channels, moved, backwards]


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_whatever_is_found_is_what_the_clip_has_of_every_pair(data: st.DataObject) -> None:
    """Of random graphs on frames in any order, with nodes between them that mix pairs."""

    def make(new: NodeBuilder, grey: ir.Value) -> ir.Value:
        numbers = st.lists(st.integers(0, LENGTH - 1), min_size=LENGTH - 1, max_size=LENGTH - 1)
        values = [part(new, grey, 0, -1), part(new, grey, 1, LENGTH)]
        if data.draw(st.integers(0, 2)) == 0:
            values = [some(new, grey, data.draw(numbers)) for _ in range(2)]
        for _ in range(data.draw(st.integers(1, 6))):
            first, second = data.draw(st.tuples(*[st.sampled_from(values)] * 2))
            how = data.draw(st.sampled_from([*ALIKE, *ALIKE, "Sub", "Mul", "Add", *MIXED]))
            values.append(new.node(how, [first, second]) if isinstance(how, str) else how(new, first))
        return new.node("Concat", values[-data.draw(st.integers(1, 3)) :], {"axis": 1})

    graph, pairs = graph_of(make)
    if pairs is not None:
        assert_each_place_is_the_clips(graph, pairs)


def change(new: NodeBuilder, grey: ir.Value) -> ir.Value:
    return new.node("Sub", [part(new, grey, 1, LENGTH, -3), part(new, grey, 0, -1)])


@pytest.mark.parametrize("alike", ALIKE)
def test_what_treats_each_pair_alike_belongs_to_them(alike: Make) -> None:
    graph, pairs = graph_of(
        lambda new, grey: new.node("Concat", [change(new, grey), alike(new, change(new, grey))], {"axis": 1})
    )
    assert pairs is not None and pairs.value is graph.outputs[0]
    assert (pairs.maps, pairs.window.kernel, list(pairs.window.begins)) == (2, 2, list(range(LENGTH - 1)))
    assert_each_place_is_the_clips(graph, pairs)


@pytest.mark.parametrize("mixed", MIXED)
def test_what_mixes_them_is_not_theirs(mixed: Make) -> None:
    graph, pairs = graph_of(lambda new, grey: mixed(new, with_number("Mul", 2)(new, change(new, grey))))
    assert pairs is not None and pairs.value is not graph.outputs[0] and pairs.maps == 1
    assert_each_place_is_the_clips(graph, pairs)


def test_pairs_may_lie_anywhere_and_come_twice() -> None:
    def make(new: NodeBuilder, grey: ir.Value) -> ir.Value:
        return new.node("Sub", [some(new, grey, (2, 3, 5, 3)), some(new, grey, (0, 1, 3, 1))])

    graph, pairs = graph_of(make)
    assert pairs is not None and (pairs.window.kernel, list(pairs.window.begins)) == (3, [0, 1, 3, 1])
    assert_each_place_is_the_clips(graph, pairs)


def grown(new: NodeBuilder, grey: ir.Value, at: int) -> ir.Value:
    return with_number("Add", at)(new, part(new, grey, at, at + 1))


ODD: list[Make] = [
    lambda new, grey: grey,
    lambda new, grey: new.node("Sub", [some(new, grey, (1, 2, 5)), some(new, grey, (0, 1, 3))]),  # not as far apart
    lambda new, grey: new.node("Concat", [change(new, grey), smooth(new, grey)], {"axis": 1}),  # more of one map
    lambda new, grey: new.node("Concat", [grown(new, grey, 0), grown(new, grey, 1)], {"axis": 1}),  # by other numbers
    lambda new, grey: new.node("Add", [by_channel(new, change(new, grey)), smooth(new, change(new, grey))]),
]


@pytest.mark.parametrize("make", ODD)
def test_what_differs_from_pair_to_pair_is_no_pairs(make: Make) -> None:
    assert graph_of(make)[1] is None
