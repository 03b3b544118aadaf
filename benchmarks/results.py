"""From figures in a work folder to `RESULTS.md` and its pictures. Knows Markdown and matplotlib; measures nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks.forms import COMPILED, EAGER
from benchmarks.model_cost import LENGTHS, PAPER
from benchmarks.pareto import FRAME
from benchmarks.peers import PLAIN
from yowo_deploy.diagnostics.system_info import in_words
from yowo_deploy.files import atomic_write, write_text

FORMS = (  # beside eager PyTorch, in the order of the report
    "PyTorch, bf16",
    COMPILED,
    "ONNX Runtime, fp32",
    "ONNX Runtime, int8",
    "OpenVINO, fp32",
    "OpenVINO, bf16",
    "OpenVINO, int8",
)
COLOURS = dict(zip(FORMS, ("#bbbbbb", "#777777", "#9ecae1", "#3182bd", "#fdd0a2", "#fd8d3c", "#d94801"), strict=True))
ENGINE_COLOURS = {"openvino": "#d94801", "onnxruntime": "#3182bd", PLAIN: "#000000", EAGER: "#999999"}
ENGINE_NAMES = {"openvino": "ours, OpenVINO", "onnxruntime": "ours, ONNX Runtime", PLAIN: PLAIN, EAGER: EAGER}
PRECISION_MARKERS = {"fp32": "o", "fp16": "s", "int8": "^"}
INTRO = """# Results

Made by `python -m benchmarks.all`; `benchmarks/results.py` wrote every line from what was measured.

Load averages stand beside the tables: above {cores}, the number of cores, other work ran. So, unless a table says
otherwise, figures are **CPU time on one thread**: what a call takes on a core of its own, however long it had to wait
for one here, but for the caches that others used too. Ratios are of calls made in turn in one run, with their 95 %
interval; compare these, not milliseconds of different tables.

Machine: {machine}. Python {python}; {packages}.
"""


def write_report(work: Path, output: Path) -> None:
    """Write `RESULTS.md` and pictures into `output`, from what is in `work`; what is missing is named."""
    networks = {(each["backbone"], each["frames"]): each for each in map(_read, _figures_files(work))}
    sections = {name: _read(work / f"{name}.json") for name in ("scaling", "pareto", "postprocess", "start")}
    found = [*networks.values(), *(each for each in sections.values() if each)]
    if not found:
        return
    text = [_intro(found[0]["machine"]), _backbones(networks, output), _lengths(networks)]
    makers = {"scaling": _scaling, "postprocess": _postprocess, "start": _start}
    for name, section in sections.items():
        if section is None:
            text.append(f"## {name.capitalize()}\n\nNot measured yet: `python -m benchmarks.all --only {name}`.")
        elif name == "pareto":
            text.append(_pareto(section, output))
        else:
            text.append(makers[name](section))
    write_text(output / "RESULTS.md", "\n\n".join(part.strip() for part in text) + "\n")


def _figures_files(work: Path) -> list[Path]:
    return sorted((work / "backbones").glob("*/figures.json"))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def _intro(machine: dict[str, Any]) -> str:
    wanted = ("torch", "onnxruntime", "openvino", "numpy", "opencv-python-headless")
    packages = ", ".join(f"{name} {machine['packages'][name]}" for name in wanted if name in machine["packages"])
    words = in_words(machine).partition("; load")[0] + f", {machine['memory_gib']} GiB"
    return INTRO.format(machine=words, cores=machine["cores"], python=machine["python"], packages=packages)


def _backbones(networks: Mapping[tuple[str, int], dict[str, Any]], output: Path) -> str:
    missing = {length: [name for name in PAPER if (name, length) not in networks] for length in LENGTHS}
    table = []
    for length in LENGTHS:
        for name in PAPER:
            if network := networks.get((name, length)):
                by_name = {row["name"]: row for row in network["rows"]}
                cells = (_times(by_name[form]["times"]) if form in by_name else _why(network, form) for form in FORMS)
                eager = f"{by_name[EAGER]['cpu_ms']:.0f}"
                table.append((name, str(length), f"{network['gmac']:.1f}", eager, *cells))
    loads = [value for network in networks.values() for value in network["rows"][0]["load"]]
    about = f"load average {min(loads):g} to {max(loads):g}" if loads else "nothing measured yet"
    text = [
        "## Every backbone, in every form, against eager PyTorch",
        "Times as fast as eager PyTorch (fp32). The whole network with Darknet-19 as its 2-D branch, 24 classes, 224 x "
        f"224, random weights, one clip a call; {about}. FP16 files are not listed: on a CPU both engines compute them "
        "in float32. `-` was not measured.",
        _table(("3-D backbone", "T", "GMAC", "eager ms", *FORMS), table, left=1),
    ]
    if shown := [name for name in PAPER if (name, 16) in networks]:
        _bars(networks, shown, output / "backbones.png")
        text.append("![Times as fast as eager PyTorch, 16 frames](backbones.png)")
    for length, names in missing.items():
        if names:
            text.append(f"Not measured yet with {length} frames: {', '.join(names)}.")
    return "\n\n".join(text)


def _why(network: dict[str, Any], form: str) -> str:
    if reason := network.get("absent", {}).get(form):
        return str(reason)
    return "failed" if form == COMPILED and "failed" in (network["compile"] or {}) else "-"


def _bars(networks: Mapping[tuple[str, int], dict[str, Any]], shown: Sequence[str], path: Path) -> None:
    figure, height = Figure(figsize=(9, 1.2 + 0.9 * len(shown)), layout="constrained"), 0.12
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for number, form in enumerate(FORMS):
        places, values, errors = [], [], ([], [])
        for place, name in enumerate(shown):
            row = next((row for row in networks[name, 16]["rows"] if row["name"] == form), None)
            if row:
                middle, low, high = row["times"]
                places.append(place + (number - len(FORMS) / 2) * height)
                values.append(middle)
                errors[0].append(middle - low)
                errors[1].append(high - middle)
        axes.barh(places, values, height, xerr=errors, color=COLOURS[form], label=form, error_kw={"lw": 0.7})
    axes.axvline(1, color="black", lw=0.8)
    axes.set(xlabel="times as fast as eager PyTorch, 16 frames, one thread; 95 % intervals")
    axes.set_yticks(range(len(shown)), shown)
    axes.invert_yaxis()
    axes.grid(axis="x", alpha=0.25)
    figure.legend(loc="outside right upper", fontsize=8)
    _save(figure, path)


def _lengths(networks: Mapping[tuple[str, int], dict[str, Any]]) -> str:
    table = []
    for name in PAPER:
        cells = []
        for form in ("OpenVINO, fp32", "OpenVINO, int8"):
            for length in LENGTHS:
                rows = networks.get((name, length), {"rows": ()})["rows"]
                cells.append(next((f"{row['cpu_ms']:.0f}" for row in rows if row["name"] == form), "-"))
        if set(cells) != {"-"}:
            table.append((name, *cells))
    headers = [f"{form} T={length}" for form in ("fp32", "int8") for length in LENGTHS]
    text = "CPU milliseconds of one clip in OpenVINO; each clip length is a run of its own."
    return "\n\n".join(["## Cost against clip length", text, _table(("3-D backbone", *headers), table, left=1)])


def _scaling(section: dict[str, Any]) -> str:
    figures, engines = section["figures"], list(section["figures"]["batches"])
    batches = [
        (batch, *(cell for engine in engines for cell in _pair(figures["batches"][engine][batch])))
        for batch in figures["batches"][engines[0]]
    ]
    threads = [
        (count, *(cell for engine in engines for cell in _pair(figures["threads"][engine][count])))
        for count in figures["threads"][engines[0]]
    ]
    headers = [f"{engine} {what}" for engine in engines for what in ("ms", "times the first row")]
    return "\n\n".join(
        [
            "## Cost against batch and threads",
            f"The default model in fp32, {_load(section)}. Milliseconds of CPU for each clip, by clips a call:",
            _table(("clips a call", *headers), batches),
            "By threads, one clip a call, here by the clock: what else ran on the cores is in it.",
            _table(("threads", *headers), threads),
        ]
    )


def _pair(values: Sequence[float]) -> tuple[str, str]:
    return f"{values[0]:.1f}", _times(values[1:])


def _pareto(section: dict[str, Any], output: Path) -> str:
    rows, every = section["figures"]["rows"], section["figures"]["every"]
    table = [
        (row["name"], f"{row['cpu_ms']:.1f}", _times(row["times"]), _or_none(row["frame_map"], "{:.2f}"))
        for row in rows
    ]
    table += [(name, "-", reason, "-") for name, reason in section["figures"].get("absent", {}).items()]
    _save(_pareto_figure([row for row in rows if row["frame_map"] is not None]), output / "pareto.png")
    frames = "all frames" if every == 1 else f"one frame in {every}"
    return "\n\n".join(
        [
            "## Accuracy against speed, the default model",
            f"{section['figures']['gmac']:.2f} GMAC a clip; {_load(section)}. Frame-mAP@0.5 on {frames} of J-HMDB-21's "
            "test split 1, each by itself, is of these very files (`python -m benchmarks.precision accuracy`); the "
            "plain export and PyTorch are the same network in float32. `-` was not evaluated. Frame by frame is the "
            "streaming form, which `detect` takes for a video: its answers are those of whole clips.",
            _table(("form", "CPU ms", "times the plain export", "frame-mAP@0.5"), table, left=1),
            "![Accuracy against speed](pareto.png)",
        ]
    )


def _pareto_figure(rows: Sequence[Mapping[str, Any]]) -> Figure:
    """Colours are engines, markers are precisions; what goes frame by frame is filled."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    for row in rows:
        form = row["name"].removesuffix(FRAME)
        colour = next(colour for engine, colour in ENGINE_COLOURS.items() if form.endswith(engine))
        marker = PRECISION_MARKERS.get(form.partition(",")[0], "o")
        fill = colour if form != row["name"] else "none"
        axes.plot(row["cpu_ms"], row["frame_map"], marker, ms=10, mew=1.5, color=colour, mfc=fill)
    for engine, colour in ENGINE_COLOURS.items():
        axes.plot([], [], "-", lw=5, color=colour, label=ENGINE_NAMES[engine])
    for precision, marker in PRECISION_MARKERS.items():
        axes.plot([], [], marker, color="#777777", mfc="none", label=precision)
    axes.plot([], [], "o", color="#777777", label="frame by frame")
    axes.legend(loc="center left", bbox_to_anchor=(1.0, 0.5), frameon=False)
    axes.set(xscale="log", xlabel="CPU ms a frame, one thread", ylabel="frame-mAP@0.5, %")
    ticks = [5, 10, 20, 40, 80]
    axes.set_xticks(ticks, [str(tick) for tick in ticks], minor=False)
    axes.set_xticks([], minor=True)
    axes.margins(0.1, 0.25)
    axes.grid(alpha=0.25)
    return figure


def _or_none(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def _postprocess(section: dict[str, Any]) -> str:
    lines = "\n".join(f"- {line}" for line in section["figures"]["lines"])
    about = f"Medians by the clock, ours and plain Python loops in turn, {_load(section)}:"
    return f"## Post-processing\n\n{about}\n\n{lines}"


def _start(section: dict[str, Any]) -> str:
    rows = [(what, f"{clock:.2f}", f"{cpu:.2f}") for what, (clock, cpu) in section["figures"].items()]
    about = (
        "Fresh processes by turns, medians in seconds, all files in the cache of the disk; the default model, and for "
        f"PyTorch its architecture with random weights; {_load(section)}."
    )
    return "\n\n".join(["## Import and first detection", about, _table(("what", "by the clock", "CPU"), rows, left=1)])


def _load(section: dict[str, Any]) -> str:
    return "load average " + " to ".join(f"{value:g}" for value in section["load"])


def _times(values: Sequence[float]) -> str:
    middle, low, high = values
    return "1" if low == high == 1 else f"{middle:.2f} [{low:.2f}, {high:.2f}]"


def _table(headers: Sequence[str], rows: Sequence[Sequence[str]], left: int = 0) -> str:
    rule = "".join("---|" if place < left else "---:|" for place in range(len(headers)))
    return "\n".join([f"| {' | '.join(headers)} |", f"|{rule}", *(f"| {' | '.join(row)} |" for row in rows)])


def _save(figure: Figure, path: Path) -> None:
    with atomic_write(path) as temporary:
        figure.savefig(temporary, dpi=80, format="png")
