"""`yowo-deploy demo`."""

from __future__ import annotations

import click

from yowo_deploy.cli.console import ConsoleReporter, overwrite_option, require, results, show_table


@click.command("demo")
@click.option("-o", "--output", default="runs/demo", type=click.Path(), help="Folder for everything it makes.")
@overwrite_option
def command(output: str, overwrite: bool) -> None:
    """Train, export, compare, benchmark and detect on synthetic videos in five minutes: no data, GPU or network."""
    require("demo", "torch", "onnx", "onnxscript", "onnxruntime", "openvino")
    from yowo_export.demo import demo

    story = demo(output, overwrite, ConsoleReporter())
    for table in story.tables():
        show_table(*table)
    results.print(f"{story.seconds / 60:.1f} minutes in all")
    click.echo(story.report)
