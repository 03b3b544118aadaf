"""`yowo-deploy batch`."""

from __future__ import annotations

from typing import Any

import click

from yowo_deploy.archive.progress import Progress
from yowo_deploy.archive.run import STALL_S, batch
from yowo_deploy.archive.settings import SEGMENT_S
from yowo_deploy.cli.console import (
    ConsoleReporter,
    Count,
    Number,
    event_options,
    json_option,
    model_options,
    shown_options,
)
from yowo_deploy.detection.outputs import Outputs
from yowo_deploy.json_text import to_json
from yowo_deploy.model_files.default import DEFAULT


@click.command("batch")
@click.argument("videos", nargs=-1, required=True, metavar="VIDEO...")
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder of the results.")
@click.option("--model", default=DEFAULT, type=click.Path(), help="ONNX file, plan or checkpoint.")
@click.option("--workers", type=Count(), help="Processes, or actors of Ray.  [default: one per 2 cores]")
@click.option("--ray", metavar="ADDRESS", help="Address of a Ray cluster, auto, or local to start one; [ray] extra.")
@click.option("--shard", metavar="I/N", help="Only the I-th of N shares of the videos, by a hash of their paths.")
@click.option("--resume", is_flag=True, help="Continue an interrupted run in its folder; what is done is not repeated.")
@click.option("--whole-tubes", is_flag=True, help="Score each person by the whole tube, later frames included.")
@click.option("--segment", "segment_s", default=SEGMENT_S, type=Number(1), help="Seconds per piece of a long video.")
@click.option(
    "--stall", "stall_s", default=STALL_S, type=Number(1), help="Seconds without a frame after which a video fails."
)
@shown_options
@event_options
@click.option("--allow-damaged", is_flag=True, help="Use what can be decoded of a damaged video.")
@click.option("--clips", is_flag=True, help="Run on whole clips even if the file has a streaming form.")
@click.option("-q", "--quiet", is_flag=True, help="Show only errors.")
@model_options
@json_option
@click.pass_context
def command(
    context: click.Context, /, videos: tuple[str, ...], conf: float | None, quiet: bool, as_json: bool, **options: Any
) -> None:
    """Find people and their actions in an archive: each VIDEO is a file, a folder of videos, or a list of paths as
    .txt, .csv or .parquet. The folder gets tubes.parquet, tubes.jsonl, events.jsonl, failed.jsonl and summary.json;
    search it with `find`.

    If a video fails, the others continue and the command exits with code 1. Option --json prints
    progress and, last, the totals as lines of JSON.
    """
    events = {name: options.pop(name) for name in ("on", "off", "min_frames", "zone", "zones", "zone_anchor")}

    def show(progress: Progress) -> None:
        if as_json:
            click.echo(progress.to_json())

    reporter = ConsoleReporter(quiet)
    found = batch(videos, confidence=conf, outputs=Outputs(**events), reporter=reporter, on_progress=show, **options)
    totals = {"videos": found.videos, "failed": len(found.failed), **found.totals}
    if as_json:
        click.echo(to_json({**totals, "folder": str(found.folder)}))
    else:
        click.echo(f"{', '.join(f'{value} {name}' for name, value in totals.items())}\n{found.folder}")
    if found.failed:
        context.exit(1)
