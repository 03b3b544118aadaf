"""`yowo-deploy anchors`."""

from __future__ import annotations

import json

import click
import numpy as np

from yowo_deploy.cli.console import LARGEST_SEED, Count, dataset_options, json_option, opened, show_table, tell
from yowo_deploy.datasets.anchors import box_sizes, fit_anchors, mean_iou
from yowo_deploy.spec import MAX_ANCHORS
from yowo_deploy.visuals.image_io import check_plot


@click.command("anchors")
@dataset_options
@click.option("--count", default=5, type=Count(1, MAX_ANCHORS), help="Number of anchors.")
@click.option(
    "--grid",
    nargs=2,
    type=Count(1, 8192),
    help="Columns and rows of the output grid.  [default: that of the data set's own anchors]",
)
@click.option("--seed", default=0, type=Count(0, LARGEST_SEED), help="Seed of the k-means starts.")
@click.option("--plot", type=click.Path(), help="PNG with box sizes and anchors.")
@json_option
def command(
    dataset: str,
    data: str | None,
    split: int,
    count: int,
    grid: tuple[int, int] | None,
    seed: int,
    plot: str | None,
    as_json: bool,
) -> None:
    """Fit anchors to the training boxes of DATASET, a data.json or the name of a data set, in grid cells."""
    if plot:
        check_plot(plot)
    boxes_of = opened(dataset, data, split)
    grid = grid or boxes_of.anchor_grid
    sizes = box_sizes(boxes_of.videos("train"), grid)
    anchors = fit_anchors(sizes, count, seed=seed)
    present = np.array(boxes_of.anchors) * np.array(grid) / np.array(boxes_of.anchor_grid)
    reached = {"fitted": mean_iou(sizes, anchors), "data set's own": mean_iou(sizes, present)}
    if plot:
        from yowo_deploy.visuals.plots import anchor_plot

        anchor_plot(sizes, anchors, plot)
        tell(f"plot in {plot}")
    if as_json:
        click.echo(json.dumps({"anchors": anchors.round(5).tolist(), "boxes": len(sizes), "mean_iou": reached}))
        return
    rows = [(str(i + 1), f"{w:.5f}", f"{h:.5f}") for i, (w, h) in enumerate(anchors)]
    show_table(f"{count} anchors for {len(sizes)} boxes", ("anchor", "width, cells", "height, cells"), rows)
    show_table("mean IoU with the best anchor", ("anchors", "mean IoU"), [(k, f"{v:.4f}") for k, v in reached.items()])
