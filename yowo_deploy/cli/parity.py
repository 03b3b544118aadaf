"""`yowo-deploy parity`."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yowo_deploy.backends.loader import BACKENDS, admit
from yowo_deploy.cli.console import (
    TRUST,
    Count,
    json_option,
    parse_bytes,
    parsed,
    refuse_useless,
    require,
    show_table,
    tell,
)
from yowo_deploy.datasets import open_dataset
from yowo_deploy.datasets.registry import DATASETS
from yowo_deploy.diagnostics.system_info import provenance
from yowo_deploy.errors import InputError
from yowo_deploy.files import refuse_overwriting, write_text
from yowo_deploy.model_files.default import model_path
from yowo_deploy.visuals.image_io import PAGES, check_suffix

if TYPE_CHECKING:
    from yowo_export.parity.prove import Proof

LIMITED = ("raw", "missing", "score", "box_px", "map_points", "layer")


def parse_limits(texts: tuple[str, ...]) -> dict[str, float]:
    """`score=0.01` as {"score": 0.01}.

    Raises:
        InputError: no such limit, or it is not followed by a number from 0 on.
    """
    limits = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            limits[name] = float(value)
        except ValueError:
            limits[name] = math.nan
        if name not in LIMITED or not 0 <= limits[name] < math.inf:
            raise InputError(f"limit {text!r} is not understood, expected NAME=VALUE with one of {', '.join(LIMITED)}")
    return limits


@click.command("parity")
@click.argument("reference", type=click.Path())
@click.argument("candidate", type=click.Path())
@click.option("--data", default="random", help="A video, a folder of videos, or `random`.")
@click.option("--clips", default=16, type=Count(), help="Clips to compare on.")
@click.option("--backend", type=click.Choice(BACKENDS), help="Backend of CANDIDATE.  [default: the fastest installed]")
@click.option("--reference-backend", type=click.Choice(BACKENDS), help="Backend of REFERENCE.  [default: the fastest]")
@click.option("--device", help="Device of CANDIDATE.  [default: cuda for a plan, else cpu]")
@click.option(
    "--precision",
    type=click.Choice(["fp32", "bf16", "fp16", "int8"]),
    help="Arithmetic of CANDIDATE.  [default: the file's own]",
)
@click.option("--clip", type=Count(), help="Clip length, if both are checkpoints.  [default: CANDIDATE's]")
@click.option("--trust", is_flag=True, help=TRUST)
@click.option(
    "--limit",
    "limits",
    multiple=True,
    callback=parsed(parse_limits),
    help=f"NAME=VALUE with NAME one of {', '.join(LIMITED)}.  [repeatable]",
)
@click.option("--bisect", is_flag=True, help="Name the first layer that differs.")
@click.option(
    "--memory",
    default="2GiB",
    callback=parsed(partial(parse_bytes, what="memory")),
    help="Memory for the values of layers with --bisect.",
)
@click.option(
    "--dataset",
    type=(click.Choice(list(DATASETS)), click.Path()),
    metavar="NAME FOLDER",
    help="Also compare the frame-mAP on the test videos of this data set.",
)
@click.option("--split", default=1, type=Count(), help="Number of the data set's official split.")
@click.option("--every", default=1, type=Count(), help="Evaluate only every N-th annotated frame.")
@click.option("--report", type=click.Path(), help="HTML page of the result.")
@json_option
def command(
    reference: str,
    candidate: str,
    data: str,
    clips: int,
    limits: dict[str, float],
    bisect: bool,
    memory: int,
    dataset: tuple[str, str] | None,
    split: int,
    every: int,
    report: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Check that CANDIDATE computes what REFERENCE computes: any two of checkpoint, ONNX file and plan.

    The first line is the verdict. Exit code 0 if they agree, 1 if not.
    """
    if report:
        for model in (reference, candidate):
            refuse_overwriting(str(model_path(model)), report)
        check_suffix(report, *PAGES)
    if dataset is None:
        refuse_useless("--dataset", "split", "every")
    if not bisect:
        refuse_useless("--bisect", "memory")
    require("export", "onnx", "onnx_ir")  # checkpoints need torch, which the engine itself names
    from yowo_export.parity.prove import Wanted, prove
    from yowo_export.parity.report import parity_report

    opened = open_dataset(dataset[0], Path(dataset[1]), split) if dataset else None
    wanted = Wanted(data, clips, limits, bisect, memory, opened, every)
    first = {"backend": options.pop("reference_backend"), "trust": options["trust"]}
    if options["clip"]:
        first["clip"] = options["clip"]
    if not options["trust"]:
        del first["trust"], options["trust"]
        admit(reference, **first)
        admit(candidate, **options)
    proof = prove(reference, candidate, wanted, (first, options), tell)
    if as_json:
        made_of = provenance({"reference": model_path(reference), "candidate": model_path(candidate)})
        click.echo(json.dumps(_values(proof) | {"provenance": made_of}))
    else:
        _show(proof)
    if report:  # last: if it cannot be written, the verdict stands
        write_text(report, parity_report(reference, candidate, proof))
    sys.exit(0 if proof.passed else 1)


def _show(proof: Proof) -> None:
    click.echo(proof.verdict())
    if proof.difference:
        show_table("", ("what", "found", "limit"), proof.difference.rows(proof.limits))
    if proof.maps:
        rows = [
            (name, f"{100 * value:.2f}") for name, value in zip(("reference", "candidate"), proof.maps, strict=True)
        ]
        show_table("", ("frame-mAP@0.5 %", "found"), rows)
    if proof.bisection:
        show_table(
            "layers", ("layer", "difference", "inputs", "limit"), [layer.row() for layer in proof.bisection.layers]
        )


def _values(proof: Proof) -> dict[str, Any]:
    """JSON knows neither NaN nor infinity: such figures are null."""
    figures = dataclasses.asdict(dataclasses.replace(proof, worst=None))
    del figures["worst"]  # a picture
    values = {"passed": proof.passed, "verdict": proof.verdict(), **figures}
    if proof.bisection and proof.bisection.culprit:
        values["bisection"]["culprit"] = proof.bisection.culprit.name
    return _finite(values)  # type: ignore[no-any-return]


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
