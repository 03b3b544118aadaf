"""No number of the command line is none: `nan` passes every comparison with a range, `inf` those without an end."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from yowo_deploy.cli import cli
from yowo_deploy.cli.console import Number
from yowo_deploy.datasets.synthetic.generator import ANNOTATIONS, make_synthetic
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


def test_every_number_has_a_largest_one() -> None:
    """Larger ones end in errors of NumPy's and PyTorch's own, take all memory, or never end."""
    found = {}
    for path, each in parameters(cli):
        for kind in getattr(each.type, "types", [each.type]):
            if isinstance(kind, click.types.IntParamType | click.types.FloatParamType):
                found[(*path, each.opts[0])] = getattr(kind, "max", None)
    assert len(found) > 50
    assert [name for name, most in found.items() if most is None or most >= 1 << 63] == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("build", "a.onnx", "--workspace", "999999999999999GiB"), "at most 1024 TiB"),
        (("parity", "a", "b", "--every", "3"), "--every without --dataset has no effect"),
        (("parity", "a", "b", "--split", "1", "--memory", "1GiB"), "--split without --dataset has no effect"),
        (("parity", "a", "b", "--memory", "1GiB"), "--memory without --bisect has no effect"),
        (("bench", "--engine", "a", "--versus-backend", "openvino"), "--versus-backend without --versus has no effect"),
        (("export", "a", "--calibration-clips", "5"), "--calibration-clips without --fp16, --bf16 or --int8"),
        (("export", "a", "--calibration-method", "minmax"), "--calibration-method without --int8 has no effect"),
        (("build", "a", "--fp16", "--calibration-method", "entropy"), "--calibration-method without --int8"),
        (("inspect", "default", "--clip", "4"), "--clip without a checkpoint has no effect"),
    ],
)
def test_what_has_no_effect_is_refused(arguments: tuple[str, ...], said: str) -> None:
    error = CliRunner().invoke(cli, arguments).exception
    assert isinstance(error, YowoError) and said in str(error)


@pytest.mark.parametrize(
    ("called", "said"),
    [
        ({"epochs": [1]}, "no text or number as epochs"),
        ({"cache_gb": {"a": 1}}, "no text or number as cache_gb"),
        ({"weights": [1]}, "no text or number as weights"),
        ({"weights": {"backbone_2d": [5]}}, "no text or number as weights_2d"),
        ({"people": 4, "start": None}, "4"),
        ({"start": 3}, "not found: 3"),
    ],
)
def test_a_config_of_other_values_is_refused(called: dict[str, object], said: str, tmp_path: Path) -> None:
    from yowo_training.recipes import fields_of, find_recipe

    make_synthetic(tmp_path, videos_train=1, videos_test=1)
    content = {"recipe": fields_of(find_recipe("yowo-tiny")), "called_with": called}
    (tmp_path / "args.json").write_text(json.dumps(content))
    words = ("train", str(tmp_path / ANNOTATIONS), "--config", str(tmp_path / "args.json"), "-o", str(tmp_path / "run"))
    error = CliRunner().invoke(cli, words).exception
    assert isinstance(error, YowoError) and said in str(error)
