"""Clips on a GPU are read where they lie. There is no GPU here: numpy's own capsules and plain objects stand for it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from yowo_deploy.backends.dlpack import device_array, from_capsule, processor_array
from yowo_deploy.errors import InputError


class OnGpu:
    """A numpy array that says that it lies on a GPU, by DLPack, and remembers the stream that it was asked for."""

    def __init__(self, array: Any, device: int = 0, kind: int = 2) -> None:
        self.array, self.place, self.stream = array, (kind, device), None

    def __dlpack_device__(self) -> tuple[int, int]:
        return self.place

    def __dlpack__(self, stream: int) -> object:
        self.stream = stream
        return self.array.__dlpack__()


class Interface:
    """An object with `__cuda_array_interface__`, made from what numpy says of the same array."""

    def __init__(self, array: Any, **changes: Any) -> None:
        plain = array.__array_interface__
        self.array = array
        self.__cuda_array_interface__ = {name: plain[name] for name in ("data", "shape", "strides", "typestr")}
        self.__cuda_array_interface__ |= {"version": 3} | changes


@pytest.mark.parametrize(
    "array",
    [
        np.zeros((2, 3, 4), np.float32),
        np.zeros((5, 3, 4), np.float32)[2:4],  # it begins inside
        np.zeros((1, 3, 4), np.float32)[::-1],  # one side of length 1, whose stride is never used
        np.zeros((), np.float32),
    ],
)
@pytest.mark.parametrize("kind", [2, 13])
def test_both_protocols_say_where_the_numbers_lie(array: Any, kind: int) -> None:
    given = OnGpu(array, kind=kind)
    by_capsule, by_interface = device_array(given, 0, 77), device_array(Interface(array), 0, 77)
    assert by_capsule is not None and by_interface is not None
    assert by_capsule.address == by_interface.address == array.ctypes.data
    assert by_capsule.shape == by_interface.shape == array.shape
    assert given.stream == 77 and by_capsule.stream is None and by_interface.stream is None


def test_a_stream_of_the_callers_is_handed_on() -> None:
    found = device_array(Interface(np.zeros(3, np.float32), stream=2, strides=None), 0, 77)
    assert found is not None and found.stream == 2


def test_the_array_lives_as_long_as_its_description() -> None:
    array = np.full(1000, 7, np.float32)
    found = from_capsule(array.__dlpack__())
    alone = from_capsule(np.full(1000, 9, np.float32).__dlpack__())
    del array
    import ctypes

    assert ctypes.c_float.from_address(found.address).value == 7
    assert ctypes.c_float.from_address(alone.address + 999 * 4).value == 9


@pytest.mark.parametrize("given", [np.zeros(3, np.float32), [1.0, 2.0], None, OnGpu(np.zeros(3, np.float32), kind=1)])
def test_what_lies_in_the_processors_memory_is_left_alone(given: Any) -> None:
    assert device_array(given, 0, 77) is None


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (OnGpu(np.zeros(3, np.float32), device=1), "are on GPU 1, the model on GPU 0"),
        (OnGpu(np.zeros(3, np.float16)), "float32, found DLPack type 2 of 16 bits"),
        (OnGpu(np.zeros(3, np.int32)), "float32, found DLPack type 0 of 32 bits"),
        (Interface(np.zeros(3, np.float64)), "float32, found <f8"),
        (OnGpu(np.zeros((3, 4), np.float32).T), "must be contiguous"),
        (OnGpu(np.zeros((3, 4), np.float32)[:, ::2]), "must be contiguous"),
        (Interface(np.zeros((3, 4), np.float32)[:, :2]), "must be contiguous"),
        (Interface(np.zeros((3, 4), np.float32)[::-1]), "must be contiguous"),
        (Interface(np.zeros(3, np.float32), mask=np.zeros(3, bool)), "mask"),
    ],
)
def test_what_cannot_be_read_in_place_is_refused(given: Any, expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        device_array(given, 0, 77)


def test_the_gpu_of_an_array_interface_is_asked_for() -> None:
    """The interface has an address, and does not say whose."""
    given = Interface(np.zeros(3, np.float32))
    for known in (0, None):
        found = device_array(given, 0, 77, lambda address, known=known: known)  # type: ignore[misc]
        assert found is not None and found.address == given.array.ctypes.data
    with pytest.raises(InputError, match="are on GPU 1, the model on GPU 0"):
        device_array(given, 0, 77, lambda address: 1)


def test_a_tensor_that_wants_gradients_is_refused_in_one_line() -> None:
    torch = pytest.importorskip("torch")
    tensor = torch.zeros(3, requires_grad=True)

    class OnOurGpu:
        """The tensor, said to lie on the GPU."""

        def __dlpack_device__(self) -> tuple[int, int]:
            return 2, 0

        def __dlpack__(self, stream: int) -> object:
            return tensor.__dlpack__()

    for take in (lambda: device_array(OnOurGpu(), 0, 77), lambda: processor_array(tensor)):
        with pytest.raises(InputError, match="detach"):
            take()
    assert device_array(tensor, 0, 77) is None and processor_array(tensor.detach()).shape == (3,)
