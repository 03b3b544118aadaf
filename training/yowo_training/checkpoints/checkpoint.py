"""Read and write checkpoints of this project, and read official ones; only tensors are unpickled."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor

from yowo_deploy.backends.loader import SAFETENSORS, is_safetensors
from yowo_deploy.errors import InputError, ModelFileError
from yowo_deploy.files import atomic_write, existing_file
from yowo_deploy.spec import METADATA_KEY, ModelSpec
from yowo_training.checkpoints import release_format
from yowo_training.checkpoints.archive import Door, checked_content
from yowo_training.models.yowo import Yowo, YowoConfig

Weights = dict[str, Tensor]

# Official AVA checkpoints store their score as a numpy scalar: allowed by its old and its new name.
_SCALAR = np.float64(0).__reduce__()[0]
_NUMBERS: list[Any] = [np.dtype, np.dtypes.Float64DType, np.dtypes.Float32DType]
_NUMBERS += [(_SCALAR, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")]


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights, in evaluation mode on the CPU, and its description."""

    model: Yowo
    spec: ModelSpec


def save_checkpoint(path: str | os.PathLike[str], model: Yowo, spec: ModelSpec, history: dict[str, Any]) -> ModelSpec:
    """Write weights, spec and network shape, whole or not at all.

    Args:
        path: of a file of `torch.save`; of one of safetensors where it ends so, which holds no pickle and is the one
            to give to others.
        history: plain values about the run; stored, not interpreted.

    Returns:
        The spec as written: with the hash of the weights.
    """
    weights = {key: value.detach().cpu().contiguous() for key, value in model.state_dict().items()}
    spec = spec.replace(weights_sha256=weights_hash(weights))
    config = dataclasses.asdict(model.config)
    if Path(path).suffix == SAFETENSORS:
        noted = {METADATA_KEY: spec.to_json(), "config": json.dumps(config), "history": json.dumps(history)}
        with atomic_write(path) as temporary:
            safetensors.torch.save_file(weights, temporary, noted)
        return spec
    write_tensors(path, {METADATA_KEY: spec.to_json(), "config": config, "weights": weights, "history": history})
    return spec


def write_tensors(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """`torch.save`, whole or not at all.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    with atomic_write(path) as temporary, temporary.open("wb") as stream:
        try:
            torch.save(content, stream)
        except RuntimeError as error:  # torch closes its archive and fails on its position, which hides the OSError
            if isinstance(error.__context__, OSError):
                raise error.__context__ from None
            raise


def load_checkpoint(path: str | os.PathLike[str], clip: int | None = None) -> Checkpoint:
    """Read a checkpoint of this project or an official one.

    Args:
        clip: clip length; by default the spec's, or for an official checkpoint the number in its file name (`_16f_`).

    Raises:
        InputError: no such file.
        ModelFileError: not a checkpoint, damaged, with more than tensors in it, or of another network.
        SpecError: the clip length is impossible.
    """
    file = existing_file(path, "checkpoint")
    content = _read_safetensors(file) if is_safetensors(file) else read_tensors(file)
    loaded = _load_ours(file, content) if METADATA_KEY in content else _load_official(file, content, clip)
    spec = loaded.spec if clip is None else loaded.spec.replace(clip_length=clip)
    return Checkpoint(loaded.model.eval(), spec)


def weights_hash(weights: Weights) -> str:
    """sha256 over names, shapes and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        value = weights[key].detach().cpu().contiguous()
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(value.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _load_ours(file: Path, content: dict[str, Any]) -> Checkpoint:
    spec = ModelSpec.from_json(content[METADATA_KEY])
    weights = named_tensors(file, content.get("weights"))
    if weights_hash(weights) != spec.weights_sha256:
        raise ModelFileError(f"{file} is damaged: its weights do not have the hash that its spec records")
    try:
        model = _filled(YowoConfig(**content["config"]), weights)
    except (KeyError, TypeError, InputError, RuntimeError) as error:
        first = str(error).splitlines()[0]
        raise ModelFileError(
            f"{file} does not fit the network it names ({first}); was it written by a newer version?"
        ) from error
    return Checkpoint(model, spec)


def _load_official(file: Path, content: dict[str, Any], clip: int | None) -> Checkpoint:
    state = content.get("state_dict")
    if state is None:
        raise ModelFileError(
            f"{file} holds {_some(content)}, expected a checkpoint of yowo-deploy or an official YOWO one"
        )
    weights = release_format.our_names(named_tensors(file, state))
    config = release_format.recognise(file, weights)
    named = re.search(r"_(\d+)f[_.]", file.name)
    if clip is None and named is None:
        raise ModelFileError(f"{file} has no clip length in its name: give it, for example --clip 16")
    length = clip or int(named.group(1)) if named else clip
    spec = release_format.spec_of(file, config, length or 0, old="fscore" in content)
    model = _filled(config, weights)  # only `num_batches_tracked` may be missing: `recognise` saw to it
    return Checkpoint(model, spec.replace(weights_sha256=weights_hash(model.state_dict())))


def _filled(config: YowoConfig, weights: Weights) -> Yowo:
    """The network with these tensors as its weights, without a copy.

    Raises:
        RuntimeError: they are not those of this network. Batch counters may be missing; they are not used.
    """
    with torch.device("meta"):
        model = Yowo(config)
    wanted = model.state_dict()
    counters = {
        key: torch.zeros_like(value, device="cpu")
        for key, value in wanted.items()
        if key.endswith(release_format.COUNTER)
    }
    given = {key: value.to(wanted[key].dtype) if key in wanted else value for key, value in weights.items()}
    model.load_state_dict(counters | given, assign=True)
    return model


def read_tensors(file: Path) -> dict[str, Any]:
    """The content of a file of `torch.save`, a dict of tensors and plain values.

    Raises:
        ModelFileError: it holds anything else, or is damaged; no code in it was run.
    """
    with Door(file):
        try:
            with torch.serialization.safe_globals(_NUMBERS):
                content = torch.load(checked_content(file), map_location="cpu", weights_only=True)
        except pickle.UnpicklingError as error:
            raise ModelFileError(
                f"{file} holds more than tensors and plain values: refused, and no code in it was run"
            ) from error
    if not isinstance(content, dict):
        raise ModelFileError(f"{file} holds a {type(content).__name__}, expected a checkpoint")
    return content


def _read_safetensors(file: Path) -> dict[str, Any]:
    """What `save_checkpoint` wrote, as it stands in a file of `torch.save`."""
    with Door(file), safetensors.safe_open(file, "pt") as stored:
        noted = stored.metadata() or {}
        if METADATA_KEY not in noted:
            raise ModelFileError(f"{file} carries no spec (metadata {METADATA_KEY!r}): not a checkpoint of yowo-deploy")
        weights = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
        return {METADATA_KEY: noted[METADATA_KEY], "config": json.loads(noted.get("config", "")), "weights": weights}


def named_tensors(file: Path, state: Any) -> Weights:
    """`state`, checked to be a table of tensors and no larger than its file."""
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()) or not state:
        raise ModelFileError(f"{file}: expected its weights to be a table of named tensors, found {_some(state)}")
    stored = sum(value.numel() * value.element_size() for value in state.values())
    if stored > file.stat().st_size:
        raise ModelFileError(f"{file} is smaller than the {stored} bytes of weights it claims to hold")
    return dict(state)


def _some(content: Any) -> str:
    if not isinstance(content, dict):
        return f"a {type(content).__name__}"
    names = list(map(str, content))
    return f"{len(names)} entries ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})"
