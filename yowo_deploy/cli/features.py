"""`yowo-deploy features`."""

from __future__ import annotations

from pathlib import Path

import click

from yowo_deploy.backends.loader import is_checkpoint
from yowo_deploy.cli.console import Count, overwrite_option, progress_bar, require
from yowo_deploy.errors import InputError
from yowo_deploy.files import existing_file, refuse_existing
from yowo_deploy.model_files.default import model_path
from yowo_deploy.video.reader import open_video


@click.command("features")
@click.argument("checkpoint", type=click.Path())
@click.argument("videos", nargs=-1, required=True, type=click.Path())
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder for one .npz file per video.")
@click.option("--clip", type=Count(), help="Clip length of an official checkpoint without one.")
@overwrite_option
def command(checkpoint: str, videos: tuple[str, ...], output: str, clip: int | None, overwrite: bool) -> None:
    """Save the 3-D features of CHECKPOINT for VIDEOS, for `evaluate` and `detect` with --features.

    Each key frame then also uses the 64 frames around it (the paper's long-term feature bank).
    """
    require("train", "torch")
    from yowo_training.checkpoints.checkpoint import load_checkpoint
    from yowo_training.feature_bank import make_bank

    stems = [Path(video).stem for video in videos]
    if len(set(stems)) < len(stems):
        raise InputError("two videos have the same name, and their features would have the same file: use two folders")
    for stem in stems:
        refuse_existing(Path(output) / f"{stem}.npz", overwrite)
    if not is_checkpoint(existing_file(model_path(checkpoint), "model")):
        raise InputError(
            f"{checkpoint} is not a checkpoint: `yowo-deploy export {checkpoint} -o model.safetensors` makes one, of a "
            "float32 file of clips"
        )
    loaded = load_checkpoint(checkpoint, clip)
    with progress_bar("computing features", total=len(videos)) as update:
        for done, (video, stem) in enumerate(zip(videos, stems, strict=True), start=1):
            with open_video(video, allow_damaged=True) as reader:
                make_bank(loaded, reader).save(Path(output) / f"{stem}.npz")
            update(done, stem)
    click.echo(output)
