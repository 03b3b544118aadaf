"""A CUDA device with one stream, by cuda-python or pycuda."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any, Literal, Protocol

import numpy as np

from yowo_deploy.arrays import Planes
from yowo_deploy.errors import InputError, MissingExtraError, YowoError

CudaLibrary = Literal["cuda-python", "pycuda"]


class Cuda(Protocol):
    """A GPU with one stream, and all memory that was asked of it.

    Every method but `close` is for the inside of `with current()`.
    """

    device: int
    stream: int
    compute_capability: str

    def current(self) -> AbstractContextManager[None]:
        """Make the GPU the calling thread's own for a while; an error of the library becomes a `YowoError`."""
        ...

    def device_memory(self, nbytes: int) -> int:
        """The address of new memory on the GPU."""
        ...

    def pinned(self, shape: tuple[int, ...], dtype: str = "float32") -> Planes:
        """A new array that the GPU copies from and to without the processor; gone after `close`."""
        ...

    def upload(self, address: int, source: Planes) -> None:
        """Copy a pinned array to the GPU, in the stream."""
        ...

    def download(self, target: Planes, address: int) -> None:
        """Fill a pinned array from the GPU, in the stream."""
        ...

    def synchronize(self, stream: int | None = None) -> None:
        """Wait for a stream: for our own, or for one of the caller's."""
        ...

    def capture(self, work: Callable[[], None]) -> Callable[[], None] | None:
        """What `work` puts into the stream as one launch, or None where that cannot be recorded.

        What `work` raises that is no `YowoError` is raised again, with the stream no longer recording.
        """
        ...

    def device_of(self, address: int) -> int | None:
        """The number of the GPU that memory belongs to; None where the library cannot tell."""
        ...

    def close(self) -> None:
        """Free everything; safe to call twice."""
        ...


def open_cuda(library: CudaLibrary = "cuda-python", device: int = 0) -> Cuda:
    """The GPU of that number.

    Raises:
        InputError: there is no driver, or no such GPU, or the library is not known.
        MissingExtraError: cuda-python is not installed.
    """
    if library not in ("cuda-python", "pycuda"):
        raise InputError(f"cuda={library!r} is not known, expected 'cuda-python' or 'pycuda'")
    return PyCuda(device) if library == "pycuda" else CudaPython(device)


class CudaPython:
    """A `Cuda` by NVIDIA's own package.

    Raises:
        MissingExtraError: cuda-python is not installed.
        InputError: there is no driver, or no GPU of that number.
    """

    def __init__(self, device: int) -> None:
        try:
            from cuda.bindings import runtime
        except ImportError as error:
            raise MissingExtraError("cuda-python", "tensorrt") from error
        self._cuda: Any = runtime
        self.device = device
        self._held = ExitStack()
        try:
            count = int(self._call("cudaGetDeviceCount"))
        except (YowoError, RuntimeError) as error:  # RuntimeError: the driver's library is not there at all
            raise _no_gpu(str(error)) from error
        if not 0 <= device < count:
            raise InputError(f"there is no GPU {device} here: expected cuda:0 to cuda:{count - 1}")
        with self.current():
            names = runtime.cudaDeviceAttr
            major = self._call("cudaDeviceGetAttribute", names.cudaDevAttrComputeCapabilityMajor, device)
            minor = self._call("cudaDeviceGetAttribute", names.cudaDevAttrComputeCapabilityMinor, device)
            self.compute_capability = f"{major}.{minor}"
            self.stream = int(self._call("cudaStreamCreateWithFlags", runtime.cudaStreamNonBlocking))
            self._held.callback(self._call, "cudaStreamDestroy", self.stream)

    def _call(self, name: str, *arguments: Any) -> Any:
        status, *results = getattr(self._cuda, name)(*arguments)
        if status != self._cuda.cudaError_t.cudaSuccess:
            reason = self._cuda.cudaGetErrorString(status)[1]
            raise YowoError(f"{name}: {reason.decode() if isinstance(reason, bytes) else reason}")
        return results[0] if results else None

    @contextmanager
    def current(self) -> Iterator[None]:
        before = self._call("cudaGetDevice")
        self._call("cudaSetDevice", self.device)
        try:
            yield
        finally:
            self._call("cudaSetDevice", before)  # the application's own work goes on where it was

    def device_memory(self, nbytes: int) -> int:
        address = int(self._call("cudaMalloc", nbytes))
        self._held.callback(self._call, "cudaFree", address)
        return address

    def pinned(self, shape: tuple[int, ...], dtype: str = "float32") -> Planes:
        nbytes = int(np.prod(shape)) * np.dtype(dtype).itemsize
        address = int(self._call("cudaMallocHost", nbytes))
        self._held.callback(self._call, "cudaFreeHost", address)
        return np.ctypeslib.as_array((ctypes.c_uint8 * nbytes).from_address(address)).view(dtype).reshape(shape)

    def upload(self, address: int, source: Planes) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, source.ctypes.data, source.nbytes, kind, self.stream)

    def download(self, target: Planes, address: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", target.ctypes.data, address, target.nbytes, kind, self.stream)

    def synchronize(self, stream: int | None = None) -> None:
        self._call("cudaStreamSynchronize", self.stream if stream is None else stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None] | None:
        mode = self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._call("cudaStreamBeginCapture", self.stream, mode)
        try:
            work()
        except BaseException as error:
            self._stop_recording()
            if isinstance(error, YowoError):
                return None
            raise
        graph = self._stop_recording()
        if graph is None:
            return None
        try:
            launched = self._call("cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)
        self._held.callback(self._call, "cudaGraphExecDestroy", launched)
        return lambda: self._call("cudaGraphLaunch", launched, self.stream)

    def _stop_recording(self) -> Any:
        """The graph; None where the recording was broken, which takes the stream out of it all the same."""
        status, *graph = self._cuda.cudaStreamEndCapture(self.stream)
        return graph[0] if status == self._cuda.cudaError_t.cudaSuccess else None

    def device_of(self, address: int) -> int | None:
        return int(self._call("cudaPointerGetAttributes", address).device)

    def close(self) -> None:
        with self.current():
            self._held.close()


class PyCuda:
    """A `Cuda` by pycuda, in the context that the application has made current, or in the GPU's primary one.

    pycuda records no graphs, so `capture` gives None.

    Raises:
        InputError: pycuda cannot be loaded, or there is no driver, or no GPU of that number.
    """

    def __init__(self, device: int) -> None:
        try:
            from pycuda import driver
        except ImportError as error:  # not installed, or without the driver's library
            raise InputError(f"pycuda cannot be loaded ({error}): install it, or leave out cuda='pycuda'") from error
        self._driver: Any = driver
        self.device = device
        try:
            driver.init()
            self._context = driver.Context.get_current() or driver.Device(device).retain_primary_context()
        except driver.Error as error:
            raise _no_gpu(str(error)) from error
        self._memory: list[Any] = []
        with self.current():
            major, minor = driver.Context.get_device().compute_capability()
            self.compute_capability = f"{major}.{minor}"
            self._stream = driver.Stream()
            self.stream = int(self._stream.handle)

    @contextmanager
    def current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        except self._driver.Error as error:
            raise YowoError(f"pycuda: {error}") from error
        finally:
            self._driver.Context.pop()

    def device_memory(self, nbytes: int) -> int:
        self._memory.append(self._driver.mem_alloc(nbytes))
        return int(self._memory[-1])

    def pinned(self, shape: tuple[int, ...], dtype: str = "float32") -> Planes:
        array: Planes = self._driver.pagelocked_empty(shape, np.dtype(dtype))
        return array

    def upload(self, address: int, source: Planes) -> None:
        self._driver.memcpy_htod_async(address, source, self._stream)

    def download(self, target: Planes, address: int) -> None:
        self._driver.memcpy_dtoh_async(target, address, self._stream)

    def synchronize(self, stream: int | None = None) -> None:
        if stream is None:
            self._stream.synchronize()
        else:
            self._driver.Context.synchronize()  # pycuda cannot wait for a stream that is not its own

    def capture(self, work: Callable[[], None]) -> Callable[[], None] | None:
        return None

    def device_of(self, address: int) -> int | None:
        return None

    def close(self) -> None:
        with self.current():
            while self._memory:
                self._memory.pop().free()


def _no_gpu(reason: str) -> InputError:
    return InputError(
        f"no NVIDIA GPU can be used here ({reason}): a plan needs one and its driver; elsewhere run the ONNX file"
    )
