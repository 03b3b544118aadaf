"""Which layer is the first to differ? Two models' values side by side, in bounded memory. Knows engines by protocol."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir

from yowo_deploy.backends.apart import Apart
from yowo_deploy.backends.base import is_checkpoint
from yowo_deploy.boxes import Float
from yowo_deploy.errors import InputError
from yowo_deploy.onnx_file import read_spec
from yowo_deploy.plan_file import is_plan
from yowo_deploy.spec import Precision
from yowo_export.layers import Layer, layers_of, show_values

MEMORY = 2 << 30  # bytes
# A chunk's values are held on both sides of two pipes, and within two engines.
_COPIES = 6

# What a layer adds of its own, largest over its channels, relative to the layer's values. fp32: sums of 10^4 products
# in another order are off by sqrt(10^4) * 2^-24 = 6e-6. fp16: inputs and weights rounded by 2^-11 each, bf16 by 2^-8.
# int8: steps of 1/127 of the largest weight and 1/255 of the largest value, which lies some ten times above the rms.
OWN: dict[Precision, float] = {"fp32": 2e-5, "fp16": 5e-3, "bf16": 4e-2, "int8": 0.15}
# How much larger than at its inputs an error may be behind a layer that does nothing wrong: differences of large
# numbers grow, most of all in a softmax over Gram sums.
GROWTH = 10.0


@dataclass(frozen=True)
class LayerError:
    """How far two models are apart behind one layer.

    Attributes:
        name: of the layer.
        error: root mean square of the difference in the worst channel, relative to that of the whole reference;
            infinite where the candidate puts out what is no number and the reference does not.
        fed: the largest of the layers that feed it; 0 for the first.
        limit: what it may be: what such layers add of their own, or `GROWTH` times what it was fed.
    """

    name: str
    error: float
    fed: float
    limit: float

    @property
    def differs(self) -> bool:
        """Whether this layer does more wrong than what it was fed explains."""
        return not self.error <= self.limit

    def row(self) -> tuple[str, str, str, str]:
        """As text for a table; an arrow marks one that differs."""
        return f"{'-> ' * self.differs}{self.name}", f"{self.error:.1e}", f"{self.fed:.1e}", f"{self.limit:.1e}"


@dataclass(frozen=True)
class Bisection:
    """What was seen of the layers that both models have, in the order of the candidate's graph."""

    layers: tuple[LayerError, ...]
    absent: int  # layers of the candidate that the reference does not show

    @property
    def culprit(self) -> LayerError | None:
        """The first layer that differs."""
        return next((layer for layer in self.layers if layer.differs), None)

    def sentence(self) -> str:
        """The answer in one line."""
        first = self.culprit
        if first is None:
            worst = max(self.layers, key=lambda layer: layer.error)
            return (
                f"no layer of {len(self.layers)} differs by more than what it was fed explains; "
                f"most behind {worst.name}, {worst.error:.1e}"
            )
        if np.isinf(first.error):
            return f"the first to put out what is no number is {first.name}"
        return f"the first to differ is {first.name}: {first.error:.1e}, fed {first.fed:.1e}, limit {first.limit:.1e}"


def bisect(
    reference: Path,
    candidate: Path,
    clip: Float,
    precision: Precision,
    options: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
    memory: int = MEMORY,
) -> Bisection:
    """Compare the models layer by layer on one clip.

    Args:
        reference: checkpoint or ONNX file.
        candidate: ONNX file, or a plan whose layers were marked (`PlanOptions.show_layers`).
        clip: (3, T, H, W) float32.
        precision: of the candidate's arithmetic, for the limits.
        options: of `open_model`, for each of the two.
        memory: bytes that values may take at once, those that the engines hold among them, beside the models
            themselves; a layer that alone takes more is looked at alone.

    Raises:
        InputError: there are no layers to compare.
    """
    pairs = paired_layers(reference, candidate)
    found: list[LayerError] = []
    reached: dict[str, float] = {}  # by layer: its error; of one that only the candidate has, what it was fed
    for chunk in _chunks(pairs, memory // _COPIES):
        expected = _values(reference, [first for first, _ in chunk if first], clip, options[0])
        answers = _values(candidate, [layer.value for first, layer in chunk if first in expected], clip, options[1])
        for first, layer in chunk:
            one, other = expected.pop(first, None), answers.pop(layer.value, None)
            reached[layer.name] = fed = max((reached[name] for name in layer.feeds), default=0.0)
            if one is not None and other is not None and one.size == other.size:
                limit = max(OWN[precision], GROWTH * fed)
                found.append(LayerError(layer.name, difference(one, other), fed, limit))
                reached[layer.name] = found[-1].error
    if not found:
        raise InputError(f"{reference} and {candidate} have no layer in common: were they made from one network?")
    return Bisection(tuple(found), len(pairs) - len(found))


def difference(expected: Float, answer: Float) -> float:
    """See `LayerError.error`; both (1, channels, ...) of one size."""
    one = expected.reshape(expected.shape[1] if expected.ndim > 2 else 1, -1).astype(np.float64)
    other = answer.reshape(one.shape)
    odd = ~np.isfinite(other)
    if (odd & np.isfinite(one)).any():
        return float("inf")
    gap = np.where(odd, 0.0, other - np.where(odd, 0.0, one))
    scale = float(np.sqrt(np.mean(np.where(odd, 0.0, one) ** 2)))
    return float(np.sqrt(np.mean(gap**2, axis=1)).max()) / max(scale, float(np.finfo(np.float32).tiny))


def paired_layers(reference: Path, candidate: Path) -> list[tuple[str, Layer]]:
    """The candidate's layers, before each what the reference calls its value; "" where it has none.

    Raises:
        InputError: the candidate is a checkpoint, neither of the two has a graph, or one is a streaming file.
    """
    if is_checkpoint(candidate) or (is_plan(candidate) and (is_checkpoint(reference) or is_plan(reference))):
        raise InputError(
            f"layers are named by an ONNX file, and {candidate} is none: bisect from its checkpoint or ONNX file to "
            "the file made of it"
        )
    for file in (reference, candidate):
        if not is_checkpoint(file) and not is_plan(file) and read_spec(file).streaming:
            raise InputError(f"{file} is a streaming file, whose first layers are none of a clip: bisect without it")
    graph = ir.load(reference if is_plan(candidate) else candidate)
    layers = layers_of(graph)
    if is_checkpoint(reference):
        names = {layer.name: layer.module for layer in layers}
    else:
        names = {layer.name: layer.value for layer in layers_of(ir.load(reference))}
    return [(names.get(layer.name, ""), layer) for layer in layers]


def _chunks(pairs: Sequence[tuple[str, Layer]], memory: int) -> Iterator[list[tuple[str, Layer]]]:
    chunk: list[tuple[str, Layer]] = []
    held = 0
    for pair in pairs:
        size = (pair[1].bytes or memory // 8) if pair[0] else 0  # a file may not say its shapes
        if chunk and held + size > memory:
            yield chunk
            chunk, held = [], 0
        chunk.append(pair)
        held += size
    if chunk:
        yield chunk


def _values(model: Path, names: Sequence[str], clip: Float, options: Mapping[str, Any]) -> dict[str, Float]:
    """Named values of a model, run in a process of its own that ends with this call."""
    with tempfile.TemporaryDirectory() as folder:
        file = model
        if not is_checkpoint(model) and not is_plan(model):
            file = Path(folder) / "shown.onnx"
            show_values(model, names, file)
        with Apart(file, **options) as engine:
            return engine.outputs(clip[None], names)
