"""`yowo-deploy inspect`."""

from __future__ import annotations

import dataclasses
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from yowo_deploy.backends.loader import admit, is_checkpoint
from yowo_deploy.cli.console import Count, json_option, refuse_useless, release_options, require, show_facts, show_table
from yowo_deploy.diagnostics.system_info import processor_in_words
from yowo_deploy.errors import YowoError, foreign
from yowo_deploy.files import existing_file, sha256_of
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import (
    MOST_PARTS,
    PRECISION_KEY,
    STREAMING_KEY,
    OnnxFile,
    read_onnx_file,
    recorded_cost,
)
from yowo_deploy.model_files.plan_record import check_hash, is_plan, read_plan
from yowo_deploy.model_files.streaming_form import FORM_KEY, streaming_form

if TYPE_CHECKING:
    from yowo_training.models.yowo import Yowo

TRIED_FRAMES = 16  # of a checkpoint that is tried before it is read


@click.command("inspect")
@click.argument("file", type=click.Path())
@click.option("--clip", type=Count(), help="Clip length of an official checkpoint whose name does not contain it.")
@click.option("--trust", is_flag=True, help="Read an unknown checkpoint without a trial in a child process.")
@release_options
@json_option
def command(
    file: str,
    clip: int | None,
    labels: list[str] | None,
    anchors: list[tuple[float, float]] | None,
    trust: bool,
    as_json: bool,
) -> None:
    """Describe FILE, a checkpoint, an ONNX model or a TensorRT plan: spec, size, hashes, operators, parts.

    A plan is read without TensorRT and without a GPU.
    """
    path = existing_file(model_path(file), "model")
    costs: dict[str, dict[str, int]] = {}
    clip_known = True
    facts: dict[str, Any] = {"file": str(path), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    if not is_checkpoint(path):
        refuse_useless("a checkpoint", "clip", "labels", "anchors")
    if is_checkpoint(path):
        require("train", "torch")
        if not trust and labels is None and anchors is None:
            facts["sha256"] = admit(path, clip=clip or TRIED_FRAMES)
        from yowo_training.checkpoints.checkpoint import is_checked, load_checkpoint
        from yowo_training.models.flops import cost

        loaded = load_checkpoint(path, clip, labels, anchors, clip_needed=False, sha256=facts["sha256"])
        spec, clip_known = loaded.spec, loaded.clip_known
        facts |= {"kind": "checkpoint", "checksum": _checked(is_checked(path)), **_network(loaded.model)}
        facts |= {"weights_sha256": spec.weights_sha256}
        if clip_known:
            costs = {name: dataclasses.asdict(part) for name, part in cost(loaded.model, spec.clip_shape).items()}
    elif is_plan(path):
        plan = read_plan(path)
        spec, recorded = plan.spec, check_hash(path, facts["sha256"])
        facts |= {"kind": "plan", "hash": "as recorded" if recorded else "not recorded", "precision": spec.precision}
        facts |= {k: v for k, v in vars(plan).items() if k != "spec"} | {"weights_sha256": spec.weights_sha256}
    else:
        spec = (found := read_onnx_file(path, facts["sha256"])).spec
        facts |= {"kind": "onnx", "checksum": _checked(found.checked), "opset": found.opset}
        facts |= {"nodes": found.operators.total(), "batch": found.batch or "any", "outputs": _outputs(found)}
        facts |= {"operators": dict(found.operators.most_common()), "dtype": ", ".join(sorted(found.dtypes))}
        facts |= {"weights_sha256": spec.weights_sha256}
        facts |= _recorded("lowered", found.metadata.get(PRECISION_KEY, "{}"))
        facts |= _recorded("streaming", found.metadata.get(STREAMING_KEY, "{}"))
        facts["processor here"] = processor_in_words()
        if streaming_form(found):
            facts["streaming_form"] = f"carried, {len(found.metadata[FORM_KEY])} bytes"
        costs = recorded_cost(found.metadata)
    described = spec.to_dict() | ({} if clip_known else {"clip_length": None})
    if as_json:
        click.echo(json.dumps(facts | {"parts": costs, "spec": described}))
        return
    if facts.get("golden"):
        facts["golden"] = "recorded"  # 64 numbers, see --json
    show_facts("", {name: _text(value) for name, value in facts.items()})
    if costs:
        rows = [(name, f"{part['parameters']:,}", f"{part['macs'] / 1e9:.3f}") for name, part in costs.items()]
        show_table(f"parts, clip of {spec.clip_length} frames", ("part", "parameters", "G multiply-adds"), rows)
    described |= {} if clip_known else {"clip_length": "not recorded: give --clip"}
    if branches := described.pop("branches"):
        show_table("branches", ("branch", "is fed"), [(name, _fed(*rest)) for name, *rest in branches])
    click.echo()
    show_facts("spec", {name: _text(value) for name, value in described.items()})


def _fed(modality: str, frames: str) -> str:
    return f"the {frames}" if modality == "colour" else f"{modality} of the {frames}, computed in the network"


def _outputs(file: OnnxFile) -> str:
    """Without the state of a streaming file."""
    return ", ".join(each.name for each in file.graph.outputs if not each.name.startswith("kept_"))


def _checked(recorded: bool) -> str:
    return "as recorded" if recorded else "not recorded: made by an older version or another tool"


def _recorded(what: str, text: str) -> dict[str, Any]:
    """What `export` recorded of how a file came about; nothing where something else stands there."""
    made: dict[str, Any] = {}
    with suppress(YowoError), foreign(what):
        made = dict(json.loads(text))
    made = made if len(made) <= MOST_PARTS else {}
    if isinstance(made.get("reach"), dict):
        made["reach"] = f"{len(made['reach'])} tensors"
    return {f"{what}: {name}": value for name, value in made.items()}


def _network(model: Yowo) -> dict[str, Any]:
    dtypes = sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters()})
    branches = {name: getattr(model.config, name) for name in ("backbone_2d", "backbone_3d", "backbone_extra")}
    branches |= {} if branches.pop("backbone_extra") is None else {"backbone_extra": model.config.backbone_extra}
    return {"parameters": sum(p.numel() for p in model.parameters()), **branches, "dtype": ", ".join(dtypes)}


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    if isinstance(value, float):
        return f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
