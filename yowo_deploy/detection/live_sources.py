"""Detection in several live sources at once."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from functools import partial
from time import perf_counter

from yowo_deploy.detection.settings import PROGRESS_EVERY_S, Recording, Settings, one_line, raise_failures
from yowo_deploy.detection.summary import Summary
from yowo_deploy.errors import InputError, YowoError
from yowo_deploy.stream_pool import StreamPool
from yowo_deploy.video.sources import shown_source


def detect_live(settings: Settings, texts: list[str], places: list[dict[str, str]]) -> list[Summary]:
    """Run a model over all sources at once, until each has ended or the reading is stopped.

    Raises:
        YowoError: no source can be opened; or some sources or outputs failed, after the others have ended.
    """
    with ExitStack() as stack:
        pool = stack.enter_context(settings.open_pool())
        recordings, failed = _open(settings, pool, texts, places, stack)
        if not recordings:
            raise InputError(f"none of {len(texts)} sources can be opened: {', '.join(failed)}")
        with settings.while_reading(partial(_close, recordings)):
            for name, each in recordings.items():
                pool.add(name, each.source)
            _write_all(settings, pool, recordings)
        for name, error in pool.errors.items():
            settings.reporter.error(f"Error: {name}: {one_line(error)}")
        failed += pool.errors
    summaries = [each.summary(pool.confidence, False) for each in recordings.values()]
    raise_failures(summaries, settings.sinks(places), failed, len(texts))
    return summaries


def _open(
    settings: Settings, pool: StreamPool, texts: list[str], places: list[dict[str, str]], stack: ExitStack
) -> tuple[dict[str, Recording], list[str]]:
    """The sources that could be opened, by name, and the names of the others, which are reported at once."""
    recordings: dict[str, Recording] = {}
    failed: list[str] = []
    for number, (text, outputs) in enumerate(zip(texts, places, strict=True)):
        try:
            source = stack.enter_context(settings.open_source(text))
        except YowoError as error:
            settings.reporter.error(f"Error: {one_line(error)}")
            failed.append(shown_source(text))
            continue
        name = source.name if source.name not in recordings else f"{source.name} ({len(recordings) + 1})"
        recordings[name] = Recording(settings, source, number, outputs, pool.spec, stack)
    return recordings, failed


def _write_all(settings: Settings, pool: StreamPool, recordings: Mapping[str, Recording]) -> None:
    with settings.reporter.progress(f"detecting in {len(recordings)} sources", None) as update:
        shown = 0.0
        for name, result in pool:
            recordings[name].write(result)
            if perf_counter() - shown > PROGRESS_EVERY_S:
                shown = perf_counter()
                dropped = sum(sum(each.source.counts.dropped.values()) for each in recordings.values())
                frames = sum(each.counts.frames for each in recordings.values())
                update(frames, f"{_slowest(recordings)}, {dropped} dropped")


def _close(recordings: Mapping[str, Recording]) -> None:
    for each in recordings.values():
        each.source.close()


def _slowest(recordings: Mapping[str, Recording]) -> str:
    """The rate of the source with the highest latency."""
    rates = {each.counts.latency_ms(): each.counts.rate(True) for each in recordings.values()}
    return f"slowest {rates[max(rates)]}"
