"""`yowo-deploy inspect`: what a model file says about itself."""

from __future__ import annotations

import json
from typing import Any

import click

from yowo_deploy.artifacts import existing_file, sha256_of
from yowo_deploy.backends.base import is_checkpoint
from yowo_deploy.cli.terminal import json_option, require, show_table
from yowo_deploy.onnx_file import read_onnx_file, read_spec


@click.command("inspect")
@click.argument("file", type=click.Path())
@json_option
def command(file: str, as_json: bool) -> None:
    """Say what FILE, a checkpoint or an ONNX model, is: spec, size, hashes, parameters or operators."""
    path = existing_file(file, "model")
    facts: dict[str, Any] = {"file": str(path), "bytes": path.stat().st_size, "sha256": sha256_of(path)}
    if is_checkpoint(path):
        require("train", "torch")
        from yowo_training.checkpoint import load_checkpoint

        loaded = load_checkpoint(path)
        spec = loaded.spec
        facts |= {"kind": "checkpoint", "parameters": sum(p.numel() for p in loaded.model.parameters())}
        facts |= {"backbone_2d": loaded.model.config.backbone_2d, "backbone_3d": loaded.model.config.backbone_3d}
    else:
        found, spec = read_onnx_file(path), read_spec(path)
        facts |= {"kind": "onnx", "opset": found.opset, "nodes": found.operators.total()}
        facts |= {"operators": dict(found.operators.most_common())}
    if as_json:
        click.echo(json.dumps(facts | {"spec": spec.to_dict()}))
        return
    show_table("", ("fact", "value"), [(name, _text(value)) for name, value in facts.items()], False)
    show_table("spec", ("field", "value"), [(name, _text(value)) for name, value in spec.to_dict().items()], False)


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {count}" for name, count in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
