"""`yowo-deploy train`: a thin sheet over `yowo_training.loop`."""

from __future__ import annotations

from pathlib import Path

import click

from yowo_deploy.cli.terminal import dataset_options, progress_bar, require, talk
from yowo_deploy.datasets import open_dataset
from yowo_deploy.errors import InputError


@click.command("train")
@dataset_options
@click.option(
    "--recipe",
    default="yowo-lite",
    help="Network and schedule: yowo-lite, yowo-tiny, or of the paper's Table 2: yowo, yowo-2d, yowo-3d, yowo-concat.",
)
@click.option("--minutes", type=float, help="Wall-clock time of the whole run.  [default: by --epochs]")
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Passes over the videos, one clip of each.  [default: the recipe's]"
)
@click.option(
    "--weights-2d", type=click.Path(), help="File to start the 2-D branch from: PyTorch, or Darknet .weights."
)
@click.option("--weights-3d", type=click.Path(), help="File to start the 3-D branch from.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Of sampling, augmentation and fresh weights.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder for best.pt, last.pt and metrics.")
def command(
    dataset: str,
    data: str,
    split: int,
    recipe: str,
    minutes: float | None,
    epochs: int | None,
    weights_2d: str | None,
    weights_3d: str | None,
    seed: int,
    output: str,
) -> None:
    """Train a model on DATASET and keep the checkpoint that is best on held-out training recordings."""
    require("train", "torch")
    if minutes is not None and epochs is not None:
        raise InputError("--minutes and --epochs both say how long to train: give one of them")
    from yowo_training.loop import Budget, Run
    from yowo_training.recipes import find_recipe

    chosen = find_recipe(recipe)
    opened = open_dataset(dataset, Path(data), split)
    files = {"backbone_2d": weights_2d, "backbone_3d": weights_3d}
    given = {branch: path for branch, path in files.items() if path}
    run = Run(chosen, opened, Path(output), Budget(minutes, epochs or chosen.epochs), seed, weights=given)
    for branch, filled in run.filled.items():
        talk.print(f"{branch}: {filled.tensors} tensors filled, {filled.dropped} of the file left out")
    if run.absent:
        talk.print(f"{run.absent} training videos are not in {data}: left out")
    talk.print(f"{len(run.training)} videos to train on, {len(run.held_out)} held out, {chosen.batch} clips a step")
    with progress_bar("training", total=1.0) as update:
        for report in run:
            note = f"epoch {report.epoch}  loss {report.loss:.2f}  {report.clips_per_s:.1f} clips/s"
            update(report.done, note)
            if report.frame_map is not None:
                where = "held-out recordings" if run.held_out else "training videos, as none are held out"
                talk.print(f"step {report.step}: frame-mAP {100 * report.frame_map:.1f} on {where}")
    click.echo(run.best)
