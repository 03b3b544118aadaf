"""Rewrite a network that takes clips into one that takes frames and the state of earlier ones.

`yowo_deploy.backends.streaming` defines the names of inputs and outputs.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import RemoveUnusedNodesPass

from yowo_deploy.backends.loader import open_model
from yowo_deploy.backends.onnx_session import FrameEngine
from yowo_deploy.backends.streaming import input_name, output_name
from yowo_deploy.errors import InputError, ParityError
from yowo_deploy.files import atomic_write
from yowo_deploy.model_files.onnx_reader import FRAMES, RAW, STREAMING_KEY, read_spec
from yowo_deploy.model_files.streaming_form import FORM_KEY
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.spec import METADATA_KEY, ModelSpec
from yowo_export.graph.builder import Change, NodeBuilder, ints, spatial
from yowo_export.graph.onnx_file import write_onnx
from yowo_export.graph.source import load_graph
from yowo_export.streaming.chain import Chain, Layer, sides
from yowo_export.streaming.cut import cheapest_base, shared_chain
from yowo_export.streaming.reuse import Positions, Signal, Tap, reads, signals

# Largest difference from whole clips that is accepted, relative to the largest output. Sums in another order: see
# `exporter.LIMIT`. In half precision and INT8 a sum near the middle between two steps may be rounded to either.
LIMITS: dict[str, float] = {"fp32": 1e-4, "fp16": 1e-2, "int8": 5e-2}

State = tuple[Signal, bool]  # the map of a signal, or (True) the sum of the first convolution for it


def streamed(model: ir.Model, spec: ModelSpec) -> ir.Model:
    """The same network for one frame at a time; the model given is used up.

    Before: as `load_graph` gives it, in any precision, its 3-D convolutions intact.
    After: inputs "frames", the newest frames of the clip stacked as channels, and maps that were outputs at earlier
    frames; outputs "raw", as before, and the maps for later frames. Sums over time differ from the clip's in order.

    Raises:
        InputError: neighbouring clips share nothing, or less than keeping it would cost.
    """
    chain, positions = shared_chain(model, spec)
    _Streaming(model, chain, positions, spec).rewrite()
    model.metadata_props[METADATA_KEY] = spec.replace(streaming=True).to_json()
    model.metadata_props.pop(FORM_KEY, None)
    return model


def check_streamable(source: Path) -> None:
    """Raise an InputError where `export_streaming` would refuse a float32 file, or one made from it."""
    shared_chain(load_graph(source), read_spec(source))


def export_streaming(source: Path, output: str | os.PathLike[str]) -> float:
    """Write a clip model as a streaming one, after a comparison of both in ONNX Runtime.

    Returns:
        The largest difference from whole clips that was seen, relative to the largest output: at the first frame, and
        when a clip was half and wholly full.

    Raises:
        InputError: see `streamed`; or the file is a streaming one already, or in bfloat16.
        ParityError: the difference exceeds what is allowed for the precision; nothing is written.
        OutputError: the file cannot be written.
    """
    spec = read_spec(source)
    if spec.streaming:
        raise InputError(f"{source} is a streaming file already")
    if spec.precision not in LIMITS:
        raise InputError(f"--streaming takes no {spec.precision}: export fp32, and open it with --precision bf16")
    model = streamed(load_graph(source), spec)
    with atomic_write(output) as temporary:
        write_onnx(model, temporary)
        onnx.checker.check_model(str(temporary), full_check=True)
        difference = largest_difference(source, temporary, spec)
        if not difference <= LIMITS[spec.precision]:
            raise ParityError(f"frame by frame differs from whole clips by {difference:.1e}: not written")
    return difference


def largest_difference(source: Path, made: Path, spec: ModelSpec) -> float:
    """Of a clip model and its streaming form, relative to the largest output, see `export_streaming`."""
    frames, buffer, worst = np.random.default_rng(0), ClipBuffer(spec), 0.0
    with open_model(source, "onnxruntime") as clips, open_model(made, "onnxruntime") as streaming:
        assert isinstance(streaming, FrameEngine)
        stream = streaming.open_stream()
        for number in range(spec.clip_span + 1):
            planes = frames.random((3, *spec.clip_shape[2:]), np.float32)
            clip = buffer.push(planes)
            if number not in (0, spec.clip_span // 2, spec.clip_span):
                stream.skip(planes)
                continue
            expected = clips.infer(clip[None].copy())[0]
            found = np.abs(stream.push(planes) - expected).max() / max(1.0, np.abs(expected).max())
            worst = float(np.maximum(worst, found))  # NaN stays NaN, unlike with max()
    return worst


class _Streaming:
    """The graph while it is rewritten."""

    def __init__(self, model: ir.Model, chain: Chain, positions: Sequence[Positions], spec: ModelSpec) -> None:
        self._model, self._chain, self._spec, self._positions = model, chain, spec, positions
        self._new = NodeBuilder(model.graph, "stream")
        self._now: dict[State, ir.Value] = {}
        self._past: dict[tuple[State, int], ir.Value] = {}
        self._depths: dict[ir.Value, int] = {}
        self._sums = signals([each for each in reads(positions[-1]) if each[0].level == 0])
        self._window = 1 + max(tap.age for signal in self._sums for tap in signal.taps)
        if chain.whole:
            self._window = spec.clip_length

    def rewrite(self) -> None:
        """Put the streaming form in place of the chain."""
        graph, last = self._model.graph, self._chain.layers[-1]
        width, height = self._spec.input_size
        frames = ir.Value(name=FRAMES, type=self._chain.clips.type)
        frames.shape = ir.Shape([1, 3 * self._window, height, width])
        self._stem = self._framewise(frames)
        pieces = [self._map(signal, age) for signal, age in self._positions[-1]]
        whole = self._together(pieces, last)
        whole.shape, whole.type = last.value.shape, last.value.type
        last.value.replace_all_uses_with(whole)
        self._declare(frames)
        RemoveUnusedNodesPass()(self._model)
        graph.sort()
        self._model.metadata_props[STREAMING_KEY] = json.dumps({"frames": self._window, "bytes": self._bytes()})

    def _framewise(self, frames: ir.Value) -> ir.Value:
        """The input of the stem: the nodes before it, and the key frame's Slice, on stacked frames."""
        found = {self._chain.clips: frames}
        for node in self._chain.framewise:
            changes = spatial(node) if node.op_type == "AveragePool" else {}
            found[node.outputs[0]] = self._new.like(node, found[_source(node)], changes)
        channels = 3 * self._window
        for piece in self._chain.key_frames:
            [use] = piece.outputs[0].uses()  # a Squeeze
            newest, old = self._new.channels(found[_source(piece)], channels - 3, channels), use.node.outputs[0]
            newest.shape, newest.type = old.shape, old.type
            old.replace_all_uses_with(newest)
        for node in self._chain.whole:
            node.replace_input_with(0, self._whole_clip(found[_source(node)], _source(node)))
        return found[_source(self._chain.layers[0].node)]

    def _whole_clip(self, stacked: ir.Value, clips: ir.Value) -> ir.Value:
        """All frames of the clip, stacked as channels, as (1, 3, T, H, W)."""
        channels, length, height, width = sides(clips)
        apart = self._new.node("Reshape", [stacked, self._new.constant([1, length, channels, height, width])])
        return self._new.node("Transpose", [apart], {"perm": [0, 2, 1, 3, 4]})

    def _map(self, signal: Signal, age: int) -> ir.Value:
        """A signal of this frame, or of an earlier one."""
        if age:
            return self._earlier((signal, False), age)
        if (signal, False) not in self._now:
            layer = self._chain.layers[signal.level]
            if layer.is_grey:
                made = self._new.like(layer.node, self._stem, {"keepdims": 1})
            elif layer.pairs is not None:
                frames = {tap.age: tap.source for tap in signal.taps}
                made = layer.pairs.last(self._new, lambda age: self._map(frames[age], age))
            else:
                made = self._sum(signal) if signal.level == 0 else self._slid(signal)
            self._now[signal, False] = self._after(layer, made)
        return self._now[signal, False]

    def _slid(self, signal: Signal) -> ir.Value:
        """The output of a layer from maps of the layer before."""
        layer, before = self._chain.layers[signal.level], self._chain.layers[signal.level - 1]
        sources = [self._map(tap.source, tap.age) for tap in signal.taps]
        if layer.node.op_type == "MaxPool":
            return self._new.node("Max" if len(sources) > 1 else "Identity", sources)
        indices = [tap.index for tap in signal.taps]
        if len(sources) == 1:  # a kernel in space only
            whole = sources[0] if before.rounded is None else self._new.like(before.rounded, sources[0])
            return self._conv(layer, whole, lambda weight: weight[:, :, indices[0]], bias=True)
        whole = self._together(sources, before)
        made = self._conv(layer, whole, lambda weight: weight[:, :, indices], bias=True, time=[1])
        return self._new.node("Squeeze", [made, self._new.constant([2])])

    def _sum(self, signal: Signal) -> ir.Value:
        """The sum of the first convolution: an earlier sum, if one helps, and the remaining taps."""
        if (signal, True) not in self._now:
            base, age, _ = cheapest_base(signal, self._sums, self._chain.layers[0])
            summed = {} if base is None else {tap.index for tap in base.taps}
            part = self._taps([tap for tap in signal.taps if tap.index not in summed], bias=base is None)
            if base is not None:
                part = self._new.node("Add", [self._earlier((base, True), age) if age else self._sum(base), part])
            self._now[signal, True] = part
        return self._now[signal, True]

    def _taps(self, taps: Sequence[Tap], bias: bool) -> ir.Value:
        """The first convolution restricted to some taps, on their frames stacked as channels."""
        ages = [tap.age for tap in taps]
        oldest, youngest = max(ages), min(ages)

        def stacked(weight: NDArray[Any]) -> NDArray[Any]:
            found = np.zeros((len(weight), oldest - youngest + 1, weight.shape[1], *weight.shape[3:]), weight.dtype)
            for tap in taps:
                found[:, oldest - tap.age] = weight[:, :, tap.index]
            return found.reshape(len(weight), -1, *weight.shape[3:])

        seen = self._stem
        if oldest - youngest + 1 < self._window:
            seen = self._new.channels(seen, 3 * (self._window - 1 - oldest), 3 * (self._window - youngest))
        return self._conv(self._chain.layers[0], seen, stacked, bias)

    def _conv(self, layer: Layer, source: ir.Value, change: Change, bias: bool, time: Sequence[int] = ()) -> ir.Value:
        """The layer's convolution with changed weights, at one position; `time` is [1] where it slides over time."""
        node = layer.node
        weight = self._new.changed(node.inputs[1], change)
        pads, strides, dilations = ints(node, "pads", 0, 6), ints(node, "strides", 1, 3), ints(node, "dilations", 1, 3)
        none = [0] * len(time)
        attributes: dict[str, Any] = {"strides": [*time, *strides[1:]], "pads": [*none, *pads[1:3], *none, *pads[4:]]}
        attributes |= {"dilations": [*time, *dilations[1:]], "group": node.attributes.get_int("group", 1)}
        return self._new.node("Conv", [source, weight, *(node.inputs[2:] if bias else [])], attributes)

    def _after(self, layer: Layer, made: ir.Value) -> ir.Value:
        """The nodes that follow the layer, on one position."""
        for node in layer.after:
            made = self._new.like(node, made, spatial(node) if node.op_type == "MaxPool" else {})
        return made

    def _together(self, pieces: Sequence[ir.Value], layer: Layer) -> ir.Value:
        """Positions of a layer joined along time, in float again."""
        if not layer.is_grey:
            axes = self._new.constant([2])
            pieces = [self._new.node("Unsqueeze", [piece, axes]) for piece in pieces]
        axis = {"axis": 1 if layer.is_grey else 2}
        whole = self._new.node("Concat", pieces, axis) if len(pieces) > 1 else pieces[0]
        if layer.pairs is not None:  # maps, then pairs: as channels
            whole = self._new.node("Reshape", [whole, self._new.constant([1, *sides(layer.value)])])
        return whole if layer.rounded is None else self._new.like(layer.rounded, whole)

    def _made(self, state: State) -> ir.Value:
        signal, is_sum = state
        return self._sum(signal) if is_sum else self._map(signal, 0)

    def _earlier(self, state: State, age: int) -> ir.Value:
        signal, is_sum = state
        if is_sum and not self._chain.layers[0].after:
            state = (signal, False)  # the map is the sum: one name for it
        return self._past.setdefault((state, age), ir.Value())

    def _declare(self, frames: ir.Value) -> None:
        """Inputs and outputs, with their names, types and shapes."""
        graph, names = self._model.graph, dict[State, str]()
        graph.inputs.clear()
        graph.inputs.append(frames)
        made = 0
        while made < len(self._past):  # making one may need another
            self._made([state for state, _ in self._past][made])
            made += 1
        for (state, age), value in self._past.items():
            now = self._made(state)
            if state not in names:
                names[state] = now.name = output_name(self._depth(now), len(names))
                graph.outputs.append(now)
            value.name = input_name(names[state], age)
            value.shape, value.type = self._described(state)
            now.shape, now.type = value.shape, value.type
            graph.inputs.append(value)
        for value in graph.outputs:
            if value.name == RAW:
                assert value.shape is not None
                value.shape = ir.Shape([1, *list(value.shape)[1:]])

    def _described(self, state: State) -> tuple[ir.Shape, ir.TypeProtocol | None]:
        """Shape and type of a state value."""
        layer = self._chain.layers[state[0].level]
        shape = ir.Shape(layer.map_shape)
        if state[1]:
            channels, _, height, width = sides(layer.node.outputs[0])
            shape = ir.Shape([1, channels, height, width])
        # The type is that of the last node but pooling, which changes none: in the original graph a pool's output may
        # have another type, since a DequantizeLinear before it moves behind it here.
        nodes = [n for each in self._chain.layers[: state[0].level + 1] for n in (each.node, *each.after)]
        made_it = layer.node if state[1] else [n for n in nodes if n.op_type != "MaxPool"][-1]
        return shape, made_it.outputs[0].type

    def _bytes(self) -> int:
        """Size of all maps of one stream, including those being written."""
        ages = dict[State, int]()
        for state, age in self._past:
            ages[state] = max(age, ages.get(state, 0))
        numbers = {state: (1 + age) * prod(self._described(state)[0].numpy()) for state, age in ages.items()}
        widths = {state: 4 if (kind := self._described(state)[1]) is None else kind.dtype.itemsize for state in ages}
        return int(self._spec.frame_stride * sum(numbers[state] * widths[state] for state in ages))

    def _depth(self, value: ir.Value) -> int:
        """How many frames of warm-up the value needs: the longest chain of state behind it."""
        if value not in self._depths:
            producer = value.producer()
            before = [each for each in producer.inputs if each is not None] if producer else []
            self._depths[value] = max(map(self._depth, before), default=0)
            for (state, _), past in self._past.items():
                if past is value:
                    self._depths[value] = 1 + self._depth(self._made(state))
        return self._depths[value]


def _source(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value
