"""Train a model on a data set, or preview its batches, as one call each."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from yowo_deploy.backends.accepted import accept
from yowo_deploy.backends.loader import SAFETENSORS
from yowo_deploy.datasets import Dataset, split_present
from yowo_deploy.datasets.anchors import bad_anchors, box_sizes, fit_anchors
from yowo_deploy.datasets.registry import DATASETS, open_dataset
from yowo_deploy.errors import InputError
from yowo_deploy.evaluation import Evaluation
from yowo_deploy.files import writable_folder
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.reporter import Reporter
from yowo_deploy.visuals.image_io import PICTURES, check_suffix, write_picture
from yowo_training.data.batch_preview import show_batch
from yowo_training.recipes import Recipe, find_recipe
from yowo_training.run_folder import RunFolder
from yowo_training.trainer import Budget, Report, Run

RECIPE_OF_DEFAULT = "yowo-lite"
MEASURED = 500  # videos whose boxes are compared with the anchors
_NOT_REPEATED = ("recipe", "batch", "learning_rate", "size", "resume", "overwrite")  # of `called_with`
SMALL = 500  # training videos, below which the shipped model is a better start than ImageNet


def train(
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    split: int = 1,
    *,
    tensorboard: bool = False,
    reporter: Reporter | None = None,
    on_step: Callable[[Report], None] | None = None,
    **options: Any,
) -> Path:
    """Train a model and keep the checkpoint that is best on held-out recordings: `yowo-deploy train` as one call.

        train("jhmdb21", "runs/lite", "data/jhmdb21", recipe="yowo-lite", minutes=76)

    Args:
        dataset: a name of `DATASETS`, or a data.json.
        output: folder for checkpoints, args.json, results.csv, plots and sheets, see `RunFolder`.
        data: folder of a data set that is called by its name.
        split: number of the official split.
        tensorboard: also write curves for TensorBoard into the output folder.
        reporter: receives messages and progress; by default they are logged.
        on_step: called with the state of the run after each step.
        options: of `prepare`: recipe, minutes, epochs, weights, start, fit_anchors_to_data, seed, device, resume,
            held_out, cache_gb, overwrite, batch, learning_rate, size, patience, people, silhouettes, focal.

    Returns:
        The best checkpoint.

    Raises:
        InputError: arguments that exclude each other, or see `Run`.
        DatasetError: the data set cannot be read.
    """
    reporter = reporter or Reporter()
    run = prepare(dataset, output, data, split, **options)
    given = {
        "dataset": os.fspath(dataset),
        "data": None if data is None else os.fspath(data),
        "split": split,
        **options,
    }
    run.called_with = {name: value for name, value in given.items() if name not in _NOT_REPEATED}
    if not run.team.leads:
        for _ in run:
            pass
        return run.best
    for line in _announcement(run, os.fspath(data or dataset)):
        reporter.message(line)
    with ExitStack() as stack:
        curves = stack.enter_context(_curves(Path(output))) if tensorboard else None
        folder = RunFolder(run)
        folder.begin()
        update = stack.enter_context(reporter.progress("training", 1.0))
        for report in run:
            folder.add(report)
            parts = "  ".join(f"{name} {value:.2f}" for name, value in report.parts.items())
            cache = f"cache {run.cache.held_bytes / 2**30:.1f} GB"
            update(report.done, f"epoch {report.epoch}  {parts}  {report.clips_per_s:.1f} clips/s  {cache}")
            if curves:
                curves(report)
            if on_step:
                on_step(report)
            if report.frame_map is not None:
                where = "held-out recordings" if run.held_out else "training videos, as none are held out"
                said = f"epoch {report.epoch + 1}, step {report.step}: loss {report.loss:.3f}, rate {report.rate:.2g}"
                reporter.message(f"{said}, frame-mAP {100 * report.frame_map:.1f} on {where}")
        folder.end()
    for file in (*run.best.parent.glob("*.pt"), run.best.with_suffix(SAFETENSORS)):
        accept(file)
    for line in _by_class(run.chosen):
        reporter.message(line)
    return run.best


def _by_class(found: Evaluation | None) -> Iterator[str]:
    """A table of the best validation: boxes, AP, share found, and share of those with the right class."""
    if found is None or found.confusion is None:
        return
    wide = max(map(len, (*found.labels, "class")))
    yield f"{'class':<{wide}}  boxes   AP@0.5 %  found %  right class %"
    for label, ap, row, right in zip(
        found.labels, found.frame_map.per_class, found.confusion, found.confusion.diagonal(), strict=True
    ):
        if boxes := int(row.sum()):
            seen = boxes - int(row[-1])
            shares = f"{100 * seen / boxes:7.1f}  {100 * right / max(seen, 1):13.1f}"
            yield f"{label:<{wide}}  {boxes:5d}  {100 * ap:9.1f}  {shares}"
    mean = f"{100 * found.frame_map.mean:9.1f}  {100 * found.recall:7.1f}  {100 * found.accuracy:13.1f}"
    yield f"{'all':<{wide}}  {int(found.confusion.sum()):5d}  {mean}"


def preview_batch(
    picture: str | os.PathLike[str],
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    split: int = 1,
    **options: Any,
) -> Path:
    """Write a picture of the augmented clips that `train` with the same arguments would begin with.

    Args:
        picture: file to write, .png or .jpg.
        dataset, output, data, split, options: as for `train`.

    Raises:
        YowoError: see `train`.
    """
    check_suffix(picture, *PICTURES)
    run = prepare(dataset, output, data, split, **options)
    sheet = show_batch(next(run.batches()), run.spec)
    write_picture(picture, sheet)
    return Path(picture)


def prepare(
    dataset: str | os.PathLike[str],
    output: str | os.PathLike[str],
    data: str | os.PathLike[str] | None = None,
    split: int = 1,
    *,
    recipe: str | Recipe = RECIPE_OF_DEFAULT,
    minutes: float | None = None,
    epochs: int | None = None,
    weights: Mapping[str, str | os.PathLike[str]] | None = None,
    start: str = "auto",
    fit_anchors_to_data: bool = False,
    seed: int = 0,
    device: str = "auto",
    resume: bool = False,
    held_out: float = 0.04,
    cache_gb: float | None = None,
    overwrite: bool = False,
    batch: int | None = None,
    learning_rate: float | None = None,
    size: tuple[int, int] | None = None,
    patience: int | None = None,
    people: str | os.PathLike[str] | None = None,
    silhouettes: str | os.PathLike[str] | None = None,
    focal: Literal["official", "paper"] | None = None,
) -> Run:
    """A training run that is ready to be iterated.

    Args:
        dataset, output, data, split: see `train`.
        recipe: network and schedule, or the name of a recipe.
        minutes: wall-clock time of the whole run.
        epochs: passes over the videos, one clip of each; by default the recipe's.
        weights: file to start a branch from, by "backbone_2d" or "backbone_3d".
        start: a model file of the same recipe to fine-tune, "default" for the shipped one, or "recipe" to begin as the
            recipe does; "auto" is "default" for its own recipe on a data.json of fewer than `SMALL` training videos.
        fit_anchors_to_data: anchors by k-means over the training boxes.
        seed: of sampling, augmentation and fresh weights.
        device: "cpu", "cuda", "cuda:N" or "N"; "auto" is the GPU where one works.
        resume: continue an interrupted run in this folder, if there is one.
        held_out: share of the training recordings that the best checkpoint is chosen on.
        cache_gb: memory for decoded frames; by default a third of what is free.
        overwrite: replace a run that the folder holds.
        batch, learning_rate, size: in place of the recipe's; size is width and height of the input.
        patience: end the run when no validation was better for so many epochs; there is one at each fifth of them.
        people: data.json of people whose actions are not known: boxes are learnt from its training videos, classes are
            not (see `with_people`).
        silhouettes: .npz of the actors' masks, for a recipe that pastes them (see `Silhouettes`).
        focal: the class loss with both terms of the paper's equation 10, or with that of the true class alone as in
            the release; by default the recipe's.

    Raises:
        InputError: `minutes` and `epochs`, or `weights` and a model to start from, are both given; or see `Run`.
        DatasetError: the data set cannot be read.
    """
    if minutes is not None and epochs is not None:
        raise InputError("--minutes and --epochs both set the length of the run: give one of them")
    name = os.fspath(dataset)
    chosen = find_recipe(recipe) if isinstance(recipe, str) else recipe
    changes = {"batch": batch, "learning_rate": learning_rate, "input_size": size}
    chosen = replace(chosen, **{name: value for name, value in changes.items() if value is not None})  # type: ignore[arg-type]
    if focal is not None:
        chosen = replace(chosen, loss=replace(chosen.loss, both_terms=focal == "paper"))
    videos = open_dataset(name, None if data is None else Path(data), split)
    given = {branch: os.fspath(path) for branch, path in (weights or {}).items()}
    beginning = _start(start, chosen.name, name, videos, bool(given))
    if fit_anchors_to_data:
        fitted = fit_anchors(box_sizes(split_present(videos.videos("train"))[0], videos.anchor_grid))
        videos.anchors = tuple((float(w), float(h)) for w, h in fitted)
    budget = Budget(minutes, epochs or chosen.epochs)
    cache_bytes = None if cache_gb is None else int(cache_gb * 2**30)
    crowd = None if people is None else open_dataset(os.fspath(people))
    masks = None if silhouettes is None else os.fspath(silhouettes)
    more = cache_bytes, beginning, overwrite, patience, crowd, masks
    return Run(chosen, videos, Path(output), budget, seed, held_out, given, device, resume, *more)


def _start(start: str, recipe: str, dataset: str, opened: Dataset, has_weights: bool) -> str | None:
    """The file to start from, or None to start as the recipe does."""
    if start == "auto":
        own = dataset not in DATASETS and recipe == RECIPE_OF_DEFAULT and not has_weights
        return str(model_path(DEFAULT)) if own and len(opened.videos("train")) < SMALL else None
    if start != "recipe" and has_weights:
        raise InputError("--weights-2d and --weights-3d go with --start recipe: a trained model has both branches")
    return None if start == "recipe" else str(model_path(start))


def _announcement(run: Run, data: str) -> Iterator[str]:
    if run.start:
        yield f"fine-tuning from {Path(run.start).name}: its branches, CFAM and as much of its head as fits"
    for branch, filled in run.filled.items():
        yield f"{branch}: {filled.tensors} tensors filled, {filled.dropped} of the file left out"
    if run.absent:
        yield f"{run.absent} training videos are not in {data}: left out"
    if run.unannotated:
        yield f"{run.unannotated} training videos have no boxes: left out"
    if run.progress.step:
        yield f"continuing after step {run.progress.step}"
    if not run.held_out:
        yield "no recordings are held out: best.pt is chosen on training videos and may not be the best on new ones"
    if measured := [video for video in run.training if video.size_wh][:MEASURED]:
        fault = bad_anchors(box_sizes(measured, run.spec.grid_size), np.array(run.spec.anchors))
        yield from [f"{fault}: give --fit-anchors"] if fault else []
    clips = run.recipe.batch * run.team.size
    if more := len(run.sampled) - len(run.training):
        yield f"{more} videos of people whose actions are not known: their boxes are learnt, their classes are not"
    yield f"training videos: {len(run.training)}; held out: {len(run.held_out)}; clips a step: {clips}"


@contextmanager
def _curves(output: Path) -> Iterator[Callable[[Report], None]]:
    """A function that adds one point to each TensorBoard curve."""
    from torch.utils.tensorboard import SummaryWriter

    writable_folder(output)
    with SummaryWriter(output / "tensorboard") as writer:

        def add(report: Report) -> None:
            figures = {f"loss/{name}": value for name, value in report.parts.items()}
            figures |= {"loss/total": report.loss, "clips_per_s": report.clips_per_s}
            if report.frame_map is not None:
                figures["frame_map"] = report.frame_map
            for name, value in figures.items():
                writer.add_scalar(name, value, report.step)

        yield add
