"""`yowo-deploy data`: import, export, check, statistics and preview of annotated videos."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import click

from yowo_deploy.cli.console import Choice, Count, Number, json_option, overwrite_option, progress_bar, show_table, tell
from yowo_deploy.datasets.checks.dataset import check_data
from yowo_deploy.datasets.checks.video import Finding
from yowo_deploy.datasets.data_json import Annotations, read_annotations, write_annotations
from yowo_deploy.datasets.formats.box_rows import Options
from yowo_deploy.datasets.importer import FORMATS, WRITERS, import_annotations, only_present, recognise, with_test_share
from yowo_deploy.datasets.preview import annotated_frames, sheet
from yowo_deploy.datasets.statistics import statistics_of
from yowo_deploy.errors import DatasetError, InputError, OutputError
from yowo_deploy.files import refuse_existing, refuse_overwriting
from yowo_deploy.video.reader import open_video
from yowo_deploy.video.writer import VideoWriter
from yowo_deploy.visuals.image_io import check_plot, write_picture

OLD_FORMATS = {"release-folders": "yowo-folders"}  # old name: name; help does not show them
SHOWN = 5  # findings of one kind; --json has all


@click.group("data")
def command() -> None:
    """Import, check, preview and export annotated videos."""


@command.command("import")
@click.argument("source", type=click.Path())
@click.option("--from", "kind", type=Choice("auto", *FORMATS, **OLD_FORMATS), default="auto", help="Format of SOURCE.")
@click.option("-o", "--output", default="data.json", type=click.Path(), help="data.json to write.")
@click.option("--videos", multiple=True, type=click.Path(), help="Folder with the videos.  [default: beside SOURCE]")
@click.option("--action-from", default="label", help="Where the action is: label, or attribute:NAME.")
@click.option("--start", default=0.0, type=Number(0), help="Second of the film at which a video begins (AVA: 900).")
@click.option("--fps", type=Number(min_open=True), help="Frame rate of videos that are missing.")
@click.option("--present", is_flag=True, help="Leave out missing videos, and classes without any.")
@click.option("--test-share", type=Number(0, 0.9), help="Fraction of the tubes to test on, by whole recordings.")
@overwrite_option
def import_command(
    source: str,
    kind: str,
    output: str,
    videos: tuple[str, ...],
    action_from: str,
    start: float,
    fps: float | None,
    present: bool,
    test_share: float | None,
    overwrite: bool,
) -> None:
    """Write the annotations of SOURCE, a file or folder, as data.json."""
    if not output.endswith((".json", ".json.gz")):
        raise OutputError(f"cannot write {output}: expected a name that ends in .json or .json.gz")
    refuse_overwriting(source, output)
    refuse_existing(output, overwrite)
    for folder in videos:
        if not Path(folder).is_dir():
            raise InputError(f"folder of videos not found: {folder}")
    found = recognise(Path(source)) if kind == "auto" else kind
    options = Options(tuple(map(Path, videos)), action_from, start, fps)
    annotations, notes = import_annotations(Path(source), found, options)
    if present:
        everything, annotations = annotations, only_present(annotations)
        notes = [*(note for note in notes if "not there" not in note), *_left_out(everything, annotations)]
    if test_share is not None:
        annotations = with_test_share(annotations, test_share)
        if test_share and not annotations.splits[0]["test"]:
            notes.append("no test videos: every class has only one recording, and that is for training")
    write_annotations(annotations, output)
    tell(f"{found}: {_summary(annotations)}")
    absent = [video for video in annotations.videos if not video.path.exists()]
    if absent and not any("not there" in note for note in notes):
        notes.append(f"missing videos: {len(absent)}, the first {absent[0].path}: give --videos FOLDER")
    for note in notes:
        tell(note)
    click.echo(output)


@command.command("export")
@click.argument("data", type=click.Path())
@click.option("--to", "kind", required=True, type=click.Choice(list(WRITERS)), help="Format to write.")
@click.option("-o", "--output", required=True, type=click.Path(), help="Folder for the files.")
@overwrite_option
def export_command(data: str, kind: str, output: str, overwrite: bool) -> None:
    """Write DATA, ground truth or what `detect --save-json` found, for an annotation tool."""
    annotations = read_annotations(data)
    written = WRITERS[kind](annotations, Path(output), overwrite)
    tell(f"{kind}: {_summary(annotations)}")
    for lost in written.lost:
        tell(f"lost: {lost}")
    for note in written.notes:
        tell(note)
    for file in written.files:
        click.echo(file)


@command.command("check")
@click.argument("data", type=click.Path())
@click.option("--fix", is_flag=True, help="Correct unambiguous faults, in DATA or in -o.")
@click.option("-o", "--output", type=click.Path(), help="Where --fix writes.  [default: DATA]")
@click.option("--fast", is_flag=True, help="Decode nothing: trust the frame counts and rates of containers.")
@overwrite_option
@json_option
def check_command(data: str, fix: bool, output: str | None, fast: bool, overwrite: bool, as_json: bool) -> None:
    """Check DATA and its videos; exit code 1 if an error is left."""
    if output is not None and not fix:
        raise InputError("-o is the file that --fix writes: give --fix as well")
    if output is not None and Path(output).absolute() != Path(data).absolute():
        refuse_existing(output, overwrite)
    with progress_bar("checking", total=None) as update:
        checked = check_data(Path(data), not fast, update)
    found = checked.findings
    if as_json:
        click.echo(json.dumps([finding._asdict() for finding in found]))
    else:
        _show(found)
    left = [finding for finding in found if finding.level == "error" and not (fix and finding.mended)]
    if fix and any(finding.mended for finding in found):
        if not checked.whole:
            raise DatasetError(f"{data} has rows that cannot be read, and --fix would lose them: correct those first")
        write_annotations(checked.mended, output or data)
        for finding in found:
            if finding.mended:
                tell(f"mended {finding.where}: {finding.mended}")
        tell(f"written: {output or data}")
    summary = f"{_some(len(found), 'finding')}, {_some(len(left), 'error')} left"
    tell(summary if found else "nothing wrong was found")
    if left:
        raise SystemExit(1)


@command.command("stats")
@click.argument("data", type=click.Path())
@click.option("--plot", type=click.Path(), help="PNG with classes, lengths and box sizes.")
@json_option
def stats_command(data: str, plot: str | None, as_json: bool) -> None:
    """Statistics of DATA: classes, tube lengths, box sizes beside the anchors, frames without people."""
    if plot:
        check_plot(plot)
    found = statistics_of(read_annotations(data))
    if plot:
        from yowo_deploy.visuals.plots import data_plot

        names, counts = [row.name for row in found.classes], [(row.train, row.test) for row in found.classes]
        data_plot(names, counts, found.lengths_s, found.sizes, found.anchors, plot)
        tell(f"plot in {plot}")
    counted = {
        name: getattr(found, name) for name in ("videos", "frames", "bare_frames", "tubes", "boxes", "most_people")
    }
    if as_json:
        classes = [vars(row) for row in found.classes]
        click.echo(json.dumps({**counted, "anchor_iou": found.anchor_iou, "classes": classes}))
        return
    rows = [(r.name, str(r.train), str(r.test), str(r.boxes), f"{r.median_s:.1f}") for r in found.classes]
    show_table(data, ("class", "tubes, train", "tubes, test", "boxes", "median length, s"), rows)
    titles = {"bare_frames": "frames without anyone", "most_people": "most people in a frame"}
    figures = [(titles.get(name, name), str(value)) for name, value in counted.items()]
    figures += [(f"mean IoU of boxes with {name}", f"{value:.3f}") for name, value in found.anchor_iou.items()]
    show_table("", ("figure", "value"), figures)


@command.command("preview")
@click.argument("data", type=click.Path())
@click.option(
    "-o",
    "--output",
    required=True,
    type=click.Path(),
    help="Annotated video (.webm or .mp4), or a sheet of frames of several videos (.png).",
)
@click.option("--video", "name", help="Name of the video.  [default: the first that exists]")
@click.option("--count", default=24, type=Count(), help="Videos on a sheet.")
@overwrite_option
def preview_command(data: str, output: str, name: str | None, count: int, overwrite: bool) -> None:
    """Draw the ground truth of DATA."""
    refuse_existing(output, overwrite)
    annotations = read_annotations(data)
    chosen = [video for video in annotations.videos if (name is None or video.name == name)]
    if not chosen:
        known = ", ".join(video.name for video in annotations.videos[:5])
        raise InputError(f"{data} has no video {name!r}, but {known}, ...")
    present = [video for video in chosen if video.path.exists()]
    for video in annotations.videos:
        refuse_overwriting(video.path, output)
    if not present:
        raise DatasetError(f"none of the {len(chosen)} videos exists: {chosen[0].path} not found")
    if Path(output).suffix.lower() in (".png", ".jpg", ".jpeg"):
        write_picture(output, sheet(present, annotations.classes, count))
    else:
        video = present[0]
        with open_video(video.path, allow_damaged=True) as reader:
            fps, size_wh = reader.fps, reader.size_wh
        with VideoWriter(output, fps, size_wh) as writer:
            for frame in annotated_frames(video, annotations.classes):
                writer.write(frame)
    click.echo(output)


def _summary(annotations: Annotations) -> str:
    tubes = [tube for video in annotations.videos for tube in video.tubes]
    boxes = sum(map(len, tubes))
    sides = annotations.splits[0] if annotations.splits else {}
    split = ", ".join(f"{len(names)} to {side}" for side, names in sides.items())
    many = ", several labels a box" if annotations.exclusive is not None else ""
    counts = f"{_some(len(annotations.videos), 'video')}{f' ({split})' if split else ''}, {_some(len(tubes), 'tube')}"
    names = ", ".join(annotations.classes[:8]) + (", ..." if len(annotations.classes) > 8 else "")
    kinds = _some(len(annotations.classes), "class")
    return f"{counts}, {_some(boxes, 'box')}, {kinds}{many}: {names}"


def _left_out(before: Annotations, after: Annotations) -> list[str]:
    """What --present took away."""
    videos = len(before.videos) - len(after.videos)
    classes = [name for name in before.classes if name not in after.classes]
    named = f", and {_some(len(classes), 'class')}: {', '.join(classes)}" if classes else ""
    return [f"left out: {_some(videos, 'video')} without a file{named}"] if videos or classes else []


def _some(count: int, thing: str) -> str:
    """`1 box`, `2 boxes`."""
    return f"{count} {thing}{'' if count == 1 else 'es' if thing.endswith(('s', 'x')) else 's'}"


def _show(found: list[Finding]) -> None:
    counts: Counter[str] = Counter()
    for finding in found:
        counts[finding.kind] += 1
        if counts[finding.kind] <= SHOWN:
            click.echo(f"{finding.level}: {finding.where}: {finding.fault}. To do: {finding.remedy}")
    for kind, count in counts.items():
        if count > SHOWN:
            click.echo(f"{kind}: {count - SHOWN} more, see --json")
