"""`yowo-deploy detect`."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import click

from yowo_deploy.cli.console import (
    ConsoleReporter,
    Count,
    event_options,
    model_options,
    overwrite_option,
    shown_options,
)
from yowo_deploy.cli.terminal import TOLD
from yowo_deploy.detection.outputs import Outputs
from yowo_deploy.detection.receivers import Receivers
from yowo_deploy.detection.run import detect
from yowo_deploy.model_files.default import DEFAULT
from yowo_deploy.sinks.messages import EVENTS_FORMATS


@click.command("detect")
@click.argument("sources", nargs=-1, required=True, metavar="SOURCE...")
@click.option("--model", default=DEFAULT, type=click.Path(), help="ONNX file, plan or checkpoint.")
@click.option("-o", "--output", "video", help="Annotated video to write: .webm, or .mp4 with the [video] extra.")
@click.option("--trail", default=0, type=Count(0), help="Frames over which each person's path is drawn.")
@click.option("--json", help="File for one line of JSON per frame; - is stdout.")
@click.option("--events", help="File for one line of JSON per change of an event; - is stdout.")
@click.option("--alerts", help="File for one line of JSON when a rule of --rules begins or ends; - is stdout.")
@click.option("--tubes", help="JSON file of tubes: person, action, score, frames and boxes.")
@click.option("--timeline", help="Picture of each person's actions over time, .png, with the [plots] extra.")
@click.option("--save-json", "annotations", help="data.json of people and their actions, to correct and train on.")
@overwrite_option
@shown_options
@event_options
@click.option("--rules", type=click.Path(), help="JSON file of rules for alerts: actions, zones, seconds, times.")
@click.option(
    "--mqtt", metavar="URL", help="Broker for events, mqtt://user@host:1883/prefix; password: YOWO_MQTT_PASSWORD."
)
@click.option("--mqtt-ca", type=click.Path(), help="Certificates to trust for mqtts://.  [default: the system's]")
@click.option(
    "--events-format",
    default="yowo",
    type=click.Choice(EVENTS_FORMATS),
    help="Format of the events over MQTT; frigate: {type, before, after}.",
)
@click.option("--webhook", metavar="URL", help="Address to which each change of an event is posted.")
@click.option("--webhook-secret-env", metavar="NAME", help="Environment variable with the secret that signs the posts.")
@click.option("--webhook-private", is_flag=True, help="Allow a webhook in the local network or on this machine.")
@click.option("--webhook-snapshot", is_flag=True, help="Post a JPEG at the beginning and end of an event.")
@click.option("--frigate", metavar="URL", help="Frigate, in which events are created: http://frigate:5000.")
@click.option(
    "--camera", multiple=True, metavar="NAME", help="Name in messages, one for each SOURCE.  [default: from the source]"
)
@click.option("--metrics-port", metavar="[HOST:]PORT", help="Port for Prometheus metrics of the run, [serve] extra.")
@click.option(
    "--features", type=click.Path(), help="Folder that `features` wrote, or its file of this video; for a checkpoint."
)
@click.option("--allow-damaged", is_flag=True, help="Use what can be decoded of a damaged video.")
@click.option("--clips", is_flag=True, help="Run on whole clips even if the file has a streaming form.")
@click.option(
    "--tune/--no-tune",
    default=None,
    help="Measure for 5 s which engine, form and number of calls is fastest here, and record it; --no-tune ignores the "
    "record.  [default: measure for a camera, use the record for files]",
)
@click.option(
    "--allow-hosts",
    default="",
    show_default=False,
    callback=lambda context, parameter, text: [each for each in text.split(",") if each],
    help="Other hosts, as a,b, that redirects and playlists may lead to.",
)
@click.option("-q", "--quiet", is_flag=True, help="Show only errors.")
@model_options
@click.pass_context
def command(
    context: click.Context,
    /,
    sources: tuple[str, ...],
    conf: float | None,
    quiet: bool,
    **options: Any,
) -> None:
    """Find people and their actions in each SOURCE: a video, a folder of numbered pictures, a webcam's number, an
    address. Without an output or a receiver, runs/detect/NAME/ gets the annotated video, detections, events
    and a timeline.

    Files are processed one after the other, webcams and addresses at the same time. If one source fails, the others
    continue and the command exits with code 1. The outputs of several sources need folders, as `-o out/`, or names
    with {name}.
    """
    outputs = Outputs(**{field: options.pop(field) for field in Outputs.__dataclass_fields__})
    receivers = Receivers(**{field: options.pop(field) for field in Receivers.__dataclass_fields__})
    reporter, heard = ConsoleReporter(quiet), list[int]()
    given = {"reporter": reporter, "while_reading": partial(interruptible, heard=heard), **options}
    found = detect(sources, outputs, receivers=receivers, confidence=conf, **given)
    if not outputs.given and not quiet:
        for summary in found:
            if summary.files:
                click.echo(Path(summary.files[0]).parent)
    if any(summary.interrupted for summary in found):
        context.exit(128 + (heard or [signal.SIGINT])[0])


@contextmanager
def interruptible(stop: Callable[[], object], heard: list[int]) -> Iterator[None]:
    """The first Ctrl-C, SIGTERM or SIGHUP ends the reading, so that files are closed as at the end of the source.

    Args:
        heard: gets the number of the signal.
    """
    kinds = (signal.SIGINT, *TOLD)
    before = [signal.getsignal(kind) for kind in kinds]

    def restore() -> None:
        for kind, handler in zip(kinds, before, strict=True):
            signal.signal(kind, handler)

    def end(number: int, _: object) -> None:
        heard.append(number)
        restore()  # a second one breaks off
        threading.Thread(target=stop, daemon=True).start()

    if threading.current_thread() is not threading.main_thread():  # no other may hear signals
        yield
        return
    for kind, handler in zip(kinds, before, strict=True):
        if handler is not signal.SIG_IGN:
            signal.signal(kind, end)
    try:
        yield
    finally:
        restore()
