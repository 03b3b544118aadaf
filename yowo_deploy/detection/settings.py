"""Settings of a detection run, and the models and sinks made from them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, ExitStack, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from time import perf_counter
from typing import Any

from yowo_deploy.backends.base import Backend
from yowo_deploy.backends.loader import on_cpu, open_model
from yowo_deploy.backends.long_term import bank_of, long_term_look
from yowo_deploy.closing import closed_on_error
from yowo_deploy.detection.outputs import Outputs
from yowo_deploy.detection.receivers import OpenReceivers, Receivers
from yowo_deploy.detection.summary import FrameCounts, Summary, nothing_found
from yowo_deploy.detection.tuning import tuned
from yowo_deploy.detector import Detector, DetectorOptions, refuse_clips
from yowo_deploy.errors import InputError, OutputError, YowoError
from yowo_deploy.postprocess.class_filter import parse_classes
from yowo_deploy.reporter import Reporter
from yowo_deploy.result import Result
from yowo_deploy.sinks import EventSink, Sinks, VideoSink
from yowo_deploy.spec import ModelSpec
from yowo_deploy.stream_pool import StreamPool
from yowo_deploy.video.sources import Source, open_source

PROGRESS_EVERY_S = 0.1
MAX_WAIT_MS = 20.0  # that a clip waits for those of other sources, half a frame of a usual camera
# Calls at once on files, where throughput counts and not latency. Measured with yowo-lite on OpenVINO, two cores:
# 66 clips/s with two calls, 46 to 55 with one.
PARALLEL = min(2, os.cpu_count() or 1)

_TUNED = "but for an ONNX file on the CPU, one source after the other, without features and `parallel`"

WhileReading = Callable[[Callable[[], None]], AbstractContextManager[object]]


@dataclass(frozen=True)
class Settings:
    """What is the same for every source; see `detect` for the fields."""

    outputs: Outputs
    model: str
    shown: DetectorOptions = field(default_factory=DetectorOptions)
    features: str | os.PathLike[str] | None = None
    allow_damaged: bool = False
    clips: bool = False
    tune: bool | None = None
    allow_hosts: tuple[str, ...] = ()
    reporter: Reporter = field(default_factory=Reporter)
    while_reading: WhileReading = nullcontext
    options: Mapping[str, Any] = field(default_factory=dict)
    receivers: OpenReceivers = field(default_factory=lambda: Receivers().open(Reporter()))

    def open_source(self, text: str) -> Source:
        """One of the sources."""
        return open_source(text, allow_damaged=self.allow_damaged, allow_hosts=self.allow_hosts)

    def open_detector(self, live: bool, source: str) -> Detector:
        """For one source after the other; with features, for this one alone.

        Raises:
            InputError: features with a live source; `tune` without a choice, or `clips` of a streaming file.
            YowoError: see `open_model`.
        """
        if live and self.features:
            raise InputError("--features needs whole videos, and a live source has no end: leave it out")
        given = [self.options[name] for name in ("streams", "parallel") if self.options.get(name) is not None]
        parallel = given[0] if given else 1 if live else PARALLEL
        chosen = {"parallel": parallel, "streaming": None if self.features else self.shown.streams(self.clips)}
        choice = None
        if not self.features and self.tune is not False and not given:
            how = (self.shown, self.clips, parallel, self.options, self.measures(live), self.reporter.message)
            choice = tuned(self.model, *how)
        chosen |= choice.options(self.shown) if choice else {}
        with closed_on_error(open_model(self.model, **{**self.options, **chosen})) as backend:
            if self.tune and choice is None:
                raise InputError(f"--tune has nothing to choose {_TUNED}: leave it out")
            refuse_clips(backend, self.clips)
            look = long_term_look(backend, bank_of(self.features, source)) if self.features else None
            return self._shown_of(backend).detector(backend, look)

    def measures(self, live: bool) -> bool:
        """Whether to find out what is fastest: seconds are long for a file, and little for a camera."""
        return live if self.tune is None else self.tune

    def open_pool(self) -> StreamPool:
        """For several live sources at once; an InputError where `tune` or `clips` has no effect."""
        if self.tune:
            raise InputError(f"--tune has nothing to choose {_TUNED}, and these are read at once: leave it out")
        streaming = self.shown.streams(self.clips, "many") if on_cpu(self.options.get("device")) else None
        given = {"parallel": PARALLEL, "streaming": streaming, **self.options}
        with closed_on_error(open_model(self.model, **given)) as backend:
            refuse_clips(backend, self.clips)
            return StreamPool(backend, MAX_WAIT_MS, **vars(self._shown_of(backend)))

    def sinks(self, places: Iterable[Mapping[str, str]]) -> int:
        """How many there are for all sources together, given the files of each."""
        return sum(len(files) + len(self.receivers) for files in places)

    def _shown_of(self, backend: Backend) -> DetectorOptions:
        """With the labels of the model in place of texts."""
        return replace(self.shown, classes=parse_classes(tuple(self.shown.classes or ()), backend.spec.labels))


class Recording:
    """One source with its sinks and counts.

    Args:
        number: of the source in the order in which they were given, from 0.
        places: the file of each output, see `Outputs.places`.
        spec: of the model.
        stack: closes the sinks.
    """

    def __init__(
        self,
        settings: Settings,
        source: Source,
        number: int,
        places: Mapping[str, str],
        spec: ModelSpec,
        stack: ExitStack,
    ) -> None:
        self.source, self._settings = source, settings
        self._files = tuple(places.values())
        self._video: VideoSink | None = None
        self._events: EventSink | None = None
        self.sinks = stack.enter_context(Sinks(partial(_tell_failure, settings.reporter)))
        for name, sink in settings.outputs.sinks(places, source, spec):
            self.sinks.add(name, sink)
            self._video = sink if isinstance(sink, VideoSink) else self._video
            self._events = sink if isinstance(sink, EventSink) else self._events
        for name, sink in settings.receivers.sinks(
            source, partial(settings.outputs.messages, spec), settings.outputs.new_zones, number
        ):
            self.sinks.add(name, sink)
        self.counts = FrameCounts()

    def write(self, result: Result) -> None:
        """Give one result to every sink. Without a sink left, the source is closed."""
        self.sinks.write(result.frame, result)
        self.counts.add(result)
        if not len(self.sinks):
            self.source.close()

    def summary(self, confidence: float, interrupted: bool) -> Summary:
        """After the sinks are closed; the reporter gets the text."""
        settings, counts, source = self._settings, self.counts, self.source
        seconds = max(perf_counter() - counts.start, 1e-9)
        lines = []
        if not counts.detections:
            said = nothing_found(confidence, counts.best_score)
            lines.append(said.partition(";")[0] if settings.shown.classes else said)  # the best may be of another class
        declared = source.frames_declared if settings.allow_damaged else 0
        lost = f" of {declared} declared" if declared > counts.frames else ""
        rate = f"{counts.frames / seconds:.1f} frames/s"
        found = f"{counts.detections} detections{counts.labels()}"
        lines.append(f"{source.name}: {found} in {counts.frames} frames{lost}, {rate}")
        if self._events and (without := self._events.events.nothing()):
            lines.append(without)
        video = self._video
        encoding = f"drawing and encoding {video.encode_ms / max(1, counts.frames):.1f} ms a frame" if video else ""
        account = counts.account(source.counts, settings.shown.every)
        lines.append("; ".join(filter(None, (account, counts.rate(True) if source.live else "", encoding))))
        for line in lines:
            settings.reporter.message(line)
        figures = (counts.frames, counts.detections, counts.best_score, confidence, seconds)
        return Summary(
            source.name, *figures, self._files, self.sinks.failures, interrupted and not source.live, "\n".join(lines)
        )


def raise_failures(summaries: Iterable[Summary], outputs: int, failed: list[str], sources: int) -> None:
    """Raise for outputs that failed (an OutputError), or for sources that did (an InputError)."""
    if lost := [name for each in summaries for name in each.failed]:
        raise OutputError(f"{len(lost)} of {outputs} outputs failed: {', '.join(lost)}")
    if failed:
        raise InputError(f"{len(failed)} of {sources} sources failed: {', '.join(failed)}")


def one_line(error: BaseException) -> str:
    """The message of an error in one line; of one that is not ours with its kind."""
    said = " ".join(str(error).split()) or "no reason given"
    return said if isinstance(error, YowoError) else f"{type(error).__name__}: {said}"


def _tell_failure(reporter: Reporter, name: str, error: Exception) -> None:
    reporter.error(f"{name} failed, the others continue: {one_line(error)}")
