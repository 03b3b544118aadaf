"""No number of the command line is none: `nan` passes every comparison with a range, `inf` those without an end."""

from __future__ import annotations

from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from yowo_deploy.cli import cli
from yowo_deploy.cli.console import Number
from yowo_deploy.errors import YowoError


def parameters(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Parameter]]:
    """Every parameter of a command and of those below it, with the words that call it."""
    yield from ((path, each) for each in command.params)
    if isinstance(command, click.Group):
        for name in command.list_commands(click.Context(command)):
            below = command.get_command(click.Context(command), name)
            if below is not None:
                yield from parameters(below, (*path, name))


def test_every_number_with_a_point_is_a_finite_one() -> None:
    found = {path: each for path, each in parameters(cli) if isinstance(each.type, click.types.FloatParamType)}
    assert len(found) > 5
    assert [path for path, each in found.items() if not isinstance(each.type, Number)] == []


@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "NaN", "Infinity", "1e999"])
@pytest.mark.parametrize("call", [("bench", "--fps"), ("detect", "--conf"), ("train", "--minutes"), ("data", "--fps")])
def test_what_is_no_finite_number_is_refused_in_one_line(call: tuple[str, str], value: str) -> None:
    command = ("data", "import") if call[0] == "data" else call[:1]
    result = CliRunner().invoke(cli, [*command, call[1], value])
    last = result.output.splitlines()[-1]
    assert result.exit_code == 2 and last.startswith(f"Error: Invalid value for '{call[1]}': ")
    assert "finite" in last or "range" in last


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("parity", "a", "b", "--limit", "raw=inf"), "limit 'raw=inf' is not understood"),
        (("parity", "a", "b", "--limit", "raw=nan"), "limit 'raw=nan' is not understood"),
        (("score", "a", "b", "--iou", "0.5:0.9:inf"), "--iou 0.5:0.9:inf"),
        (("score", "a", "b", "--iou", "nan"), "--iou nan"),
        (("score", "a", "b", "--iou", "0.5:0.95:1e-12"), "0.001 apart at least"),
        (("score", "a", "b", "--iou", "0.5:0.95:5e-324"), "0.001 apart at least"),
    ],
)
def test_numbers_inside_texts_are_finite_too(arguments: tuple[str, ...], said: str) -> None:
    error = CliRunner().invoke(cli, arguments).exception
    assert isinstance(error, YowoError) and said in str(error)


@pytest.mark.parametrize(
    "arguments",
    [("detect", ""), ("detect", "a.mp4", ""), ("detect", "a.mp4", "--json", ""), ("detect", "a.mp4", "--json="),
     ("detect", "a.mp4", "-o", ""), ("data", "import", ""), ("train", ""), ("inspect", "")],
)  # fmt: skip
def test_an_empty_text_is_no_folder(arguments: tuple[str, ...]) -> None:
    """As of a variable that is not set: as a path it would be the folder that one is in."""
    result = CliRunner().invoke(cli, arguments)
    assert result.exit_code == 2
    assert result.output.splitlines()[-1].endswith("is empty.")
