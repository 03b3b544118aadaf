"""`yowo-deploy train`."""

from __future__ import annotations

import os
import re
from itertools import count, takewhile
from pathlib import Path
from typing import Any

import click
from click.core import ParameterSource

from yowo_deploy.cli.console import (
    LARGEST_SEED,
    ConsoleReporter,
    Count,
    Number,
    dataset_options,
    overwrite_option,
    parsed,
    require,
)
from yowo_deploy.datasets.data_json import load_json
from yowo_deploy.errors import InputError
from yowo_deploy.files import existing_file


def parse_size(text: str) -> tuple[int, int]:
    """`224` or `320x240` as width and height.

    Raises:
        InputError: it is neither.
    """
    found = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text, re.ASCII)
    if found is None:
        raise InputError(f"size {text!r} is not understood, expected 224 or 320x240")
    return int(found[1]), int(found[2] or found[1])


def _take_config(context: click.Context, _: click.Parameter, path: str | None) -> None:
    """Take args.json of a run as defaults of the options, and its recipe."""
    if path is None:
        return
    content = load_json(existing_file(path, "args.json"))
    called = content.get("called_with") if isinstance(content, dict) else None
    if not isinstance(called, dict) or not isinstance(content.get("recipe"), dict):
        raise InputError(f"{path} is not the args.json of a run: expected recipe and called_with in it")
    weights = called.pop("weights", None) or {}
    if isinstance(weights, dict):
        called |= {f"weights_{name[-2:]}": file for name, file in weights.items()}
    found = {name: value for name, value in called.items() if value is not None}
    odd = [] if isinstance(weights, dict) else ["weights"]
    if odd := [*odd, *(name for name, value in found.items() if not isinstance(value, (str, int, float)))]:
        raise InputError(f"{path} has no text or number as {odd[0]}: give --config the args.json of a run")
    context.default_map = {name: value if isinstance(value, bool) else str(value) for name, value in found.items()}
    context.obj = content["recipe"]


@click.command("train")
@dataset_options
@click.option(
    "--recipe",
    default="yowo-lite",
    help="Network and schedule: yowo-lite, its later steps yowo-lite+people, yowo-lite+actors, yowo-lite+boxes; "
    "yowo-tiny; with a branch over flow: yowo-flow, yowo-tiny-flow; of the paper: yowo, yowo-2d, yowo-3d, "
    "yowo-concat; with its settings by data set: yowo-ucf24, yowo-jhmdb21, yowo-ava.",
)
@click.option("--minutes", type=Number(min_open=True), help="Length of the run by the clock, instead of --epochs.")
@click.option(
    "--epochs",
    type=Count(),
    help="Passes over the videos, each with one clip per video.  [default: the recipe's]",
)
@click.option(
    "--weights-2d", type=click.Path(), help="File to start the 2-D branch from: PyTorch, or Darknet .weights."
)
@click.option("--weights-3d", type=click.Path(), help="File to start the 3-D branch from.")
@click.option(
    "--start",
    default="auto",
    type=click.Path(),
    help="What to fine-tune: `default` (the shipped model), a file of the same recipe, or `recipe` (the weights that "
    "the recipe names). auto: default for yowo-lite on a data.json of fewer than 500 training videos, else recipe.",
)
@click.option(
    "--fit-anchors", "fit_anchors_to_data", is_flag=True, help="Fit anchors to the training boxes by k-means."
)
@click.option("--seed", default=0, type=Count(0, LARGEST_SEED), help="Seed of sampling, augmentation and new weights.")
@click.option("--device", default="auto", help="auto (the GPU where one works), cpu, cuda, cuda:N or N.")
@click.option(
    "--resume", is_flag=True, help="Continue the run in -o, or the newest one; more --epochs or --minutes extend it."
)
@click.option(
    "--held-out",
    default=0.04,
    type=Number(0, 0.9),
    help="Fraction of the recordings to hold out for choosing the best checkpoint; at least five "
    "recordings, or a fifth if there are fewer than 25. 0: none.",
)
@click.option(
    "--cache-gb", type=Number(min=0), help="GiB of memory for decoded frames.  [default: a third of the free memory]"
)
@click.option("--batch", type=Count(1, 65_536), help="Clips per step.  [default: the recipe's]")
@click.option(
    "--lr",
    "learning_rate",
    type=Number(min_open=True),
    help="Peak learning rate.  [default: the recipe's]",
)
@click.option(
    "--size",
    callback=parsed(parse_size),
    help="Width and height of the input, as 224 or 320x240.  [default: the recipe's]",
)
@click.option(
    "--focal",
    type=click.Choice(["official", "paper"]),
    help="Class loss: the term of the true class only, or both terms of the paper's equation 10.  "
    "[default: the recipe's]",
)
@click.option(
    "--patience",
    type=Count(),
    help="Stop after this many epochs without improvement; the model is validated every PATIENCE / 5 epochs.",
)
@click.option(
    "--people",
    type=click.Path(),
    help="data.json of people whose actions are not known: they train boxes, but not classes.",
)
@click.option("--silhouettes", type=click.Path(), help=".npz with masks of the actors, for yowo-lite+actors.")
@click.option(
    "--config",
    type=click.Path(),
    is_eager=True,
    expose_value=False,
    callback=_take_config,
    help="args.json of a run, whose arguments and recipe replace the defaults.",
)
@click.option("--tensorboard", is_flag=True, help="Write curves for TensorBoard into the folder of the run.")
@click.option("--show-batch", type=click.Path(), help="Write a picture of augmented clips and exit.")
@click.option("-o", "--output", type=click.Path(), help="Folder of the run.  [default: runs/train, runs/train2, ...]")
@overwrite_option
@click.pass_context
def command(
    context: click.Context,
    /,
    dataset: str,
    weights_2d: str | None,
    weights_3d: str | None,
    tensorboard: bool,
    show_batch: str | None,
    output: str | None,
    **options: Any,
) -> None:
    """Train a model on DATASET, a data.json or the name of a data set, and keep the checkpoint that is best on held-out
    training recordings.

    Several GPUs or machines: `torchrun --nproc-per-node N -m yowo_training` with the same arguments.
    """
    require("train", "torch")
    if tensorboard:
        require("tensorboard", "tensorboard")
    from yowo_training.pipeline import preview_batch, train
    from yowo_training.recipes import recipe_of

    typed = {name for name in options if context.get_parameter_source(name) is ParameterSource.COMMANDLINE}
    if context.obj is not None and "recipe" not in typed:
        options["recipe"] = recipe_of(context.obj)
    for name, other in (("minutes", "epochs"), ("epochs", "minutes")):
        if name in typed and other not in typed:
            options[other] = None  # of --config
    files = {"backbone_2d": weights_2d, "backbone_3d": weights_3d}
    weights = {branch: path for branch, path in files.items() if path}
    if show_batch is not None:
        click.echo(preview_batch(show_batch, dataset, os.devnull, weights=weights, **options))
        return
    best = train(
        dataset,
        output or _run_folder(options["resume"]),
        weights=weights,
        tensorboard=tensorboard,
        reporter=ConsoleReporter(),
        **options,
    )
    if os.environ.get("RANK", "0") == "0":  # of several processes under torchrun the first
        click.echo(best)


def _run_folder(resume: bool) -> Path:
    """The first of runs/train, runs/train2, ... that does not exist; to resume, the last one that does."""
    if "WORLD_SIZE" in os.environ:
        raise InputError("under torchrun the processes need one folder: give it with -o")
    there = list(takewhile(Path.exists, (Path(f"runs/train{number if number > 1 else ''}") for number in count(1))))
    return there[-1] if resume and there else Path(f"runs/train{len(there) + 1 if there else ''}")
