"""`yowo-deploy serve`."""

from __future__ import annotations

import os
from typing import Any

import click

from yowo_deploy.cli.console import Count, Number, model_options, require, tell
from yowo_deploy.errors import InputError
from yowo_deploy.files import read_within
from yowo_deploy.model_files.default import DEFAULT
from yowo_deploy.postprocess.class_filter import parse_classes

TOKEN = "YOWO_TOKEN"
LONGEST_TOKEN = 1 << 16  # bytes of its file


@click.command("serve")
@click.option("--source", multiple=True, help="Video, webcam's number or address for the live page.  [repeatable]")
@click.option("--model", default=DEFAULT, type=click.Path(), help="ONNX file, plan or checkpoint.")
@click.option("--host", default="127.0.0.1", help="Address to listen on; any but a loopback address needs a token.")
@click.option("--port", default=8000, type=Count(0, 65535), help="Port to listen on; 0 is any free one.")
@click.option("--token-file", type=click.Path(), help=f"File with the token.  [default: {TOKEN} of the environment]")
@click.option("--allow-host", multiple=True, help="Host name that requests may use.  [repeatable]")
@click.option("--max-sequences", default=32, type=Count(), help="Sequences at the same time.")
@click.option(
    "--idle", default=30.0, type=Number(0, min_open=True), help="Seconds without a frame after which a sequence ends."
)
@click.option("--parallel", default=1, type=Count(), help="Inferences in parallel.")
@click.option("--conf", type=Number(0, 1), help="Score above which a person appears.  [default: the model's]")
@click.option("--classes", multiple=True, help="Show only these classes, as walk,run.  [default: all]")
@click.option("--clips", is_flag=True, help="Serve whole clips, which makes yowo_clip faster and yowo_stream slower.")
@model_options
def command(
    *,
    source: tuple[str, ...],
    model: str,
    host: str,
    port: int,
    token_file: str | None,
    allow_host: tuple[str, ...],
    idle: float,
    conf: float | None,
    classes: tuple[str, ...],
    clips: bool,
    **options: Any,
) -> None:
    """Serve a model over HTTP: the Open Inference Protocol (KServe v2), which Triton's clients speak, and a page that
    shows who does what in each --source.

    After SIGTERM or Ctrl-C, open requests have five seconds to end.
    """
    require("serve", "starlette", "uvicorn", "httptools", "websockets", "prometheus_client")
    from yowo_deploy.backends.loader import open_model
    from yowo_deploy.closing import closed_on_error
    from yowo_deploy.detector import refuse_clips
    from yowo_deploy.serving.application import app
    from yowo_deploy.serving.server import is_loopback, listen, server

    token = _token(token_file)
    if not is_loopback(host) and not token:
        raise InputError(f"{host} is open to other machines: set {TOKEN}, or give --token-file")
    shown = {name: options.pop(name) for name in ("max_sequences",)}
    options["streaming"] = None if clips else "many"
    with listen(host, port) as listener, closed_on_error(open_model(model, **options)) as backend:
        refuse_clips(backend, clips)
        chosen = parse_classes(classes, backend.spec.labels) if classes else None
        application = app(
            backend, sources=source, hosts=(*allow_host, host), token=token, any_address=not is_loopback(host),
            idle_s=idle, confidence=conf, classes=chosen, **shown,
        )  # fmt: skip
        tell(f"serving {backend.spec.name} ({backend.name}) at {address(host, listener.getsockname()[1])}")
        server(application).run(sockets=[listener])


def address(host: str, port: int) -> str:
    """As a browser takes it."""
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/"


def _token(file: str | None) -> str:
    if file is None:
        return os.environ.get(TOKEN, "")
    try:
        return read_within(file, LONGEST_TOKEN).decode().strip()
    except (InputError, UnicodeDecodeError) as error:
        raise InputError(f"the token cannot be read from {file}: expected a file with one line of text") from error
