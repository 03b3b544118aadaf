"""Find the first layer in which two models differ, in bounded memory."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from yowo_deploy.arrays import Float, Planes
from yowo_deploy.backends.isolated import Isolated
from yowo_deploy.backends.loader import is_checkpoint
from yowo_deploy.errors import InputError
from yowo_deploy.files import work_folder
from yowo_deploy.model_files.onnx_reader import read_spec, show_values
from yowo_deploy.model_files.plan_record import is_plan
from yowo_export.graph.layers import Layer, layers_of

MEMORY = 2 << 30  # bytes
# Copies of a chunk's values: on both sides of two pipes, and in two engines.
_COPIES = 6
_AT_ONCE = 1 << 20  # numbers of a layer that are compared at once, in float64

# A correct layer may enlarge the error of its inputs by this factor: differences of large numbers grow, most of all in
# a softmax over Gram sums.
GROWTH = 10.0

_NONE = (
    "{} and {} have no layer in common, so --bisect cannot compare them: were they made from one network, and a plan "
    "with --show-layers?"
)

Odd = Literal["", "reference", "candidate", "both"]


@dataclass(frozen=True)
class LayerError:
    """The difference of two models in the output of one layer.

    Attributes:
        name: of the layer.
        error: root mean square of the difference in the worst channel, relative to that of the whole reference;
            infinite where one of the two is non-finite.
        fed: the largest error of the layers before it; 0 for the first.
        limit: the error that such a layer adds by itself, or `GROWTH` times `fed` if larger.
        odd: the model with a non-finite output: "reference", "candidate", "both", or "" for neither.
    """

    name: str
    error: float
    fed: float
    limit: float
    odd: Odd = ""

    @property
    def differs(self) -> bool:
        """Whether the error is larger than the inputs' errors explain."""
        return bool(self.odd) or not self.error <= self.limit

    def row(self) -> tuple[str, str, str, str]:
        """Cells of a table; an arrow marks a layer that differs."""
        return f"{'-> ' * self.differs}{self.name}", f"{self.error:.1e}", f"{self.fed:.1e}", f"{self.limit:.1e}"


@dataclass(frozen=True)
class Bisection:
    """Errors of the layers that both models have, in the order of the candidate's graph."""

    layers: tuple[LayerError, ...]
    absent: int  # layers of the candidate that the reference lacks

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
                f"no layer of {len(self.layers)} differs by more than its inputs explain; "
                f"largest difference behind {worst.name}, {worst.error:.1e}"
            )
        if first.odd:
            whose = "both models" if first.odd == "both" else f"the {first.odd}"
            return f"first non-finite output: {first.name}, in {whose}"
        return (
            f"first layer to differ: {first.name}, {first.error:.1e}, {first.fed:.1e} at its inputs, "
            f"limit {first.limit:.1e}"
        )


def bisect(
    reference: Path,
    candidate: Path,
    clip: Planes,
    own: float,
    options: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {}),
    memory: int = MEMORY,
    candidate_clip: Planes | None = None,
) -> Bisection:
    """Compare the models layer by layer on one clip.

    Args:
        reference: checkpoint or ONNX file; or a plan beside a candidate that has a graph.
        candidate: ONNX file, or a plan whose layers were marked (`PlanOptions.show_layers`); or a checkpoint beside a
            reference that has a graph.
        clip: (3, T, H, W) as the reference takes it.
        own: the error that a layer may add by itself (`Limits.layer`).
        options: of `open_model`, for each of the two.
        memory: most bytes of values at a time, including the engines' copies but not the models; a layer that exceeds
            it is compared by itself.
        candidate_clip: the clip as the candidate takes it; by default the same.

    Raises:
        InputError: there are no layers to compare.
    """
    pairs = paired_layers(reference, candidate)
    found: list[LayerError] = []
    taken = clip if candidate_clip is None else candidate_clip
    reached: dict[str, float] = {}  # error by layer; of one that only the candidate has, that of its inputs
    for chunk in _chunks(pairs, memory // _COPIES):
        expected = _values(reference, [first for first, second, _ in chunk if first and second], clip, options[0])
        answers = _values(candidate, [second for first, second, _ in chunk if first in expected], taken, options[1])
        for first, second, layer in chunk:
            one, other = expected.pop(first, None), answers.pop(second, None)
            reached[layer.name] = fed = max((reached[name] for name in layer.feeds), default=0.0)
            if one is not None and other is not None and one.size == other.size:
                error, odd = difference(one, other)
                found.append(LayerError(layer.name, error, fed, max(own, GROWTH * fed), odd))
                reached[layer.name] = error
    if not found:
        raise InputError(_NONE.format(reference, candidate))
    return Bisection(tuple(found), len(pairs) - len(found))


def difference(expected: Float, answer: Float) -> tuple[float, Odd]:
    """See `LayerError.error` and `LayerError.odd`; both (1, channels, ...) of one size.

    Computed in float64 and in parts: 32 MB of memory, or four times a channel in float64.
    """
    one = expected.reshape(expected.shape[1] if expected.ndim > 2 else 1, -1)
    other = answer.reshape(one.shape)
    power, worst = 0.0, 0.0
    odd = [False, False]
    rows = max(1, _AT_ONCE // max(1, one.shape[1]))
    for start in range(0, len(one), rows):
        here, there = (values[start : start + rows].astype(np.float64) for values in (one, other))
        odd = [was or not np.isfinite(values).all() for was, values in zip(odd, (here, there), strict=True)]
        if any(odd):
            continue
        there -= here
        power += float(np.square(here, out=here).sum())
        worst = max(worst, float(np.square(there, out=there).mean(axis=1).max()))
    if any(odd):
        return float("inf"), "both" if all(odd) else "reference" if odd[0] else "candidate"
    scale = float(np.sqrt(power / one.size))
    return float(np.sqrt(worst)) / max(scale, float(np.finfo(np.float32).tiny)), ""


def paired_layers(reference: Path, candidate: Path) -> list[tuple[str, str, Layer]]:
    """The layers of the file that has a graph, the candidate's if both have, with the name of the value in each of the
    two models; "" where it has none.

    Raises:
        InputError: neither of the two has a graph, one is a plan and the other has none, one is a streaming file, or
            no layer of one has the name of one of the other.
    """
    graphs = [file for file in (candidate, reference) if not is_checkpoint(file) and not is_plan(file)]
    if not graphs:
        raise InputError(
            f"--bisect needs an ONNX file, and neither {reference} nor {candidate} is one: compare an ONNX "
            "file with its source, or with what was made from it"
        )
    for file in graphs:
        if read_spec(file).streaming:
            raise InputError(f"{file} is a streaming file, which --bisect cannot compare: use the file of clips")
    layers = layers_of(graphs[0])
    first, second = (_names(file, layers) for file in (reference, candidate))
    pairs = [(first.get(layer.name, ""), second.get(layer.name, ""), layer) for layer in layers]
    if not any(one and other for one, other, _ in pairs):
        raise InputError(_NONE.format(reference, candidate))
    return pairs


def _names(file: Path, layers: Sequence[Layer]) -> dict[str, str]:
    """The name of each layer's value in a model; a plan has the names of the file that it was built from."""
    if is_checkpoint(file):
        return {layer.name: layer.module for layer in layers}
    own = layers if is_plan(file) else layers_of(file)
    return {layer.name: layer.value for layer in own}


def _chunks(pairs: Sequence[tuple[str, str, Layer]], memory: int) -> Iterator[list[tuple[str, str, Layer]]]:
    chunk: list[tuple[str, str, Layer]] = []
    held = 0
    for pair in pairs:
        size = (pair[2].bytes or memory // 8) if pair[0] and pair[1] else 0  # shapes may be unknown
        if chunk and held + size > memory:
            yield chunk
            chunk, held = [], 0
        chunk.append(pair)
        held += size
    if chunk:
        yield chunk


def _values(model: Path, names: Sequence[str], clip: Planes, options: Mapping[str, Any]) -> dict[str, Float]:
    """Named values of a model, run in a process of its own that ends with this call."""
    with work_folder() as folder:
        file = model
        if not is_checkpoint(model) and not is_plan(model):
            file = Path(folder) / "shown.onnx"
            show_values(model, names, file)
        with Isolated(file, **options) as engine:
            count = engine.batch[0]  # a file of a fixed batch gets copies of the clip
            found = engine.outputs(np.repeat(clip[None], count, axis=0), names)
            return found if count == 1 else {name: value[:1] for name, value in found.items()}
