"""`yowo-deploy bench`: a thin sheet over `yowo_deploy.bench`."""

from __future__ import annotations

import json
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import click

from yowo_deploy.backends.base import open_model
from yowo_deploy.bench import Timing, bench_models, bench_stages, ratio_interval
from yowo_deploy.cli.terminal import json_option, model_options, progress_bar, show_table

PERCENTILES = (50, 90, 95, 99, 100)
SHOWN = (50, 95, 99)


@click.command("bench")
@click.option(
    "--engine", "engines", required=True, multiple=True, type=click.Path(), help="Model file; may be repeated."
)
@click.option("--seconds", default=10.0, help="To measure for, warm-up left out.")
@click.option("--warmup", default=3, type=click.IntRange(min=0), help="Calls before the first that counts.")
@click.option("--batch", default=1, type=click.IntRange(min=1), help="Clips a call.")
@model_options
@json_option
def command(
    engines: tuple[str, ...],
    seconds: float,
    warmup: int,
    batch: int,
    backend: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Latency and throughput of one model file, or of several turn by turn in the same run."""
    with ExitStack() as stack:
        models = [stack.enter_context(open_model(path, backend, **options)) for path in engines]
        with progress_bar("measuring", total=1.0) as update:
            timings = bench_models(models, seconds, warmup, batch, update)
        stages = bench_stages(models[0])
        names = [f"{Path(path).name}, {model.name}" for path, model in zip(engines, models, strict=True)]
    if as_json:
        click.echo(json.dumps({"batch": batch, "models": _values(names, timings), "stages": _values(None, stages)}))
        return
    headers = ("model, engine", *(f"p{percent} ms" for percent in SHOWN), "clips/s", "x first")
    rows = [
        (name, *_percentiles(t), f"{t.clips_per_s:.1f}", _ratio(timings[0], t))
        for name, t in zip(names, timings, strict=True)
    ]
    show_table(f"inference, batch {batch}", headers, rows)
    show_table(
        "around the engine, frame of 320x240", ("stage", *headers[1:4]), [(t.name, *_percentiles(t)) for t in stages]
    )


def _percentiles(timing: Timing) -> list[str]:
    return [f"{timing.percentile_ms(percent):.2f}" for percent in SHOWN]


def _ratio(first: Timing, other: Timing) -> str:
    if other is first:
        return "1"
    ratio, low, high = ratio_interval(first, other)
    return f"{ratio:.2f} [{low:.2f}, {high:.2f}]"


def _values(names: list[str] | None, timings: list[Timing]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "calls": len(timing.seconds),
            "clips_per_s": timing.clips_per_s,
            **{f"p{percent}_ms": timing.percentile_ms(percent) for percent in PERCENTILES},
        }
        for name, timing in zip(names or [t.name for t in timings], timings, strict=True)
    ]
