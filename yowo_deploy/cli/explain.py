"""`yowo-deploy explain`."""

from __future__ import annotations

import click

from yowo_deploy.cli.console import Count, Number, require
from yowo_deploy.files import refuse_overwriting
from yowo_deploy.video.reader import open_video
from yowo_deploy.visuals.image_io import PICTURES, check_suffix, write_picture


@click.command("explain")
@click.argument("checkpoint", type=click.Path())
@click.argument("video", type=click.Path())
@click.option("--frame", "number", required=True, type=Count(0), help="Number of the frame, from 0.")
@click.option("--out", "output", required=True, type=click.Path(), help="Picture to write: .png or .jpg.")
@click.option("--conf", type=Number(0, 1), help="Show detections above this.  [default: the model's]")
@click.option("--clip", type=Count(), help="Clip length.  [default: the checkpoint's]")
def command(checkpoint: str, video: str, number: int, output: str, conf: float | None, clip: int | None) -> None:
    """Draw activation maps of the branches of CHECKPOINT over a frame of VIDEO (the paper's Figure 4).

    CHECKPOINT may also be a float32 ONNX file of this toolkit, or `default`.
    """
    require("train", "torch")
    from yowo_training.activation_maps import explain
    from yowo_training.checkpoints.onnx_weights import load_network

    for source in (checkpoint, video):
        refuse_overwriting(source, output)
    check_suffix(output, *PICTURES)
    loaded = load_network(checkpoint, clip)
    with open_video(video) as reader:
        picture = explain(loaded, reader, number, conf)
    write_picture(output, picture)
    click.echo(output)
