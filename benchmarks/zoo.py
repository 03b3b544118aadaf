"""The table of the shipped models: `python -m benchmarks.zoo FOLDER [--data JHMDB21] [--seconds N]`.

Accuracy, on every frame of J-HMDB-21's test split 1, is measured where `--data` gives its folder, and kept in FOLDER by
the hash of the weights. What FP16 and INT8 change is read from what `python -m benchmarks.precision accuracy FOLDER
DIR` left there. Times are of one clip a call, the engines turn by turn in one run. What was not measured is a dash.
"""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.precision import ENGINES, figures_file, form_file
from yowo_deploy.backends.loader import open_model
from yowo_deploy.benchmark.timing import Timing, bench_models
from yowo_deploy.diagnostics.system_info import describe_machine, in_words
from yowo_deploy.evaluation import Evaluation, evaluate
from yowo_deploy.files import write_text
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import read_spec
from yowo_training.checkpoints.onnx_weights import load_network
from yowo_training.models.flops import cost

# Word for the command line -> the command that made it.
MODELS = {
    "default": "yowo-deploy train jhmdb21 --recipe yowo-lite --minutes 76, then yowo-lite+people --minutes 65, then "
    "yowo-lite+actors --minutes 100 twice, then yowo-lite+boxes three times"
}
FORMS = ("fp16", "int8 for {engine}")


def architecture(path: Path) -> dict[str, str]:
    """Branches, clip, size and cost of a model file."""
    loaded = load_network(path)
    config, spec, total = loaded.model.config, loaded.spec, cost(loaded.model, loaded.spec.clip_shape)["total"]
    return {
        "2-D branch": config.backbone_2d or "-",
        "3-D branch": config.backbone_3d or "-",
        "frames x stride": f"{spec.clip_length} x {spec.frame_stride}",
        "parameters, M": f"{total.parameters / 1e6:.1f}",
        "GMAC a clip": f"{total.macs / 1e9:.2f}",
        "file, MB": f"{path.stat().st_size / 1e6:.1f}",
        "sha256 of the weights": f"{spec.weights_sha256[:16]}...",
        "architecture": spec.name,
    }


def accuracy(model: str, folder: Path, data: Path | None) -> dict[str, str]:
    """Figures of accuracy in points; dashes where they were not measured."""
    file = folder / f"accuracy.{read_spec(model_path(model)).weights_sha256[:16]}.json"
    if not file.exists() and data is not None:
        write_text(file, json.dumps(figures(evaluate(model, "jhmdb21", data))))
    found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    return {
        name: f"{found[name]:.2f}" if name in found else "-"
        for name in (
            "frame-mAP@0.5 along tubes",
            "frame-mAP@0.5, every frame alone",
            "video-mAP@0.2",
            "video-mAP@0.5",
            "recall",
            "class accuracy",
        )
    }


def figures(found: Evaluation) -> dict[str, float]:
    """Of an evaluation, in points."""
    alone = found.variants.get("frame", found)
    shares = {
        "frame-mAP@0.5 along tubes": found.frame_map.mean,
        "frame-mAP@0.5, every frame alone": alone.frame_map.mean,
        "video-mAP@0.2": found.video_map[0.2].mean,
        "video-mAP@0.5": found.video_map[0.5].mean,
        "recall": found.recall,
        "class accuracy": found.accuracy,
    }
    return {name: 100 * share for name, share in shares.items()}


def precision_changes(folder: Path) -> dict[str, str]:
    """What lower precision changes in frame-mAP@0.5 of every frame alone, by engine."""
    changes = {}
    for engine in ENGINES:
        single = _frame_map(folder, "fp32", engine)
        for form in FORMS:
            other = _frame_map(folder, form.format(engine=engine), engine)
            known = single is not None and other is not None
            changes[f"{form.partition(' ')[0].upper()} on {engine}"] = f"{other - single:+.2f}" if known else "-"  # type: ignore[operator]
    return changes


def _frame_map(folder: Path, form: str, engine: str) -> float | None:
    file = figures_file(form_file(folder, form), engine)
    return float(json.loads(file.read_text(encoding="utf-8"))[0]) if file.exists() else None


def speed(model: str, seconds: float) -> dict[str, str]:
    """Milliseconds of a call by engine, median and 95th percentile."""
    with ExitStack() as stack:
        timings = bench_models([stack.enter_context(open_model(model, engine)) for engine in ENGINES], seconds)
    return {f"ms on {engine}, p50 / p95": _times(timing) for engine, timing in zip(ENGINES, timings, strict=True)}


def _times(timing: Timing) -> str:
    return f"{timing.percentile_ms(50):.1f} / {timing.percentile_ms(95):.1f}"


def row(model: str, folder: Path, data: Path | None, seconds: float) -> dict[str, Any]:
    """Everything that the table says of a model."""
    path = model_path(model)
    found = architecture(path) | accuracy(model, folder, data) | speed(model, seconds)
    if model == "default":
        found |= precision_changes(folder)
    return found | {"made by": f"`{MODELS[model]}`"}


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--seconds", type=float, default=20.0)
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    rows = {model: row(model, given.folder, given.data, given.seconds) for model in MODELS}
    print(in_words(describe_machine()), file=sys.stderr)
    print(f"| | {' | '.join(rows)} |\n|---|" + "---:|" * len(rows))
    for name in next(iter(rows.values())):
        print(f"| {name} | {' | '.join(str(each.get(name, '-')) for each in rows.values())} |")


if __name__ == "__main__":
    main()
