"""CUDA without a GPU: what can be said about it, and that every call is one that NVIDIA's package takes."""

from __future__ import annotations

import sys
from collections.abc import Callable
from contextlib import ExitStack
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from yowo_deploy.backends.cuda import Cuda, CudaPython, PyCuda, open_cuda
from yowo_deploy.errors import InputError, MissingExtraError, YowoError


def gpus() -> int:
    try:
        from cuda.bindings import runtime

        return int(runtime.cudaGetDeviceCount()[1] or 0)
    except (ImportError, RuntimeError):
        return 0


without_gpu = pytest.mark.skipif(gpus() > 0, reason="says what happens on a machine without an NVIDIA GPU")


@without_gpu
def test_without_a_gpu_one_sentence_says_so() -> None:
    pytest.importorskip("cuda.bindings")
    with pytest.raises(InputError, match=r"no NVIDIA GPU can be used here \(.+\): .*elsewhere run the ONNX file"):
        open_cuda()


def test_a_library_that_is_not_known_or_not_there_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="cuda='cupy' is not known, expected 'cuda-python' or 'pycuda'"):
        open_cuda("cupy")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "pycuda", None)
    with pytest.raises(InputError, match="pycuda cannot be loaded"):
        open_cuda("pycuda")
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(MissingExtraError, match=r"cuda-python is not installed.*yowo-deploy\[tensorrt\]"):
        open_cuda()


CALLS: list[tuple[str, Callable[[CudaPython], Any]]] = [
    ("cudaMalloc", lambda cuda: cuda.device_memory(64)),
    ("cudaMallocHost", lambda cuda: cuda.pinned((2, 3))),
    ("cudaMemcpyAsync", lambda cuda: cuda.upload(1 << 20, np.zeros(3, np.float32))),
    ("cudaMemcpyAsync", lambda cuda: cuda.download(np.zeros(3, np.float32), 1 << 20)),
    ("cudaStreamSynchronize", lambda cuda: cuda.synchronize()),
    ("cudaStreamSynchronize", lambda cuda: cuda.synchronize(2)),
    ("cudaStreamBeginCapture", lambda cuda: cuda.capture(lambda: None)),
    ("cudaGetDevice", lambda cuda: cuda.current().__enter__()),
    ("cudaSetDevice", lambda cuda: cuda._call("cudaSetDevice", 0)),
    ("cudaStreamDestroy", lambda cuda: cuda._call("cudaStreamDestroy", cuda.stream)),
    ("cudaFree", lambda cuda: cuda._call("cudaFree", 1 << 20)),
    ("cudaFreeHost", lambda cuda: cuda._call("cudaFreeHost", 1 << 20)),
    ("cudaStreamEndCapture", lambda cuda: cuda._call("cudaStreamEndCapture", cuda.stream)),
    (
        "cudaStreamCreateWithFlags",
        lambda cuda: cuda._call("cudaStreamCreateWithFlags", cuda._cuda.cudaStreamNonBlocking),
    ),
]


@without_gpu
@pytest.mark.parametrize(("name", "call"), CALLS, ids=[name for name, _ in CALLS])
def test_every_call_is_understood_by_nvidias_package(name: str, call: Callable[[CudaPython], Any]) -> None:
    """Without a driver each is refused as a call, by an error status: a wrong name or type would be another error."""
    cuda = CudaPython.__new__(CudaPython)
    cuda._cuda = pytest.importorskip("cuda.bindings.runtime")
    cuda.device, cuda.stream, cuda._held = 0, 0, ExitStack()
    with pytest.raises(YowoError, match=rf"^{name}: CUDA driver version is insufficient|^{name}: .*driver"):
        call(cuda)


class Runtime(SimpleNamespace):
    """`cuda.bindings.runtime` of a machine with two GPUs, as far as its answers go; `log` is what was called."""

    def __init__(self, **statuses: int) -> None:
        super().__init__(
            log=[],
            statuses=statuses,
            cudaStreamNonBlocking=1,
            cudaError_t=SimpleNamespace(cudaSuccess=0),
            cudaMemcpyKind=SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2),
            cudaStreamCaptureMode=SimpleNamespace(cudaStreamCaptureModeThreadLocal=1),
            cudaDeviceAttr=SimpleNamespace(cudaDevAttrComputeCapabilityMajor=75, cudaDevAttrComputeCapabilityMinor=76),
        )
        self.memory: dict[int, Any] = {}
        self.device = 0

    def cudaGetErrorString(self, status: int) -> tuple[int, bytes]:
        return 0, b"out of memory" if status == 2 else b"something else"

    def answer(self, name: str, *arguments: Any) -> Any:
        if name == "cudaGetDeviceCount":
            return 2
        if name == "cudaGetDevice":
            return self.device
        if name == "cudaSetDevice":
            self.device = arguments[0]
        if name == "cudaDeviceGetAttribute":
            return {75: 8, 76: 9}[arguments[0]]
        if name in ("cudaMalloc", "cudaMallocHost"):
            block = np.zeros(arguments[0], np.uint8)
            self.memory[block.ctypes.data] = block
            return block.ctypes.data
        if name in ("cudaFree", "cudaFreeHost"):
            del self.memory[arguments[0]]
            return None
        if name == "cudaPointerGetAttributes":
            return SimpleNamespace(device=arguments[0] % 2)
        return {"cudaStreamCreateWithFlags": 5, "cudaStreamEndCapture": 6, "cudaGraphInstantiate": 7}.get(name)

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("cuda"):
            raise AttributeError(name)

        def call(*arguments: Any) -> tuple[Any, ...]:
            self.log.append(name)
            status = self.statuses.get(name, 0)
            answer = None if status else self.answer(name, *arguments)
            return (status, None) if status else (0,) if answer is None else (0, answer)

        return call


def opened(monkeypatch: pytest.MonkeyPatch, device: int = 0, **statuses: int) -> tuple[Cuda, Runtime]:
    runtime = Runtime(**statuses)
    bindings = ModuleType("cuda.bindings")
    bindings.runtime = runtime  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "cuda", ModuleType("cuda"))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", runtime)  # type: ignore[arg-type]
    return open_cuda(device=device), runtime


def test_all_that_was_taken_is_given_back_once(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, runtime = opened(monkeypatch, device=1)
    assert (cuda.device, cuda.stream, cuda.compute_capability) == (1, 5, "8.9")
    with cuda.current():
        assert runtime.device == 1
        assert cuda.device_memory(64) in runtime.memory
        array = cuda.pinned((2, 3))
        assert array.shape == (2, 3) and array.dtype == np.float32 and array.ctypes.data in runtime.memory
        assert cuda.pinned((5,), "uint8").dtype == np.uint8
        launch = cuda.capture(lambda: None)
        assert launch is not None
        launch()
    assert len(runtime.memory) == 3 and runtime.log.count("cudaGraphLaunch") == 1
    cuda.close()
    cuda.close()
    assert not runtime.memory and runtime.device == 0  # the application's own GPU again
    assert [runtime.log.count(name) for name in ("cudaStreamDestroy", "cudaGraphExecDestroy", "cudaGraphDestroy")] == [
        1
    ] * 3
    assert runtime.log.index("cudaGraphExecDestroy") < runtime.log.index("cudaStreamDestroy")


def test_an_error_of_cuda_names_the_call_and_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, _ = opened(monkeypatch, cudaMalloc=2)
    with pytest.raises(YowoError, match=r"^cudaMalloc: out of memory$"):
        cuda.device_memory(64)


@pytest.mark.parametrize("device", [-1, 2])
def test_a_gpu_that_is_not_there_is_refused(device: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match=rf"no GPU {device} here: expected cuda:0 to cuda:1"):
        opened(monkeypatch, device)


def test_what_cannot_be_recorded_is_none_and_the_stream_goes_on(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise YowoError("not in a graph")

    cuda, runtime = opened(monkeypatch)
    assert cuda.capture(fail) is None and runtime.log[-1] == "cudaStreamEndCapture"
    cuda, runtime = opened(monkeypatch, cudaStreamEndCapture=9)
    assert cuda.capture(lambda: None) is None and "cudaGraphInstantiate" not in runtime.log


@pytest.mark.parametrize("error", [BufferError("no tensor"), KeyboardInterrupt(), RuntimeError("of a library")])
def test_whatever_breaks_a_recording_leaves_the_stream_usable(
    error: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not our own errors alone: a stream that goes on recording would run nothing any more."""
    cuda, runtime = opened(monkeypatch)

    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        cuda.capture(fail)
    assert runtime.log.count("cudaStreamBeginCapture") == runtime.log.count("cudaStreamEndCapture") == 1


def test_a_graph_that_cannot_be_made_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, runtime = opened(monkeypatch, cudaGraphInstantiate=2)
    with pytest.raises(YowoError, match="cudaGraphInstantiate"):
        cuda.capture(lambda: None)
    assert runtime.log.count("cudaGraphDestroy") == 1


def test_memory_says_which_gpu_it_is_of(monkeypatch: pytest.MonkeyPatch) -> None:
    cuda, _ = opened(monkeypatch)
    assert cuda.device_of(0x1001) == 1


def pycuda_driver(current: Any) -> Any:
    """`pycuda.driver` with its stack of contexts; memory is numpy's."""
    stack: list[Any] = [current] if current else []

    class Context:
        def push(self) -> None:
            stack.append(self)

        pop = staticmethod(stack.pop)
        get_current = staticmethod(lambda: stack[-1] if stack else None)
        get_device = staticmethod(lambda: SimpleNamespace(compute_capability=lambda: (12, 0)))
        synchronize = staticmethod(lambda: None)

    class Error(Exception):
        pass

    def copy(target: Any, source: Any, stream: Any) -> None:
        raise Error("the launch timed out")

    primary = Context()
    driver: Any = ModuleType("pycuda.driver")
    vars(driver).update(
        Context=Context,
        Error=Error,
        init=lambda: None,
        stack=stack,
        primary=primary,
        memcpy_htod_async=copy,
        Device=lambda index: SimpleNamespace(retain_primary_context=lambda: primary),
        Stream=lambda: SimpleNamespace(handle=11, synchronize=lambda: None),
        pagelocked_empty=np.empty,
    )
    return driver


@pytest.mark.parametrize("shared", [True, False])
def test_pycuda_works_in_the_applications_context_or_in_the_primary_one(
    shared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = pycuda_driver(None)
    theirs = driver.Context()
    if shared:
        theirs.push()
    package = ModuleType("pycuda")
    package.driver = driver  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "pycuda", package)
    monkeypatch.setitem(sys.modules, "pycuda.driver", driver)
    cuda = open_cuda("pycuda")
    assert isinstance(cuda, PyCuda) and (cuda.stream, cuda.compute_capability) == (11, "12.0")
    before = list(driver.stack)
    with pytest.raises(YowoError, match="pycuda: the launch timed out"), cuda.current():
        assert driver.stack[-1] is (theirs if shared else driver.primary)
        cuda.upload(0, cuda.pinned((2, 3)))
    assert driver.stack == before == ([theirs] if shared else [])
