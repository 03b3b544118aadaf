"""Export a model to ONNX or to a TensorRT plan, in any precision, as one call each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from yowo_deploy.backends.accepted import accept
from yowo_deploy.backends.loader import is_checkpoint
from yowo_deploy.backends.trt import installed_flavours
from yowo_deploy.errors import InputError
from yowo_deploy.files import atomic_write, existing_file, refuse_existing, refuse_overwriting, work_folder
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.model_files.onnx_reader import read_onnx_file, read_spec
from yowo_deploy.model_files.plan_record import Flavour, is_plan
from yowo_deploy.reporter import Reporter
from yowo_export.conv3d_tuning import conv3d_as_2d_if_faster
from yowo_export.exporter import Attention, export_onnx
from yowo_export.graph.decoded_outputs import export_decoded
from yowo_export.graph.fixed_batch import export_fixed_batch, refuse_batch
from yowo_export.graph.uint8_input import export_uint8
from yowo_export.plan_builder import PlanOptions, build_plan, check_library
from yowo_export.precision.convert import store_anew
from yowo_export.precision.int8 import Target
from yowo_export.precision.int8_speed import expected_gain, measured_gain
from yowo_export.precision.lower_precision import LowerPrecision
from yowo_export.streaming.carry import carry_streaming_form
from yowo_export.streaming.rewrite import check_streamable, export_streaming
from yowo_training.checkpoints.checkpoint import SUFFIXES, Checkpoint, save_checkpoint
from yowo_training.checkpoints.onnx_weights import load_network


def export(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    clip: int | None = None,
    labels: Sequence[str] | None = None,
    anchors: Sequence[tuple[float, float]] | None = None,
    attention: Attention | None = None,
    half_weights: bool = False,
    target: Target = "openvino",
    streaming: bool = False,
    uint8_input: bool = False,
    decode: bool = False,
    batch: int | None = None,
    lower: LowerPrecision | None = None,
    tune: bool = False,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Write a model as an ONNX file that carries its spec: `yowo-deploy export` as one call.

        export("ckpt.pth", clip=8)
        export("ckpt.pth", "int8.onnx", lower=LowerPrecision("int8", ["videos"]))

    Args:
        model: a checkpoint of this toolkit or an official one; or an ONNX file of this toolkit, or "default", to be
            written again in another form.
        output: the ONNX file; by default the model's name with .onnx. With .safetensors or .pt, a checkpoint of ours
            with the same weights.
        clip: clip length in frames; by default the model's.
        labels, anchors: of an official checkpoint with classes of one's own, see `load_checkpoint`.
        attention: "fused" is one Attention node (opset 23), "plain" is MatMul, Softmax, MatMul; by default "plain" for
            tensorrt, else "fused".
        half_weights: store float32 weights in half precision; the arithmetic stays float32.
        target: the backend for which INT8 is optimised. For onnxruntime, 3-D convolutions also become 2-D ones if that
            is measured to be faster on this machine.
        streaming: write a file that takes single frames and computes only once what neighbouring clips share.
        uint8_input: normalise inside the network, which then takes planes of uint8: a quarter of the data.
        decode: add the outputs "boxes", "objectness" and "scores", see `add_decoded_outputs`.
        batch: clips per call, fixed in the graph; any number by default.
        lower: a lower precision; float32 by default.
        tune: measure INT8 beside float32 on this machine, with a warning where it is slower.
        overwrite: replace the file if it exists.
        reporter: receives messages and progress; by default they are logged.

    Returns:
        The file that was written.

    Raises:
        InputError: no such model, or arguments that exclude each other.
        ModelFileError: the model cannot be read.
        ParityError: what was written disagrees with the model; then nothing is written.
        OutputError: the file cannot be written, exists, or is the model itself.
    """
    reporter = reporter or Reporter()
    source = existing_file(model_path(model), "model")
    path = _output(model, source, output, ".onnx")
    refuse_overwriting(source, path)
    refuse_existing(path, overwrite)
    _refuse_contradictions(half_weights, target, streaming, uint8_input, decode, batch, lower, tune)
    if lower:
        lower.refuse_outputs(source, path)
    if path.suffix.lower() in SUFFIXES:
        if any((lower, half_weights, streaming, uint8_input, decode, batch, attention, target != "openvino")):
            raise InputError(f"{path} is a checkpoint, which stores only weights: leave other options out")
        return _as_checkpoint(load_network(source, clip, labels, anchors), path, source)
    fused = attention != "plain" if attention else target != "tensorrt"
    with work_folder() as folder:
        single, made = folder / "fp32.onnx", folder / "made.onnx" if uint8_input or decode or batch else path
        whole = folder / "clips.onnx" if streaming else made
        if not (_is_checkpoint(source) or labels or anchors or _other_clip(str(model), source, clip)):
            _refuse_source(str(model), source, target, lower, batch, streaming or uint8_input or decode)
            refuse_batch(batch, read_spec(source))
            store_anew(source, single, half_weights, attention)
        else:
            loaded = load_network(source, clip, labels, anchors)
            refuse_batch(batch, spec := loaded.spec)
            reporter.message(f"exporting {spec.name}: {spec.classes} classes, clips of {spec.clip_length} frames")
            difference = export_onnx(loaded, single, attention or ("fused" if fused else "plain"), half_weights)
            reporter.message(f"agrees with PyTorch to {difference:.1e} on ONNX Runtime")
        if streaming:
            check_streamable(single)
        outcome = lower and lower.convert(single, whole, target, fused, streaming, reporter)
        if not lower:
            _in_single(single, whole, target, streaming, reporter)
        elif lower.precision == "int8" and target != "tensorrt":
            reporter.message(measured_gain(single, whole, target) if tune else expected_gain())
        if streaming:
            reporter.message(f"frame by frame agrees with clips to {export_streaming(whole, made):.1e} on ONNX Runtime")
        _rewrite(made, path, uint8_input, decode, batch, reporter)
    if lower and outcome:
        lower.write_report(outcome, source, path)
    accept(path)
    return path


def build(
    model: str | os.PathLike[str],
    output: str | os.PathLike[str] | None = None,
    *,
    target: Flavour | None = None,
    batch: tuple[int, int, int] | None = None,
    workspace: int | None = None,
    version_compatible: bool = False,
    timing_cache: str | os.PathLike[str] | None = None,
    tf32: bool = True,
    show_layers: bool = False,
    cache: str | os.PathLike[str] | None = None,
    lower: LowerPrecision | None = None,
    overwrite: bool = False,
    reporter: Reporter | None = None,
) -> Path:
    """Build a TensorRT plan from an ONNX file of ours: `yowo-deploy build` as one call.

        build("yowo.onnx", batch=(1, 8, 16), lower=LowerPrecision("fp16", ["videos"]))

    The plan computes in the precision of the ONNX file, and carries its spec. Beside it lies its hash, without which it
    is not loaded.

    Args:
        model: the ONNX file, or "default".
        output: the plan; by default the model's name with .plan.
        target: "tensorrt", which builds for the GPU of this machine, or "tensorrt-rtx", which needs none; by default
            the installed one.
        batch, workspace, version_compatible, tf32, show_layers: see `PlanOptions`.
        timing_cache: file in which TensorRT keeps its measurements.
        cache: folder of plans; one of the same file, options, version and GPU is taken from there.
        lower: a lower precision, applied before the build.
        overwrite: replace the file if it exists.
        reporter: receives messages and progress; by default they are logged.

    Returns:
        The plan that was written.

    Raises:
        InputError: no such file, a checkpoint, or arguments that exclude each other.
        ModelFileError: TensorRT refuses the file.
        MissingExtraError: the library is not installed.
        OutputError: the plan cannot be written, exists, or is the model itself.
    """
    reporter = reporter or Reporter()
    source = existing_file(model_path(model), "ONNX file")
    if is_checkpoint(source) or is_plan(source):
        raise InputError(f"{model} is not an ONNX file: `yowo-deploy export` writes one from a checkpoint")
    path = _output(model, source, output, ".plan")
    refuse_overwriting(source, path)
    refuse_existing(path, overwrite)
    if lower is not None:
        lower.refuse_outputs(source, path)
    if timing_cache is not None:
        refuse_overwriting(source, timing_cache)
    flavour = target or _installed()
    check_library(flavour)  # before minutes of searching for what stays in higher precision
    timings = None if timing_cache is None else Path(timing_cache)
    options = PlanOptions(flavour, batch, workspace or 0, tf32, version_compatible, timings, show_layers)
    with work_folder() as folder:
        onnx, outcome = source, None
        if lower is not None:
            onnx = Path(folder) / "lowered.onnx"
            outcome = lower.convert(source, onnx, "tensorrt", False, False, reporter)
        with reporter.progress(f"building for {flavour}", 1.0) as update:
            reused = build_plan(onnx, path, options, cache, update)
    if lower is not None and outcome is not None:
        lower.write_report(outcome, source, path)
    if reused:
        reporter.message(f"taken from {cache}: same ONNX file, options, version and GPU")
    accept(path)
    return path


def _in_single(single: Path, whole: Path, target: Target, streaming: bool, reporter: Reporter) -> None:
    """Finish a float32 file: laid out for its target, with its streaming form."""
    if target == "onnxruntime":
        reporter.message(_tuned(conv3d_as_2d_if_faster(single, streaming=streaming)))
    if not streaming and target != "tensorrt" and carry_streaming_form(single) is not None:
        reporter.message("contains a streaming form, which `detect` uses for single videos")
    with atomic_write(whole) as temporary:
        temporary.write_bytes(single.read_bytes())


def _rewrite(made: Path, path: Path, uint8_input: bool, decode: bool, batch: int | None, reporter: Reporter) -> None:
    """Give a finished file its other input, its further outputs, and its batch."""
    if uint8_input:
        ours = made.with_name("bytes.onnx") if decode or batch else path
        reporter.message(f"with uint8 input, outputs agree to {export_uint8(made, ours):.1e} on ONNX Runtime")
        made = ours
    if decode:
        ours = made.with_name("decoded.onnx") if batch else path
        reporter.message(f"boxes and scores in the graph agree to {export_decoded(made, ours):.1e} on ONNX Runtime")
        made = ours
    if batch:
        agrees = export_fixed_batch(made, path, batch)
        reporter.message(f"in calls of {batch} it agrees to {agrees:.1e} on ONNX Runtime")


def _as_checkpoint(found: Checkpoint, path: Path, source: Path) -> Path:
    save_checkpoint(path, found.model, found.spec, {"from": source.name})
    accept(path)
    return path


def _output(
    model: str | os.PathLike[str],
    source: Path,
    output: str | os.PathLike[str] | None,
    suffix: str,
) -> Path:
    """The given name, or that of the model; of the package's own model in the current folder."""
    return Path(output) if output else (Path(DEFAULT) if model == DEFAULT else source).with_suffix(suffix)


def _installed() -> Flavour:
    if found := installed_flavours():
        return found[0]
    raise InputError(
        "neither TensorRT, which needs a GPU, nor TensorRT-RTX, which builds without one, is installed: "
        "run `pip install 'yowo-deploy[tensorrt]'` or `pip install 'yowo-deploy[tensorrt-rtx]'`"
    )


def _refuse_contradictions(
    half_weights: bool,
    target: Target,
    streaming: bool,
    uint8_input: bool,
    decode: bool,
    batch: int | None,
    lower: LowerPrecision | None,
    tune: bool,
) -> None:
    if (uint8_input or decode or batch) and lower is not None and lower.precision == "bf16":
        raise InputError("--uint8-input, --decode and --batch are for fp32, fp16 or int8 so far, not for bf16")
    if tune and (lower is None or lower.precision != "int8" or target == "tensorrt"):
        raise InputError("--tune measures --int8 beside float32, on openvino or onnxruntime: leave it out")
    if target == "onnxruntime" and lower is not None and lower.precision != "int8":
        raise InputError(f"--target onnxruntime has no effect on --{lower.precision}: leave it out")
    if lower is not None and half_weights:
        raise InputError("--half-weights is for float32 arithmetic: leave it out with --fp16, --bf16 or --int8")
    if half_weights and target == "onnxruntime":
        raise InputError("--target onnxruntime needs weights in single precision: leave --half-weights out")
    if streaming and (batch or decode):
        raise InputError("--streaming writes a file that takes one frame a call: leave --batch and --decode out")
    if streaming and (target == "tensorrt" or (lower is not None and lower.precision == "bf16")):
        raise InputError("--streaming is for ONNX files in fp32, fp16 or int8 so far, not for tensorrt, nor in bf16")


def _is_checkpoint(source: Path) -> bool:
    return is_checkpoint(source) or source.suffix.lower() in SUFFIXES


def _other_clip(model: str, source: Path, clip: int | None) -> bool:
    """Whether an ONNX file is to become one of another clip length; refuses files that nothing is made of."""
    spec = read_spec(source)
    if spec.streaming:
        raise InputError(f"{model} is a streaming file: start from the checkpoint, or the file of clips")
    if spec.input_type == "uint8":
        raise InputError(f"{model} normalises bytes itself: start from the checkpoint, or a file without --uint8-input")
    return clip not in (None, spec.clip_length)


def _refuse_source(
    model: str, source: Path, target: Target, lower: LowerPrecision | None, batch: int | None, other_form: bool
) -> None:
    """Raise an InputError for an ONNX file that cannot be converted as the options say."""
    file = read_onnx_file(source)
    precision = file.spec.precision
    needed = "--target onnxruntime" if target == "onnxruntime" else f"--{lower.precision}" if lower else ""
    if precision != "fp32" and needed:
        raise InputError(f"{model} is in {precision}: {needed} needs the checkpoint, or the float32 file")
    if precision == "bf16" and (other_form or batch):
        raise InputError(f"{model} is in bf16, which has no other form so far: start from the float32 file")
    if batch and file.batch not in (None, batch):
        raise InputError(f"{model} takes {file.batch} clips a call: start from a file without --batch")


def _tuned(ratio: float | None) -> str:
    if ratio is None:
        return "no 3-D convolution that could become a 2-D one"
    chosen = "" if ratio > 1 else ", so they stay 3-D"
    return f"3-D convolutions as 2-D ones: {ratio:.2f} times as fast on this machine{chosen}"
