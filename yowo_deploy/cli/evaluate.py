"""`yowo-deploy evaluate`."""

from __future__ import annotations

import json
from typing import Any

import click

from yowo_deploy.cli.console import (
    ConsoleReporter,
    Count,
    dataset_options,
    json_number,
    json_option,
    model_options,
    show_table,
)
from yowo_deploy.evaluation import Evaluation, Figures, evaluate


@click.command("evaluate")
@click.argument("model", type=click.Path())
@dataset_options
@click.option("--every", default=1, type=Count(), help="Evaluate only every N-th annotated frame.")
@click.option(
    "--save", type=click.Path(), help="File of detections, for `score`; an interrupted run continues from it."
)
@click.option("--features", type=click.Path(), help="Folder that `features` wrote with this checkpoint.")
@click.option(
    "--tube-scores/--no-tube-scores",
    default=None,
    help="Average class scores along tubes, as `detect` shows them.  [default: the model's]",
)
@click.option("--workers", default=1, type=Count(), help="Processes among which the videos are divided.")
@model_options
@json_option
def command(model: str, dataset: str, data: str | None, split: int, as_json: bool, **options: Any) -> None:
    """Frame-mAP, video-mAP, recall and accuracy of MODEL on the test videos of DATASET, a data.json or the name of a
    data set."""
    found = evaluate(model, dataset, data, split, reporter=ConsoleReporter(), **options)
    if as_json:
        click.echo(json.dumps(_values(found)))
    else:
        _show(found, f"{model} on {dataset} split {split}")


def _values(found: Evaluation) -> dict[str, Any]:
    return {
        **_figures(found),
        "variants": {name: _figures(figures) for name, figures in found.variants.items()},
        "per_class": dict(zip(found.labels, map(json_number, found.frame_map.per_class), strict=True)),
        "frames": found.frames,
        "frames_missing": found.frames_missing,
        "videos": found.videos,
        "videos_absent": found.videos_absent,
    }


def _figures(found: Figures) -> dict[str, Any]:
    return {
        "frame_map": json_number(found.frame_map.mean),
        "video_map": {f"{iou:g}": json_number(figure.mean) for iou, figure in found.video_map.items()},
        "recall": json_number(found.recall),
        "accuracy": json_number(found.accuracy),
    }


def _show(found: Evaluation, title: str) -> None:
    rows = [(label, f"{100 * value:.2f}") for label, value in zip(found.labels, found.frame_map.per_class, strict=True)]
    show_table(title, ("class", "AP@0.5 %"), rows)
    kinds: dict[str, Figures] = {"tube scores" if found.variants else "each frame by itself": found}
    kinds |= {_KINDS[name]: figures for name, figures in found.variants.items()}
    columns = [_column(figures) for figures in kinds.values()]
    summary = [(name, *(column[name] for column in columns)) for name in columns[0]]
    for name, count in (("frames", found.frames), ("frames missing in the files", found.frames_missing)):
        summary.append((name, str(count), *[""] * len(found.variants)))
    show_table("", ("figure", *kinds), summary)


_KINDS = {"frame": "each frame by itself", "whole tube": "whole tubes, not causal"}


def _column(found: Figures) -> dict[str, str]:
    """By name of the figure, in per cent."""
    values = {"frame-mAP@0.5 %": found.frame_map.mean}
    values |= {f"video-mAP@{iou:g} %": figure.mean for iou, figure in found.video_map.items()}
    values |= {"recall %": found.recall, "accuracy %": found.accuracy}
    return {name: f"{100 * value:.2f}" for name, value in values.items()}
