"""Zero-copy access to arrays on a GPU, by DLPack or `__cuda_array_interface__`."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from yowo_deploy.errors import InputError, foreign
from yowo_deploy.spec import InputType

# DLPack's names of devices that a CUDA kernel reads from: memory of the GPU, and managed memory.
_CUDA, _CUDA_MANAGED = 2, 13
_TYPES: dict[InputType, tuple[int, int]] = {"float32": (2, 32), "uint8": (1, 8)}  # DLPack's code and bits
# By a library of its own errors; by torch where gradients are wanted.
_KEPT_BACK = "the clips are not handed over (of a tensor that wants gradients give `.detach()`)"


@dataclass(frozen=True)
class DeviceArray:
    """Contiguous numbers on a GPU.

    Attributes:
        address: of the first one.
        shape: of the array.
        stream: of the caller's, to be waited for before they are read; None where they are ready.
        owner: what keeps them alive.
    """

    address: int
    shape: tuple[int, ...]
    stream: int | None
    owner: object


class _Tensor(ctypes.Structure):
    """`DLTensor` of DLPack, with which every capsule of it begins."""

    _fields_ = (
        ("data", ctypes.c_void_p),
        ("device_type", ctypes.c_int32),
        ("device_id", ctypes.c_int32),
        ("ndim", ctypes.c_int32),
        ("code", ctypes.c_uint8),
        ("bits", ctypes.c_uint8),
        ("lanes", ctypes.c_uint16),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    )


_pointer_of = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def device_array(
    given: Any,
    device: int,
    stream: int,
    device_of: Callable[[int], int | None] = lambda address: None,
    dtype: InputType = "float32",
) -> DeviceArray | None:
    """`given` as an array on a GPU, without a copy; None for what lies in the memory of the processor.

    Args:
        given: anything. DLPack is asked first: it tells the device, and makes its owner's stream wait for ours.
        device: number of the GPU that will read it.
        stream: the one that it will be read in.
        device_of: the GPU of an address, which `__cuda_array_interface__` does not tell; None: not known.
        dtype: of its numbers.

    Raises:
        InputError: it lies on another GPU, is of another type, is not contiguous, or its owner does not hand it over.
    """
    if hasattr(given, "__dlpack_device__"):
        kind, number = map(int, given.__dlpack_device__())
        if kind in (_CUDA, _CUDA_MANAGED):
            _refuse_other(number, device)
            with foreign(_KEPT_BACK):
                capsule = given.__dlpack__(stream=stream)
            return from_capsule(capsule, dtype)
    with foreign(_KEPT_BACK):
        interface = getattr(given, "__cuda_array_interface__", None)
    if interface is None:
        return None
    found = _from_interface(interface, given, dtype)
    _refuse_other(device_of(found.address), device)
    return found


def processor_array(given: Any) -> NDArray[Any]:
    """`given` as an array in the memory of the processor.

    Raises:
        InputError: its owner does not hand it over.
    """
    with foreign(_KEPT_BACK):
        return np.asarray(given)


def _refuse_other(number: int | None, device: int) -> None:
    if number not in (None, device):
        raise InputError(f"the clips are on GPU {number}, the model on GPU {device}: copy them there first")


def from_capsule(capsule: object, dtype: InputType = "float32") -> DeviceArray:
    """What a DLPack capsule describes, wherever it lies; it belongs to its maker until the answer is dropped.

    Raises:
        InputError: it is of another type, or not contiguous.
    """
    tensor = _Tensor.from_address(_pointer_of(capsule, b"dltensor"))
    if (tensor.code, tensor.bits, tensor.lanes) != (*_TYPES[dtype], 1):
        raise InputError(f"clips on a GPU must be {dtype}, found DLPack type {tensor.code} of {tensor.bits} bits")
    shape = tuple(tensor.shape[: tensor.ndim])
    _check_strides(shape, tensor.strides[: tensor.ndim] if tensor.strides else None)
    return DeviceArray((tensor.data or 0) + tensor.byte_offset, shape, None, capsule)


def _from_interface(interface: Mapping[str, Any], given: Any, dtype: InputType) -> DeviceArray:
    if interface.get("mask") is not None:
        raise InputError("clips on a GPU must not have a mask")
    wanted = np.dtype(dtype)
    if interface["typestr"] != wanted.str:
        raise InputError(f"clips on a GPU must be {dtype}, found {interface['typestr']}")
    shape, strides = tuple(interface["shape"]), interface.get("strides")
    _check_strides(shape, None if strides is None else [step / wanted.itemsize for step in strides])
    return DeviceArray(int(interface["data"][0]), shape, interface.get("stream"), given)


def _check_strides(shape: tuple[int, ...], strides: Sequence[float] | None) -> None:
    """Strides count numbers, not bytes; those of sides of length 1 are never used."""
    expected = 1
    for length, step in zip(reversed(shape), reversed(strides or ()), strict=False):
        if length != 1 and step != expected:
            raise InputError(f"clips on a GPU must be contiguous, found shape {shape} with strides {strides}")
        expected *= length
