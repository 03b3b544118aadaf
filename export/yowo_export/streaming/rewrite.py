"""From a network that takes clips to one that takes frames and what it kept of earlier ones. Knows onnx-ir.

`yowo_deploy.backends.streaming` says what the names of inputs and outputs mean.
"""

from __future__ import annotations

import dataclasses
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
from yowo_deploy.backends.streaming import FRAMES, RAW, StreamingEngine, input_name, output_name
from yowo_deploy.errors import InputError, ParityError
from yowo_deploy.files import atomic_write
from yowo_deploy.model_files.onnx_reader import STREAMING_KEY, read_spec
from yowo_deploy.preprocess.clip_buffer import ClipBuffer
from yowo_deploy.spec import METADATA_KEY, ModelSpec
from yowo_export.graph.builder import Change, NodeBuilder, ints
from yowo_export.streaming.prefix import Chain, Layer, find_chain, sides
from yowo_export.streaming.reuse import Positions, Signal, Tap, levels_of, reads, signals

# A byte moved takes about as long as so many multiply-adds: 200 M a millisecond were measured on two cores
# (DEPLOYMENT_FACTS, "Where the time goes"), and about 4 MB.
BYTE = 50

# Largest difference from whole clips that is let pass, relative to the largest output. Sums in another order: see
# `onnx_export.LIMIT`. In half precision and INT8 a sum next to the middle between two steps may fall to either side.
LIMITS: dict[str, float] = {"fp32": 1e-4, "fp16": 1e-2, "int8": 5e-2}

Kept = tuple[Signal, bool]  # the map of a signal, or (True) the sum that the first convolution gave for it


def streamed(model: ir.Model, spec: ModelSpec) -> ir.Model:
    """The same network for one frame at a time; the model given is used up.

    Before: an ONNX file of ours in any precision, 3-D convolutions not taken apart.
    After: inputs "frames", the newest frames of the clip one behind the other as channels, and maps that were put out
    at earlier frames; outputs "raw", as before, and the maps to keep. Sums over time are the clip's but for the order.

    Raises:
        InputError: neighbouring clips share nothing, or less than keeping it would cost.
    """
    model = ir.from_proto(onnx.shape_inference.infer_shapes(ir.to_proto(model)))
    chain, positions = _shared(model, spec)
    _Streaming(model, chain, positions, spec).rewrite()
    model.metadata_props[METADATA_KEY] = spec.replace(streaming=True).to_json()
    return model


def check_streamable(source: Path) -> None:
    """Raises InputError where `export_streaming` would refuse a float32 file, or one made of it."""
    _shared(ir.load(source), read_spec(source))


def export_streaming(source: Path, output: str | os.PathLike[str]) -> float:
    """Write a file of clips as a streaming one, once ONNX Runtime gave the same with both.

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
    model = streamed(ir.load(source), spec)
    with atomic_write(output) as temporary:
        ir.save(model, temporary)
        onnx.checker.check_model(str(temporary), full_check=True)
        difference = _difference(source, temporary, spec)
        if not difference <= LIMITS[spec.precision]:
            raise ParityError(f"frame by frame differs from whole clips by {difference:.1e}: not written")
    return difference


def _difference(source: Path, made: Path, spec: ModelSpec) -> float:
    frames, buffer, worst = np.random.default_rng(0), ClipBuffer(spec), 0.0
    with open_model(source, "onnxruntime") as clips, open_model(made, "onnxruntime") as streaming:
        assert isinstance(streaming, StreamingEngine)
        stream = streaming.open_stream()
        for number in range(spec.clip_span + 1):
            planes = frames.random((3, *spec.clip_shape[2:]), np.float32)
            clip = buffer.push(planes)
            if number not in (0, spec.clip_span // 2, spec.clip_span):
                stream.skip(planes)
                continue
            expected = clips.infer(clip[None].copy())[0]
            found = np.abs(stream.push(planes) - expected).max() / max(1.0, np.abs(expected).max())
            worst = float(np.maximum(worst, found))  # which NaN does not pass by
    return worst


def shared_nodes(model: ir.Model, spec: ModelSpec) -> set[ir.Node]:
    """The nodes of a model of clips that `streamed` takes apart; none where it would refuse."""
    try:
        chain, _ = _shared(model, spec)
    except InputError:
        return set()
    return {node for layer in chain.layers for node in (layer.node, *layer.after)}


def _shared(model: ir.Model, spec: ModelSpec) -> tuple[Chain, list[Positions]]:
    """The layers that are worth sharing, and the positions of each."""
    chain = find_chain(model, spec.clip_length)
    positions = levels_of([layer.window for layer in chain.layers], spec.clip_length)
    depth = _best_cut(chain, positions)
    return dataclasses.replace(chain, layers=chain.layers[: depth + 1]), positions[: depth + 1]


def _best_cut(chain: Chain, positions: Sequence[Positions]) -> int:
    """The layer behind which whole clips begin: that with the least to compute and to move for a frame."""
    costs = {}
    for depth, layer in enumerate(chain.layers):
        if layer.whole:
            costs[depth] = _saved(chain.layers, positions[: depth + 1], chain.frame_bytes)
    best = max(costs, key=lambda depth: costs[depth], default=None)
    if best is None or costs[best] <= 0:
        raise InputError("keeping what neighbouring clips share would cost more than computing it again")
    return best


def _saved(layers: Sequence[Layer], positions: Sequence[Positions], frame_bytes: int) -> float:
    """Multiply-adds, and bytes as such, that a frame is spared if whole clips begin behind the last of the levels."""
    saved = 0.0
    for layer, found in zip(layers, positions, strict=False):
        once = signals(found)
        saved += sum(len(signal.taps) for signal, _ in found) * layer.cost_of_tap
        first = found is positions[0]
        saved -= sum(_base(s, once, layer)[2] if first else len(s.taps) * layer.cost_of_tap for s in once)
        touched = layer.bytes_of_map + (2 * layer.bytes_of_sum if layer.node.op_type == "Conv" else 0)
        saved += (len(found) - len(once)) * touched * BYTE
    looked_at = 1 + max(tap.age for signal, _ in positions[0] for tap in signal.taps)
    saved += (len(positions[0]) - looked_at) * frame_bytes * BYTE
    kept = [signal for signal, age in reads(positions[-1]) if age]
    moved = sum(layers[signal.level].bytes_of_map for signal in [*kept, *set(kept)])
    moved += 2 * len(positions[-1]) * layers[len(positions) - 1].bytes_of_map  # put together to a clip
    return saved - moved * BYTE


def _base(signal: Signal, others: Sequence[Signal], layer: Layer) -> tuple[Signal | None, int, float]:
    """The sum of the first convolution to go on from, or None, its age, and what the signal costs then."""
    found: list[tuple[Signal | None, int, float]] = [(None, 0, len(signal.taps) * layer.cost_of_tap)]
    if layer.node.op_type == "Conv" and layer.node.outputs[0].dtype == ir.DataType.FLOAT:  # half would round in between
        for other in others:
            age = _shift(other, signal)
            if age is not None:
                moved = 2 * layer.bytes_of_sum * BYTE if age else 0
                found.append((other, age, (len(signal.taps) - len(other.taps)) * layer.cost_of_tap + moved))
    return min(found, key=lambda each: each[2])


class _Streaming:
    """The graph while it is rewritten."""

    def __init__(self, model: ir.Model, chain: Chain, positions: Sequence[Positions], spec: ModelSpec) -> None:
        self._model, self._chain, self._spec, self._positions = model, chain, spec, positions
        self._new = NodeBuilder(model.graph, "stream")
        self._now: dict[Kept, ir.Value] = {}
        self._past: dict[tuple[Kept, int], ir.Value] = {}
        self._sums = signals([each for each in reads(positions[-1]) if each[0].level == 0])
        self._window = 1 + max(tap.age for signal in self._sums for tap in signal.taps)

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
        """What the stem reads of the frames, the nodes before it and the key frame's Slice written anew."""
        found = {self._chain.clips: frames}
        for node in self._chain.framewise:
            attributes = {}
            if node.op_type == "AveragePool":
                attributes = {name: ints(node, name, 1, 3)[1:] for name in ("kernel_shape", "strides")}
                attributes["pads"] = [0] * 4
            found[node.outputs[0]] = self._new.like(node, found[_source(node)], attributes)
        channels = 3 * self._window
        for piece in self._chain.key_frames:
            [use] = piece.outputs[0].uses()  # a Squeeze
            newest, old = self._new.channels(found[_source(piece)], channels - 3, channels), use.node.outputs[0]
            newest.shape, newest.type = old.shape, old.type
            old.replace_all_uses_with(newest)
        return found[_source(self._chain.layers[0].node)]

    def _map(self, signal: Signal, age: int) -> ir.Value:
        """A signal of this frame, or of an earlier one."""
        if age:
            return self._earlier((signal, False), age)
        if (signal, False) not in self._now:
            layer = self._chain.layers[signal.level]
            if layer.is_grey:
                made = self._new.like(layer.node, self._stem, {"keepdims": 1})
            else:
                made = self._sum(signal) if signal.level == 0 else self._slid(signal)
            self._now[signal, False] = self._after(layer, made)
        return self._now[signal, False]

    def _slid(self, signal: Signal) -> ir.Value:
        """What a layer makes of maps of the layer before."""
        layer, before = self._chain.layers[signal.level], self._chain.layers[signal.level - 1]
        sources = [self._map(tap.source, tap.age) for tap in signal.taps]
        if layer.node.op_type == "MaxPool":
            return self._new.node("Max" if len(sources) > 1 else "Identity", sources)
        indices = [tap.index for tap in signal.taps]
        if len(sources) == 1:  # in space alone
            whole = sources[0] if before.rounded is None else self._new.like(before.rounded, sources[0])
            return self._conv(layer, whole, lambda weight: weight[:, :, indices[0]], bias=True)
        whole = self._together(sources, before)
        made = self._conv(layer, whole, lambda weight: weight[:, :, indices], bias=True, time=[1])
        return self._new.node("Squeeze", [made, self._new.constant([2])])

    def _sum(self, signal: Signal) -> ir.Value:
        """What the first convolution gives: some taps of frames, and a sum that other taps are in already."""
        if (signal, True) not in self._now:
            base, age, _ = _base(signal, self._sums, self._chain.layers[0])
            summed = {} if base is None else {tap.index for tap in base.taps}
            part = self._taps([tap for tap in signal.taps if tap.index not in summed], bias=base is None)
            if base is not None:
                part = self._new.node("Add", [self._earlier((base, True), age) if age else self._sum(base), part])
            self._now[signal, True] = part
        return self._now[signal, True]

    def _taps(self, taps: Sequence[Tap], bias: bool) -> ir.Value:
        """The first convolution of some taps alone, the frames that they see one behind the other as channels."""
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
        """The layer's convolution with changed weights, at one position; `time` is its stride there, if it sees any."""
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
            attributes = {}
            if node.op_type == "MaxPool":
                pads = ints(node, "pads", 0, 6)
                attributes = {name: ints(node, name, 1, 3)[1:] for name in ("kernel_shape", "strides", "dilations")}
                attributes["pads"] = [*pads[1:3], *pads[4:]]
            made = self._new.like(node, made, attributes)
        return made

    def _together(self, pieces: Sequence[ir.Value], layer: Layer) -> ir.Value:
        """Positions of a layer one behind the other in time, in float again."""
        if not layer.is_grey:
            axes = self._new.constant([2])
            pieces = [self._new.node("Unsqueeze", [piece, axes]) for piece in pieces]
        axis = {"axis": 1 if layer.is_grey else 2}
        whole = self._new.node("Concat", pieces, axis) if len(pieces) > 1 else pieces[0]
        return whole if layer.rounded is None else self._new.like(layer.rounded, whole)

    def _made(self, kept: Kept) -> ir.Value:
        signal, is_sum = kept
        return self._sum(signal) if is_sum else self._map(signal, 0)

    def _earlier(self, kept: Kept, age: int) -> ir.Value:
        signal, is_sum = kept
        if is_sum and not self._chain.layers[0].after:
            kept = (signal, False)  # the map is the sum, and must not have two names
        return self._past.setdefault((kept, age), ir.Value())

    def _declare(self, frames: ir.Value) -> None:
        """Inputs and outputs, with their names, types and shapes."""
        graph, names = self._model.graph, dict[Kept, str]()
        graph.inputs.clear()
        graph.inputs.append(frames)
        made = 0
        while made < len(self._past):  # making one may need another
            self._made([kept for kept, _ in self._past][made])
            made += 1
        for (kept, age), value in self._past.items():
            now = self._made(kept)
            if kept not in names:
                names[kept] = now.name = output_name(self._depth(now), len(names))
                graph.outputs.append(now)
            value.name = input_name(names[kept], age)
            value.shape, value.type = self._described(kept)
            now.shape, now.type = value.shape, value.type
            graph.inputs.append(value)
        for value in graph.outputs:
            if value.name == RAW:
                assert value.shape is not None
                value.shape = ir.Shape([1, *list(value.shape)[1:]])

    def _described(self, kept: Kept) -> tuple[ir.Shape, ir.TypeProtocol | None]:
        """Shape and type of what is kept."""
        layer = self._chain.layers[kept[0].level]
        shape = ir.Shape(layer.map_shape)
        if kept[1]:
            channels, _, height, width = sides(layer.node.outputs[0])
            shape = ir.Shape([1, channels, height, width])
        # Pooling changes no type, and the type of what it puts out in the graph as it was is another where numbers
        # were rounded before it.
        nodes = [n for each in self._chain.layers[: kept[0].level + 1] for n in (each.node, *each.after)]
        made_it = layer.node if kept[1] else [n for n in nodes if n.op_type != "MaxPool"][-1]
        return shape, made_it.outputs[0].type

    def _bytes(self) -> int:
        """Of all maps of one stream, those to write into among them."""
        ages = dict[Kept, int]()
        for kept, age in self._past:
            ages[kept] = max(age, ages.get(kept, 0))
        numbers = {kept: (1 + age) * prod(self._described(kept)[0].numpy()) for kept, age in ages.items()}
        widths = {kept: 4 if (kind := self._described(kept)[1]) is None else kind.dtype.itemsize for kept in ages}
        return int(self._spec.frame_stride * sum(numbers[kept] * widths[kept] for kept in ages))

    def _depth(self, value: ir.Value) -> int:
        """How many frames must have been seen before the value is what it would be after an endless row of them."""
        for (kept, _), past in self._past.items():
            if past is value:
                return 1 + self._depth(self._made(kept))
        producer = value.producer()
        return max((self._depth(each) for each in producer.inputs if each is not None), default=0) if producer else 0


def _source(node: ir.Node) -> ir.Value:
    value = node.inputs[0]
    assert value is not None
    return value


def _shift(part: Signal, whole: Signal) -> int | None:
    """How many frames ago one sum must have been made to be part of another; None if it never is."""
    ages = {tap.index: tap.age for tap in whole.taps}
    if len(part.taps) >= len(ages) or any(tap.index not in ages for tap in part.taps):
        return None
    shifts = {ages[tap.index] - tap.age for tap in part.taps}
    return shifts.pop() if len(shifts) == 1 and min(shifts) >= 0 else None
