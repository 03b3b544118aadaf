"""`yowo-deploy package`."""

from __future__ import annotations

import click

from yowo_deploy.model_files.default import DEFAULT

_model = click.argument("model", default=DEFAULT, type=click.Path())
_output = click.option("-o", "--output", required=True, type=click.Path(), help="Folder to make.")


@click.group("package")
def command() -> None:
    """Write a model repository for an inference server."""


@command.command("triton")
@_model
@_output
@click.option(
    "--python-path",
    default="",
    show_default=False,
    help="Folders from which Triton's Python backend imports this package.",
)
def triton(model: str, output: str, python_path: str) -> None:
    """Write a repository for Triton from MODEL, an ONNX file or a plan: yowo_stream and yowo_clip, labels, a client."""
    from yowo_deploy.serving.repository import write_triton

    click.echo(write_triton(model, output, python_path))


@command.command("ovms")
@_model
@_output
def ovms(model: str, output: str) -> None:
    """Write a repository for OpenVINO Model Server from MODEL, an ONNX file of clips: yowo_clip. Never tested."""
    from yowo_deploy.serving.repository import write_ovms

    click.echo(write_ovms(model, output))
