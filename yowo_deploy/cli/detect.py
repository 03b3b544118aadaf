"""`yowo-deploy detect`: a thin sheet over `Detector` and the sinks."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from time import perf_counter
from typing import Any

import click

from yowo_deploy.backends.base import open_model
from yowo_deploy.cli.terminal import STREAMS, long_term_looks, model_options, progress_bar, refuse_overwriting, talk
from yowo_deploy.default_model import DEFAULT
from yowo_deploy.detector import Detector
from yowo_deploy.errors import OutputError
from yowo_deploy.sinks import JsonSink, Sink, TubesSink, VideoSink
from yowo_deploy.video import open_video


@click.command("detect")
@click.argument("video", type=click.Path())
@click.option("--model", default=DEFAULT, type=click.Path(), help="ONNX file or checkpoint.")
@click.option(
    "-o", "--output", type=click.Path(), help="Annotated video to write: .webm, or .mp4 with the [video] extra."
)
@click.option("--json", "json_path", type=click.Path(), help="File for one line of JSON a frame; - is stdout.")
@click.option("--save-json", "tubes_path", type=click.Path(), help="data.json of people and what they do, to correct.")
@click.option("--conf", type=click.FloatRange(0, 1), help="Show detections above this.  [default: the model's]")
@click.option(
    "--iou", type=click.FloatRange(0, 1), help="Suppress boxes that overlap more than this.  [default: the model's]"
)
@click.option(
    "--features", type=click.Path(), help="What `features` kept of this very video: looks beyond the clip, files only."
)
@click.option("--allow-damaged", is_flag=True, help="Take what can be decoded of a broken video.")
@model_options
def command(
    video: str,
    model: str,
    output: str | None,
    json_path: str | None,
    tubes_path: str | None,
    conf: float | None,
    iou: float | None,
    features: str | None,
    allow_damaged: bool,
    **options: Any,
) -> None:
    """Find people acting in VIDEO."""
    if output is None and json_path is None and tubes_path is None:
        raise OutputError("nowhere to put what is found: give -o out.webm, --json out.jsonl, or --json - for stdout")
    for path in (output, json_path, tubes_path):
        if path is not None:
            refuse_overwriting(video, path)
            refuse_overwriting(model, path)
    with ExitStack() as stack:
        reader = stack.enter_context(open_video(video, allow_damaged))
        look = long_term_looks(model, options)(Path(features)) if features else None
        backend = open_model(model, streams=STREAMS, **options)
        detector = stack.enter_context(Detector(backend, conf, iou, look))
        sinks: list[Sink] = []
        if output is not None:
            sinks.append(stack.enter_context(VideoSink(output, reader.fps, reader.size_wh)))
        if json_path not in (None, "-"):
            sinks.append(stack.enter_context(JsonSink(str(json_path))))
        if tubes_path is not None:
            facts = (reader.fps, reader.size_wh, detector.spec.labels)
            sinks.append(stack.enter_context(TubesSink(tubes_path, video, *facts)))
        found, count, start = 0, 0, perf_counter()
        update = stack.enter_context(progress_bar("detecting", total=reader.frames_declared or None))
        threshold = detector.spec.confidence_threshold if conf is None else conf
        for result in detector.stream(reader):
            for sink in sinks:
                sink.write(result)
            if json_path == "-":
                click.echo(result.to_json())
            count += 1
            found += len(result.detections)
            update(count, f"{count / (perf_counter() - start):.1f} frames/s")
    if not found:
        talk.print(f"nothing scored above {threshold:g}: try --conf {threshold / 5:.2g}")
    lost = f" of {reader.frames_declared} declared" if allow_damaged and reader.frames_declared > count else ""
    talk.print(f"{found} detections in {count} frames{lost}, {count / (perf_counter() - start):.1f} frames/s")
