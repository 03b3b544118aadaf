"""`--fp16 --bf16 --int8` and the options that go with them, for `export` and `build`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click

from yowo_deploy.cli.console import Count, Number, refuse_useless
from yowo_deploy.errors import InputError

if TYPE_CHECKING:
    from yowo_export.precision.lower_precision import LowerPrecision

F = TypeVar("F", bound=Callable[..., Any])

_OF_A_PRECISION = ("calibration", "max_drop", "report")  # options that float32 has no use for


def precision_options(function: F) -> F:
    """The flags; `take_precision` reads them."""
    options = (
        click.option(
            "--fp16", is_flag=True, help="Half precision, except for layers that overflow or change the outputs."
        ),
        click.option("--bf16", is_flag=True, help="bfloat16, for CPUs that have it."),
        click.option("--int8", is_flag=True, help="Convolutions in INT8; needs --calibration."),
        click.option(
            "--calibration",
            multiple=True,
            type=click.Path(),
            help="Video, folder or data.json, similar to the videos to be processed.  [repeatable]",
        ),
        click.option("--calibration-clips", default=128, type=Count(), help="Clips to take from --calibration."),
        click.option(
            "--calibration-method",
            type=click.Choice(["percentile", "entropy", "minmax"]),
            default="percentile",
            help="How INT8 ranges are derived from the observed values.",
        ),
        click.option(
            "--max-drop",
            type=Number(),
            help="Percent of detection scores that --int8 may cost on the clips; the worst blocks stay in higher "
            "precision until the limit holds.  [default: no limit]",
        ),
        click.option("--report", type=click.Path(), help="HTML page that ranks the blocks by the accuracy each costs."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def take_precision(options: dict[str, Any]) -> LowerPrecision | None:
    """Take the values of `precision_options` out of `options`; None for float32.

    Raises:
        InputError: they contradict each other.
    """
    from yowo_export.precision.lower_precision import LowerPrecision

    wanted = [name for name in ("fp16", "bf16", "int8") if options.pop(name)]
    given = {name: options.pop(name) for name in (*_OF_A_PRECISION, "calibration_clips", "calibration_method")}
    if len(wanted) > 1:
        raise InputError(f"a file has one precision, not {' and '.join(wanted)}")
    if "int8" not in wanted:
        refuse_useless("--int8", "calibration_method")
    if not wanted:
        refuse_useless("--fp16, --bf16 or --int8", "calibration_clips")
        if useless := [f"--{name.replace('_', '-')}" for name in _OF_A_PRECISION if given[name] not in ((), None)]:
            raise InputError(f"{', '.join(useless)} without --fp16, --bf16 or --int8 has no effect: leave it out")
        return None
    clips, method = given.pop("calibration_clips"), given.pop("calibration_method")
    return LowerPrecision(wanted[0], clips=clips, method=method, **given)  # type: ignore[arg-type]
