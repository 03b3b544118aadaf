"""`yowo-deploy detect` of several cameras at once: a thin sheet over `StreamPool` and the sinks."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from time import perf_counter

import click

from yowo_deploy.cli.console import progress_bar
from yowo_deploy.cli.detect import (
    SHOWN_EVERY_S,
    Job,
    Tally,
    interruptible,
    one_line,
    silent,
    summarise,
    telling_sinks,
)
from yowo_deploy.errors import InputError, OutputError, YowoError
from yowo_deploy.sinks import Sinks, VideoSink
from yowo_deploy.stream_pool import StreamPool
from yowo_deploy.video.sources import Source, open_source, shown_source


@dataclass
class Watched:
    """One source with where its results go."""

    source: Source
    sinks: Sinks = field(default_factory=telling_sinks)
    video: VideoSink | None = None
    tally: Tally = field(default_factory=Tally)


def detect_many(job: Job, texts: list[str], places: list[dict[str, str]]) -> None:
    """Watch all sources at once, until each has ended or Ctrl-C.

    Raises:
        YowoError: no source is there, or some of them, or some outputs, failed; after the others have ended.
    """
    with ExitStack() as stack:
        pool = stack.enter_context(job.open_pool())
        watched, failed = _open(job, pool, texts, places, stack)
        if not watched:
            raise InputError(f"none of {len(texts)} sources is there: {', '.join(failed)}")
        with interruptible(partial(_close, watched)):
            for name, each in watched.items():
                pool.add(name, each.source)
            _watch(job, pool, watched)
        for name, error in pool.errors.items():
            click.echo(f"Error: {name}: {one_line(error)}", err=True)
        failed += pool.errors
    for each in watched.values():
        summarise(job, pool.confidence, each.source, each.tally, each.video)
    if lost := [name for each in watched.values() for name in each.sinks.failures]:
        raise OutputError(f"{len(lost)} of {sum(map(len, places))} outputs failed: {', '.join(lost)}")
    if failed:
        raise InputError(f"{len(failed)} of {len(texts)} sources failed: {', '.join(failed)}")


def _open(
    job: Job, pool: StreamPool, texts: list[str], places: list[dict[str, str]], stack: ExitStack
) -> tuple[dict[str, Watched], list[str]]:
    """What is there, by name, ready to be watched; and what is not, told at once."""
    watched: dict[str, Watched] = {}
    failed: list[str] = []
    for text, outputs in zip(texts, places, strict=True):
        try:
            source = stack.enter_context(open_source(text, allow_damaged=job.allow_damaged))
        except YowoError as error:
            click.echo(f"Error: {one_line(error)}", err=True)
            failed.append(shown_source(text))
            continue
        name = source.name if source.name not in watched else f"{source.name} ({len(watched) + 1})"
        watched[name] = each = Watched(source)
        stack.enter_context(each.sinks)
        for place, sink in job.wish.sinks(outputs, source, pool.spec.labels):
            each.sinks.add(place, sink)
            each.video = sink if isinstance(sink, VideoSink) else each.video
    return watched, failed


def _watch(job: Job, pool: StreamPool, watched: dict[str, Watched]) -> None:
    """Write every result where it belongs; a source whose outputs have all failed is watched no longer."""
    bar = silent() if job.quiet else progress_bar(f"detecting in {len(watched)} streams", None)
    with bar as update:
        shown = 0.0
        for name, result in pool:
            each = watched[name]
            each.sinks.write(result.frame, result)
            each.tally.add(result)
            if not len(each.sinks):
                each.source.close()
            if perf_counter() - shown > SHOWN_EVERY_S:
                shown = perf_counter()
                dropped = sum(sum(each.source.counts.dropped.values()) for each in watched.values())
                update(sum(each.tally.frames for each in watched.values()), f"{_pace(watched)}, {dropped} dropped")


def _close(watched: dict[str, Watched]) -> None:
    for each in watched.values():
        each.source.close()


def _pace(watched: dict[str, Watched]) -> str:
    """Of the stream that is answered latest."""
    paces = {each.tally.latency_ms(): each.tally.pace() for each in watched.values()}
    return f"slowest {paces[max(paces)]}"
