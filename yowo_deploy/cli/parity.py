"""`yowo-deploy parity`: a thin sheet over `yowo_export.parity`."""

from __future__ import annotations

import dataclasses
import json
import sys
from contextlib import ExitStack

import click

from yowo_deploy.backends.base import BACKENDS, open_model
from yowo_deploy.cli.terminal import json_option, show_table
from yowo_deploy.spec import Precision
from yowo_deploy.video import open_video


@click.command("parity")
@click.argument("reference", type=click.Path())
@click.argument("candidate", type=click.Path())
@click.option("--data", default="random", help="A video to take clips from, or the word random.")
@click.option("--clips", default=8, type=click.IntRange(min=1), help="Clips to compare on.")
@click.option(
    "--backend", type=click.Choice(BACKENDS), help="Engine of the candidate.  [default: the fastest installed]"
)
@click.option(
    "--precision", type=click.Choice(["fp32", "bf16"]), help="Arithmetic of the candidate.  [default: the file's own]"
)
@click.option(
    "--clip", type=click.IntRange(min=1), help="Clip length, if both are checkpoints.  [default: CANDIDATE's]"
)
@json_option
def command(
    reference: str,
    candidate: str,
    data: str,
    clips: int,
    backend: str | None,
    precision: Precision | None,
    clip: int | None,
    as_json: bool,
) -> None:
    """Compare CANDIDATE with REFERENCE on the same clips: exit code 0 if they agree, 1 if not."""
    from yowo_export.parity import LIMITS, compare, random_clips, video_clips

    with ExitStack() as stack:
        second = stack.enter_context(open_model(candidate, backend, precision=precision, clip=clip))
        first = stack.enter_context(open_model(reference, clip=second.spec.clip_length))
        if data == "random":
            source = random_clips(first.spec, clips)
        else:
            source = video_clips(stack.enter_context(open_video(data)), first.spec, clips)
        computed = precision or second.spec.precision
        found = compare(first, second, source, LIMITS[computed])
        engines = f"{first.name} and {second.name} {computed}"
    if as_json:
        click.echo(json.dumps({"passed": found.passed, **dataclasses.asdict(found)}))
    else:
        click.echo(f"{'PASSED' if found.passed else 'FAILED'}: {engines}, {found.clips} clips")
        show_table("", ("what", "found", "limit"), found.rows())
    sys.exit(0 if found.passed else 1)
