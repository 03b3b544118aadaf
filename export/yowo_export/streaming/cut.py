"""Where a network is cut: layers before are computed once a frame and shared by clips, whole clips begin behind."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import onnx_ir as ir

from yowo_deploy.errors import InputError
from yowo_deploy.model_files.onnx_reader import recorded_cost
from yowo_deploy.spec import ModelSpec
from yowo_export.streaming.chain import Chain, Layer, find_chain
from yowo_export.streaming.reuse import Positions, Signal, levels_of, reads, signals

# A byte moved takes about as long as this many multiply-adds: 200 M a millisecond were measured on two cores
# (DEPLOYMENT_FACTS, "Where the time goes"), and about 4 MB.
BYTE = 50


def saved_share(model: ir.Model, spec: ModelSpec) -> float:
    """Share of a clip's multiply-adds and traffic that `streamed` saves in the same graph; 0 where it would refuse."""
    try:
        chain, positions = shared_chain(model, spec)
    except InputError:
        return 0.0
    cost = recorded_cost(model.metadata_props).get("total", {}).get("macs", 0)
    return _saved(chain, positions) / cost if cost else 0.0


def shared_nodes(model: ir.Model, spec: ModelSpec) -> set[ir.Node]:
    """The nodes of a clip model that `streamed` rewrites; none where it would refuse."""
    try:
        chain, _ = shared_chain(model, spec)
    except InputError:
        return set()
    return {node for layer in chain.layers for node in (layer.node, *layer.after)}


def shared_chain(model: ir.Model, spec: ModelSpec) -> tuple[Chain, list[Positions]]:
    """The layers that are worth sharing, and the positions of each."""
    chain = find_chain(model, spec.clip_length)
    positions = levels_of([layer.window for layer in chain.layers], spec.clip_length)
    depth = _best_cut(chain, positions)
    return dataclasses.replace(chain, layers=chain.layers[: depth + 1]), positions[: depth + 1]


def _best_cut(chain: Chain, positions: Sequence[Positions]) -> int:
    """The layer behind which whole clips begin: the one that saves most computation and memory traffic per frame."""
    saved = {}
    for depth, layer in enumerate(chain.layers):
        if layer.whole:
            saved[depth] = _saved(chain, positions[: depth + 1])
    best = max(saved, key=lambda depth: saved[depth], default=None)
    if best is None or saved[best] <= 0:
        raise InputError("storing what neighbouring clips share would cost more than computing it again")
    return best


def _saved(chain: Chain, positions: Sequence[Positions]) -> float:
    """Multiply-adds that a frame saves if whole clips begin behind the last level; a byte moved counts as `BYTE`."""
    saved, layers = 0.0, chain.layers
    for layer, found in zip(layers, positions, strict=False):
        once = signals(found)
        saved += sum(len(signal.taps) for signal, _ in found) * layer.cost_of_tap
        first = found is positions[0]
        saved -= sum(cheapest_base(s, once, layer)[2] if first else len(s.taps) * layer.cost_of_tap for s in once)
        saved += (len(found) - len(once)) * layer.bytes_touched * BYTE
    looked_at = 1 + max(tap.age for signal, _ in positions[0] for tap in signal.taps)
    saved += 0 if chain.whole else (len(positions[0]) - looked_at) * chain.frame_bytes * BYTE
    # State: each earlier value is read, and each signal that has one is written once. Then the last level is joined.
    state = [signal for signal, age in reads(positions[-1]) if age]
    moved = sum(layers[signal.level].bytes_of_map for signal in [*state, *set(state)])
    moved += 2 * len(positions[-1]) * layers[len(positions) - 1].bytes_of_map
    return saved - moved * BYTE


def cheapest_base(signal: Signal, others: Sequence[Signal], layer: Layer) -> tuple[Signal | None, int, float]:
    """The earlier sum of the first convolution to add to, or None; its age, and the cost of the signal then."""
    found: list[tuple[Signal | None, int, float]] = [(None, 0, len(signal.taps) * layer.cost_of_tap)]
    # Only in float32: half precision would round the earlier sum.
    if layer.node.op_type == "Conv" and layer.node.outputs[0].dtype == ir.DataType.FLOAT:
        for other in others:
            age = _shift(other, signal)
            if age is not None:
                moved = 2 * layer.bytes_of_sum * BYTE if age else 0
                found.append((other, age, (len(signal.taps) - len(other.taps)) * layer.cost_of_tap + moved))
    return min(found, key=lambda each: each[2])


def _shift(part: Signal, whole: Signal) -> int | None:
    """How many frames ago one sum must have been made to be part of another; None if it never is."""
    ages = {tap.index: tap.age for tap in whole.taps}
    if len(part.taps) >= len(ages) or any(tap.index not in ages for tap in part.taps):
        return None
    shifts = {ages[tap.index] - tap.age for tap in part.taps}
    return shifts.pop() if len(shifts) == 1 and min(shifts) >= 0 else None
