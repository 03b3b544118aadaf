"""`--fp16 --bf16 --int8` and what goes with them: the same for `export` and `build`."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from yowo_deploy.cli.console import progress_bar, talk
from yowo_deploy.errors import InputError, OutputError
from yowo_deploy.files import refuse_overwriting, write_text
from yowo_deploy.model_files.onnx_reader import read_spec

if TYPE_CHECKING:
    from yowo_export.precision.convert import Wish

F = TypeVar("F", bound=Callable[..., Any])

_OF_A_PRECISION = ("calibration", "max_drop", "report")  # options that float32 has no use for


def precision_options(function: F) -> F:
    """The flags; `wished` reads them."""
    options = (
        click.option("--fp16", is_flag=True, help="Half precision, but for what overflows or matters."),
        click.option("--bf16", is_flag=True, help="bfloat16, for CPUs that have it."),
        click.option("--int8", is_flag=True, help="Convolutions in INT8; needs --calibration."),
        click.option(
            "--calibration",
            multiple=True,
            type=click.Path(),
            help="Video, folder with videos, or data.json, like those to come; may be repeated.",
        ),
        click.option("--calibration-clips", default=128, type=click.IntRange(min=1), help="Clips taken of them."),
        click.option(
            "--calibration-method",
            type=click.Choice(["percentile", "entropy", "minmax"]),
            default="percentile",
            help="How INT8 ranges are taken from what is seen.",
        ),
        click.option(
            "--max-drop",
            type=click.FloatRange(min=0),
            help="Percent of detection scores that --int8 may cost on the clips: the worst blocks stay in higher "
            "precision until it holds.  [default: no limit]",
        ),
        click.option("--report", type=click.Path(), help="HTML page that ranks the blocks by what each costs."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def wished(options: dict[str, Any], target: str, fused: bool) -> Wish | None:
    """What `precision_options` ask for; None for float32.

    Raises:
        InputError: they contradict each other, or INT8 has no video to be calibrated on.
    """
    from yowo_export.precision.convert import Wish

    asked = [name for name in ("fp16", "bf16", "int8") if options[name]]
    if len(asked) > 1:
        raise InputError(f"a file has one precision, not {' and '.join(asked)}")
    if not asked:
        if useless := [f"--{name.replace('_', '-')}" for name in _OF_A_PRECISION if options[name] not in ((), None)]:
            raise InputError(f"{', '.join(useless)} without --fp16, --bf16 or --int8: float32 needs none of it")
        return None
    if asked == ["int8"] and not options["calibration"]:
        raise InputError("INT8 is calibrated on videos like those it will see: give some with --calibration")
    if asked != ["int8"] and options["max_drop"] is not None:
        raise InputError("--max-drop is for --int8; 16 bits are held to 1 % of the raw outputs anyway")
    ranked = options["report"] is not None
    return Wish(asked[0], target, options["calibration_method"], fused, options["max_drop"], ranked)  # type: ignore[arg-type]


def refuse_report(report: str | None, source: Path, output: Path) -> None:
    """Raise an OutputError when the report would replace the model that is read or written."""
    if report is None:
        return
    refuse_overwriting(str(source), report)
    if os.path.realpath(report) == os.path.realpath(output):
        raise OutputError(f"{report} is the model that is written: give another name for the report")


def lower(source: Path, output: Path, wish: Wish, options: dict[str, Any]) -> None:
    """The float32 file in the precision wished for, with its report if one is asked for."""
    from yowo_export.precision.convert import damage_report, lower_model
    from yowo_export.sample_clips import made_up_clips, take_clips

    spec = read_spec(source)
    if options["calibration"]:
        with progress_bar("reading clips", total=1.0) as update:
            clips = take_clips(options["calibration"], spec, options["calibration_clips"], update)
        talk.print(f"{len(clips)} clips of {clips.videos} videos" + _skipped(clips.skipped))
    else:
        clips = made_up_clips(spec, 16)
        talk.print("no --calibration: values are judged on made-up frames")
    found = lower_model(source, output, clips, wish, on_step=talk.print)
    kept = f"; kept in higher precision: {', '.join(found.kept)}" if found.kept else ""
    talk.print(
        f"{wish.precision}: {found.damage.score_lost:.2f} % of the scores of {found.detections} detections lost, "
        f"raw outputs differ by {found.damage.raw:.1e}{kept}"
    )
    if options["report"]:
        write_text(options["report"], damage_report(f"{spec.name} in {wish.precision}", found))


def _skipped(files: int) -> str:
    return f"; {files} files could not be read and were left out" if files else ""
