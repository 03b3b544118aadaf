"""`yowo-deploy export`: a thin sheet over `yowo_export`."""

from __future__ import annotations

import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from yowo_deploy.backends.loader import is_checkpoint
from yowo_deploy.cli.console import require, talk
from yowo_deploy.cli.precision_options import lower, precision_options, refuse_report, wished
from yowo_deploy.errors import InputError
from yowo_deploy.files import atomic_write, existing_file, refuse_overwriting
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.model_files.onnx_reader import read_spec


@click.command("export")
@click.argument("model", type=click.Path())
@click.option("--clip", type=int, help="Clip length in frames.  [default: the checkpoint's]")
@click.option("-o", "--output", type=click.Path(), help="ONNX file to write.  [default: MODEL with .onnx]")
@click.option(
    "--attention",
    type=click.Choice(["fused", "plain"]),
    help="As one Attention node (opset 23), or as MatMul, Softmax, MatMul.  [default: plain for tensorrt, else fused]",
)
@click.option("--half-weights", is_flag=True, help="Keep weights in half precision: half the file, same arithmetic.")
@click.option(
    "--target",
    type=click.Choice(["openvino", "onnxruntime", "tensorrt"]),
    default="openvino",
    help="Engine that INT8 is laid out for; for onnxruntime, 3-D convolutions are also made 2-D ones if that is "
    "measured to be faster here.",
)
@click.option(
    "--streaming",
    is_flag=True,
    help="For video frame by frame: what neighbouring clips share is kept, with the same answers.",
)
@precision_options
def command(
    model: str,
    clip: int | None,
    output: str | None,
    attention: str | None,
    half_weights: bool,
    target: str,
    streaming: bool,
    **options: Any,
) -> None:
    """Write MODEL (a checkpoint, ours or of the original release) as an ONNX file that carries its spec.

    An ONNX file of ours, or `default`, is written again in the precision asked for.
    """
    require("export", "torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime")
    from yowo_export.conv3d_tuning import conv3d_as_2d_if_faster
    from yowo_export.precision.convert import store_anew
    from yowo_export.streaming.rewrite import check_streamable, export_streaming

    source = existing_file(model_path(model), "model")
    path = Path(output) if output else (Path(DEFAULT) if model == DEFAULT else source).with_suffix(".onnx")
    refuse_overwriting(str(source), path)
    refuse_report(options["report"], source, path)
    fused = attention != "plain" if attention else target != "tensorrt"
    wish = wished(options, target, fused)
    if wish is not None and half_weights:
        raise InputError("--half-weights is for float32 arithmetic: leave it out with --fp16, --bf16 or --int8")
    if half_weights and target == "onnxruntime":
        raise InputError("--target onnxruntime cuts weights up, which it finds in single precision: no --half-weights")
    if streaming and (target == "tensorrt" or options["bf16"]):
        raise InputError("--streaming is for ONNX files in fp32, fp16 or int8 so far, not for tensorrt, nor in bf16")
    with tempfile.TemporaryDirectory() as folder:
        single, whole = Path(folder) / "fp32.onnx", Path(folder) / "clips.onnx" if streaming else path
        form = attention or ("fused" if fused else "plain")
        if source.suffix.lower() == ".onnx" and not is_checkpoint(source):
            spec = read_spec(source)
            length = spec.clip_length
            if spec.streaming:
                raise InputError(f"{model} is a streaming file: start from the checkpoint, or the file of clips")
            if spec.precision != "fp32" and target == "onnxruntime" and wish is None:
                raise InputError(f"{model} is in {spec.precision}: --target onnxruntime takes float32 apart")
            if clip not in (None, length):
                raise InputError(
                    f"{model} is an ONNX file for clips of {length} frames; only a checkpoint takes others"
                )
            store_anew(source, single, half_weights, attention)  # type: ignore[arg-type]  # click checked the choice
        else:
            _export_checkpoint(source, single, clip, form, half_weights)
        if streaming:
            check_streamable(single)
        if wish is not None:
            lower(single, whole, replace(wish, streaming=streaming), options)
        else:
            if target == "onnxruntime":
                talk.print(_said(conv3d_as_2d_if_faster(single, streaming=streaming)))
            with atomic_write(whole) as temporary:
                temporary.write_bytes(single.read_bytes())
        if streaming:
            talk.print(f"frame by frame agrees with whole clips to {export_streaming(whole, path):.1e} on ONNX Runtime")
    click.echo(path)


def _said(ratio: float | None) -> str:
    if ratio is None:
        return "no 3-D convolution to take apart"
    return f"frames apart: {ratio:.2f} times as fast here" + ("" if ratio > 1 else ", so they stay together")


def _export_checkpoint(source: Path, output: Path, clip: int | None, attention: str, half_weights: bool) -> None:
    from yowo_export.exporter import export_onnx
    from yowo_training.checkpoints.checkpoint import load_checkpoint

    loaded = load_checkpoint(source, clip)
    talk.print(
        f"exporting {loaded.spec.name}: {loaded.spec.classes} classes, clips of {loaded.spec.clip_length} frames"
    )
    difference = export_onnx(loaded, output, attention, half_weights)  # type: ignore[arg-type]
    talk.print(f"agrees with PyTorch to {difference:.1e} on ONNX Runtime")
