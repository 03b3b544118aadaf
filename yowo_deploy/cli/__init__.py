"""The command line: one file a command, imported when it is called."""

from __future__ import annotations

import importlib
import io
import sys
from collections.abc import Callable, Iterator
from typing import Any

import click

from yowo_deploy.cpp_paths import get_cmake_dir, get_include
from yowo_deploy.errors import YowoError
from yowo_deploy.version import __version__

COMMANDS = {
    "data": "import, check, preview and export your own annotated videos",
    "train": "train a model on an annotated data set",
    "evaluate": "evaluate a model file on an annotated data set",
    "score": "evaluate a file of detections against a file of ground truth",
    "export": "export a checkpoint to ONNX",
    "build": "build a TensorRT plan from an ONNX file",
    "parity": "prove that two model files compute the same",
    "bench": "benchmark model files",
    "detect": "find people and their actions in videos and cameras",
    "explain": "draw activation maps of a model's branches",
    "features": "save 3-D features of whole videos",
    "inspect": "describe a model file",
    "doctor": "check what is installed and works, and how to install the rest",
    "anchors": "fit anchors to the boxes of a data set",
    "demo": "the whole story in five minutes, without data or GPU",
}
# Former names of options, taken for one version: command -> old name -> new name.
_CACHE = {"--engine-cache": "--cache"}
FORMER_OPTIONS = {"detect": {"--stride": "--every", **_CACHE}, "evaluate": _CACHE, "bench": _CACHE}


class _Commands(click.Group):
    """Every command by name; only the one that is called is loaded."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"yowo_deploy.cli.{cmd_name}").command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, list(_renamed(rest, FORMER_OPTIONS.get(name or "", {})))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _renamed(arguments: list[str], names: dict[str, str]) -> Iterator[str]:
    """The arguments with today's names of options; each former name is reported once on stderr."""
    ended, reported = False, set()
    for argument in arguments:
        ended = ended or argument == "--"
        name, *value = argument.split("=", 1)
        if not ended and name in names:
            if name not in reported:
                click.echo(f"{name} is now called {names[name]}; the next version will not take {name}", err=True)
            reported.add(name)
            argument = "=".join([names[name], *value])
        yield argument


def _prints(name: str, text: Callable[[], str], what: str) -> Callable[[Any], Any]:
    """An option that prints a text and ends, as --version does."""

    def show(ctx: click.Context, _: click.Parameter, asked: bool) -> None:
        if asked:
            click.echo(text())
            ctx.exit()

    return click.option(name, is_flag=True, is_eager=True, expose_value=False, callback=show, help=what)


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"], "show_default": True})
@click.version_option(__version__)
@_prints("--include", get_include, "Show the folder of the C++ headers and exit.")
@_prints("--cmakedir", get_cmake_dir, "Show the folder of the CMake package and exit.")
def cli() -> None:
    """Train YOWO, export it, prove that nothing was lost on the way, and run it on video."""


def escape_what_cannot_be_printed() -> None:
    """Let stdout and stderr write the letters that their encoding lacks as \\uXXXX: a pipe may be cp1252 or ASCII."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def main() -> None:
    """Run the command line; an error of ours is one line and exit code 1, a bug shows its traceback."""
    # A thread that decodes runs beside one that runs inference or trains. At Python's 5 ms a turn the second waits
    # longer than it works: 23 against 46 clips/s in training, seen once on a shared machine.
    sys.setswitchinterval(0.0002)
    escape_what_cannot_be_printed()
    try:
        cli(prog_name="yowo-deploy")
    except YowoError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(1)
