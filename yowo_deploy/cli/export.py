"""`yowo-deploy export`: a thin sheet over `yowo_export.onnx_export`."""

from __future__ import annotations

from pathlib import Path

import click

from yowo_deploy.artifacts import existing_file
from yowo_deploy.backends.base import is_checkpoint
from yowo_deploy.cli.terminal import refuse_overwriting, require, talk
from yowo_deploy.default_model import DEFAULT, model_path
from yowo_deploy.errors import InputError
from yowo_deploy.onnx_file import read_spec


@click.command("export")
@click.argument("model", type=click.Path())
@click.option("--clip", type=int, help="Clip length in frames.  [default: the checkpoint's]")
@click.option("-o", "--output", type=click.Path(), help="ONNX file to write.  [default: MODEL with .onnx]")
@click.option(
    "--attention",
    type=click.Choice(["fused", "plain"]),
    default="fused",
    help="As one Attention node (opset 23), or as MatMul, Softmax, MatMul (opset 20).",
)
@click.option("--half-weights", is_flag=True, help="Keep weights in half precision: half the file, same arithmetic.")
def command(model: str, clip: int | None, output: str | None, attention: str, half_weights: bool) -> None:
    """Write MODEL (a checkpoint, ours or of the original release) as an ONNX file that carries its spec.

    An ONNX file of ours, or `default`, is written again with its weights as asked for.
    """
    require("export", "torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime")
    from yowo_export.onnx_export import export_onnx, store_anew
    from yowo_training.checkpoint import load_checkpoint

    source = existing_file(model_path(model), "model")
    path = Path(output) if output else (Path(DEFAULT) if model == DEFAULT else source).with_suffix(".onnx")
    refuse_overwriting(str(source), path)
    if source.suffix.lower() == ".onnx" and not is_checkpoint(source):
        if attention != "fused":
            raise InputError(f"{model} is an ONNX file, whose attention stays: --attention is for checkpoints")
        length = read_spec(source).clip_length
        if clip not in (None, length):
            raise InputError(f"{model} is an ONNX file for clips of {length} frames; only a checkpoint takes others")
        store_anew(source, path, half_weights)
        click.echo(path)
        return
    loaded = load_checkpoint(source, clip)
    talk.print(
        f"exporting {loaded.spec.name}: {loaded.spec.classes} classes, clips of {loaded.spec.clip_length} frames"
    )
    difference = export_onnx(loaded, path, attention, half_weights)  # type: ignore[arg-type]  # click checked the choice
    talk.print(f"agrees with PyTorch to {difference:.1e} on ONNX Runtime")
    click.echo(path)
