"""`yowo-deploy detect`: a thin sheet over `Detector`, sources and sinks."""

from __future__ import annotations

import math
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import Any

import click
import numpy as np

from yowo_deploy.backends.base import is_checkpoint, open_model
from yowo_deploy.cli.console import STREAMS, long_term_looks, model_options, progress_bar, talk
from yowo_deploy.cli.detect_outputs import Wish
from yowo_deploy.detector import AHEAD, Detector
from yowo_deploy.errors import InputError, OutputError, YowoError
from yowo_deploy.model_files.default import DEFAULT, model_path
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_deploy.model_files.plan_record import is_plan
from yowo_deploy.postprocess.class_filter import parse_classes
from yowo_deploy.result import Result
from yowo_deploy.sinks import Sinks, VideoSink
from yowo_deploy.stream_pool import StreamPool
from yowo_deploy.video.sources import Counts, Source, find_sources, is_elsewhere, open_source, shown_source

SHOWN_EVERY_S = 0.1
MAX_WAIT_MS = 20.0  # that a clip waits for those of other sources, half a frame of a usual camera
RECENT = 200  # frames that the figures of the live line are of
INTERRUPTED = 130  # exit code, as shells have it


@dataclass
class Tally:
    """What became of the frames of one source."""

    inferred: int = 0
    carried: int = 0
    detections: int = 0
    best_score: float = 0.0
    start: float = field(default_factory=perf_counter)
    recent: deque[tuple[float, float]] = field(default_factory=lambda: deque(maxlen=RECENT))

    @property
    def frames(self) -> int:
        return self.inferred + self.carried

    def add(self, result: Result) -> None:
        self.carried += result.carried
        self.inferred += not result.carried
        self.detections += len(result.detections)
        self.best_score = max(self.best_score, result.best_score)
        self.recent.append((perf_counter(), result.latency_ms))

    def latency_ms(self) -> float:
        """That 95 % of the newest frames stay below."""
        return float(np.percentile([latency for _, latency in self.recent] or [0.0], 95))

    def pace(self) -> str:
        """Frames a second and latency, of the newest frames."""
        if len(self.recent) < 2:
            return ""
        seconds = max(self.recent[-1][0] - self.recent[0][0], 1e-9)
        return f"{(len(self.recent) - 1) / seconds:.1f} frames/s, latency p95 {self.latency_ms():.0f} ms"

    def account(self, counts: Counts, every: int) -> str:
        """What became of every frame that was captured."""
        skipped = {f"by --stride {every}": self.carried, **counts.dropped, "not read": counts.waiting}
        skipped["left when it stopped"] = counts.given - self.frames
        parts = [_counted("skipped", skipped), _counted("suspect", dict(counts.suspect))]
        said = f"{counts.captured} frames captured = {self.inferred} inferred + {' + '.join(parts)}"
        return said + (f"; {counts.reconnects} reconnects" if counts.reconnects else "")


@dataclass(frozen=True)
class Job:
    """What is the same for every source."""

    model: str
    wish: Wish
    thresholds: tuple[float | None, float | None]
    classes: Sequence[str]
    every: int
    features: str | None
    allow_damaged: bool
    quiet: bool
    options: dict[str, Any]

    def open(self, live: bool) -> Detector:
        if live and self.features:
            raise InputError("--features were kept of a whole video, and a live stream has no end yet: leave them out")
        look = long_term_looks(self.model, self.options)(Path(self.features)) if self.features else None
        backend = open_model(self.model, streams=1 if live or self.streaming() else STREAMS, **self.options)
        try:
            wanted = parse_classes(self.classes, backend.spec.labels)
            return Detector(backend, *self.thresholds, look, self.every, wanted)
        except InputError:
            backend.close()
            raise

    def streaming(self) -> bool:
        """Whether the model takes frames, one after the other, so that two calls at once are of no use."""
        file = model_path(self.model)
        of_clips = not file.is_file() or is_checkpoint(file) or is_plan(file)
        return not of_clips and read_spec(file).streaming

    def open_pool(self) -> StreamPool:
        """For several sources at once."""
        backend = open_model(self.model, streams=STREAMS, **self.options)
        try:
            wanted = parse_classes(self.classes, backend.spec.labels)
            confidence, iou = self.thresholds
            return StreamPool(backend, MAX_WAIT_MS, None, confidence, iou, self.every, wanted)
        except YowoError:
            backend.close()
            raise

    def say(self, text: str) -> None:
        if not self.quiet:
            talk.print(text)


@click.command("detect")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--model", default=DEFAULT, type=click.Path(), help="ONNX file, plan or checkpoint.")
@click.option("-o", "--output", help="Annotated video to write: .webm, or .mp4 with the [video] extra.")
@click.option("--json", help="File for one line of JSON a frame; - is stdout.")
@click.option("--events", help="File for one line of JSON when somebody begins or ends something; - is stdout.")
@click.option("--tubes", help="JSON file: who does what, where, from when to when.")
@click.option("--timeline", help="Picture of who does what from when to when, .png, with the [plots] extra.")
@click.option("--save-json", help="data.json of people and what they do, to correct.")
@click.option("--overwrite", is_flag=True, help="Replace files that are there already.")
@click.option("--conf", type=click.FloatRange(0, 1), help="Show detections above this.  [default: the model's]")
@click.option(
    "--iou", type=click.FloatRange(0, 1), help="Suppress boxes that overlap more than this.  [default: the model's]"
)
@click.option("--classes", multiple=True, help="Only these, as walk,run.  [default: all]")
@click.option(
    "--stride", default=1, type=click.IntRange(min=1), help="Look at every so-many-th frame; boxes stay between."
)
@click.option("--on", default=0.5, type=click.FloatRange(0, 1), help="An event begins above this score.")
@click.option("--off", default=0.3, type=click.FloatRange(0, 1), help="An event ends below this score.")
@click.option(
    "--min-frames", default=8, type=click.IntRange(min=1), help="Frames before an event is believed, or over."
)
@click.option(
    "--features", type=click.Path(), help="What `features` kept of this very video: looks beyond the clip, files only."
)
@click.option("--allow-damaged", is_flag=True, help="Take what can be decoded of a broken video.")
@click.option("-q", "--quiet", is_flag=True, help="Say nothing but errors.")
@model_options
@click.pass_context
def command(
    context: click.Context,
    /,
    sources: tuple[str, ...],
    model: str,
    overwrite: bool,
    conf: float | None,
    iou: float | None,
    classes: tuple[str, ...],
    stride: int,
    on: float,
    off: float,
    min_frames: int,
    features: str | None,
    allow_damaged: bool,
    quiet: bool,
    **options: Any,
) -> None:
    """Find people acting in each SOURCE: a video, a folder of numbered pictures, a webcam's number, an address.

    Of several files one comes after the other; webcams and addresses are watched at once. The outputs of several
    sources get folders, as `-o out/`, or names with {name}.
    """
    given = {name: options.pop(name) for name in ("output", "json", "events", "tubes", "timeline", "save_json")}
    wish = Wish({name: text for name, text in given.items() if text is not None}, (on, off, min_frames))
    texts = [found for text in sources for found in find_sources(text)]
    if features and len(texts) > 1:
        raise InputError(f"--features are of one video, and here are {len(texts)}")
    places = wish.places(texts, model, overwrite)
    job = Job(model, wish, (conf, iou), classes, stride, features, allow_damaged, quiet, options)
    elsewhere = [is_elsewhere(text) for text in texts]
    if any(elsewhere) and not all(elsewhere) and len(texts) > 1:
        raise InputError("files come one after the other, webcams and addresses at once: give either, not both")
    if all(elsewhere) and len(texts) > 1:
        from yowo_deploy.cli.detect_many import detect_many

        detect_many(job, texts, places)
    elif _detect_all(job, texts, places):
        context.exit(INTERRUPTED)


def _detect_all(job: Job, texts: list[str], places: list[dict[str, str]]) -> bool:
    """Source after source; whether files were interrupted.

    Raises:
        YowoError: of a source that is alone; or that some of several, or some outputs, failed.
    """
    failed, lost, stopped, opening = [], [], False, False
    with ExitStack() as stack:
        detector: Detector | None = None
        for text, outputs in zip(texts, places, strict=True):
            try:
                with open_source(text, allow_damaged=job.allow_damaged) as source:
                    opening = detector is None
                    detector = detector or stack.enter_context(job.open(source.live))
                    opening = False
                    interrupted, failures = _detect(job, detector, source, outputs)
            except YowoError as error:
                if len(texts) == 1 or opening:  # without a model no other source will do better
                    raise
                click.echo(f"Error: {shown_source(text)}: {error}", err=True)
                failed.append(shown_source(text))
                continue
            lost += failures
            if interrupted:
                stopped = not source.live
                break
    if lost:
        raise OutputError(f"{len(lost)} of {sum(map(len, places))} outputs failed: {', '.join(lost)}")
    if failed:
        raise InputError(f"{len(failed)} of {len(texts)} sources failed: {', '.join(failed)}")
    return stopped


def _detect(job: Job, detector: Detector, source: Source, places: dict[str, str]) -> tuple[bool, list[str]]:
    """One source; whether it was interrupted, and the outputs that failed."""
    detector.reset(source.name)
    video: VideoSink | None = None
    sinks = telling_sinks()
    total = source.frames_declared or None
    with sinks:
        for name, sink in job.wish.sinks(places, source, detector.spec.labels):
            sinks.add(name, sink)
            video = sink if isinstance(sink, VideoSink) else video
        bar = silent() if job.quiet else progress_bar(f"detecting {Path(source.name).name}", total)
        with interruptible(source.close) as interrupted, bar as update:
            tally, shown = Tally(), 0.0
            for result in detector.stream(source, 1 if source.live else AHEAD):
                sinks.write(result.frame, result)
                tally.add(result)
                if not len(sinks):
                    source.close()  # or leaving the loop would wait for the next frame of a camera
                    break
                if perf_counter() - shown > SHOWN_EVERY_S:
                    shown = perf_counter()
                    update(tally.frames, f"{tally.pace()}, {sum(source.counts.dropped.values())} dropped")
    summarise(job, detector.confidence, source, tally, video)
    return interrupted.is_set(), list(sinks.failures)


def telling_sinks() -> Sinks:
    """Sinks of which one that fails is told of at once."""
    return Sinks(lambda name, error: click.echo(f"{name} failed, the others go on: {one_line(error)}", err=True))


def summarise(job: Job, confidence: float, source: Source, tally: Tally, video: VideoSink | None) -> None:
    """Say what was found, and what became of every frame."""
    if not tally.detections:
        said = nothing_found(confidence, tally.best_score)
        job.say(said.partition(";")[0] if job.classes else said)  # the best score may be of another class
    declared = source.frames_declared if job.allow_damaged else 0
    lost = f" of {declared} declared" if declared > tally.frames else ""
    rate = tally.frames / max(perf_counter() - tally.start, 1e-9)
    job.say(f"{source.name}: {tally.detections} detections in {tally.frames} frames{lost}, {rate:.1f} frames/s")
    encoding = f"drawing and encoding {video.encode_ms / max(1, tally.frames):.1f} ms a frame" if video else ""
    job.say("; ".join(filter(None, (tally.account(source.counts, job.every), tally.pace(), encoding))))


def nothing_found(threshold: float, best: float) -> str:
    """What to say when nothing was above the threshold, with one that would have shown something."""
    said = f"0 detections above {threshold:g}; best score {best:.2g}"
    if not 0 < best <= threshold:
        return said
    shown = float(f"{best:.2g}")
    step = 0.05 if shown > 0.05 else 10.0 ** math.floor(math.log10(shown))
    lower = step * (math.ceil(round(shown / step, 6)) - 1)
    return f"{said} (try --conf {lower:.2g})"


@contextmanager
def silent() -> Iterator[Callable[..., None]]:
    yield lambda *_: None


@contextmanager
def interruptible(close: Callable[[], object]) -> Iterator[threading.Event]:
    """The first Ctrl-C (or SIGTERM) ends reading, so that results come to an end and files are closed well."""
    interrupted = threading.Event()
    kinds = (signal.SIGINT, signal.SIGTERM)
    before = [signal.getsignal(kind) for kind in kinds]

    def restore() -> None:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)

    def end(*_: object) -> None:
        restore()  # a second one breaks off
        interrupted.set()
        threading.Thread(target=close, daemon=True).start()

    if threading.current_thread() is not threading.main_thread():  # no other may hear signals
        yield interrupted
        return
    for kind in kinds:
        signal.signal(kind, end)
    try:
        yield interrupted
    finally:
        restore()


def _counted(what: str, reasons: dict[str, int]) -> str:
    said = ", ".join(f"{count} {reason}" for reason, count in reasons.items() if count)
    return f"{sum(reasons.values())} {what}" + (f" ({said})" if said else "")


def one_line(error: BaseException) -> str:
    """Of an error; of one that is not ours with its kind."""
    said = " ".join(str(error).split()) or "no reason given"
    return said if isinstance(error, YowoError) else f"{type(error).__name__}: {said}"
