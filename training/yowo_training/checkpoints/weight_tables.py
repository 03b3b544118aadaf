"""Find the weights of a network in what people save: bare, wrapped, averaged, nested, with counters beside them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from yowo_deploy.errors import ModelFileError

Weights = dict[str, Tensor]

MAX_NESTED = 4
# Parts of names that DataParallel, torch.compile and their kin put in front of a module, or between two.
_WRAPPERS = frozenset({"module", "_orig_mod", "_forward_module", "_fsdp_wrapped_module", "_checkpoint_wrapped_module"})
# What profilers (thop) and averages (torch.optim.swa_utils) count in buffers.
_COUNTERS = ("total_ops", "total_params", "n_averaged")
_AVERAGED = ("ema", "average", "shadow", "swa")
_NO_WEIGHTS = ("optim", "exp_avg", "grad", "momentum")


@dataclass(frozen=True)
class Network:
    """The tensors of one network in a file.

    Attributes:
        place: where they were: names of the tables, and what precedes the network's own names.
        weights: by the network's own names.
    """

    place: str
    weights: Weights


def networks(content: Any, mark: str) -> list[Network]:
    """The networks in nested tables, averaged ones first, as they are the better ones.

    Args:
        mark: name of a tensor that such a network has.
    """
    found = []
    for place, table in tables(content):
        first: Weights = {}
        last: Weights = {}
        for key, value in table.items():
            if key.rpartition(".")[2] not in _COUNTERS:
                first.setdefault(_plain(key), value)
                last[_plain(key)] = value
        # The same names with and without a wrapper's are two networks in one table.
        for named in (first, last)[: 1 + any(first[key] is not last[key] for key in first)]:
            prefixes = [key.removesuffix(mark) for key in named if key == mark or key.endswith(f".{mark}")]
            for prefix in prefixes:
                inside = {key.removeprefix(prefix): v for key, v in named.items() if key.startswith(prefix)}
                found.append(Network(f"{place}.{prefix}".strip("."), inside))
    return sorted(found, key=lambda each: _rank(each.place.lower()))


def _rank(place: str) -> int:
    """Averages, then others, then what optimizers keep by the names of the weights."""
    return 2 * any(word in place for word in _NO_WEIGHTS) + (not any(word in place for word in _AVERAGED))


def tables(content: Any, place: str = "", depth: int = 0) -> Iterator[tuple[str, Weights]]:
    """Every dict with named tensors in nested ones, and the names that lead to it."""
    if not isinstance(content, dict) or depth > MAX_NESTED:
        return
    table = {str(key): value.detach() for key, value in content.items() if isinstance(value, Tensor)}
    if table:
        yield place, table
    for key, value in content.items():
        yield from tables(value, f"{place}.{key}".strip("."), depth + 1)


def refuse_views(file: Path, table: Weights) -> Weights:
    """The table, if its tensors are plain ones of real numbers, none larger than its memory.

    Raises:
        ModelFileError: one is, as of a single number seen a billion times; or is sparse, quantized, complex, or empty.
    """
    for key, value in table.items():
        if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized or value.is_complex():
            kind = f"{value.layout} {value.dtype} on {value.device}"
            raise ModelFileError(f"{file}: the tensor {key[:60]!r} is {kind}, expected plain numbers")
        size, held = value.numel() * value.element_size(), value.untyped_storage().nbytes()
        if size > held:
            raise ModelFileError(f"{file}: the tensor {key[:60]!r} claims to hold {size} bytes, and has {held}")
    # Strides of a side of one are any number in damaged files, and count as contiguous.
    return {key: value.contiguous().as_strided(value.shape, _strides(value)) for key, value in table.items()}


def as_weight(dtype: torch.dtype, key: str, value: Tensor) -> Tensor:
    """A tensor in the network's arithmetic.

    Raises:
        RuntimeError: whole numbers for weights, as quantized ones without their scales; values that are not finite; or
            variances below zero, of which the network would make NaN.
    """
    if dtype.is_floating_point and not value.is_floating_point():
        raise RuntimeError(f"{key} holds {value.dtype}, expected floating-point numbers")
    given = value.to(dtype)
    if dtype.is_floating_point and not torch.isfinite(given).all():
        raise RuntimeError(f"{key} holds values that are not finite numbers")
    if key.endswith("running_var") and (given < 0).any():
        raise RuntimeError(f"{key} holds variances below zero")
    return given


def _strides(value: Tensor) -> tuple[int, ...]:
    return torch.empty(value.shape, device="meta").stride()


def _plain(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in _WRAPPERS)
