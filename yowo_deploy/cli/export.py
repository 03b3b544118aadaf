"""`yowo-deploy export`."""

from __future__ import annotations

from typing import Any

import click

from yowo_deploy.cli.console import EXPORT, ConsoleReporter, Count, overwrite_option, release_options, require
from yowo_deploy.cli.precision_options import precision_options, take_precision


@click.command("export")
@click.argument("model", type=click.Path())
@click.option("--clip", type=Count(), help="Clip length in frames.  [default: the model's]")
@click.option(
    "-o",
    "--output",
    type=click.Path(),
    help="ONNX file to write, or a checkpoint: .safetensors, .pt.  [default: MODEL with .onnx]",
)
@click.option(
    "--attention",
    type=click.Choice(["fused", "plain"]),
    help="One Attention node (opset 23), or MatMul, Softmax, MatMul.  [default: plain for tensorrt, else fused]",
)
@click.option(
    "--half-weights", is_flag=True, help="Store weights in half precision: half the file size, same arithmetic."
)
@click.option(
    "--target",
    type=click.Choice(["openvino", "onnxruntime", "tensorrt"]),
    default="openvino",
    help="Backend for which INT8 is optimised. For onnxruntime, 3-D convolutions also become 2-D "
    "ones if that is measured to be faster on this machine.",
)
@click.option(
    "--streaming",
    is_flag=True,
    help="Write a file that takes single frames: what neighbouring clips share is computed only "
    "once, with the same results.",
)
@click.option(
    "--uint8-input",
    is_flag=True,
    help="Normalise inside the network, which then takes planes of uint8: a quarter of the data per clip.",
)
@click.option(
    "--decode",
    is_flag=True,
    help="Add outputs with boxes and scores, for programs that run the file without this runtime, which uses `raw`.",
)
@click.option("--batch", type=Count(), help="Clips per call, fixed in the graph.  [default: any number]")
@click.option("--tune", is_flag=True, help="Measure --int8 beside float32 on this machine for 8 s, and warn if slower.")
@release_options
@precision_options
@overwrite_option
def command(model: str, **options: Any) -> None:
    """Write MODEL (a checkpoint of this toolkit or of the official release) as an ONNX file that contains its spec.

    MODEL may also be a float32 ONNX file of this toolkit, or `default`: it is written again in another precision, clip
    length or form, or as a checkpoint.
    """
    require(*EXPORT)
    from yowo_export.pipeline import export

    click.echo(export(model, lower=take_precision(options), reporter=ConsoleReporter(), **options))
