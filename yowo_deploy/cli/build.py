"""`yowo-deploy build`: a thin sheet over `yowo_export.plan_builder`."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import click

from yowo_deploy.backends.loader import is_checkpoint
from yowo_deploy.cli.console import parse_bytes, progress_bar, talk
from yowo_deploy.cli.precision_options import lower, precision_options, refuse_report, wished
from yowo_deploy.errors import InputError
from yowo_deploy.files import existing_file, refuse_overwriting
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.model_files.plan_record import FLAVOURS, is_plan


@click.command("build")
@click.argument("model", type=click.Path())
@click.option("-o", "--output", type=click.Path(), help="Plan to write.  [default: MODEL with .plan]")
@click.option("--target", type=click.Choice(FLAVOURS), help="Library that will run it.  [default: the installed one]")
@click.option(
    "--batch", help="Clips a call: smallest:usual:largest, as 1:8:16, or one number.  [default: 1, or the graph's own]"
)
@click.option("--workspace", help="Memory that one layer may use at most, as 4GiB.  [default: TensorRT's limit]")
@click.option("--version-compatible", is_flag=True, help="Let newer versions of TensorRT load it; may be slower.")
@click.option("--timing-cache", type=click.Path(), help="File that TensorRT's measurements are kept in.")
@click.option("--no-tf32", is_flag=True, help="Keep float32 products exact, for parity.")
@click.option("--show-layers", is_flag=True, help="Put out every layer's values too, for `parity --bisect`.")
@click.option("--cache", type=click.Path(), help="Folder of plans built before; one that fits is taken from there.")
@precision_options
def command(
    model: str,
    output: str | None,
    target: str | None,
    batch: str | None,
    workspace: str | None,
    version_compatible: bool,
    timing_cache: str | None,
    no_tf32: bool,
    show_layers: bool,
    cache: str | None,
    **precision: Any,
) -> None:
    """Turn MODEL, an ONNX file of ours or `default`, into a plan for TensorRT or TensorRT-RTX.

    The plan computes in the precision of the ONNX file, lowered first if asked for, and carries its spec. TensorRT
    builds for the GPU of this machine; TensorRT-RTX needs none. Beside the plan lies its hash, without
    which it is not loaded.
    """
    from yowo_deploy.backends.trt import installed_flavours
    from yowo_export.plan_builder import PlanOptions, build_plan

    source = existing_file(model_path(model), "ONNX file")
    if is_checkpoint(source) or is_plan(source):
        raise InputError(f"{model} is no ONNX file: `yowo-deploy export` writes one from a checkpoint")
    path = Path(output) if output else (Path(DEFAULT) if model == DEFAULT else source).with_suffix(".plan")
    refuse_overwriting(str(source), path)
    refuse_report(precision["report"], source, path)
    flavour = target or next(iter(installed_flavours()), "tensorrt")
    options = PlanOptions(
        flavour,  # type: ignore[arg-type]  # click checked the choice
        parse_batch(batch) if batch else None,
        parse_bytes(workspace, "workspace") if workspace else 0,
        not no_tf32,
        version_compatible,
        Path(timing_cache) if timing_cache else None,
        show_layers,
    )
    wish = wished(precision, "tensorrt", fused=False)
    with tempfile.TemporaryDirectory() as folder:
        if wish is not None:
            lowered = Path(folder) / "lowered.onnx"
            lower(source, lowered, wish, precision)
            source = lowered
        with progress_bar(f"building for {flavour}", total=1.0) as update:
            reused = build_plan(source, path, options, cache, update)
    if reused:
        talk.print(f"taken from {cache}: same ONNX file, options, version and GPU")
    click.echo(path)


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
