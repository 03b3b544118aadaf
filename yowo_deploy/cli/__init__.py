"""The command line: one file a command, imported when it is called."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Iterable, Iterator
from difflib import get_close_matches
from functools import partial
from importlib.abc import MetaPathFinder
from types import MethodType
from typing import Any

import click

from yowo_deploy.cli import terminal
from yowo_deploy.cpp_paths import get_cmake_dir, get_include
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
    "batch": "find people and their actions in an archive of videos, with many workers",
    "find": "search in the results of batch, and cut clips",
    "serve": "serve a model over HTTP, with a live page",
    "view": "show a run of detect in the browser",
    "package": "write a model repository for Triton",
    "explain": "draw activation maps of a model's branches",
    "features": "save 3-D features of whole videos",
    "inspect": "describe a model file",
    "doctor": "check what is installed and works, and how to install the rest",
    "anchors": "fit anchors to the boxes of a data set",
    "demo": "train, export, compare and detect in five minutes, without data or GPU",
}
ALIASES = {"predict": "detect", "val": "evaluate"}  # names that other tools have for them
EXAMPLES = {
    "detect": (
        "yowo-deploy detect video.mp4",
        "yowo-deploy detect video.mp4 -o out.webm --json out.jsonl",
        "yowo-deploy detect rtsp://door/stream 0 --events events/",
    ),
    "batch": (
        "yowo-deploy batch videos/ -o results --workers 2",
        "yowo-deploy batch videos.txt -o results --shard 3/16 --resume",
        "yowo-deploy batch videos.parquet -o results --ray auto",
    ),
    "find": (
        "yowo-deploy find results --action wave --min-score 0.5 --for 2s",
        "yowo-deploy find results --zone door=0.4,0,0.6,0,0.6,1,0.4,1 -o clips/",
        "yowo-deploy find results --limit 1000 --json",
    ),
    "train": (
        "yowo-deploy train data.json --minutes 60",
        "yowo-deploy train data.json --epochs 50 --batch 8 --patience 20",
        "yowo-deploy train data.json --minutes 90 --resume",
    ),
    "evaluate": (
        "yowo-deploy evaluate yowo.onnx data.json",
        "yowo-deploy evaluate runs/train/best.pt jhmdb21 --data DIR --every 8",
        "yowo-deploy evaluate default jhmdb21 --data DIR --save detections.txt",
    ),
    "score": (
        "yowo-deploy score found.txt ground_truth.txt",
        "yowo-deploy score found.txt JHMDB-GT.json.gz --metric video-map --iou 0.2",
        "yowo-deploy score found.csv ava_val.csv --metric ava --labels labels.pbtxt",
    ),
    "export": (
        "yowo-deploy export runs/train/best.pt -o yowo.onnx",
        "yowo-deploy export ckpt.pth --clip 8 --int8 --calibration videos",
        "yowo-deploy export runs/train/best.pt --streaming -o yowo-live.onnx",
    ),
    "build": (
        "yowo-deploy build yowo.onnx -o yowo.plan",
        "yowo-deploy build yowo.onnx --fp16 --calibration videos -o yowo.plan",
        "yowo-deploy build yowo.onnx --batch 1:8:16 --target tensorrt-rtx",
    ),
    "parity": (
        "yowo-deploy parity ckpt.pth yowo.onnx --data video.mp4",
        "yowo-deploy parity ckpt.pth int8.onnx --data videos --bisect",
        "yowo-deploy parity yowo.onnx yowo.onnx --reference-backend onnxruntime",
    ),
    "bench": (
        "yowo-deploy bench --engine yowo.onnx",
        "yowo-deploy bench --engine yowo.onnx --versus int8.onnx",
        "yowo-deploy bench --engine yowo.onnx --video video.mp4 --plot latency.png",
    ),
    "data": (
        "yowo-deploy data import annotated --videos videos --test-share 0.2",
        "yowo-deploy data check data.json",
        "yowo-deploy data preview data.json -o sheet.png",
    ),
    "data import": (
        "yowo-deploy data import annotated --videos videos --test-share 0.2",
        "yowo-deploy data import task.zip --action-from attribute:action",
        "yowo-deploy data import ava_train.csv --start 900 --videos films",
    ),
    "serve": (
        "yowo-deploy serve --source video.mp4",
        "yowo-deploy serve --model yowo.onnx --port 9000 --max-sequences 16",
        "yowo-deploy serve --host 0.0.0.0 --token-file token --allow-host server.lan",
    ),
    "anchors": (
        "yowo-deploy anchors data.json",
        "yowo-deploy anchors data.json --count 9 --plot anchors.png",
        "yowo-deploy anchors jhmdb21 --data DIR",
    ),
    "inspect": (
        "yowo-deploy inspect yowo.onnx",
        "yowo-deploy inspect yowo_jhmdb-21_16f_best.pth --clip 16",
        "yowo-deploy inspect yowo.plan --json",
    ),
    "explain": (
        "yowo-deploy explain default video.mp4 --frame 40 --out look.png",
        "yowo-deploy explain ckpt.pth video.mp4 --frame 40 --out look.png --conf 0.3",
    ),
    "features": (
        "yowo-deploy features ckpt.pt video.mp4 -o features",
        "yowo-deploy detect video.mp4 --model ckpt.pt --features features",
    ),
    "view": ("yowo-deploy view runs/detect/video",),
    "package": (
        "yowo-deploy package triton yowo.onnx -o model_repository/",
        "yowo-deploy package ovms yowo.onnx -o ovms_repository/",
    ),
    "doctor": ("yowo-deploy doctor", "yowo-deploy doctor --json"),
    "demo": ("yowo-deploy demo", "yowo-deploy demo -o demo/ --overwrite"),
}
# Title of a group in --help -> the options in it; the others stand under "Options".
GROUPS = {
    "detect": {
        "Outputs": "video json events alerts tubes timeline annotations overwrite quiet",
        "What is shown": "conf keep tube_scores cuts iou classes every",
        "Events": "on off min_frames",
        "Zones and rules": "zone zones zone_anchor rules",
        "Receivers": "mqtt mqtt_ca events_format webhook webhook_secret_env webhook_private webhook_snapshot frigate "
        "camera metrics_port",
    },
    "batch": {
        "Workers": "workers ray shard stall_s segment_s",
        "Results": "output resume whole_tubes quiet as_json",
        "What is shown": "conf keep tube_scores cuts iou classes every",
        "Events": "on off min_frames zone zones zone_anchor",
    },
    "train": {
        "Length": "minutes epochs patience resume",
        "Recipe": "recipe config batch learning_rate size weights_2d weights_3d start fit_anchors_to_data seed",
        "Files": "output overwrite tensorboard show_batch cache_gb",
    },
    "export": {
        "Output": "output streaming target attention batch half_weights uint8_input decode overwrite",
        "Precision": "fp16 bf16 int8 calibration calibration_clips calibration_method max_drop report tune",
    },
    "build": {
        "Plan": "output target batch workspace version_compatible timing_cache tf32 show_layers cache overwrite",
        "Precision": "fp16 bf16 int8 calibration calibration_clips calibration_method max_drop report",
    },
    "evaluate": {
        "Data set": "data split every workers",
        "Figures": "tube_scores features save as_json",
    },
    "score": {
        "Figures": "metric iou pixel_inclusive eleven_point linking trim",
        "What is scored": "classes list_path labels exclude split xywh",
        "Results": "plot as_json",
    },
    "parity": {
        "What is compared": "data clips dataset split every limits",
        "Layers": "bisect memory",
        "Results": "report as_json",
    },
    "bench": {
        "Model files": "engines versus versus_backend versus_precision",
        "Measurement": "seconds warmup batch video fps stages peak",
        "Results": "plot as_json",
    },
    "serve": {
        "Server": "host port token_file allow_host max_sequences idle parallel",
        "What is shown": "source conf classes",
    },
    "find": {
        "What is found": "action min_score seconds zone zones zone_anchor limit",
        "Results": "output as_json",
    },
}
_MODEL = {"Model": "model backend reference_backend device precision threads clip cache trust clips tune"}
_HYPHEN = "\u2011"  # at which no line breaks
_LOADING = {"torch": "PyTorch", "openvino": "OpenVINO", "onnxruntime": "ONNX Runtime"}
# Former names of options, taken for one version: command -> old name -> new name.
_CACHE = {"--engine-cache": "--cache"}
FORMER_OPTIONS = {"detect": {"--stride": "--every", **_CACHE}, "evaluate": _CACHE, "bench": _CACHE}


class _Formatter(click.HelpFormatter):
    """Breaks no line within a name: yowo-lite, --no-tune."""

    def write(self, string: str) -> None:
        super().write(string.replace(_HYPHEN, "-"))

    def write_text(self, text: str) -> None:
        super().write_text(text.replace("-", _HYPHEN))

    def write_dl(self, rows: Iterable[tuple[str, str]], *args: Any, **options: Any) -> None:
        super().write_dl([(name, text.replace("-", _HYPHEN)) for name, text in rows], *args, **options)


class _Context(click.Context):
    formatter_class = _Formatter


class _Commands(click.Group):
    """Every command by name; only the one that is called is loaded."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        name = ALIASES.get(cmd_name, cmd_name)
        if name not in COMMANDS:
            return None
        command: click.Command = importlib.import_module(f"yowo_deploy.cli.{name}").command
        inner = command.commands if isinstance(command, click.Group) else {}
        for each in inner.values():  # whole, where click would cut them
            each.short_help = " ".join((each.help or "").partition("\n\n")[0].split())
        for full, each in {name: command, **{f"{name} {sub}": each for sub, each in inner.items()}}.items():
            each.context_class = _Context
            if full in EXAMPLES:
                each.epilog = "\n".join(["\b", "Examples:", *(f"  {line}" for line in EXAMPLES[full])])
        if name in GROUPS:
            command.format_options = MethodType(partial(_in_groups, name), command)  # type: ignore[method-assign]
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0].isidentifier() and args[0] not in {*COMMANDS, *ALIASES}:
            near = get_close_matches(args[0], [*COMMANDS, *ALIASES], 1)
            ctx.fail(f"No such command {args[0]!r}." + (f" Did you mean {near[0]!r}?" if near else ""))
        name, command, rest = super().resolve_command(ctx, [ALIASES.get(args[0], args[0]), *args[1:]])
        _refuse_empty(ctx, rest)
        return name, command, list(_renamed(rest, FORMER_OPTIONS.get(name or "", {})))

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


def _refuse_empty(ctx: click.Context, arguments: list[str]) -> None:
    """End with a usage error where an argument is empty, as of a variable that is not set: as a path "" is here."""
    for before, argument in zip(["", *arguments], arguments, strict=False):
        option, sign, value = argument.partition("=") if argument.startswith("--") else (before, "=", argument)
        if sign and not value and option != "--allow-hosts":
            ctx.fail(f"The value of {option} is empty." if option.startswith("-") else "An argument is empty.")


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


def option_groups(name: str, command: click.Command, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
    """By title of a group, what --help shows of each option; those of no group are the last, as "Options"."""
    options = [each for each in command.get_params(ctx) if isinstance(each, click.Option)]
    rows = {each.name: record for each in options if (record := each.get_help_record(ctx)) is not None}
    titles = {**GROUPS[name], **_MODEL} if name in GROUPS else {}
    listed = {title: [rows.pop(each) for each in names.split() if each in rows] for title, names in titles.items()}
    return {title: records for title, records in {**listed, "Options": [*rows.values()]}.items() if records}


def _in_groups(name: str, command: click.Command, ctx: click.Context, formatter: click.HelpFormatter) -> None:
    """Write the options of a command by group."""
    for title, records in option_groups(name, command, ctx).items():
        with formatter.section(title):
            formatter.write_dl(records)
    if isinstance(command, click.Group):
        command.format_commands(ctx, formatter)


class _Announcer(MetaPathFinder):
    """Reports the first import of a library that takes seconds to load."""

    def __init__(self) -> None:
        self._names = dict(_LOADING)

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        """Nothing: the other finders go on. A submodule shows that a library is loaded, and not only looked for."""
        top, _, rest = fullname.partition(".")
        if rest and top in self._names:
            click.echo(f"loading {self._names.pop(top)} ...", err=True)


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
    """Train YOWO, export it, prove that the exported model is the same, and run it on video."""


def main() -> None:
    """Run the command line and exit; see `terminal.run`. An error that is a bug shows its traceback."""
    # A thread that decodes runs beside one that runs inference or trains. At Python's 5 ms a turn the second waits
    # longer than it works: 23 against 46 clips/s in training, seen once on a shared machine.
    sys.setswitchinterval(0.0002)
    if not {"-q", "--quiet", "-h", "--help"}.intersection(sys.argv):
        sys.meta_path.insert(0, _Announcer())
    with terminal.ended_by_signals(), terminal.clean_streams():
        code = terminal.run(lambda: cli.main(prog_name="yowo-deploy", standalone_mode=False))
    sys.exit(code)
