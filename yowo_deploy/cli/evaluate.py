"""`yowo-deploy evaluate`: a thin sheet over `yowo_deploy.evaluation`."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import click

from yowo_deploy.backends.base import open_model
from yowo_deploy.cli.console import (
    STREAMS,
    dataset_options,
    json_number,
    json_option,
    long_term_looks,
    model_options,
    opened,
    progress_bar,
    show_table,
    talk,
)
from yowo_deploy.datasets import AnnotatedVideo, split_present
from yowo_deploy.datasets.base import annotations_hash
from yowo_deploy.errors import InputError
from yowo_deploy.evaluation import Evaluation, evaluate
from yowo_deploy.metrics.detections_log import DetectionsFile


@click.command("evaluate")
@click.argument("model", type=click.Path())
@dataset_options
@click.option("--every", default=1, type=click.IntRange(min=1), help="Judge only every so-many-th frame: quicker.")
@click.option("--save", type=click.Path(), help="Text file of detections, for `score`; a stopped run goes on from it.")
@click.option("--features", type=click.Path(), help="Folder that `features` wrote with this checkpoint.")
@model_options
@json_option
def command(
    model: str,
    dataset: str,
    data: str | None,
    split: int,
    every: int,
    save: str | None,
    features: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Frame-mAP, video-mAP, recall and accuracy of MODEL on the test videos of DATASET."""
    truth = opened(dataset, data, split)
    if save and dataset == "ava":
        raise InputError("--save writes boxes in pixels and frames by number, which AVA's truth does not have")
    tested = truth.videos("test")
    videos, absent = split_present(tested)
    if absent:
        talk.print(f"{absent} of {absent + len(videos)} test videos are not in {data or dataset}: left out")
    with open_model(model, streams=STREAMS, **options) as backend:
        if backend.spec.labels != truth.labels:
            raise InputError(
                f"{model} knows {backend.spec.classes} classes ({', '.join(backend.spec.labels[:3])}, ...), "
                f"{dataset} has {len(truth.labels)} ({', '.join(truth.labels[:3])}, ...)"
            )
        look = long_term_looks(model, options) if features else None
        folder = Path(features or "")
        look_into = (lambda video: look(folder / f"{video.path.stem}.npz")) if look else None
        made_by: tuple[Any, ...] = (dataset, str(Path(data or dataset).resolve()), split, every, backend.name, options)
        made_by += (annotations_hash(tested) if save else "", backend.spec.to_json(), *([features] if features else []))
        kept = DetectionsFile(save, hashlib.sha256(repr(made_by).encode()).hexdigest()) if save else None
        done = 0
        with progress_bar("evaluating", total=len(videos)) as update:

            def on_video(video: AnnotatedVideo) -> None:
                nonlocal done
                done += 1
                update(done, video.name.rpartition("/")[2][:40])

            found = evaluate(backend, videos, every, on_video, kept, truth.rules, look_into, truth.judged_classes)
    if as_json:
        click.echo(json.dumps({**_values(found, truth.labels), "videos": len(videos), "videos_absent": absent}))
    else:
        _show(found, truth.labels, f"{model} on {dataset} split {split}")


def _values(found: Evaluation, labels: tuple[str, ...]) -> dict[str, Any]:
    return {
        "frame_map": json_number(found.frame_map.mean),
        "video_map": {f"{iou:g}": json_number(figure.mean) for iou, figure in found.video_map.items()},
        "per_class": dict(zip(labels, map(json_number, found.frame_map.per_class), strict=True)),
        "recall": json_number(found.recall),
        "accuracy": json_number(found.accuracy),
        "frames": found.frames,
        "frames_missing": found.frames_missing,
    }


def _show(found: Evaluation, labels: tuple[str, ...], title: str) -> None:
    rows = [(label, f"{100 * value:.2f}") for label, value in zip(labels, found.frame_map.per_class, strict=True)]
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
