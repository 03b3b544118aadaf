"""`yowo-deploy doctor`."""

from __future__ import annotations

import dataclasses
import json
import sys

import click

from yowo_deploy.cli.console import json_option, progress_bar, show_table
from yowo_deploy.diagnostics.doctor import TRIALS, Health, examine, install
from yowo_deploy.diagnostics.system_info import MODULES


@click.command("doctor")
@json_option
def command(as_json: bool) -> None:
    """Check which packages are installed, which backends work, and how to install the rest.

    Each backend runs a model of one layer in a process of its own. Exit code 0 if at least one backend runs models, 1
    if none does.
    """
    with progress_bar("trying", total=len(TRIALS)) as update:
        found = examine(update)
    if as_json:
        click.echo(json.dumps({"runs_models": found.runs_models, **dataclasses.asdict(found)}))
    else:
        _show(found)
    sys.exit(0 if found.runs_models else 1)


def _show(found: Health) -> None:
    versions = [(module, told or install(MODULES[module], bool(found.gpus))) for module, told in found.packages.items()]
    show_table(
        "installed, or how",
        ("module", "version"),
        [("python", found.python), ("system", found.system), ("processor", found.processor), *versions],
        False,
    )
    gpus = [(gpu.get("name", ""), ", ".join(f"{k} {v}" for k, v in gpu.items() if k != "name")) for gpu in found.gpus]
    if gpus:
        show_table("GPUs", ("GPU", found.gpu_note), gpus, False)
    else:
        click.echo(f"{found.gpu_note}\n")
    rows = [(finding.name, finding.state, finding.note) for finding in found.findings]
    show_table("tried", ("what", "state", "note"), rows, False)
    for remedy in dict.fromkeys(finding.remedy for finding in found.findings if finding.remedy):
        helped = "; ".join(finding.name for finding in found.findings if finding.remedy == remedy)
        click.echo(f"{remedy}  # {helped}")  # not in the table, which would break the command into lines
    for sentence in found.clashes:
        click.echo(sentence)
    if not found.runs_models:
        click.echo("No backend runs models here.")
