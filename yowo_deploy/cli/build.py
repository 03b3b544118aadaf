"""`yowo-deploy build`."""

from __future__ import annotations

import re
from functools import partial
from typing import Any

import click

from yowo_deploy.cli.console import EXPORT, ConsoleReporter, overwrite_option, parse_bytes, parsed, require
from yowo_deploy.cli.precision_options import precision_options, take_precision
from yowo_deploy.errors import InputError
from yowo_deploy.model_files.plan_record import FLAVOURS


def parse_batch(text: str) -> tuple[int, int, int]:
    """`8` or `1:8:16` as smallest, usual and largest batch.

    Raises:
        InputError: it is neither.
    """
    found = re.fullmatch(r"(\d{1,5})(?::(\d{1,5}):(\d{1,5}))?", text, re.ASCII)
    if found is None:
        raise InputError(f"batch {text!r} is not understood, expected one number, or three as in 1:8:16")
    least = int(found[1])
    return least, int(found[2] or least), int(found[3] or least)


@click.command("build")
@click.argument("model", type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="Plan to write.  [default: MODEL with .plan]")
@click.option("--target", type=click.Choice(FLAVOURS), help="Library to build with.  [default: the installed one]")
@click.option(
    "--batch",
    callback=parsed(parse_batch),
    help="Clips per call: smallest:usual:largest, as 1:8:16, or one number.  [default: 1, or the graph's own]",
)
@click.option(
    "--workspace",
    callback=parsed(partial(parse_bytes, what="workspace")),
    help="Largest memory for one layer, as 4GiB.  [default: TensorRT's limit]",
)
@click.option("--version-compatible", is_flag=True, help="Let newer versions of TensorRT load it; may be slower.")
@click.option("--timing-cache", type=click.Path(), help="File in which TensorRT keeps its measurements.")
@click.option("--tf32/--no-tf32", default=True, help="Round float32 products to TF32; --no-tf32 for parity.")
@click.option("--show-layers", is_flag=True, help="Also output every layer's values, for `parity --bisect`.")
@click.option("--cache", type=click.Path(), help="Folder of plans to reuse: same file, options, version, GPU.")
@precision_options
@overwrite_option
def command(model: str, **options: Any) -> None:
    """Build a plan for TensorRT or TensorRT-RTX from MODEL, an ONNX file of this toolkit or `default`.

    The plan computes in the precision of the ONNX file, or in a lower one if an option is given, and contains its spec.
    TensorRT builds for the GPU of this machine; TensorRT-RTX needs none. The hash of the plan is written beside it;
    without it the plan is not loaded.
    """
    require(*EXPORT)
    from yowo_export.pipeline import build

    lower = take_precision(options)
    click.echo(build(model, lower=lower, reporter=ConsoleReporter(), **options))
