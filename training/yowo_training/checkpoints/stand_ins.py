"""Stand-ins for the classes of others that checkpoints hold beside tensors: nothing of those is imported or run.

People save numpy's numbers and arrays, their arguments and their paths along. PyTorch's reader refuses all of these
unless each is allowed by name; what is allowed here under such a name is a class of this module.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

_NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")
_NUMBER = re.compile(r"b1|[iuf][1248]|f16")
_TEXT = re.compile(r"U\d{1,4}")
# Values that hold no weights: arguments of a run, configurations, paths, optimizers, schedulers, defaults of dicts.
_IGNORED = re.compile(
    r"(argparse\.Namespace|types\.SimpleNamespace|datetime\.\w+|pathlib\.\w*Path|easydict\.EasyDict|addict\.\w+\.Dict"
    r"|(yacs|fvcore\.common)\.config\.CfgNode|omegaconf\.[\w.]+|torch\.optim\.[\w.]+"
    r"|builtins\.(dict|list|int|float|str|bool|tuple)|collections\.defaultdict|(pytorch_lightning|lightning|lightning_fabric)\.[\w.]+AttributeDict)"
)

# What torch.save itself refers to, and numpy.
_WRITTEN = re.compile(
    r"torch\.((storage\.)?\w*Storage|Size|_utils\.\w+|nn\.parameter\.\w+|device|dtype)"
    r"|collections\.(OrderedDict|Counter)|_codecs\.encode|numpy\.(dtype|ndarray|_?core\.multiarray\.\w+)"
)


class Ignored:
    """Stands for an object whose attributes are not used; one that is a dict keeps its entries.

    Makes an OrderedDict: of dicts PyTorch's reader fills, and gives attributes to, no subclass of it but that.
    """

    def __new__(cls, *_: Any, **__: Any) -> OrderedDict[Any, Any]:  # type: ignore[misc]
        """An empty one."""
        return OrderedDict()


class Dtype:
    """Stands for a numpy.dtype: of numbers, or of texts, as names of classes are, which are not kept."""

    def __init__(self, code: str, *_: Any) -> None:
        self.is_text = bool(_TEXT.fullmatch(code))
        if not _NUMBER.fullmatch(code) and not self.is_text:
            raise ValueError(f"an array of numpy of type {code!r}, expected numbers")
        self.code = code

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        self.code = ("<" if state[1] in "|=" else str(state[1])) + self.code

    def read(self, content: bytes) -> np.ndarray[Any, Any]:
        """The numbers in these bytes."""
        return np.frombuffer(content, np.dtype(self.code))


class Array:
    """Stands for a numpy.ndarray."""

    value: np.ndarray[Any, Any] | None = None

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, dtype, by_columns, content = state
        if not dtype.is_text:
            self.value = dtype.read(content).reshape(shape, order="F" if by_columns else "C")


def scalar(dtype: Dtype, content: bytes) -> Any:
    """Stands for the function that makes a number of numpy."""
    return None if dtype.is_text else dtype.read(content)[0].item()


def reconstruct(*_: Any) -> Array:
    """Stands for the function that makes an empty array of numpy."""
    return Array()


def stand_ins(classes: frozenset[str]) -> list[Callable[..., Any] | tuple[Callable[..., Any], str]]:
    """What a checkpoint that refers to these classes may make, for `torch.serialization.safe_globals`."""
    known: list[Callable[..., Any] | tuple[Callable[..., Any], str]] = [
        (Dtype, "numpy.dtype"),
        (Array, "numpy.ndarray"),
    ]
    known += [(scalar, f"{module}.scalar") for module in _NUMPY]
    known += [(reconstruct, f"{module}._reconstruct") for module in _NUMPY]
    return known + [(Ignored, name) for name in sorted(classes) if _IGNORED.fullmatch(name)]


def plain(value: Any) -> Any:
    """A value with tensors in place of arrays."""
    if isinstance(value, Array):
        held = value.value
        return None if held is None else torch.from_numpy(np.array(held, held.dtype.newbyteorder("=")))
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        found = map(plain, value)
        return tuple(found) if isinstance(value, tuple) else list(found)
    return value


def strangers(classes: frozenset[str]) -> str:
    """The classes that no checkpoint needs, for a message."""
    odd = [name for name in sorted(classes) if not _WRITTEN.fullmatch(name) and not _IGNORED.fullmatch(name)]
    odd.sort(key=lambda name: name.startswith(("torch.", "builtins.")))  # those of the user first
    return ", ".join(name[:60] for name in odd[:3])
