"""Plans on an engine. A stand-in for TensorRT computes what numpy does, at the addresses that it is given.

The library itself is run by the tests marked `gpu` in tests/yowo_export/test_plan.py.
"""

from __future__ import annotations

import contextlib
import ctypes
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from yowo_deploy.arrays import Float, Planes
from yowo_deploy.backends import trt
from yowo_deploy.backends.base import Backend, Staged, Streaming
from yowo_deploy.backends.loader import BACKENDS, open_model
from yowo_deploy.errors import InputError, MissingExtraError, ModelFileError, YowoError
from yowo_deploy.model_files.plan_record import PlanFile, to_name, write_plan
from yowo_deploy.spec import ModelSpec

MakeNumpy = Callable[[ModelSpec], Backend]


def at(address: int, shape: tuple[int, ...], kind: type = ctypes.c_float) -> Planes:
    """The numbers that lie at an address."""
    return np.ctypeslib.as_array((kind * int(np.prod(shape))).from_address(address)).reshape(shape)


class Gpu:
    """A `Cuda` whose memory is the processor's; a recorded graph runs the work again, its arguments as they were."""

    device, stream, compute_capability = 0, 5, "8.9"

    def __init__(self, records: bool = True) -> None:
        self.held: dict[int, Any] = {}
        self.records, self.launches, self.uploads, self.closed = records, 0, 0, 0
        self.waited: list[int | None] = []
        self.inside = 0

    @contextlib.contextmanager
    def current(self) -> Iterator[None]:
        self.inside += 1
        yield
        self.inside -= 1

    def device_memory(self, nbytes: int) -> int:
        block = np.full(-(-nbytes // 4), np.nan, np.float32)  # what is read before it is written shows
        self.held[block.ctypes.data] = block
        return int(block.ctypes.data)

    def pinned(self, shape: tuple[int, ...], dtype: str = "float32") -> Planes:
        return np.full(shape, np.nan if dtype == "float32" else 99, dtype)

    def upload(self, address: int, source: Float) -> None:
        assert self.inside and source.flags.c_contiguous
        self.uploads += 1
        ctypes.memmove(address, source.ctypes.data, source.nbytes)

    def download(self, target: Float, address: int) -> None:
        assert self.inside and target.flags.c_contiguous
        ctypes.memmove(target.ctypes.data, address, target.nbytes)

    def synchronize(self, stream: int | None = None) -> None:
        self.waited.append(stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None] | None:
        def launch() -> None:
            self.launches += 1
            work()

        return launch if self.records else None

    def device_of(self, address: int) -> int | None:
        return self.device

    def close(self) -> None:
        self.closed += 1
        self.held.clear()


class TensorRt(SimpleNamespace):
    """The module `tensorrt` with a plan of the small network in it: as much of its API as is used, with its answers."""

    float32, half, uint8 = "float32", "half", "uint8"
    TensorIOMode = SimpleNamespace(INPUT="in", OUTPUT="out")
    __version__ = "11.4.0.5"

    class ILogger:
        ERROR, INTERNAL_ERROR, INFO = "error", "internal error", "info"

    def __init__(self, network: Backend, batch: tuple[int, int, int], fixed: bool) -> None:
        spec = network.spec
        grid = spec.grid_size[::-1]
        super().__init__(network=network, loads=True, runs=True, breaks=False)
        first = batch[2] if fixed else -1
        self.shapes = {"clips": (first, *spec.clip_shape), "raw": (first, spec.output_channels, *grid)}
        self.batch, self.fixed, self.runtime = batch, fixed, SimpleNamespace()
        self.types = {"clips": spec.input_type, "raw": "float32"}

    def Runtime(self, logger: Any) -> Any:
        def deserialize(content: bytes) -> Any:
            assert content[:4] == b"ftrt"
            logger.log(self.ILogger.INFO, "reading")
            if self.breaks:
                raise TypeError("deserialize_cuda_engine(): incompatible function arguments")
            if not self.loads:
                logger.log(self.ILogger.ERROR, "Error Code 6: a tag does not match\nsomewhere")
            return self if self.loads else None

        self.runtime = SimpleNamespace(deserialize_cuda_engine=deserialize)
        self.logger = logger
        return self.runtime

    @property
    def num_io_tensors(self) -> int:
        return len(self.shapes)

    def get_tensor_name(self, index: int) -> str:
        return ("raw", "clips", "shown")[index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "clips" else "out"

    def show(self) -> None:
        """As a plan does whose layers were marked: clips twice themselves."""
        self.shapes["shown"], self.types["shown"] = self.shapes["clips"], "float32"

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shapes[name]  # type: ignore[no-any-return]

    def get_tensor_dtype(self, name: str) -> str:
        return str(self.types[name])

    def get_tensor_profile_shape(self, name: str, index: int) -> list[tuple[int, ...]]:
        assert (name, index) == ("clips", 0) and not self.fixed
        return [(count, *self.network.spec.clip_shape) for count in self.batch]

    def create_execution_context(self) -> Any:
        return Context(self)


class Context:
    """Runs the network from the address of its input to that of its output, for the shape that was set."""

    def __init__(self, engine: TensorRt) -> None:
        self.engine, self.addresses = engine, dict[str, int]()
        self.shape: tuple[int, ...] = ()

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        least, _, most = self.engine.batch
        self.shape = shape
        return name == "clips" and least <= shape[0] <= most

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return name in self.engine.shapes

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == Gpu.stream
        if not self.engine.runs:
            self.engine.logger.log(TensorRt.ILogger.ERROR, "Error Code 1: Cuda Runtime (an illegal memory access)")
            return False
        kind = ctypes.c_uint8 if self.engine.types["clips"] == "uint8" else ctypes.c_float
        answer = self.engine.network.infer(at(self.addresses["clips"], self.shape, kind))
        at(self.addresses["raw"], answer.shape)[:] = answer
        if "shown" in self.engine.shapes:
            at(self.addresses["shown"], self.shape)[:] = 2 * at(self.addresses["clips"], self.shape)
        return True


@pytest.fixture
def plan(tmp_path: Path, spec: ModelSpec) -> Path:
    name, beside = to_name(PlanFile(spec, "tensorrt", "11.4.0.5", "8.9", "a" * 64, (1, 2, 3)))
    write_plan(tmp_path / "small.plan", b"ftrt" + b"\0" * 100 + name.encode() + b"weights" * 99, beside)
    return tmp_path / "small.plan"


@pytest.fixture
def make(
    plan: Path, spec: ModelSpec, numpy_backend: MakeNumpy, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[Gpu, TensorRt]]:
    """Puts a GPU and TensorRT into this machine, for a plan of some batch sizes."""

    def put(batch: tuple[int, int, int] = (1, 2, 3), fixed: bool = False, records: bool = True) -> tuple[Gpu, TensorRt]:
        gpu, module = Gpu(records), TensorRt(numpy_backend(spec), batch, fixed)
        monkeypatch.setattr(trt, "open_cuda", lambda library, device: gpu)
        monkeypatch.setattr(trt, "library", lambda flavour: module)
        monkeypatch.setattr(trt, "installed_flavours", lambda: ["tensorrt"])
        return gpu, module

    return put


class Frames(TensorRt):
    """A plan of a streaming file: maps of one number, of the newest frame and of an older map."""

    class Type(str):
        itemsize = 4

    float32 = Type("float32")

    def __init__(self, network: Backend) -> None:
        super().__init__(network, (1, 1, 1), True)
        spec = network.spec
        _, _, height, width = spec.clip_shape
        raw = (1, spec.output_channels, *spec.grid_size[::-1])
        self.shapes = {"frames": (1, 6, height, width), "raw": raw, "kept_0_0": (1, 1), "kept_1_1": (1, 1)}
        self.shapes |= dict.fromkeys(("kept_0_0@1", "kept_0_0@3", "kept_1_1@2"), (1, 1))
        self.types = dict.fromkeys(self.shapes, self.float32)

    def get_tensor_name(self, index: int) -> str:
        return [*self.shapes][index]

    def get_tensor_mode(self, name: str) -> str:
        return "in" if name == "frames" or "@" in name else "out"

    def get_tensor_dtype(self, name: str) -> Any:
        return self.types[name]

    def create_execution_context(self) -> Any:
        return FramesContext(self)


class FramesContext(Context):
    """What a network does that keeps maps: see `said`."""

    def execute_async_v3(self, stream: int) -> bool:
        assert stream == Gpu.stream and set(self.addresses) == set(self.engine.shapes)
        written = {self.addresses[name] for name in ("raw", "kept_0_0", "kept_1_1")}
        assert len(written) == 3 and not written & {self.addresses[name] for name in self.engine.shapes if "@" in name}
        frames = at(self.addresses["frames"], self.engine.shapes["frames"])[0]
        read = {name: at(self.addresses[name], (1,))[0] for name in self.engine.shapes if "@" in name}
        newest, deep = frames[3, 0, 0], frames[3, 0, 0] + 10 * read["kept_0_0@1"]
        raw = deep + 100 * read["kept_0_0@3"] + 1000 * read["kept_1_1@2"] + 100000 * frames[0, 0, 0]
        at(self.addresses["raw"], self.engine.shapes["raw"])[:] = raw
        at(self.addresses["kept_0_0"], (1,))[:] = newest
        at(self.addresses["kept_1_1"], (1,))[:] = deep
        return bool(self.engine.runs)


def said(ago: Callable[[int], float]) -> float:
    """Of a clip whose frames are one number each, by how many frames ago they were."""
    return ago(0) + 10 * ago(1) + 100 * ago(3) + 1000 * (ago(2) + 10 * ago(3)) + 100000 * ago(1)


@pytest.fixture
def streaming_plan(
    tmp_path: Path, spec: ModelSpec, numpy_backend: MakeNumpy, monkeypatch: pytest.MonkeyPatch
) -> tuple[Path, Gpu, Frames]:
    """With frames two apart."""
    spec = spec.replace(streaming=True, clip_length=4, frame_stride=2)
    name, beside = to_name(PlanFile(spec, "tensorrt", "11.4.0.5", "8.9", "a" * 64, (1, 1, 1)))
    path = tmp_path / "streaming.plan"
    write_plan(path, b"ftrt" + b"\0" * 100 + name.encode() + b"weights" * 99, beside)
    gpu, module = Gpu(), Frames(numpy_backend(spec))
    monkeypatch.setattr(trt, "open_cuda", lambda library, device: gpu)
    monkeypatch.setattr(trt, "library", lambda flavour: module)
    monkeypatch.setattr(trt, "installed_flavours", lambda: ["tensorrt"])
    return path, gpu, module


def test_frame_by_frame_a_plan_gives_what_the_clip_gives(streaming_plan: tuple[Path, Gpu, Frames]) -> None:
    """Two videos in turn, each with maps of its own, that start anew after a reset."""
    path, gpu, _ = streaming_plan
    with open_model(path) as backend:
        spec = backend.spec
        assert isinstance(backend, Streaming)
        streams = [backend.open_stream(), backend.open_stream()]
        held = len(gpu.held)
        for _ in range(2):
            for frame in range(14):
                for video, stream in enumerate(streams):
                    numbers = [float((video + each * each) % 7) for each in range(frame + 1)]
                    raw = stream.push(np.full((3, *spec.clip_shape[2:]), numbers[-1], np.float32))
                    assert raw.shape == (spec.output_channels, *spec.grid_size[::-1])
                    assert (raw == said(lambda ago, seen=numbers: seen[max(0, len(seen) - 1 - 2 * ago)])).all()
            for stream in streams:
                stream.reset()
        assert len(gpu.held) == held  # nothing is allocated while frames come
        clip = np.arange(4, dtype=np.float32)[:, None, None] + np.zeros((3, *spec.clip_shape[1:]), np.float32)
        assert (backend.infer(clip[None]) == said(lambda ago: 3.0 - ago)).all()
    assert gpu.closed == 1 and not gpu.held and gpu.inside == 0
    with pytest.raises(InputError, match="is closed"):
        streams[0].push(np.zeros((3, *spec.clip_shape[2:]), np.float32))


def test_memory_of_a_video_that_is_over_is_the_next_one_s(streaming_plan: tuple[Path, Gpu, Frames]) -> None:
    """A server opens a stream a video, and all of the GPU would be taken at last."""
    path, gpu, _ = streaming_plan
    with open_model(path) as backend:
        assert isinstance(backend, Streaming)
        clips, planes = clips_of(backend.spec, 3), np.ones((3, *backend.spec.clip_shape[2:]), np.float32)
        held = set[int]()
        for _ in range(4):
            backend.infer(clips)
            streams = [backend.open_stream(), backend.open_stream()]
            raws = [stream.push(planes) for stream in streams]
            assert all((raw == said(lambda ago: 1.0)).all() for raw in raws)
            del streams, raws
            held.add(len(gpu.held))
        assert len(held) == 1


def test_a_streaming_plan_that_fails_or_is_another_s_is_named(streaming_plan: tuple[Path, Gpu, Frames]) -> None:
    path, gpu, module = streaming_plan
    module.runs = False
    with open_model(path) as backend, pytest.raises(YowoError, match="failed on"):
        backend.infer(clips_of(backend.spec, 1))
    module.types["raw"] = "half"
    with pytest.raises(ModelFileError, match="other than float32"):
        open_model(path)
    module.shapes["kept_0_0@1"] = (1, 2)
    with pytest.raises(ModelFileError, match="not one of its outputs in that shape"):
        open_model(path)
    assert gpu.closed == 3 and not gpu.held


def clips_of(spec: ModelSpec, count: int, seed: int = 0) -> Float:
    return np.random.default_rng(seed).random((count, *spec.clip_shape), np.float32)


@pytest.mark.parametrize(
    ("batch", "fixed", "counts"),
    [((1, 2, 3), False, (1, 2, 3, 1)), ((2, 2, 2), True, (2, 2)), ((2, 2, 2), False, (2,))],
)
@pytest.mark.parametrize("records", [True, False])
def test_any_batch_of_the_profile_gives_what_numpy_gives(
    batch: tuple[int, int, int],
    fixed: bool,
    counts: tuple[int, ...],
    records: bool,
    make: Callable[..., tuple[Gpu, TensorRt]],
    plan: Path,
    spec: ModelSpec,
    numpy_backend: MakeNumpy,
) -> None:
    gpu, _ = make(batch, fixed, records)
    with open_model(plan) as backend:
        assert backend.spec == spec and backend.name == "tensorrt"
        answers = [backend.infer(clips_of(spec, count, seed)) for seed, count in enumerate(counts)]
        for seed, (count, answer) in enumerate(zip(counts, answers, strict=True)):
            assert np.array_equal(answer, numpy_backend(spec).infer(clips_of(spec, count, seed)))
    assert gpu.launches == (len(counts) if records and batch[0] == batch[2] else 0)
    assert gpu.closed == 1 and not gpu.held and gpu.inside == 0
    backend.close()
    assert gpu.closed == 1
    with pytest.raises(InputError, match="is closed"):
        backend.infer(clips_of(spec, 1))


@pytest.mark.parametrize("batch", [(1, 2, 3), (2, 2, 2)])
def test_a_plan_may_take_bytes(
    batch: tuple[int, int, int], spec: ModelSpec, numpy_backend: MakeNumpy, tmp_path: Path, make: Callable[..., Any]
) -> None:
    """From memory of the processor and of the GPU; a plan that takes another type than its record says is refused."""
    ours, path = spec.replace(input_type="uint8"), tmp_path / "bytes.plan"
    name, beside = to_name(PlanFile(ours, "tensorrt", "11.4.0.5", "8.9", "a" * 64, batch))
    write_plan(path, b"ftrt" + b"\0" * 100 + name.encode() + b"weights" * 99, beside)
    _, module = make(batch, batch[0] == batch[2])
    module.network = numpy_backend(ours)
    with pytest.raises(ModelFileError, match="has inputs other than uint8"):
        open_model(path)
    module.types["clips"] = "uint8"
    clips = np.random.default_rng(0).integers(0, 256, (2, *spec.clip_shape), np.uint8)
    expected = numpy_backend(ours).infer(clips)
    with open_model(path) as backend:
        assert np.array_equal(backend.infer(clips), expected)
        assert np.array_equal(backend.infer_in_stages(clips)[0], expected)  # type: ignore[attr-defined]
        assert np.array_equal(backend.infer(OnGpu(clips, None)), expected)  # type: ignore[arg-type]
        with pytest.raises(InputError, match="clips are float32, the model takes uint8"):
            backend.infer(clips.astype(np.float32))
        with pytest.raises(InputError, match="must be uint8, found <f4"):
            backend.infer(OnGpu(clips.astype(np.float32), None))  # type: ignore[arg-type]


@pytest.mark.parametrize("capturable", [True, False])
def test_a_stream_that_cannot_be_captured_runs_without_a_graph(
    capturable: bool,
    make: Callable[..., tuple[Gpu, TensorRt]],
    plan: Path,
    spec: ModelSpec,
    numpy_backend: MakeNumpy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[int] = []

    def answer(context: Context, stream: int) -> bool:
        asked.append(stream)
        return capturable

    monkeypatch.setattr(Context, "is_stream_capturable", answer, raising=False)  # as TensorRT-RTX has it
    gpu, _ = make((2, 2, 2), fixed=True)
    with open_model(plan) as backend:
        found = backend.infer(clips_of(spec, 2))
    assert np.array_equal(found, numpy_backend(spec).infer(clips_of(spec, 2)))
    assert (asked, gpu.launches) == ([Gpu.stream], int(capturable))


@pytest.mark.parametrize(("batch", "fixed"), [((1, 2, 3), False), ((2, 2, 2), True)])
def test_layers_that_a_plan_shows_come_by_name(
    batch: tuple[int, int, int],
    fixed: bool,
    make: Callable[..., tuple[Gpu, TensorRt]],
    plan: Path,
    spec: ModelSpec,
    numpy_backend: MakeNumpy,
) -> None:
    make(batch, fixed)[1].show()
    clips = clips_of(spec, 2)
    with open_model(plan) as backend:
        found = backend.outputs(clips, ["shown", "not there"])  # type: ignore[attr-defined]
        assert set(found) == {"shown"}
        np.testing.assert_array_equal(found["shown"], 2 * clips)
        np.testing.assert_array_equal(backend.infer(clips), numpy_backend(spec).infer(clips))


def test_layers_are_those_of_the_clips_that_were_given_whoever_calls_meanwhile(
    make: Callable[..., tuple[Gpu, TensorRt]], plan: Path, spec: ModelSpec
) -> None:
    """Another thread's call between running and reading would leave its own layers there."""
    make((1, 2, 3), False)[1].show()
    with open_model(plan) as backend:
        wrong: list[int] = []

        def work(seed: int) -> None:
            clips = clips_of(spec, 1, seed)
            for _ in range(30):
                found = backend.outputs(clips, ["shown"])["shown"]  # type: ignore[attr-defined]
                wrong.extend([] if np.array_equal(found, 2 * clips) else [seed])

        threads = [Thread(target=work, args=(seed,)) for seed in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not wrong
        taken: list[str] = []

        class Counted:
            def __enter__(self) -> None:
                taken.append("turn")

            def __exit__(self, *_: object) -> None:
                pass

        backend._lock = Counted()  # type: ignore[attr-defined]
        backend.outputs(clips_of(spec, 1), ["shown"])  # type: ignore[attr-defined]
        assert taken == ["turn"]


@pytest.mark.parametrize("batch", [(1, 2, 3), (2, 2, 2)])
def test_a_call_taken_apart_gives_the_same_and_waits_after_each_stage(
    batch: tuple[int, int, int], make: Callable[..., tuple[Gpu, TensorRt]], plan: Path, spec: ModelSpec
) -> None:
    gpu, _ = make(batch)
    clips = clips_of(spec, 2)
    with open_model(plan) as backend:
        assert isinstance(backend, Staged)
        expected, gpu.waited = backend.infer(clips), []
        found, spent = backend.infer_in_stages(clips)
        assert np.array_equal(found, expected) and gpu.waited == [None] * 3
        assert list(spent) == ["copy in", "infer", "copy out"] and all(value > 0 for value in spent.values())
    with pytest.raises(InputError, match="is closed"):
        backend.infer_in_stages(clips)


class OnGpu:
    """Clips on the GPU of another library."""

    def __init__(self, array: Planes, stream: int | None) -> None:
        self.array, self.shape, data = array, array.shape, (array.ctypes.data, False)
        self.__cuda_array_interface__ = {"data": data, "shape": array.shape, "typestr": array.dtype.str}
        self.__cuda_array_interface__ |= {"version": 3, "stream": stream}


@pytest.mark.parametrize("batch", [(1, 2, 3), (2, 2, 2)])
@pytest.mark.parametrize("stream", [None, 7])
def test_clips_on_the_gpu_are_read_where_they_lie(
    batch: tuple[int, int, int],
    stream: int | None,
    make: Callable[..., tuple[Gpu, TensorRt]],
    plan: Path,
    spec: ModelSpec,
    numpy_backend: MakeNumpy,
) -> None:
    gpu, _ = make(batch)
    first, second = clips_of(spec, 2), clips_of(spec, 2, 1)
    with open_model(plan) as backend:
        before = gpu.uploads
        found = backend.infer(OnGpu(first, stream))  # type: ignore[arg-type]
        assert gpu.uploads == before and (7 in gpu.waited) is (stream == 7)
        after = backend.infer(second)  # the engine's own memory again
        assert gpu.uploads == before + 1
    assert np.array_equal(found, numpy_backend(spec).infer(first))
    assert np.array_equal(after, numpy_backend(spec).infer(second))


def test_threads_take_turns(make: Callable[..., tuple[Gpu, TensorRt]], plan: Path, spec: ModelSpec) -> None:
    make()
    with open_model(plan) as backend:
        alone = [backend.infer(clips_of(spec, 1, seed)) for seed in range(20)]
        together: list[Any] = [None] * 20

        def work(seed: int) -> None:
            together[seed] = backend.infer(clips_of(spec, 1, seed))

        threads = [Thread(target=work, args=(seed,)) for seed in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert all(np.array_equal(one, other) for one, other in zip(alone, together, strict=True))


@pytest.mark.parametrize(
    ("batch", "shape", "expected"),
    [
        ((1, 2, 3), (4, 3, 3, 4, 8), "takes 1 to 3 clips a call, not 4: `build --batch` sets them"),
        ((2, 2, 2), (1, 3, 3, 4, 8), "takes exactly 2 clips a call, not 1"),
        ((1, 2, 3), (0, 3, 3, 4, 8), "not 0"),
        ((1, 2, 3), (1, 3, 3, 8, 4), r"clips have shape \(1, 3, 3, 8, 4\), expected \(batch, 3, 3, 4, 8\)"),
        ((1, 2, 3), (3, 3, 4, 8), "clips have shape"),
    ],
)
@pytest.mark.parametrize("on_gpu", [True, False])
def test_other_clips_are_refused(
    on_gpu: bool,
    batch: tuple[int, int, int],
    shape: tuple[int, ...],
    expected: str,
    make: Callable[..., tuple[Gpu, TensorRt]],
    plan: Path,
) -> None:
    make(batch)
    clips = np.zeros(shape, np.float32)
    with open_model(plan) as backend, pytest.raises(InputError, match=expected):
        backend.infer(OnGpu(clips, None) if on_gpu else clips)  # type: ignore[arg-type]


def spoil_output(module: TensorRt) -> None:
    module.shapes["raw"] = (-1, 9, 2, 4)


def spoil_type(module: TensorRt) -> None:
    module.types["raw"] = "half"


def spoil_loading(module: TensorRt) -> None:
    module.loads = False


def spoil_running(module: TensorRt) -> None:
    module.runs = False


def break_loading(module: TensorRt) -> None:
    module.breaks = True


def another_version(module: TensorRt) -> None:
    module.__version__ = "11.6.0"


@pytest.mark.parametrize(
    ("spoil", "error", "expected"),
    [
        (spoil_output, ModelFileError, r"outputs \(9, 2, 4\), its spec says \(16, 2, 4\)"),
        (spoil_type, ModelFileError, "other than float32"),
        (spoil_loading, ModelFileError, "tensorrt cannot load .*Error Code 6: a tag does not match$"),
        (break_loading, ModelFileError, r"tensorrt cannot run .*: deserialize_cuda_engine\(\): incompatible"),
        (spoil_running, YowoError, "tensorrt failed on .*an illegal memory access"),
        (another_version, ModelFileError, "with tensorrt 11.4.0.5; this is SM 8.9 with tensorrt 11.6.0: rebuild with"),
    ],
)
def test_what_goes_wrong_is_said_and_the_gpu_is_freed(
    spoil: Callable[[TensorRt], None],
    error: type[YowoError],
    expected: str,
    make: Callable[..., tuple[Gpu, TensorRt]],
    plan: Path,
) -> None:
    gpu, module = make((2, 2, 2))
    spoil(module)
    with pytest.raises(error, match=expected):
        open_model(plan)
    assert gpu.closed == 1 and not gpu.held


def test_a_failure_is_named_by_what_was_said_in_its_own_call(
    make: Callable[..., tuple[Gpu, TensorRt]], plan: Path, spec: ModelSpec
) -> None:
    _, module = make()
    with open_model(plan) as engine:
        module.logger.log(TensorRt.ILogger.ERROR, "Error Code 3: a warning of a call that went well")
        module.runs = False
        for _ in range(2):
            with pytest.raises(YowoError, match="an illegal memory access"):
                engine.infer(clips_of(spec, 1))
            assert len(engine._errors) == 1  # type: ignore[attr-defined]  # nor do they gather over days


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"device": "cpu"}, "a plan runs on cuda or cuda:N, not on 'cpu'"),
        ({"device": "cuda:x"}, "not on 'cuda:x'"),
        ({"precision": "bf16"}, "computes in fp32 on the GPU: leave --precision and --threads out"),
        ({"threads": 2}, "leave --precision and --threads out"),
        ({"backend": "openvino"}, "openvino cannot run the plan .*: give it the ONNX file"),
        ({"backend": "pytorch"}, "pytorch cannot run the plan"),
        ({"clip": 16}, "takes clips of 3 frames, not 16"),
        ({"parallel": 0}, "parallel is 0"),
    ],
)
def test_nothing_else_is_done_than_was_asked(
    options: dict[str, Any], expected: str, make: Callable[..., tuple[Gpu, TensorRt]], plan: Path
) -> None:
    gpu, _ = make()
    with pytest.raises(InputError, match=expected):
        open_model(plan, **options)
    assert not gpu.held


def test_a_plan_is_not_even_looked_into_without_its_hash(
    make: Callable[..., tuple[Gpu, TensorRt]], plan: Path, spec: ModelSpec
) -> None:
    _, module = make()
    plan.with_name("small.plan.sha256").unlink()
    with pytest.raises(ModelFileError, match="no recorded hash"):
        open_model(plan)
    assert not hasattr(module.runtime, "deserialize_cuda_engine")
    with open_model(plan, trust=True) as backend:
        assert len(backend.infer(clips_of(spec, 1))) == 1


def test_an_onnx_file_is_no_plan(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"\x08\x08\x12\x07pytorch")
    with pytest.raises(
        InputError, match=r"tensorrt runs only plans, and .* is not one: write one with `yowo-deploy build"
    ):
        open_model(tmp_path / "a.onnx", "tensorrt")


def test_a_library_that_is_not_installed_is_named(plan: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trt, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtraError, match=r"tensorrt is not installed.*yowo-deploy\[tensorrt\]"):
        open_model(plan)
    assert "tensorrt" in BACKENDS
