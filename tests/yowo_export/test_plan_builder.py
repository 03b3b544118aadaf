"""A plan is built whole or not at all, is a plain one, and says what it is to machines without TensorRT.

TensorRT-RTX builds without a GPU. What needs one is marked `gpu`.
"""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from yowo_deploy.backends import open_model
from yowo_deploy.backends.cuda import open_cuda
from yowo_deploy.backends.trt import listen
from yowo_deploy.errors import InputError, MissingExtraError, ModelFileError, OutputError, SpecError, YowoError
from yowo_deploy.files import sha256_of
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import read_onnx_file, read_spec
from yowo_deploy.model_files.plan_record import (
    FLAVOURS,
    MARK,
    MAX_NAME,
    Flavour,
    is_plan,
    read_plan,
    read_verified,
    to_name,
)
from yowo_deploy.model_files.streaming_form import streaming_form
from yowo_deploy.spec import METADATA_KEY
from yowo_export import plan_builder as plan_module
from yowo_export.exporter import LIMIT, Attention
from yowo_export.graph.layers import layers_of
from yowo_export.graph.uint8_input import export_uint8
from yowo_export.parity.bisect import bisect
from yowo_export.plan_builder import PlanOptions, build_plan
from yowo_export.precision.convert import Wish, lower_model
from yowo_export.sample_clips import made_up_clips
from yowo_training.checkpoints.checkpoint import Checkpoint
from yowo_training.torch_backend import TorchBackend

trt = pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed; it builds plans without a GPU")

RTX = PlanOptions("tensorrt-rtx")
ATTENTIONS: tuple[Attention, ...] = ("fused", "plain")


@pytest.fixture(scope="module")
def graphs(fused: Path, single: Path) -> dict[Attention, Path]:
    return {"fused": fused, "plain": single}


@pytest.fixture(scope="module")
def plain(graphs: dict[Attention, Path]) -> Path:
    return graphs["plain"]


def with_batch(source: Path, target: Path, batch: int) -> Path:
    """The same graph for one batch size alone."""
    model = onnx.load(source)
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for side in value.type.tensor_type.shape.dim:
            if side.dim_param:
                side.ClearField("dim_param")
                side.dim_value = batch
    onnx.save(model, target)
    return target


def complaint(content: bytes) -> str:
    """What TensorRT-RTX says first when it is to load these bytes; it ends at the missing GPU at the latest."""
    logger, errors = listen(trt)
    assert trt.Runtime(logger).deserialize_cuda_engine(content) is None
    return errors[0]


@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("batch", [None, (1, 1, 4), (1, 2, 4), (3, 3, 3)])
def test_a_plan_carries_its_spec(
    attention: Attention,
    batch: tuple[int, int, int] | None,
    graphs: dict[Attention, Path],
    checkpoint: Checkpoint,
    tmp_path: Path,
) -> None:
    """Batch 1 to 4 with fused attention is what the builder refuses unless it may be decomposed."""
    assert not build_plan(graphs[attention], tmp_path / "a.plan", PlanOptions("tensorrt-rtx", batch))
    found = read_plan(tmp_path / "a.plan")
    assert found.spec == checkpoint.spec and found.batch == (batch or (1, 1, 1))
    assert (found.flavour, found.version, found.compute_capability) == ("tensorrt-rtx", trt.__version__, "")
    assert found.onnx_sha256 == sha256_of(graphs[attention])
    assert {path.name for path in tmp_path.iterdir()} == {"a.plan", "a.plan.sha256"}


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_a_graph_of_one_batch_size_needs_no_profile(
    attention: Attention, graphs: dict[Attention, Path], tmp_path: Path
) -> None:
    fixed = with_batch(graphs[attention], tmp_path / "two.onnx", 2)
    build_plan(fixed, tmp_path / "a.plan", RTX)
    assert read_plan(tmp_path / "a.plan").batch == (2, 2, 2)
    build_plan(fixed, tmp_path / "b.plan", PlanOptions("tensorrt-rtx", (2, 2, 2)))
    with pytest.raises(InputError, match="takes exactly 2 clips a call, so --batch can only be 2"):
        build_plan(fixed, tmp_path / "c.plan", PlanOptions("tensorrt-rtx", (1, 2, 3)))
    assert not (tmp_path / "c.plan").exists()


@pytest.mark.parametrize("low", [False, True])
def test_a_plan_may_show_every_layer_in_float32(
    low: bool, plain: Path, checkpoint: Checkpoint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, seen, real = plain, dict[str, object](), plan_module._show_layers
    if low:
        source = tmp_path / "half.onnx"
        lower_model(plain, source, made_up_clips(checkpoint.spec, 1), Wish("fp16", fused=False), judged=1)

    def watched(library: Any, network: Any, path: Path) -> None:
        real(library, network, path)
        outputs = [network.get_output(index) for index in range(network.num_outputs)]
        seen.update({tensor.name: tensor.dtype for tensor in outputs})

    monkeypatch.setattr(plan_module, "_show_layers", watched)
    build_plan(source, tmp_path / "a.plan", PlanOptions("tensorrt-rtx", show_layers=True))
    wanted = {layer.value for layer in layers_of(source)}
    assert set(seen) == wanted | {"raw"} and set(seen.values()) == {trt.float32}


def test_a_streaming_file_becomes_a_plan(tmp_path: Path) -> None:
    """The default model's streaming form: maps go in and out of the plan."""
    form = streaming_form(read_onnx_file(model_path("default")))
    assert form is not None
    source = tmp_path / "frames.onnx"
    source.write_bytes(form.file_bytes())
    build_plan(source, tmp_path / "a.plan", RTX)
    found = read_plan(tmp_path / "a.plan")
    assert found.spec == form.spec and found.spec.streaming and found.batch == (1, 1, 1)
    with pytest.raises(InputError, match="takes one frame a call: leave --batch out"):
        build_plan(source, tmp_path / "b.plan", PlanOptions("tensorrt-rtx", (1, 2, 4)))


def test_a_plan_takes_bytes_where_its_file_does(plain: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    export_uint8(plain, tmp_path / "bytes.onnx")
    build_plan(tmp_path / "bytes.onnx", tmp_path / "a.plan", PlanOptions("tensorrt-rtx", (1, 2, 4)))
    assert read_plan(tmp_path / "a.plan").spec == checkpoint.spec.replace(input_type="uint8")
    lied = onnx.load(tmp_path / "bytes.onnx")
    for entry in lied.metadata_props:
        if entry.key == METADATA_KEY:
            entry.value = checkpoint.spec.to_json()
    onnx.save(lied, tmp_path / "lied.onnx")
    with pytest.raises(SpecError, match="takes uint8, its spec says float32"):
        build_plan(tmp_path / "lied.onnx", tmp_path / "b.plan", RTX)


def test_it_is_a_plain_plan(plain: Path, tmp_path: Path) -> None:
    """The library's own loader takes its outside, and stops where it needs a GPU; anything else it calls no plan."""
    build_plan(plain, tmp_path / "a.plan", RTX)
    content = read_verified(tmp_path / "a.plan")
    name = to_name(read_plan(tmp_path / "a.plan"))[0]
    assert is_plan(tmp_path / "a.plan") and content.count(name.encode()) == content.count(MARK) == 1
    if not gpu_here():
        assert "Cuda Runtime" in complaint(content)
        for other in (content[:-1], b"{}" + content):
            assert "Serialization" in complaint(other)


def test_the_plan_of_a_full_name_still_carries_it(plain: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    """The longest name that a record can make, and the side file of a spec that makes a longer one."""
    lengths = []
    for classes in (30, 60, 300):
        labels = tuple(os.urandom(20).hex() + str(number) for number in range(classes))
        spec = checkpoint.spec.replace(labels=labels, anchors=((1.0, 1.0),))
        model = onnx.load(plain)
        onnx.helper.set_model_props(model, {METADATA_KEY: spec.to_json()})
        with_output(model, spec.output_channels)
        onnx.save(model, tmp_path / "a.onnx")
        build_plan(tmp_path / "a.onnx", tmp_path / f"{classes}.plan", RTX)
        assert read_plan(tmp_path / f"{classes}.plan").spec == spec
        lengths.append(len(to_name(read_plan(tmp_path / f"{classes}.plan"))[0]))
        assert (tmp_path / f"{classes}.plan.json").exists() is (classes == 300)
    assert lengths[0] > 2000 and max(lengths) <= MAX_NAME


def with_output(model: Any, channels: int) -> None:
    """Give the last convolution so many channels, of zeros."""
    *_, last = (node for node in model.graph.node if node.op_type == "Conv")
    for tensor in model.graph.initializer:
        if tensor.name in last.input[1:]:
            shape = (channels, *tensor.dims[1:])
            tensor.CopyFrom(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), tensor.name))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = channels
    del model.graph.value_info[:]


def test_options_reach_the_builder_and_stay_in_the_plan(plain: Path, tmp_path: Path, configs: list[Any]) -> None:
    build_plan(plain, tmp_path / "a.plan", PlanOptions("tensorrt-rtx", workspace=1 << 28, tf32=False))
    build_plan(plain, tmp_path / "b.plan", RTX)
    found = [read_plan(tmp_path / name) for name in ("a.plan", "b.plan")]
    assert [(plan.workspace, plan.tf32) for plan in found] == [(1 << 28, False), (0, True)]
    assert [config.get_flag(trt.BuilderFlag.TF32) for config in configs] == [False, True]
    assert [config.get_memory_pool_limit(trt.MemoryPoolType.WORKSPACE) == 1 << 28 for config in configs] == [
        True,
        False,
    ]


def test_the_types_of_the_graph_are_the_plans(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The flag that TensorRT 10 needs for it; here nothing but the call can be seen."""
    flags: list[int] = []
    create = trt.Builder.create_network
    monkeypatch.setattr(
        trt.Builder, "create_network", lambda builder, given: flags.append(given) or create(builder, given)
    )
    build_plan(plain, tmp_path / "a.plan", RTX)
    assert flags == [1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)]


def test_the_precision_is_that_of_the_onnx_file(plain: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    model = onnx.load(plain)
    onnx.helper.set_model_props(model, {METADATA_KEY: checkpoint.spec.replace(precision="int8").to_json()})
    onnx.save(model, tmp_path / "a.onnx")
    build_plan(tmp_path / "a.onnx", tmp_path / "a.plan", RTX)
    assert read_plan(tmp_path / "a.plan").spec.precision == "int8"


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """What every build is configured with."""
    made: list[Any] = []
    configure = plan_module._configure
    monkeypatch.setattr(plan_module, "_configure", lambda *given: made.append(configure(*given)) or made[-1])
    return made


def test_reading_a_plan_loads_neither_tensorrt_nor_cuda(plain: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    build_plan(plain, tmp_path / "a.plan", RTX)
    code = (
        "import sys\n"
        "for name in ('tensorrt', 'tensorrt_rtx', 'cuda', 'torch', 'onnx'):\n"
        "    sys.modules[name] = None\n"  # importing it fails, as if it were not installed
        "from yowo_deploy.model_files.plan_record import read_plan, read_verified\n"
        "from pathlib import Path\n"
        "read_verified(Path(sys.argv[1]))\n"
        "print(read_plan(sys.argv[1]).spec.to_json())\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "a.plan")]
    read = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert read.stdout.strip() == checkpoint.spec.to_json(), read.stderr


def test_a_cached_plan_is_taken_only_when_all_agrees(
    graphs: dict[Attention, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache, out = tmp_path / "cache", tmp_path / "a.plan"

    def reused(attention: Attention = "plain", options: PlanOptions = RTX) -> bool:
        out.unlink(missing_ok=True)
        found = build_plan(graphs[attention], out, options, cache)
        assert read_verified(out) and read_plan(out).onnx_sha256 == sha256_of(graphs[attention])
        return found

    assert [reused(), reused()] == [False, True]
    first = out.read_bytes()
    assert [reused("fused"), reused("fused")] == [False, True]
    for options in (
        PlanOptions("tensorrt-rtx", (1, 2, 2)),
        PlanOptions("tensorrt-rtx", tf32=False),
        PlanOptions("tensorrt-rtx", workspace=1 << 30),
    ):
        assert [reused(options=options), reused(options=options)] == [False, True]
    assert reused() and out.read_bytes() == first
    kept = next(path for path in cache.glob("*.plan") if path.read_bytes() == first)
    kept.write_bytes(first[:-100])
    assert [reused(), reused()] == [False, True]
    monkeypatch.setattr(trt, "__version__", "1.7.2.1")
    assert [reused(), reused()] == [False, True]


def test_progress_rises_to_the_end(plain: Path, tmp_path: Path) -> None:
    shares: list[float] = []
    build_plan(plain, tmp_path / "a.plan", RTX, on_progress=shares.append)
    assert len(shares) > 20 and shares == sorted(shares) and 0 < shares[0] < 0.5
    assert 0.7 < shares[-2] <= 1 and shares[-1] == 1


def test_a_cancelled_build_leaves_nothing(plain: Path, tmp_path: Path, default_interrupts: None) -> None:
    """Python's answer to Ctrl-C is called as Python would; the signal itself is sent in the test of the command.

    Not here: a handler on an alternate stack, which other libraries set up, crashes any Python on large CPUs.
    """
    shares: list[float] = []

    def interrupt(share: float) -> None:
        handler = signal.getsignal(signal.SIGINT)
        assert callable(handler)
        handler(signal.SIGINT, None)
        shares.append(share)

    with pytest.raises(KeyboardInterrupt):
        build_plan(plain, tmp_path / "a.plan", RTX, tmp_path / "cache", interrupt)
    assert not list(tmp_path.rglob("*"))
    assert len(shares) == 1  # it was ended, not only its result thrown away
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_an_application_keeps_its_own_answer_to_ctrl_c(plain: Path, tmp_path: Path) -> None:
    seen: list[Any] = []
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        build_plan(
            plain, tmp_path / "a.plan", RTX, on_progress=lambda share: seen.append(signal.getsignal(signal.SIGINT))
        )
        assert set(seen) == {signal.SIG_IGN} == {signal.getsignal(signal.SIGINT)}
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def largest_file(nbytes: int) -> Iterator[None]:
    """No file grows beyond that: what a full disk does, for this process alone."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_fills_leaves_the_old_plan(plain: Path, tmp_path: Path) -> None:
    path = tmp_path / "a.plan"
    build_plan(plain, path, RTX)
    before = {each.name: each.read_bytes() for each in tmp_path.iterdir()}
    with largest_file(1 << 20), pytest.raises(OutputError, match=r"cannot write .*a\.plan: .*MB free there"):
        build_plan(plain, path, PlanOptions("tensorrt-rtx", (2, 2, 2)))
    assert {each.name: each.read_bytes() for each in tmp_path.iterdir()} == before
    assert read_verified(path)


def no_spec(model: Any) -> None:
    del model.metadata_props[:]


def other_clip_length(model: Any) -> None:
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 4


def no_such_tensor(model: Any) -> None:
    model.graph.node[-1].input[0] = "nowhere"


def unknown_operator(model: Any) -> None:
    model.graph.node.append(onnx.helper.make_node("NonZero", ["raw"], ["places"]))


@pytest.mark.parametrize(
    ("spoil", "error", "expected"),
    [
        (no_spec, SpecError, "carries no spec"),
        (other_clip_length, ModelFileError, r"takes \(3, 4, 64, 96\), its spec says \(3, 8, 64, 96\)"),
        (no_such_tensor, ModelFileError, "reads 'nowhere', which nothing before makes"),
        (unknown_operator, ModelFileError, "NonZero"),
    ],
)
def test_a_file_that_is_none_of_ours_is_refused(
    spoil: Callable[[Any], None], error: type[YowoError], expected: str, plain: Path, tmp_path: Path
) -> None:
    model = onnx.load(plain)
    spoil(model)
    onnx.save(model, tmp_path / "a.onnx")
    with pytest.raises(error, match=expected) as refused:
        build_plan(tmp_path / "a.onnx", tmp_path / "a.plan", RTX)
    assert "\n" not in str(refused.value) and not (tmp_path / "a.plan").exists()


def test_bfloat16_attention_as_one_node_is_refused_with_what_builds(single: Path, tmp_path: Path) -> None:
    """As `export --bf16` writes it; with an internal error TensorRT-RTX ends after the whole build."""
    for name, is_fused in (("fused", True), ("plain", False)):
        clips = made_up_clips(read_spec(single), 1)
        lower_model(single, tmp_path / f"{name}.onnx", clips, Wish("bf16", "tensorrt", fused=is_fused), judged=1)
    with pytest.raises(InputError, match="--bf16 --target tensorrt"):
        build_plan(tmp_path / "fused.onnx", tmp_path / "fused.plan", RTX)
    build_plan(tmp_path / "plain.onnx", tmp_path / "plain.plan", RTX)
    assert read_plan(tmp_path / "plain.plan").spec.precision == "bf16"


def test_what_the_builder_refuses_is_said_with_its_reason(
    graphs: dict[Attention, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fused attention with a range of batches, not marked as decomposable: the case that the marking is for."""
    monkeypatch.setattr(plan_module, "_let_attention_decompose", lambda trt, network: None)
    with pytest.raises(ModelFileError, match=r"tensorrt-rtx cannot build .*is_decomposable") as refused:
        build_plan(graphs["fused"], tmp_path / "a.plan", PlanOptions("tensorrt-rtx", (1, 2, 4)))
    assert "\n" not in str(refused.value) and not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"batch": (2, 1, 3)}, r"batch is \(2, 1, 3\), expected smallest, usual and largest"),
        ({"batch": (0, 1, 1)}, "from 1 on"),
        ({"workspace": -1}, "workspace is -1 bytes"),
        ({"version_compatible": True}, "TensorRT-RTX loads plans of its own version only"),
        ({"timing_cache": Path("t")}, "TensorRT-RTX takes no measurements in a build: leave --timing-cache out"),
    ],
)
def test_options_that_cannot_be_are_refused(options: dict[str, Any], expected: str) -> None:
    with pytest.raises(InputError, match=expected):
        PlanOptions("tensorrt-rtx", **options)


def gpu_here() -> bool:
    try:
        open_cuda().close()
    except YowoError:
        return False
    return True


@pytest.mark.skipif(gpu_here(), reason="says what happens on a machine without an NVIDIA GPU")
def test_without_a_gpu_a_plan_is_refused_in_one_sentence(plain: Path, tmp_path: Path) -> None:
    build_plan(plain, tmp_path / "a.plan", RTX)
    with pytest.raises(InputError, match="no NVIDIA GPU can be used here") as refused:
        open_model(tmp_path / "a.plan")
    assert "\n" not in str(refused.value)


def test_a_target_that_is_not_installed_is_named(plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingExtraError, match=r"tensorrt is not installed.*yowo-deploy\[tensorrt\]"):
        build_plan(plain, tmp_path / "a.plan", PlanOptions("tensorrt"))


@pytest.fixture
def as_tensorrt(monkeypatch: pytest.MonkeyPatch) -> None:
    """TensorRT-RTX under the name of TensorRT, whose API is the same, on a GPU that is not there."""
    monkeypatch.setattr(plan_module, "library", lambda flavour: trt)
    monkeypatch.setattr(plan_module, "_compute_capability", lambda: "8.9")


@pytest.mark.filterwarnings("ignore:Use Deprecated in TensorRT-RTX:DeprecationWarning")
def test_a_plan_of_tensorrt_says_its_gpu_and_leaves_what_was_measured(
    plain: Path, tmp_path: Path, as_tensorrt: None
) -> None:
    measured = tmp_path / "timing.cache"
    build_plan(plain, tmp_path / "a.plan", PlanOptions("tensorrt", timing_cache=measured), tmp_path / "cache")
    assert read_plan(tmp_path / "a.plan").compute_capability == "8.9"
    assert measured.stat().st_size > 0
    build_plan(plain, tmp_path / "b.plan", PlanOptions("tensorrt", timing_cache=measured))  # it is read again


def test_version_compatible_is_asked_of_the_builder(plain: Path, tmp_path: Path, as_tensorrt: None) -> None:
    """TensorRT-RTX has no lean runtime to put into a plan, and says so."""
    with pytest.raises(ModelFileError, match=r"cannot build .*libnvinfer_lean"):
        build_plan(plain, tmp_path / "a.plan", PlanOptions("tensorrt", version_compatible=True))
    assert not list(tmp_path.iterdir())


def test_tensorrt_builds_for_the_gpu_of_this_machine(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if gpu_here():
        pytest.skip("says what happens on a machine without an NVIDIA GPU")
    monkeypatch.setattr(plan_module, "library", lambda flavour: trt)
    with pytest.raises(InputError, match="no NVIDIA GPU can be used here"):
        build_plan(plain, tmp_path / "a.plan", PlanOptions("tensorrt"))


@pytest.fixture(params=FLAVOURS)
def flavour(request: pytest.FixtureRequest) -> Flavour:
    pytest.importorskip(request.param.replace("-", "_"))
    if not gpu_here():
        pytest.skip("no NVIDIA GPU here")
    chosen: Flavour = request.param
    if chosen == "tensorrt-rtx" and open_cuda().compute_capability not in ("8.0", "8.6", "8.9", "12.0", "12.1"):
        pytest.skip("TensorRT-RTX does not run on this GPU")
    return chosen


@pytest.mark.gpu
def test_a_fault_in_a_plan_is_named(flavour: Flavour, plain: Path, checkpoint: Checkpoint, tmp_path: Path) -> None:
    spoiled = onnx.load(plain)
    weight = next(tensor for tensor in spoiled.graph.initializer if tensor.name == "backbone_3d.features.1.0.weight")
    values = numpy_helper.to_array(weight).copy()
    values[0] += 1.0
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))
    onnx.save(spoiled, tmp_path / "spoiled.onnx")
    clip = made_up_clips(checkpoint.spec, 2).clip(1)
    for source, culprit in ((plain, None), (tmp_path / "spoiled.onnx", "backbone_3d.features.1.0")):
        build_plan(source, tmp_path / "a.plan", PlanOptions(flavour, tf32=False, show_layers=True))
        found = bisect(plain, tmp_path / "a.plan", clip, "fp32").culprit
        assert (found.name if found else None) == culprit


@pytest.mark.gpu
@pytest.mark.parametrize("attention", ATTENTIONS)
@pytest.mark.parametrize("batch", [(1, 1, 1), (1, 2, 4)])
def test_a_plan_answers_as_pytorch_does(
    attention: Attention,
    batch: tuple[int, int, int],
    flavour: Flavour,
    graphs: dict[Attention, Path],
    checkpoint: Checkpoint,
    tmp_path: Path,
) -> None:
    """In every batch, again and again, and from memory of the GPU where torch has one."""
    import torch

    build_plan(graphs[attention], tmp_path / "a.plan", PlanOptions(flavour, batch, tf32=False))
    clips = np.random.default_rng(1).standard_normal((batch[2], *checkpoint.spec.clip_shape), np.float32)
    expected = TorchBackend.of(checkpoint).infer(clips)
    limit = LIMIT * max(1.0, float(np.abs(expected).max()))
    with open_model(tmp_path / "a.plan") as backend:
        for count in (batch[2], batch[0], batch[2]):
            np.testing.assert_allclose(backend.infer(clips[:count]), expected[:count], atol=limit)
        raw, spent = backend.infer_in_stages(clips)  # type: ignore[attr-defined]  # of `Staged`
        np.testing.assert_allclose(raw, expected, atol=limit)
        assert list(spent) == ["copy in", "infer", "copy out"]
        if torch.cuda.is_available():
            there: Any = torch.from_numpy(clips).cuda()
            np.testing.assert_allclose(backend.infer(there), expected, atol=limit)
            np.testing.assert_allclose(backend.infer(clips), expected, atol=limit)
