"""`yowo-deploy evaluate`."""

from __future__ import annotations

import json
from typing import Any

import click

from yowo_deploy.cli.console import (
    ConsoleReporter,
    dataset_options,
    json_number,
    json_option,
    model_options,
    show_table,
)
from yowo_deploy.evaluation import Evaluation, evaluate


@click.command("evaluate")
@click.argument("model", type=click.Path())
@dataset_options
@click.option(
    "--every", default=1, type=click.IntRange(min=1), help="Judge every N-th annotated frame alone, which is faster."
)
@click.option(
    "--save", type=click.Path(), help="File of detections, for `score`; an interrupted run continues from it."
)
@click.option("--features", type=click.Path(), help="Folder that `features` wrote with this checkpoint.")
@model_options
@json_option
def command(model: str, dataset: str, data: str | None, split: int, as_json: bool, **options: Any) -> None:
    """Frame-mAP, video-mAP, recall and accuracy of MODEL on the test videos of DATASET."""
    found = evaluate(model, dataset, data, split, reporter=ConsoleReporter(), **options)
    if as_json:
        click.echo(json.dumps(_values(found)))
    else:
        _show(found, f"{model} on {dataset} split {split}")


def _values(found: Evaluation) -> dict[str, Any]:
    return {
        "frame_map": json_number(found.frame_map.mean),
        "video_map": {f"{iou:g}": json_number(figure.mean) for iou, figure in found.video_map.items()},
        "per_class": dict(zip(found.labels, map(json_number, found.frame_map.per_class), strict=True)),
        "recall": json_number(found.recall),
        "accuracy": json_number(found.accuracy),
        "frames": found.frames,
        "frames_missing": found.frames_missing,
        "videos": found.videos,
        "videos_absent": found.videos_absent,
    }


def _show(found: Evaluation, title: str) -> None:
    rows = [(label, f"{100 * value:.2f}") for label, value in zip(found.labels, found.frame_map.per_class, strict=True)]
    show_table(title, ("class", "AP@0.5 %"), rows)
    summary = [
        ("frame-mAP@0.5 %", f"{100 * found.frame_map.mean:.2f}"),
        *((f"video-mAP@{iou:g} %", f"{100 * figure.mean:.2f}") for iou, figure in found.video_map.items()),
        ("recall %", f"{100 * found.recall:.2f}"),
        ("accuracy %", f"{100 * found.accuracy:.2f}"),
        ("frames", str(found.frames)),
        ("frames missing in the files", str(found.frames_missing)),
    ]
    show_table("", ("figure", "value"), summary)
