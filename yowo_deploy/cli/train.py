"""`yowo-deploy train`: a thin sheet over `yowo_training.trainer`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from yowo_deploy.cli.console import dataset_options, opened, progress_bar, require, talk
from yowo_deploy.datasets import Dataset, split_present
from yowo_deploy.datasets.anchors import box_sizes, fit_anchors
from yowo_deploy.datasets.registry import DATASETS
from yowo_deploy.errors import InputError
from yowo_deploy.files import writable_folder
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.visuals.image_io import write_picture

if TYPE_CHECKING:
    from yowo_training.trainer import Report, Run

RECIPE_OF_DEFAULT = "yowo-lite"
SMALL = 500  # training videos, below which the shipped model is a better start than ImageNet


@click.command("train")
@dataset_options
@click.option(
    "--recipe",
    default="yowo-lite",
    help="Network and schedule: yowo-lite, yowo-tiny; of the paper's Table 2 yowo, yowo-2d, yowo-3d, yowo-concat; its "
    "settings by data set yowo-ucf24, yowo-jhmdb21, yowo-ava.",
)
@click.option("--minutes", type=float, help="Wall-clock time of the whole run.  [default: by --epochs]")
@click.option(
    "--epochs", type=click.IntRange(min=1), help="Passes over the videos, one clip of each.  [default: the recipe's]"
)
@click.option(
    "--weights-2d", type=click.Path(), help="File to start the 2-D branch from: PyTorch, or Darknet .weights."
)
@click.option("--weights-3d", type=click.Path(), help="File to start the 3-D branch from.")
@click.option(
    "--start",
    default="auto",
    type=click.Path(),
    help="Model to fine-tune, `default` or a file of the same recipe; or `recipe`, to begin as that says. auto: default"
    f" for {RECIPE_OF_DEFAULT} on a data.json of fewer than {SMALL} training videos.",
)
@click.option("--fit-anchors", "fit", is_flag=True, help="Anchors by k-means over the training boxes.")
@click.option("--seed", default=0, type=click.IntRange(min=0), help="Of sampling, augmentation and fresh weights.")
@click.option("--device", default="cpu", help="cpu, cuda or cuda:N.")
@click.option("--resume", is_flag=True, help="Go on where a run in this folder was stopped, if one was.")
@click.option(
    "--held-out", default=0.04, type=click.FloatRange(0, 0.9), help="Share of the recordings kept to choose by."
)
@click.option(
    "--cache-gb", type=click.FloatRange(min=0), help="Memory for decoded frames; by default a third of what is free."
)
@click.option("--tensorboard", is_flag=True, help="Curves for TensorBoard in the output folder.")
@click.option("--show-batch", type=click.Path(), help="Write a picture of augmented clips, and train nothing.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder for best.pt, last.pt and metrics.")
def command(
    dataset: str,
    data: str | None,
    split: int,
    recipe: str,
    minutes: float | None,
    epochs: int | None,
    weights_2d: str | None,
    weights_3d: str | None,
    start: str,
    fit: bool,
    seed: int,
    device: str,
    resume: bool,
    held_out: float,
    cache_gb: float | None,
    tensorboard: bool,
    show_batch: str | None,
    output: str,
) -> None:
    """Train a model on DATASET and keep the checkpoint that is best on held-out training recordings.

    Several GPUs or machines: `torchrun --nproc-per-node N -m yowo_training` with the same arguments.
    """
    require("train", "torch")
    if minutes is not None and epochs is not None:
        raise InputError("--minutes and --epochs both say how long to train: give one of them")
    if tensorboard:
        require("tensorboard", "tensorboard")
    from yowo_training.recipes import find_recipe
    from yowo_training.trainer import Budget, Run

    chosen = find_recipe(recipe)
    trained_on = opened(dataset, data, split)
    beginning = _start(start, recipe, dataset, trained_on, bool(weights_2d or weights_3d))
    if fit:
        fitted = fit_anchors(box_sizes(split_present(trained_on.videos("train"))[0], trained_on.anchor_grid))
        trained_on.anchors = tuple((float(w), float(h)) for w, h in fitted)
    files = {"backbone_2d": weights_2d, "backbone_3d": weights_3d}
    given = {branch: path for branch, path in files.items() if path}
    budget = Budget(minutes, epochs or chosen.epochs)
    cache_bytes = None if cache_gb is None else int(cache_gb * 2**30)
    more = (given, device, resume, cache_bytes, beginning)
    run = Run(chosen, trained_on, Path(output), budget, seed, held_out, *more)
    if show_batch is not None:
        _write_batch(run, Path(show_batch))
        return
    if run.team.leads:
        _announce(run, data or dataset, beginning)
    with ExitStack() as stack:
        curves = stack.enter_context(_curves(Path(output))) if tensorboard and run.team.leads else None
        update = stack.enter_context(progress_bar("training", total=1.0)) if run.team.leads else _silent
        for report in run:
            parts = "  ".join(f"{name} {value:.2f}" for name, value in report.parts.items())
            cache = f"cache {run.cache.held_bytes / 2**30:.1f} GB"
            update(report.done, f"epoch {report.epoch}  {parts}  {report.clips_per_s:.1f} clips/s  {cache}")
            if curves:
                curves.add(report)
            if report.frame_map is not None:
                where = "held-out recordings" if run.held_out else "training videos, as none are held out"
                talk.print(f"step {report.step}: frame-mAP {100 * report.frame_map:.1f} on {where}")
    if run.team.leads:
        click.echo(run.best)


def _start(start: str, recipe: str, dataset: str, opened: Dataset, has_weights: bool) -> str | None:
    """The file to start from, or None to start as the recipe does."""
    if start == "auto":
        own = dataset not in DATASETS and recipe == RECIPE_OF_DEFAULT and not has_weights
        return str(model_path(DEFAULT)) if own and len(opened.videos("train")) < SMALL else None
    if start != "recipe" and has_weights:
        raise InputError("--weights-2d and --weights-3d go with --start recipe: a trained model has both branches")
    return None if start == "recipe" else str(model_path(start))


def _announce(run: Run, data: str, start: str | None) -> None:
    if start:
        talk.print(
            f"fine-tuning from {Path(start).name}: its branches and CFAM, a new head (--start recipe begins anew)"
        )
    for branch, filled in run.filled.items():
        talk.print(f"{branch}: {filled.tensors} tensors filled, {filled.dropped} of the file left out")
    if run.absent:
        talk.print(f"{run.absent} training videos are not in {data}: left out")
    if run.unpeopled:
        talk.print(f"{run.unpeopled} training videos have nobody in them: left out")
    if run.progress.step:
        talk.print(f"going on after step {run.progress.step}")
    clips = run.recipe.batch * run.team.size
    talk.print(f"{len(run.training)} videos to train on, {len(run.held_out)} held out, {clips} clips a step")


def _silent(done: float, note: str = "") -> None:
    """The progress of a process that does not lead."""


def _write_batch(run: Run, path: Path) -> None:
    from yowo_training.data.batch_preview import show_batch
    from yowo_training.data.clip_sampler import batches

    sheet = show_batch(next(batches(run.training, run.spec, run.recipe, run.seed)), run.spec)
    write_picture(path, sheet)
    click.echo(path)


class _Curves:
    """The figures of a run as TensorBoard reads them."""

    def __init__(self, writer: Any) -> None:
        self._writer = writer

    def add(self, report: Report) -> None:
        """One point on each curve."""
        figures = {f"loss/{name}": value for name, value in report.parts.items()}
        figures |= {"loss/total": report.loss, "clips_per_s": report.clips_per_s}
        if report.frame_map is not None:
            figures["frame_map"] = report.frame_map
        for name, value in figures.items():
            self._writer.add_scalar(name, value, report.step)


@contextmanager
def _curves(output: Path) -> Iterator[_Curves]:
    from torch.utils.tensorboard import SummaryWriter

    writable_folder(output)
    with SummaryWriter(output / "tensorboard") as writer:
        yield _Curves(writer)
