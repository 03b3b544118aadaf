"""Detect people and actions in videos and cameras, and write the results to files."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, nullcontext
from dataclasses import replace
from pathlib import Path
from time import perf_counter
from typing import Any

from yowo_deploy.backends.loader import open_model
from yowo_deploy.detection.live_sources import detect_live
from yowo_deploy.detection.outputs import Outputs
from yowo_deploy.detection.receivers import Receivers
from yowo_deploy.detection.settings import PROGRESS_EVERY_S, Recording, Settings, WhileReading, raise_failures
from yowo_deploy.detection.summary import Summary
from yowo_deploy.detector import AHEAD, Detector, DetectorOptions
from yowo_deploy.errors import InputError, YowoError
from yowo_deploy.keywords import checked_keywords_with
from yowo_deploy.model_files.default import DEFAULT
from yowo_deploy.reporter import Reporter
from yowo_deploy.sinks.video import VideoSink
from yowo_deploy.video.sources import Source, find_sources, is_elsewhere, left_out, shown_source


@checked_keywords_with(open_model, "streaming")  # `clips` says it
def detect(
    sources: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    outputs: Outputs = Outputs(),  # noqa: B008  # a frozen value
    model: str | os.PathLike[str] = DEFAULT,
    *,
    receivers: Receivers = Receivers(),  # noqa: B008  # a frozen value
    confidence: float | None = None,
    iou: float | None = None,
    every: int = 1,
    classes: Iterable[str] = (),
    keep: float | None = None,
    tube_scores: bool | None = None,
    cuts: bool | None = None,
    features: str | os.PathLike[str] | None = None,
    allow_damaged: bool = False,
    clips: bool = False,
    tune: bool | None = None,
    allow_hosts: Sequence[str] = (),
    overwrite: bool = False,
    reporter: Reporter | None = None,
    while_reading: WhileReading = nullcontext,
    **options: Any,
) -> list[Summary]:
    """Run a model over sources and write what it finds: `yowo-deploy detect` as one call.

        detect("video.mp4", Outputs(video="out.webm", json="out.jsonl"), confidence=0.4)
        detect(["a.mp4", "b.mp4"], Outputs(tubes="out/"))

    Files are worked on one after the other; several webcams or addresses at once. If one source or output fails, the
    others continue.

    Args:
        sources: videos, folders of numbered pictures, numbers of webcams, addresses; what `open_source` takes.
        outputs: the files to write; by default a run folder for each source, and none where there are receivers.
        receivers: where events go over the network, and the port of metrics.
        model: ONNX file, plan or checkpoint; by default the model of the package.
        confidence: score above which a person is shown; the model's threshold by default.
        iou: boxes that overlap a better one by more than this are suppressed; the model's threshold by default.
        every: run the model on every N-th frame and reuse the boxes in between.
        classes: labels to keep, one or several with commas between in each text; all by default.
        keep, tube_scores, cuts: see `DetectorOptions`.
        features: what `yowo-deploy features` wrote: its folder, or its file of this very video; for a checkpoint.
        allow_damaged: take what can be decoded of a broken video.
        clips: give the model whole clips, see `Detector.open`.
        tune: measure for five seconds which engine, form and number of calls is the fastest on this processor, and
            record it; by default only for a camera, files take what was recorded, and with False nothing does. Not for
            several cameras at once.
        allow_hosts: that addresses may lead to by redirects and playlists, beside their own.
        overwrite: replace files that exist.
        reporter: receives messages, errors and progress; by default they are logged.
        while_reading: makes a context in which a source is read, from a function that ends the reading. The files are
            then closed as at the end of the source.
        options: of `open_model`: backend, device, precision, threads, clip, cache, trust, parallel.

    Returns:
        One summary a source, in the order in which they ended; fewer where `while_reading` ended the reading.

    Raises:
        InputError: a source cannot be read; of several, after the others have ended.
        OutputError: no output, a file that exists; or an output failed, after the sources have ended.
        YowoError: the model cannot be opened.
    """
    given = [sources] if isinstance(sources, (str, os.PathLike)) else sources
    reporter = reporter or Reporter()
    texts = []
    for text in given:
        texts += (found := find_sources(os.fspath(text)))
        if others := left_out(text, found):
            more = ", ..." if len(others) > 5 else ""
            reporter.message(f"{text}: {len(others)} files are left out, no videos: {', '.join(others[:5])}{more}")
    if features and len(texts) > 1 and not Path(features).is_dir():
        raise InputError(f"{features} has the features of one video, and there are {len(texts)}: give its folder")
    files = not receivers.given or outputs.given
    places = outputs.places(texts, os.fspath(model), overwrite) if files else [{} for _ in texts]
    settings = Settings(
        outputs,
        os.fspath(model),
        DetectorOptions(confidence, iou, every, _each(classes), keep, tube_scores, cuts),
        features,
        allow_damaged,
        clips,
        tune,
        tuple(allow_hosts),
        reporter,
        while_reading,
        options,
    )
    outputs.check_files()
    elsewhere = [is_elsewhere(text) for text in texts]
    if any(elsewhere) and not all(elsewhere) and len(texts) > 1:
        raise InputError("files cannot be mixed with webcams and addresses: run `detect` once for each kind")
    with receivers.open(reporter, texts) as opened:
        run = detect_live if all(elsewhere) and len(texts) > 1 else _detect_in_turn
        return run(replace(settings, receivers=opened), texts, places)


def _each(classes: Iterable[str]) -> tuple[str, ...]:
    return (classes,) if isinstance(classes, str) else tuple(classes)


def _detect_in_turn(settings: Settings, texts: list[str], places: list[dict[str, str]]) -> list[Summary]:
    failed: list[str] = []
    summaries: list[Summary] = []
    opening = False
    with ExitStack() as stack:
        detector: Detector | None = None
        for number, (text, outputs) in enumerate(zip(texts, places, strict=True)):
            try:
                with settings.open_source(text) as source:
                    if settings.features:  # the bank is of one video
                        stack.close()
                        detector = None
                    opening = detector is None
                    detector = detector or stack.enter_context(settings.open_detector(source.live, text))
                    opening = False
                    summary, stopped = _detect_one(settings, detector, source, number, outputs)
            except YowoError as error:
                if len(texts) == 1 or opening:  # without a model no other source will do better
                    raise
                settings.reporter.error(f"Error: {shown_source(text)}: {error}")
                failed.append(shown_source(text))
                continue
            summaries.append(summary)
            if stopped:
                break
    raise_failures(summaries, settings.sinks(places), failed, len(texts))
    return summaries


def _detect_one(
    settings: Settings, detector: Detector, source: Source, number: int, places: dict[str, str]
) -> tuple[Summary, bool]:
    """The summary, and whether the reading was stopped."""
    detector.reset(source.name)
    stopped = False

    def stop() -> None:
        nonlocal stopped
        stopped = True
        source.close()

    with ExitStack() as stack:
        recording = Recording(settings, source, number, places, detector.spec, stack)
        label, total = f"detecting {Path(source.name).name}", source.frames_declared or None
        with settings.while_reading(stop), settings.reporter.progress(label, total) as update:
            shown = 0.0
            for result in detector.stream(source, 1 if source.live else AHEAD):
                recording.write(result)
                if not len(recording.sinks):
                    break  # the source is closed, or leaving the loop would wait for the next frame of a camera
                if perf_counter() - shown > PROGRESS_EVERY_S:
                    shown, counts = perf_counter(), recording.counts
                    update(counts.frames, f"{counts.rate(source.live)}, {sum(source.counts.dropped.values())} dropped")
        if stopped and not source.live and not recording.counts.frames:
            recording.sinks.drop(VideoSink)  # which needs a frame
    return recording.summary(detector.confidence, stopped), stopped
