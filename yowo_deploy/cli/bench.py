"""`yowo-deploy bench` and `yowo-deploy bench compare`."""

from __future__ import annotations

import json
import math
import sys
from typing import Any

import click
import numpy as np

from yowo_deploy.backends.loader import BACKENDS
from yowo_deploy.benchmark.compare import Change, compare_records, read_record
from yowo_deploy.benchmark.record import HEADERS, KEYS, bench
from yowo_deploy.benchmark.timing import median_interval
from yowo_deploy.cli.console import (
    ConsoleReporter,
    Count,
    Number,
    json_option,
    model_options,
    refuse_useless,
    show_facts,
    show_table,
)
from yowo_deploy.diagnostics.system_info import provenance
from yowo_deploy.model_files.default import model_path
from yowo_deploy.visuals.image_io import check_plot

PRECISIONS = ("fp32", "bf16", "fp16", "int8")


def _percent(ctx: click.Context, param: click.Parameter, value: str) -> float:
    """ "5%" or "5" to 5.0."""
    try:
        percent = float(value.removesuffix("%"))
    except ValueError:
        percent = math.nan
    if not math.isfinite(percent):  # nothing is above NaN: the gate would stand open
        raise click.BadParameter(f"{value!r} is not a percentage such as 5%", ctx, param)
    return percent


@click.group("bench", invoke_without_command=True, subcommand_metavar="[compare OLD NEW]")
@click.option("--engine", "engines", multiple=True, type=click.Path(), help="Model file.  [repeatable]")
@click.option("--versus", type=click.Path(), help="Model file to compare --engine with, call by call.")
@click.option("--versus-backend", type=click.Choice(BACKENDS), help="Backend of --versus.  [default: as --backend]")
@click.option("--versus-precision", type=click.Choice(PRECISIONS), help="Its precision.  [default: as --precision]")
@click.option(
    "--seconds",
    default=10.0,
    type=Number(min_open=True),
    help="Seconds to measure, without warm-up; --stages and --peak take about as long again.",
)
@click.option("--warmup", default=3, type=Count(0, 100_000), help="Calls of each model before the measurement.")
@click.option("--batch", default=1, type=Count(), help="Clips per call.")
@click.option("--video", type=click.Path(), help="Frames for the stages and for --fps.  [default: synthetic]")
@click.option("--fps", type=Number(0.001, 1000), help="Also offer frames at this fixed rate, as cameras do.")
@click.option("--stages/--no-stages", default=True, help="Measure decoding, preprocessing, copies, NMS and linking.")
@click.option("--peak/--no-peak", default=True, help="Compare with a matrix product on the same backend.")
@click.option("--clips", is_flag=True, help="Measure whole clips even if the file has a streaming form.")
@click.option("--plot", type=click.Path(), help="Picture of the latencies, .png.")
@model_options
@json_option
@click.pass_context
def command(ctx: click.Context, /, engines: tuple[str, ...], **options: Any) -> None:
    """Measure latency and throughput of one model file, or of several in turn in one run, and each stage of a frame.

    On a shared machine use --versus: only ratios that were measured in one run are meaningful. `bench compare
    old.json new.json` compares two records written with --json.
    """
    if ctx.invoked_subcommand:
        return
    if options["versus"] is None:
        refuse_useless("--versus", "versus_backend", "versus_precision")
    plot, as_json = options.pop("plot"), options.pop("as_json")
    if plot:
        check_plot(plot)
    record = bench(engines, reporter=ConsoleReporter(thread=False), **options)
    if as_json:
        click.echo(json.dumps(record))
    else:
        _show(record)
        versus = (options["versus"],) * bool(options["versus"])
        files = {f"file {n}": model_path(file) for n, file in enumerate((*engines, *versus), 1)}
        show_facts("", provenance(files, record["machine"]))
    if plot:  # last: the figures are shown even if the picture cannot be written
        _draw(plot, record)


@command.command("compare")
@click.argument("old", type=click.Path())
@click.argument("new", type=click.Path())
@click.option("--fail-above", callback=_percent, default="5%", help="Largest slowdown that passes.")
@json_option
def compare(old: str, new: str, fail_above: float, as_json: bool) -> None:
    """Compare two records of `bench --json`; exit code 1 if NEW is slower than OLD by more than the limit.

    If both were measured --versus the same file, the ratios are compared, and machine and load do not matter; else the
    medians, and the machine must be the same.
    """
    changes = compare_records(read_record(old), read_record(new))
    slower = [change for change in changes if change.percent > fail_above]
    if as_json:
        click.echo(json.dumps({"passed": not slower, "limit": fail_above, "changes": [vars(each) for each in changes]}))
    else:
        worst = max(changes, key=lambda change: change.percent)
        change = f"{abs(worst.percent):.1f} % {'slower' if worst.percent > 0 else 'faster'}"
        click.echo(f"{'FAILED' if slower else 'PASSED'}: {worst.what}: {change}; the limit is {fail_above:g} % slower")
        headers = ("what", "old", "new", "slower by", "95 % interval")
        show_table("", headers, [_change_row(change) for change in changes])
    sys.exit(1 if slower else 0)


def _show(record: dict[str, Any]) -> None:
    models, stages, live, against = (record[name] for name in ("models", "stages", "open_loop", "versus"))
    if against:
        names = " is {ratio:.2f} times as fast as ".format(**against).join(model["name"] for model in models)
        click.echo(f"{names}, 95 % interval {against['low']:.2f} to {against['high']:.2f}\n")
    headers = ("model, backend", *HEADERS, "clips/s", "GMAC/s", "peak", "% of it")
    several = ("x first",) * (len(models) > 1)
    rows = [(*_model_row(model), *(_times(models[0], model),) * len(several)) for model in models]
    show_table(f"inference, batch {record['batch']}, {models[0]['calls']} calls", (*headers, *several), rows)
    if stages:
        whole = stages[-1]["sum_s"]
        rows = [(each["name"], *_row(each), f"{100 * each['sum_s'] / whole:.1f}") for each in stages]
        title = f"{models[0]['name']}, one frame after the other, {stages[-1]['frames']} frames"
        show_table(title, ("stage", *HEADERS, "% of time"), rows)
    if live:
        title = f"{live['fps']:g} frames/s offered, {live['dropped']} of {live['offered']} dropped"
        show_table(title, ("latency", *HEADERS), [("arrival to tubes", *_row(live))])
    if memory := record["peak_memory_bytes"]:
        click.echo(f"peak memory {memory / 2**20:.0f} MiB")


def _model_row(model: dict[str, Any]) -> tuple[str, ...]:
    done, share = model["gmac_per_s"], model["percent_of_peak"]
    peak = (f"{model['peak_gmac_per_s']:.0f}", f"{share[0]:.0f}") if share else ("-", "-")
    return model["name"], *_row(model), f"{model['clips_per_s']:.1f}", f"{done:.1f}" if done else "-", *peak


def _row(facts: dict[str, Any]) -> list[str]:
    return ["-" if facts[key] is None else f"{facts[key]:.2f}" for key in KEYS]


def _times(first: dict[str, Any], model: dict[str, Any]) -> str:
    if model is first:
        return "1"
    ratio, low, high = median_interval(np.array(first["seconds"]) / np.array(model["seconds"]))
    return f"{ratio:.2f} [{low:.2f}, {high:.2f}]"


def _change_row(change: Change) -> tuple[str, ...]:
    old, new = (f"{value:.3f} {change.unit}" for value in (change.old, change.new))
    return change.what, old, new, f"{change.percent:+.1f} %", f"{change.low:+.1f} to {change.high:+.1f}"


def _draw(path: str, record: dict[str, Any]) -> None:
    from yowo_deploy.visuals.plots import latency_plot

    live = record["open_loop"]
    names = [model["name"] for model in record["models"]]
    names += [f"{live['fps']:g} frames/s offered, {live['dropped']} dropped"] if live else []
    seconds = [np.array(each["seconds"]) for each in (*record["models"], *([live] if live else []))]
    latency_plot(names, seconds, path)
