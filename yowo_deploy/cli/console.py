"""Options, tables, progress bars and messages that commands share."""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from importlib.util import find_spec
from pathlib import Path
from time import monotonic
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from rich.table import Column, Table

from yowo_deploy.backends.loader import BACKENDS, MOST_THREADS
from yowo_deploy.datasets.base import Dataset
from yowo_deploy.datasets.box_files import text_of
from yowo_deploy.datasets.registry import DATASETS, open_dataset
from yowo_deploy.errors import InputError, MissingExtraError
from yowo_deploy.files import lines_of
from yowo_deploy.plain_text import cut, escaped, redacted_words, shown
from yowo_deploy.postprocess.zones import ANCHORS
from yowo_deploy.reporter import Reporter

F = TypeVar("F", bound=Callable[..., Any])

LONGEST_CELL = 10_000  # characters in a table
LARGEST, LARGEST_SEED, LARGEST_BYTES = 10**9, (1 << 63) - 1, 1 << 50  # of numbers that a user gives
TRUST = "Open unknown files without a trial in a child process, and plans without their hash."
PLAIN_EVERY_S = 30.0  # between two lines of progress where there is no terminal

# Both write to what sys.stderr and sys.stdout are when they write; on a terminal to what was there at first, for rich
# draws with escape codes, and the texts that it is given are clean.
talk = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
results = Console(highlight=False)
if not results.is_terminal:
    results.width = max(results.width, 120)  # a pipe has no width of its own
for each, stream in ((talk, sys.stderr), (results, sys.stdout)):
    if each.is_terminal:
        each.file = stream


class Choice(click.Choice):  # type: ignore[type-arg]  # which has arguments since click 8.2
    """One of `names`; old names of theirs are accepted, and not shown in help."""

    def __init__(self, *names: str, **old: str) -> None:
        super().__init__(names)
        self._old = old

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The name that is meant."""
        return super().convert(self._old.get(value, value), param, ctx)


class Count(click.IntRange):
    """A whole number, of a range with an end: by larger ones NumPy and PyTorch fail with errors of their own."""

    def __init__(self, least: int = 1, most: int = LARGEST) -> None:
        super().__init__(least, most)


class Number(click.FloatRange):
    """A finite number in a range: comparisons alone let `nan` through every range, and `inf` through open ones."""

    def __init__(self, min: float = 0, max: float = LARGEST, min_open: bool = False) -> None:
        super().__init__(min, max, min_open)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number, or a usage error."""
        number = float(super().convert(value, param, ctx))
        return number if math.isfinite(number) else self.fail(f"{value} is not a finite number.", param, ctx)


def model_options(function: F) -> F:
    """`--backend --device --precision --threads --clip --cache --trust`, the arguments of `open_model`."""
    options = (
        click.option("--backend", type=click.Choice(BACKENDS), help="Backend.  [default: the fastest installed]"),
        click.option(
            "--device",
            default="auto",
            help="auto (the GPU where one works), cpu, cuda, cuda:N or N; for onnxruntime also tensorrt or "
            "tensorrt-rtx.",
        ),
        click.option(
            "--precision",
            type=click.Choice(["fp32", "bf16", "fp16", "int8"]),
            help="Precision of the arithmetic.  [default: the file's own]",
        ),
        click.option("--threads", type=Count(1, MOST_THREADS), help="CPU threads.  [default: the backend's choice]"),
        click.option("--clip", type=Count(), help="Clip length of a checkpoint.  [default: its own]"),
        click.option("--cache", type=click.Path(), help="Folder that caches compiled models."),
        click.option("--trust", is_flag=True, help=TRUST),
    )
    for option in reversed(options):
        function = option(function)
    return function


def shown_options(function: F) -> F:
    """What is shown, and how often the model runs: the fields of `DetectorOptions`; `--conf` is `confidence`."""
    options = (
        click.option("--conf", type=Number(0, 1), help="Score above which a person appears.  [default: the model's]"),
        click.option(
            "--keep",
            type=Number(0, 1),
            help="Objectness above which a person who appeared stays; 0: every box must exceed --conf.  "
            "[default: the model's]",
        ),
        click.option(
            "--tube-scores/--no-tube-scores",
            default=None,
            help="Average class scores and boxes along each person's tube.  [default: the model's]",
        ),
        click.option(
            "--cuts/--no-cuts", default=None, help="End all tubes at hard cuts.  [default: with --tube-scores]"
        ),
        click.option(
            "--iou", type=Number(0, 1), help="Suppress boxes that overlap more than this.  [default: the model's]"
        ),
        click.option("--classes", multiple=True, help="Show only these classes, as walk,run.  [default: all]"),
        click.option(
            "--every",
            default=1,
            type=Count(),
            help="Run the model on every N-th frame and reuse the boxes in between.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def event_options(function: F) -> F:
    """Thresholds and zones of events, the fields of `Outputs`."""
    options = (
        click.option("--on", type=Number(0, 1), help="Score above which an event starts.  [default: the model's]"),
        click.option("--off", type=Number(0, 1), help="Score below which an event ends.  [default: the model's]"),
        click.option(
            "--min-frames",
            default=8,
            type=Count(),
            help="Consecutive frames that start an event (first above --on, none below --off) or end it (below --off).",
        ),
        click.option(
            "--zone", multiple=True, help="Zone: name=x,y,x,y,x,y, as fractions of the picture.  [repeatable]"
        ),
        click.option("--zones", type=click.Path(), help="JSON file of zones."),
        click.option(
            "--zone-anchor",
            type=click.Choice(ANCHORS),
            default="bottom",
            help="Which point of a box must be in a zone: the middle of its lower edge, or of the box.",
        ),
    )
    for option in reversed(options):
        function = option(function)
    return function


def release_options(function: F) -> F:
    """--labels and --anchors, of an official checkpoint with classes of one's own."""
    labels = click.option(
        "--labels",
        callback=parsed(parse_labels),
        help="Classes of an official checkpoint that you trained yourself: a,b,c, or a file with one per line.",
    )
    anchors = click.option(
        "--anchors",
        callback=parsed(parse_anchors),
        help="Its anchors in cells of 32 pixels, as W,H W,H ...  [default: those of UCF101-24]",
    )
    return labels(anchors(function))


def parse_labels(text: str) -> list[str]:
    """Names between commas, or the lines of a file."""
    found = lines_of(text_of(Path(text))) if Path(text).is_file() else text.split(",")
    return [name.strip() for name in found if name.strip()]


def parse_anchors(text: str) -> list[tuple[float, float]]:
    """`1.2,2.5 3,4` as pairs.

    Raises:
        InputError: it is no such list.
    """
    try:
        return [(float(w), float(h)) for w, h in (pair.split(",") for pair in text.split())]
    except ValueError as error:
        raise InputError(
            f"anchors {text!r} are not understood, expected width,height pairs: 0.7,1.2 1.3,2.6"
        ) from error


def dataset_options(function: F) -> F:
    """DATASET --data DIR --split N, the arguments of `open_dataset`; DATASET is a name or a data.json."""
    options = (
        click.argument("dataset", metavar="DATASET"),
        click.option("--data", type=click.Path(), help=f"Folder of DATASET, if it is a name: {', '.join(DATASETS)}."),
        click.option("--split", default=1, type=Count(), help="Number of the official split."),
    )
    for option in reversed(options):
        function = option(function)
    return function


def opened(dataset: str, data: str | None, split: int) -> Dataset:
    """What `dataset_options` name."""
    return open_dataset(dataset, None if data is None else Path(data), split)


overwrite_option = click.option("--overwrite", is_flag=True, help="Replace existing files.")


def json_option(function: F) -> F:
    """`--json`: results for machines."""
    return click.option("--json", "as_json", is_flag=True, help="Results as JSON on stdout.")(function)


def json_number(value: float) -> float | None:
    """JSON has no NaN."""
    return None if math.isnan(value) else float(value)


def parse_bytes(text: str, what: str) -> int:
    """`512MiB`, `4GiB` or a number of bytes.

    Raises:
        InputError: it is none of them; `what` names it in the message.
    """
    found = re.fullmatch(r"(\d{1,15})\s*(|KiB|MiB|GiB)", text, re.ASCII)
    size = int(found[1]) << {"": 0, "KiB": 10, "MiB": 20, "GiB": 30}[found[2]] if found else LARGEST_BYTES + 1
    if size > LARGEST_BYTES:
        raise InputError(f"{what} {text!r} is not understood, expected a size as 4GiB or 512MiB, at most 1024 TiB")
    return size


def parsed(parse: Callable[[Any], Any]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """A callback for an option: its value as `parse` gives it; None stays None."""
    return lambda context, parameter, value: None if value is None else parse(value)


def refuse_useless(needed: str, *names: str) -> None:
    """Raise an InputError for options of the command line that do nothing without something else, `needed`."""
    context = click.get_current_context()
    typed = [name for name in names if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if given := ", ".join(f"--{name.replace('_', '-')}" for name in typed):
        raise InputError(f"{given} without {needed} has no effect: leave it out")


EXPORT = ("export", "torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime")  # what `require` takes for it


def require(extra: str, *libraries: str) -> None:
    """Raise a MissingExtraError unless all libraries are installed."""
    for library in libraries:
        if find_spec(library) is None:
            raise MissingExtraError(library, extra)


def tell(text: object) -> None:
    """A message on stderr, one line, clean."""
    talk.print(shown(text))


def clean(text: str) -> str:
    """A text for a table or a line of facts: on one line, without secrets, and not longer than anyone reads."""
    return cut(escaped(redacted_words(text)), LONGEST_CELL)


def show_table(title: str, headers: Sequence[str], rows: Sequence[Sequence[str]], numbers: bool = True) -> None:
    """A table on stdout; the first column to the left, the others to the right if they are numbers."""
    table = Table(title=escape(clean(title)), title_justify="left", header_style="bold")
    for index, header in enumerate(headers):
        table.add_column(escape(clean(header)), justify="right" if index and numbers else "left")
    for row in rows:
        table.add_row(*(escape(clean(cell)) for cell in row))
    results.print(table)


def show_facts(title: str, facts: Mapping[str, str]) -> None:
    """Names and values on stdout, a line each; nothing is cut or folded."""
    wide = max(map(len, facts), default=0)
    for line in ([title] if title else []) + [f"{name:<{wide}}  {value}" for name, value in facts.items()]:
        results.print(escape(clean(line)), soft_wrap=True)


@contextmanager
def progress_bar(label: str, total: float | None, thread: bool = True) -> Iterator[Callable[..., None]]:
    """Yields a function that takes the amount done and a note.

    A bar with time left on a terminal; elsewhere a plain line on stderr now and then.

    Args:
        thread: draws the bar between the calls too; without it nothing runs beside what is measured.
    """
    if not talk.is_terminal:
        yield _plain_lines(label, total)
        return
    # Texts give way, so that percent and time left stay at any width and name.
    columns = (
        TextColumn("{task.description}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=3)),
        BarColumn(bar_width=12),
        TaskProgressColumn(table_column=Column(no_wrap=True, min_width=4)),
        TimeRemainingColumn(table_column=Column(no_wrap=True, min_width=7)),
        TextColumn("left", table_column=Column(no_wrap=True, min_width=4)),
        TextColumn("{task.fields[note]}", table_column=Column(no_wrap=True, overflow="ellipsis", ratio=4)),
    )
    with Progress(*columns, console=talk, expand=True, auto_refresh=thread) as progress:
        task = progress.add_task(escape(shown(label)), total=total, note="")

        def update(completed: float, note: str = "") -> None:
            progress.update(task, completed=completed, note=escape(shown(note)), refresh=not thread)

        yield update


class ConsoleReporter(Reporter):
    """Messages, errors and progress on stderr.

    Args:
        quiet: errors alone.
        thread: see `progress_bar`.
    """

    def __init__(self, quiet: bool = False, thread: bool = True) -> None:
        self._quiet, self._thread = quiet, thread

    def message(self, text: str) -> None:
        """See `Reporter`."""
        if not self._quiet:
            tell(text)

    def error(self, text: str) -> None:
        """See `Reporter`."""
        click.echo(shown(text), err=True)

    def progress(self, label: str, total: float | None) -> AbstractContextManager[Callable[..., None]]:
        """See `Reporter`."""
        return super().progress(label, total) if self._quiet else progress_bar(label, total, self._thread)


def _plain_lines(label: str, total: float | None) -> Callable[..., None]:
    last = monotonic()
    begun: tuple[float, float] | None = None  # when, and what was done by then: a resumed run begins in its middle

    def update(completed: float, note: str = "") -> None:
        nonlocal last, begun
        now = monotonic()
        begun = begun or (now, completed)
        if now - last < PLAIN_EVERY_S:
            return
        last, made = now, completed - begun[1]
        share = f"{100 * completed / total:.0f} %" if total else f"{completed:g}"
        left = f", {(now - begun[0]) * (total - completed) / made / 60:.1f} min left" if total and made > 0 else ""
        tell(f"{label}: {share}{left}  {note}")

    return update
