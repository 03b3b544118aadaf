"""`yowo-deploy score`: mAP of a file of detections against ground truth."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace

import click
import numpy as np

from yowo_deploy.cli.console import Choice, Count, Number, json_number, json_option, refuse_useless, show_table, tell
from yowo_deploy.datasets.box_files import read_excluded, read_label_map, read_list, read_table
from yowo_deploy.datasets.box_table import BoxTable
from yowo_deploy.errors import InputError
from yowo_deploy.metrics import ClassAp, classification_accuracy, frame_map, localization_recall
from yowo_deploy.metrics.ava_ap import ava_map
from yowo_deploy.metrics.matching import Matched, match
from yowo_deploy.metrics.video_ap import linked, of_annotated_frames, truth_tubes, video_map
from yowo_deploy.postprocess.tubes import RELEASE_RULE, LinkRule
from yowo_deploy.spec import MAX_LABELS
from yowo_deploy.visuals.image_io import check_plot

SMALLEST_STEP = 0.001  # between two thresholds, each of which takes a pass over all boxes


@click.command("score")
@click.argument("detections", type=click.Path())
@click.argument("ground_truth", type=click.Path())
@click.option(
    "--metric", type=click.Choice(["frame-map", "video-map", "ava"]), default="frame-map", help="What to compute."
)
@click.option("--iou", multiple=True, default=["0.5"], help="Threshold, or a range: 0.5:0.95, 0.1:0.9:0.2.")
@click.option(
    "--pixel-inclusive/--no-pixel-inclusive",
    default=None,
    help="Boxes include their last pixel: the width is x2 - x1 + 1.  [default: only for "
    "video-map, as in published figures]",
)
@click.option("--eleven-point", is_flag=True, help="Precision at eleven recalls, as in Pascal VOC until 2009.")
@click.option(
    "--linking",
    type=Choice("official", "paper", release="official"),
    default="official",
    help="How boxes are linked to tubes, for video-map.",
)
@click.option("--trim", type=Number(0), help="Trim tubes in time (with --linking paper); the larger, the fewer cuts.")
@click.option("--split", default=1, type=Count(), help="Number of the split in a JSON of ground truth.")
@click.option(
    "--classes", type=Count(1, MAX_LABELS), help="Number of classes.  [default: the largest of the ground truth]"
)
@click.option("--list", "list_path", type=click.Path(), help="Score only the videos or frames that this list names.")
@click.option("--labels", type=click.Path(), help="AVA label map (.pbtxt): other classes are left out.")
@click.option("--exclude", type=click.Path(), help="AVA csv of timestamps that are not evaluated.")
@click.option("--xywh", is_flag=True, help="Boxes in text files are left, top, width, height.")
@click.option("--plot", type=click.Path(), help="PNG with precision over recall.")
@json_option
def command(
    detections: str,
    ground_truth: str,
    metric: str,
    iou: tuple[str, ...],
    pixel_inclusive: bool | None,
    eleven_point: bool,
    linking: str,
    trim: float | None,
    split: int,
    classes: int | None,
    list_path: str | None,
    labels: str | None,
    exclude: str | None,
    xywh: bool,
    plot: str | None,
    as_json: bool,
) -> None:
    """Score DETECTIONS, a file or folder, against GROUND_TRUTH: per class and mean."""
    if plot:
        check_plot(plot)
    if trim is not None and linking == "official":
        raise InputError("--trim is not part of the official linking: add --linking paper")
    if metric != "video-map":
        refuse_useless("--metric video-map", "linking", "trim")
    if eleven_point and metric != "frame-map":
        raise InputError(f"--eleven-point is for frame-map, not for {metric}")
    if pixel_inclusive and metric == "ava":
        raise InputError("--pixel-inclusive is not for ava, whose boxes are fractions of the frame: leave it out")
    thresholds = [value for text in iou for value in _thresholds(text)]
    found, truth = read_table(detections, False, xywh), read_table(ground_truth, True, xywh, split)
    named = {*truth.moments(), *truth.bare} if metric == "ava" else None  # by rows of any class
    truth = _judged(truth, list_path, labels, exclude)
    found = _judged(found, list_path, labels, exclude, may_be_empty=metric == "ava")
    if labels and classes is None:
        classes = max(read_label_map(labels))
    matched = match(found, truth, classes, named)
    if metric == "video-map":
        matched = of_annotated_frames(matched)
    for note in matched.notes:
        tell(note)
    inclusive = metric == "video-map" if pixel_inclusive is None else pixel_inclusive
    rule = replace(RELEASE_RULE if linking == "official" else LinkRule(trim=trim), pixel_inclusive=inclusive)
    figures = _figures(metric, matched, thresholds, inclusive, eleven_point, rule)
    extra = {}
    if metric == "frame-map":
        pair = matched.detections, matched.truth
        extra = {"recall": localization_recall(*pair), "accuracy": classification_accuracy(*pair)}
    if plot:
        from yowo_deploy.visuals.plots import precision_recall_plot

        precision_recall_plot(figures[0].curves, matched.labels, plot)
        tell(f"plot in {plot}")
    if as_json:
        click.echo(
            json.dumps(_values(metric, figures, thresholds, matched) | {k: json_number(v) for k, v in extra.items()})
        )
        return
    _show(metric, figures, thresholds, matched, extra)


def _thresholds(text: str) -> list[float]:
    """`0.5`, `0.5:0.95` and `0.1:0.9:0.2` as numbers; the step is 0.05, or 0.1 between tenths, as papers mean it."""
    try:
        first, last, step = (float(part) for part in (*text.split(":"), *_rest_of_range(text)))
    except ValueError as error:
        raise InputError(f"--iou {text}: expected a number, or a range like 0.5:0.95") from error
    if not (0 < first <= last <= 1 and SMALLEST_STEP <= step < math.inf):
        raise InputError(f"--iou {text}: expected thresholds above 0 and up to 1, {SMALLEST_STEP} apart at least")
    return [round(first + index * step, 6) for index in range(int((last - first) / step + 1.000001))]


def _rest_of_range(text: str) -> list[str]:
    """What a threshold or range leaves unsaid."""
    parts = text.split(":")
    tenths = all(float(part) * 10 % 1 in (0.0, 1.0) for part in parts)
    return [[parts[0], "1"], ["0.1" if tenths else "0.05"], []][len(parts) - 1] if len(parts) <= 3 else []


def _judged(
    table: BoxTable, list_path: str | None, labels: str | None, exclude: str | None, may_be_empty: bool = False
) -> BoxTable:
    """The rows that the list, the label map and the excluded timestamps leave."""
    keep = np.ones(len(table), bool)
    names = np.array(table.videos)[table.video]
    if list_path:
        videos, frames = read_list(list_path)
        keep &= np.isin(names, list(videos))
        if frames:
            keep &= [(name, frame) in frames for name, frame in zip(names.tolist(), table.frame.tolist(), strict=True)]
    if labels:
        keep &= np.isin(np.array(table.classes)[table.class_id], [str(each) for each in read_label_map(labels)])
    if exclude:
        left_out = read_excluded(exclude)
        keep &= np.array([moment not in left_out for moment in table.moments()], bool)
    if not keep.any() and not may_be_empty:
        raise InputError(f"--list, --labels and --exclude leave no box of {table.source}")
    return table if keep.all() else table.rows(keep)


def _figures(
    metric: str, matched: Matched, ious: Sequence[float], inclusive: bool, eleven_point: bool, rule: LinkRule
) -> list[ClassAp]:
    """Average precisions at each threshold."""
    classes = len(matched.labels)
    if metric == "video-map":
        return video_map(linked(matched, rule), truth_tubes(matched), classes, ious, inclusive)
    if metric == "ava":
        return [ava_map(matched.detections, matched.truth, classes, iou) for iou in ious]
    return [frame_map(matched.detections, matched.truth, classes, iou, inclusive, eleven_point) for iou in ious]


def _values(metric: str, figures: Sequence[ClassAp], ious: Sequence[float], matched: Matched) -> dict[str, object]:
    by_iou = {
        f"{iou:g}": {
            "mean": json_number(figure.mean),
            "per_class": dict(zip(matched.labels, map(json_number, figure.per_class.tolist()), strict=True)),
        }
        for iou, figure in zip(ious, figures, strict=True)
    }
    mean = float(np.mean([figure.mean for figure in figures]))
    return {"metric": metric, "mean": json_number(mean), "iou": by_iou, "notes": list(matched.notes)}


def _show(
    metric: str, figures: Sequence[ClassAp], ious: Sequence[float], matched: Matched, extra: dict[str, float]
) -> None:
    def percent(values: Sequence[float]) -> list[str]:
        return ["" if math.isnan(value) else f"{100 * value:.3f}" for value in values]

    headers = ("class", *(f"AP@{iou:g} %" for iou in ious))
    rows = [(label, *percent([f.per_class[i] for f in figures])) for i, label in enumerate(matched.labels)]
    rows.append(("mean", *percent([figure.mean for figure in figures])))
    show_table(metric, headers, rows)
    if len(ious) > 1:
        mean = float(np.mean([figure.mean for figure in figures]))
        show_table("", ("figure", "value"), [(f"mean over {len(ious)} thresholds %", f"{100 * mean:.3f}")])
    if extra:
        show_table("", ("figure", "value"), [(f"{name} %", *percent([value])) for name, value in extra.items()])
