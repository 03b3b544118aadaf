"""Build TensorRT and TensorRT-RTX plans that carry their spec from ONNX files.

Both are strongly typed here: they compute in the types of the graph, so a plan's precision is its ONNX file's.
TensorRT builds for the GPU of this machine; TensorRT-RTX needs none (DEPLOYMENT_FACTS, "TensorRT").
"""

from __future__ import annotations

import hashlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from yowo_deploy.backends.base import check_shapes
from yowo_deploy.backends.cuda import open_cuda
from yowo_deploy.backends.streaming import Keeping
from yowo_deploy.backends.trt import library, listen
from yowo_deploy.errors import InputError, ModelFileError, foreign
from yowo_deploy.files import atomic_write, existing_file, sha256_of
from yowo_deploy.model_files.onnx_graph import UINT8
from yowo_deploy.model_files.onnx_reader import OnnxFile, read_onnx_file, recorded_cost
from yowo_deploy.model_files.plan_record import Flavour, PlanFile, read_plan, read_verified, to_name, write_plan
from yowo_deploy.preprocess.golden_frame import GOLDEN_KEY
from yowo_deploy.spec import ModelSpec
from yowo_export.graph.layers import layers_of

QUANTIZERS = ("QuantizeLinear", "DequantizeLinear")
OnProgress = Callable[[float], None]


@dataclass(frozen=True)
class PlanOptions:
    """How a plan is built.

    Attributes:
        flavour: the library that builds and loads it.
        batch: smallest, usual and largest number of clips per call; None for 1, or for the graph's fixed size.
        workspace: most bytes that one layer may use; 0 for the library's own limit.
        tf32: round float32 products to TF32, which is the library's default; off for parity.
        version_compatible: let newer versions of TensorRT load the plan.
        timing_cache: file for TensorRT's measurements, which the next build reads.
        show_layers: make every layer's output an output of the plan, for `parity --bisect`; slower.

    Raises:
        InputError: a value outside its range, or an option that the library does not have.
    """

    flavour: Flavour
    batch: tuple[int, int, int] | None = None
    workspace: int = 0
    tf32: bool = True
    version_compatible: bool = False
    timing_cache: Path | None = None
    show_layers: bool = False

    def __post_init__(self) -> None:
        if self.batch is not None and not 1 <= self.batch[0] <= self.batch[1] <= self.batch[2]:
            raise InputError(f"batch is {self.batch}, expected smallest, usual and largest in this order, from 1 on")
        if self.workspace < 0:
            raise InputError(f"workspace is {self.workspace} bytes, expected 0 or more")
        if self.flavour == "tensorrt-rtx" and self.version_compatible:
            raise InputError("TensorRT-RTX loads plans of its own version only: leave --version-compatible out")
        if self.flavour == "tensorrt-rtx" and self.timing_cache:
            raise InputError("TensorRT-RTX takes no measurements in a build: leave --timing-cache out")


def check_library(flavour: Flavour) -> tuple[Any, str]:
    """The library that builds plans, and the compute capability of the GPU it builds for; "" where it needs none.

    Raises:
        MissingExtraError: the library is not installed.
        InputError: there is no GPU, and it needs one.
    """
    return library(flavour), "" if flavour == "tensorrt-rtx" else _compute_capability()


def build_plan(
    onnx: str | os.PathLike[str],
    output: str | os.PathLike[str],
    options: PlanOptions,
    cache: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> bool:
    """Write a plan, its hash beside it; see `plan_file`.

    Ctrl-C ends the build at its next step, with a KeyboardInterrupt and nothing written.

    Args:
        onnx: a file that `export_onnx` or a conversion of it wrote; the plan has its precision.
        output: the plan.
        cache: a folder of plans; one of the same ONNX file, options, library version and GPU is reused.
        on_progress: called with the fraction of the build that is done, up to 1; in another thread.

    Returns:
        Whether the plan came from the cache.

    Raises:
        ModelFileError: the ONNX file is not one of ours, or TensorRT refuses it; with its first reason.
        SpecError: the ONNX file carries no spec.
        InputError: the batch differs from the graph's, or TensorRT finds no GPU.
        MissingExtraError: the library is not installed.
        OutputError: the plan cannot be written.
    """
    source = existing_file(onnx, "ONNX file")
    file = read_onnx_file(source)
    spec = file.spec
    refuse_zero_points(file)
    refuse_bf16_attention(file, options.flavour)
    trt, gpu = check_library(options.flavour)
    logger, errors = listen(trt)
    builder = trt.Builder(logger)
    # Without its flag TensorRT 10 would choose precisions itself; 11 ignores it.
    network = builder.create_network(1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = trt.OnnxParser(network, logger)  # referenced until the end: the network reads its memory
    with foreign(f"{options.flavour} cannot parse {source}", ModelFileError):
        parsed = parser.parse(file.model_bytes())
    if not parsed:
        first = parser.get_error(0)
        node = f"{first.node_operator()} {first.node_name()}"
        raise ModelFileError(f"{options.flavour} cannot parse {source}: {_first_line(first.desc())} ({node})")
    batch = _batch(trt, network, options, spec, source)
    made = (options.workspace, options.tf32, options.version_compatible)
    metadata = file.metadata
    of_file = (metadata.get(GOLDEN_KEY, ""), recorded_cost(metadata).get("total", {}).get("macs", 0))
    plan = PlanFile(spec, options.flavour, trt.__version__, gpu, sha256_of(source), batch, *made, *of_file)
    network.name, beside = to_name(plan)
    if options.show_layers:
        _show_layers(trt, network, source)
    cached = None if cache is None else Path(cache) / f"{_key(network.name, options)}.plan"
    content = cached and _from_cache(cached, plan)
    if content:
        write_plan(Path(output), content, beside)
        return True
    _let_attention_decompose(trt, network)
    config = _configure(trt, builder, network, options, batch)
    with foreign(f"{options.flavour} cannot build {source}", ModelFileError):
        built = _build(trt, builder, network, config, on_progress)
    if built is None:
        raise ModelFileError(f"{options.flavour} cannot build {source}: {_first_line(*errors)}")
    for path in filter(None, (Path(output), cached)):
        write_plan(path, memoryview(built), beside)
    if options.timing_cache:
        with atomic_write(options.timing_cache) as temporary:
            temporary.write_bytes(memoryview(config.get_timing_cache().serialize()))
    return False


def refuse_zero_points(file: OnnxFile) -> None:
    """Raise an InputError for a file whose INT8 is not symmetric, which TensorRT's parser would refuse."""
    wanted = {node.inputs[2] for node in file.graph.nodes if node.operator in QUANTIZERS and len(node.inputs) > 2}
    points = [tensor for tensor in file.graph.tensors if tensor.name in wanted]
    if any(any(each.values) or each.dtype == UINT8 for each in points):
        raise InputError(
            f"{file.path} is INT8 for another backend, with zero points that TensorRT does not take: "
            f"export it from its float32 model with --int8 --target tensorrt"
        )


def refuse_bf16_attention(file: OnnxFile, flavour: Flavour) -> None:
    """Raise an InputError for a bf16 file with attention as one node, which TensorRT-RTX 1.7 fails to compile."""
    one_node = any(node.operator == "Attention" for node in file.graph.nodes)
    if flavour == "tensorrt-rtx" and file.spec.precision == "bf16" and one_node:
        raise InputError(
            f"{file.path} is in bf16 with its attention as one node, which TensorRT-RTX cannot build: give `build` its "
            "float32 model and --bf16, or the file that `export` writes of that with --bf16 --target tensorrt"
        )


def _key(record: str, options: PlanOptions) -> str:
    return hashlib.sha256(f"{record}{' layers' if options.show_layers else ''}".encode()).hexdigest()


def _show_layers(trt: Any, network: Any, source: Path) -> None:
    """Make every layer's output an output of the network, in float32 and under its name in the ONNX file."""
    wanted = {layer.value for layer in layers_of(source)}
    layers = list(map(network.get_layer, range(network.num_layers)))
    for tensor in [layer.get_output(index) for layer in layers for index in range(layer.num_outputs)]:
        if tensor.name not in wanted or tensor.is_network_output:
            continue
        if tensor.dtype != trt.float32:
            name, tensor.name = tensor.name, f"{tensor.name}_narrow"
            tensor = network.add_cast(tensor, trt.float32).get_output(0)
            tensor.name = name
        network.mark_output(tensor)


def _compute_capability() -> str:
    gpu = open_cuda()
    gpu.close()
    return gpu.compute_capability


def _batch(trt: Any, network: Any, options: PlanOptions, spec: ModelSpec, source: Path) -> tuple[int, int, int]:
    """The batch sizes to build for, the network's inputs and outputs checked against the spec."""
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    if spec.streaming:
        shapes = [{each.name: tuple(each.shape) for each in tensors} for tensors in (inputs, outputs)]
        Keeping.of(shapes[0], shapes[1], spec, source)
        if options.batch not in (None, (1, 1, 1)):
            raise InputError(f"{source} takes one frame a call: leave --batch out")
        return 1, 1, 1
    check_shapes([tuple(each.shape) for each in inputs], [tuple(each.shape) for each in outputs], spec, source)
    if inputs[0].dtype != getattr(trt, spec.input_type) or any(each.dtype != trt.float32 for each in outputs):
        raise ModelFileError(f"{source} has inputs or outputs of another type than its spec says: export it again")
    fixed = inputs[0].shape[0]
    if fixed == -1:
        return options.batch or (1, 1, 1)
    if options.batch not in (None, (fixed, fixed, fixed)):
        raise InputError(f"{source} takes exactly {fixed} clips a call, so --batch can only be {fixed}")
    return fixed, fixed, fixed


def _from_cache(cached: Path, plan: PlanFile) -> bytes | None:
    """A plan's content; None if it is not in the cache, or damaged."""
    try:
        return read_verified(cached) if cached.exists() and read_plan(cached) == plan else None
    except InputError:
        return None


def _let_attention_decompose(trt: Any, network: Any) -> None:
    """Allow TensorRT to decompose Attention where no fused kernel fits, as for one head."""
    kind = getattr(trt.LayerType, "ATTENTION_INPUT", None)
    for index in range(network.num_layers if kind is not None else 0):
        layer = network.get_layer(index)
        if layer.type == kind:
            layer.__class__ = trt.IAttentionInputLayer  # get_layer returns the base class, which has no `attention`
            layer.attention.decomposable = True


def _configure(trt: Any, builder: Any, network: Any, options: PlanOptions, batch: tuple[int, int, int]) -> Any:
    config = builder.create_builder_config()
    clips = network.get_input(0)
    if clips.shape[0] == -1:
        profile = builder.create_optimization_profile()
        profile.set_shape(clips.name, *((count, *tuple(clips.shape)[1:]) for count in batch))
        config.add_optimization_profile(profile)
    if options.workspace:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if not options.tf32:
        config.clear_flag(trt.BuilderFlag.TF32)
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.timing_cache:
        known = options.timing_cache.read_bytes() if options.timing_cache.exists() else b""
        if not config.set_timing_cache(config.create_timing_cache(known), False):
            raise InputError(f"{options.timing_cache} is of another GPU or TensorRT: give another --timing-cache")
    return config


def _build(trt: Any, builder: Any, network: Any, config: Any, on_progress: OnProgress | None) -> Any:
    """The plan in TensorRT's memory, or None; built in a thread, so that this one can handle Ctrl-C."""
    monitor = _monitor(trt, on_progress)
    config.progress_monitor = monitor
    with _interrupts_go_to(monitor.cancel), ThreadPoolExecutor(1) as pool:
        building = pool.submit(builder.build_serialized_network, network, config)
        while not wait([building], timeout=0.2).done:
            pass  # a wait without end would sleep through a signal that comes right before it, or to another thread
        built = building.result()
    if monitor.cancelled:
        raise KeyboardInterrupt
    if on_progress is not None and built is not None:
        on_progress(1.0)  # TensorRT does not report the last step
    return built


@contextmanager
def _interrupts_go_to(cancel: Callable[[], None]) -> Iterator[None]:
    """Ctrl-C calls `cancel`: an exception in the main thread would leave the build running."""
    ours = threading.current_thread() is threading.main_thread()
    if not ours or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield  # the application handles it
        return
    signal.signal(signal.SIGINT, lambda number, frame: cancel())
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def _monitor(trt: Any, on_progress: OnProgress | None) -> Any:
    """TensorRT's progress monitor: nested phases become one fraction, which never falls."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc]  # a class of a library without types
        def __init__(self) -> None:
            trt.IProgressMonitor.__init__(self)
            self.cancelled, self._share = False, 0.0
            self._phases: dict[str, tuple[str | None, int, int]] = {}  # parent, steps, steps done

        def cancel(self) -> None:
            self.cancelled = True

        def phase_start(self, name: str, parent: str | None, steps: int) -> None:
            self._phases[name] = (parent, steps, 0)

        def step_complete(self, name: str, step: int) -> bool:
            parent, steps, _ = self._phases[name]
            self._phases[name] = (parent, steps, step + 1)
            share = (step + 1) / steps
            while parent in self._phases:
                parent, steps, done = self._phases[parent]
                share = (done + min(share, 1)) / steps
            self._share = max(self._share, min(share, 1.0))
            if on_progress is not None:
                on_progress(self._share)
            return not self.cancelled

        def phase_finish(self, name: str) -> None:
            self._phases.pop(name, None)

    return Monitor()


def _first_line(*reasons: str) -> str:
    return reasons[0].strip().splitlines()[0] if reasons and reasons[0].strip() else "it gives no reason"
