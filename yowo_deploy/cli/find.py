"""`yowo-deploy find`."""

from __future__ import annotations

import re

import click

from yowo_deploy.archive.search import Moment, cut_clips, find
from yowo_deploy.cli.console import Count, Number, json_option, parsed, show_table, tell
from yowo_deploy.errors import InputError
from yowo_deploy.json_text import to_json
from yowo_deploy.postprocess.rule_files import parse_zone, read_zones
from yowo_deploy.postprocess.zones import ANCHORS, Anchor


def parse_seconds(text: str) -> float:
    """`2s`, `500ms`, `1.5min` or a number of seconds.

    Raises:
        InputError: it is none of them.
    """
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ms|s|min|h|)", text, re.ASCII)
    if found is None:
        raise InputError(f"a duration {text!r} is not understood, expected 2s, 500ms or 1min")
    return float(found[1]) * {"ms": 0.001, "s": 1, "": 1, "min": 60, "h": 3600}[found[2]]


@click.command("find")
@click.argument("folder", type=click.Path())
@click.option("--action", multiple=True, help="Label of the model.  [repeatable; default: all]")
@click.option("--min-score", default=0.0, type=Number(0, 1), help="Smallest mean score of the action.")
@click.option("--for", "seconds", default="0s", callback=parsed(parse_seconds), help="Shortest duration, as 2s.")
@click.option("--zone", multiple=True, help="Only people in this zone: name=x,y,x,y,x,y, as fractions of the picture.")
@click.option("--zones", type=click.Path(), help="Only people in a zone of this JSON file.")
@click.option("--zone-anchor", type=click.Choice(ANCHORS), default="bottom", help="Which point of a box counts.")
@click.option("--limit", default=100, type=Count(), help="Largest number of moments to list.")
@click.option("-o", "--output", type=click.Path(), help="Folder for a clip of each moment, .webm.")
@json_option
def command(
    folder: str,
    action: tuple[str, ...],
    min_score: float,
    seconds: float,
    zone: tuple[str, ...],
    zones: str | None,
    zone_anchor: Anchor,
    limit: int,
    output: str | None,
    as_json: bool,
) -> None:
    """List moments in the results of `batch`: who does what, where and for how long; best first."""
    areas = [*map(parse_zone, zone), *(read_zones(zones) if zones else [])]
    found = find(folder, action, min_score, seconds, areas, zone_anchor, limit + 1, boxes=output is not None)
    more, found = len(found) > limit, found[:limit]
    if as_json:
        for each in found:
            click.echo(to_json({name: value for name, value in vars(each).items() if name != "boxes"}))
    else:
        headers = ("video", "from", "to", "seconds", "person", "action", "score")
        show_table("", headers, [_row(each) for each in found])
    if more:
        tell(f"the best {limit} of more: --limit sets how many")
    if output is not None:
        tell(f"{len(cut_clips(found, output))} clips in {output}")


def _row(moment: Moment) -> tuple[str, ...]:
    times = f"{moment.first_time:.2f}", f"{moment.last_time:.2f}", f"{moment.seconds:.2f}"
    return moment.source, *times, str(moment.person), moment.label, f"{moment.score:.2f}"
