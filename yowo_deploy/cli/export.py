"""`yowo-deploy export`: a thin sheet over `yowo_export.onnx_export`."""

from __future__ import annotations

from pathlib import Path

import click

from yowo_deploy.cli.terminal import refuse_overwriting, require, talk


@click.command("export")
@click.argument("checkpoint", type=click.Path())
@click.option("--clip", type=int, help="Clip length in frames.  [default: the checkpoint's]")
@click.option("-o", "--output", type=click.Path(), help="ONNX file to write.  [default: CHECKPOINT with .onnx]")
@click.option(
    "--attention",
    type=click.Choice(["fused", "plain"]),
    default="fused",
    help="As one Attention node (opset 23), or as MatMul, Softmax, MatMul (opset 20).",
)
def command(checkpoint: str, clip: int | None, output: str | None, attention: str) -> None:
    """Write CHECKPOINT (ours, or one of the original release) as an ONNX file that carries its spec."""
    require("export", "torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime")
    from yowo_export.onnx_export import export_onnx
    from yowo_training.checkpoint import load_checkpoint

    loaded = load_checkpoint(checkpoint, clip)
    path = Path(output) if output else Path(checkpoint).with_suffix(".onnx")
    refuse_overwriting(checkpoint, path)
    talk.print(
        f"exporting {loaded.spec.name}: {loaded.spec.classes} classes, clips of {loaded.spec.clip_length} frames"
    )
    difference = export_onnx(loaded, path, attention)  # type: ignore[arg-type]  # click checked the choice
    talk.print(f"agrees with PyTorch to {difference:.1e} on ONNX Runtime")
    click.echo(path)
