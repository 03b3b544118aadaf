"""Read and write checkpoints of this project, and read official ones; only tensors are unpickled."""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import logging
import os
import pickle
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from torch import Tensor

from yowo_deploy.backends.loader import SAFETENSORS, is_safetensors
from yowo_deploy.errors import InputError, ModelFileError, foreign
from yowo_deploy.files import atomic_write, existing_file
from yowo_deploy.model_files.checksum import (
    CHECKSUM_KEY,
    DIGITS,
    SAFETENSORS_MARK,
    ZIP_MARK,
    checksum,
    has_checksum,
    refuse_another,
)
from yowo_deploy.spec import METADATA_KEY, ModelSpec
from yowo_training.checkpoints import release_format
from yowo_training.checkpoints.archive import add_checksum, checked_content
from yowo_training.checkpoints.stand_ins import plain, stand_ins, strangers
from yowo_training.checkpoints.weight_tables import Weights, as_weight, refuse_views
from yowo_training.models.yowo import Yowo, YowoConfig

SUFFIXES = (".pt", ".pth", ".ckpt", SAFETENSORS)

_LOG = logging.getLogger("yowo_deploy")


@dataclass(frozen=True)
class Checkpoint:
    """A network with its weights, in evaluation mode on the CPU, and its description, `branches` as the network's.

    Attributes:
        clip_known: whether the clip length in the spec is the network's own, or stands in for one that is not recorded.
    """

    model: Yowo
    spec: ModelSpec
    clip_known: bool = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "spec", self.spec.replace(branches=self.model.fed()))


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
    spec = spec.replace(weights_sha256=weights_hash(weights), branches=model.fed())
    config = dataclasses.asdict(model.config)
    if Path(path).suffix == SAFETENSORS:
        noted = {METADATA_KEY: spec.to_json(), "config": json.dumps(config), "history": json.dumps(history)}
        with atomic_write(path) as temporary:
            temporary.write_bytes(_with_checksum(safetensors.torch.save(weights, noted)))
        return spec
    write_tensors(path, {METADATA_KEY: spec.to_json(), "config": config, "weights": weights, "history": history})
    return spec


class _Archive(io.BufferedWriter):
    """A file for `torch.save`, which takes no more once it is closed.

    Where a signal's exception comes before torch ends its archive, the archive's destructor does, behind the block that
    closed the file; what a write raises in there aborts the process (SIGABRT).
    """

    def write(self, data: Any) -> int:
        """See `BufferedWriter.write`."""
        return memoryview(data).nbytes if self.closed else super().write(data)


def write_tensors(path: str | os.PathLike[str], content: dict[str, Any]) -> None:
    """`torch.save` with the checksum of the file, whole or not at all.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    with atomic_write(path) as temporary:
        try:
            with _Archive(io.FileIO(temporary, "w")) as stream:
                torch.save(content, stream)
        except RuntimeError as error:  # torch closes its archive and fails on its position: what raised stands behind
            cause = error.__context__
            if isinstance(cause, OSError) or (cause is not None and not isinstance(cause, Exception)):  # or a signal
                raise cause from None
            raise
        add_checksum(temporary)


def _with_checksum(content: bytes) -> bytes:
    """A file of safetensors with its checksum as the first entry of its metadata; the library orders them at random."""
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    noted = {CHECKSUM_KEY: "0" * DIGITS, **dict(sorted(header.pop("__metadata__").items()))}
    text = json.dumps({"__metadata__": noted, **header}, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    made = bytearray(len(text).to_bytes(8, "little") + text + content[8 + size :])
    at = 8 + len(SAFETENSORS_MARK)
    made[at : at + DIGITS] = checksum(made, at)
    return bytes(made)


def load_checkpoint(
    path: str | os.PathLike[str],
    clip: int | None = None,
    labels: Sequence[str] | None = None,
    anchors: Sequence[tuple[float, float]] | None = None,
    clip_needed: bool = True,
    sha256: str | None = None,
) -> Checkpoint:
    """Read a checkpoint of this project or an official one, in whatever form people save these (`weight_tables`).

    What is assumed or left out is logged as a warning.

    Args:
        clip: clip length; by default the spec's, or for an official checkpoint the number in its file name (`_16f_`).
        labels: of an official checkpoint with classes of one's own.
        anchors: of such a checkpoint; by default those of UCF101-24.
        clip_needed: off to take an official checkpoint without a clip length, see `Checkpoint.clip_known`.
        sha256: that the file must have; None for any.

    Raises:
        InputError: no such file, or labels for a checkpoint that has its own.
        ModelFileError: not a checkpoint, damaged, with more than tensors in it, or of another network.
        SpecError: the clip length, the labels or the anchors are impossible.
    """
    file = existing_file(path, "checkpoint")
    content = read_tensors(file, sha256)
    if METADATA_KEY in content:
        if labels is not None or anchors is not None:
            raise InputError(f"{file} has labels and anchors of its own: leave --labels and --anchors out")
        loaded = _load_ours(file, content)
    else:
        loaded = _load_official(file, content, clip, labels, anchors, clip_needed)
    spec = loaded.spec if clip is None else loaded.spec.replace(clip_length=clip)
    return Checkpoint(loaded.model.eval(), spec, loaded.clip_known)


def is_checked(path: str | os.PathLike[str]) -> bool:
    """Whether a checkpoint records its checksum.

    Raises:
        ModelFileError: it does, and is damaged.
    """
    content = Path(path).read_bytes()
    if is_safetensors(Path(path)):
        return has_checksum(Path(path), content, SAFETENSORS_MARK, 8)
    return has_checksum(Path(path), content, ZIP_MARK)


def weights_hash(weights: Weights) -> str:
    """sha256 over names, shapes and bytes of all tensors, in the order of their names."""
    digest = hashlib.sha256()
    for key in sorted(weights):
        value = weights[key].detach().cpu().contiguous()
        flat = value.as_strided((value.numel(),), (1,))  # a side of one may have any stride
        digest.update(f"{key} {value.dtype} {tuple(value.shape)}\n".encode())
        digest.update(flat.view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _load_ours(file: Path, content: dict[str, Any]) -> Checkpoint:
    spec = ModelSpec.from_json(content[METADATA_KEY])
    weights = named_tensors(file, content.get("weights"))
    if weights_hash(weights) != spec.weights_sha256:
        raise ModelFileError(f"{file} is damaged: its weights do not have the hash that its spec records")
    try:
        with foreign("its network"):
            return Checkpoint(_filled(YowoConfig.of(content["config"]), weights), spec)
    except InputError as error:
        raise ModelFileError(
            f"{file} does not fit the network it names ({error}); was it written by a newer version?"
        ) from error


def _load_official(
    file: Path,
    content: dict[str, Any],
    clip: int | None,
    labels: Sequence[str] | None,
    anchors: Sequence[tuple[float, float]] | None,
    clip_needed: bool,
) -> Checkpoint:
    weights, config, notes = release_format.find_network(file, content)
    spec, more = release_format.spec_of(file, config, "fscore" in content, labels, anchors)
    named = set(re.findall(r"_(\d{1,9})f(?=[_.])", file.name))
    if clip_needed and clip is None and len(named) != 1:
        what = f"clip lengths {' and '.join(sorted(named))}" if named else "no clip length"
        raise ModelFileError(f"{file} has {what} in its name: give it, for example --clip 16")
    length = clip or (int(*named) if len(named) == 1 else spec.clip_length)
    for note in (*notes, *more):
        _LOG.warning("%s: %s", file.name, note)
    with foreign(f"{file} does not fit the network that it seems to hold", ModelFileError):
        model = _filled(config, weights)
    spec = spec.replace(clip_length=length, weights_sha256=weights_hash(model.state_dict()))
    return Checkpoint(model, spec, bool(clip or len(named) == 1))


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
    given = {key: as_weight(wanted[key].dtype, key, v) if key in wanted else v for key, v in weights.items()}
    model.load_state_dict(counters | given, assign=True)
    return model


def read_tensors(file: Path, sha256: str | None = None) -> dict[str, Any]:
    """The content of a file of `torch.save` or safetensors: a dict of tensors and plain values, arrays as tensors.

    Raises:
        ModelFileError: it holds anything else, or is damaged; no code in it was run.
    """
    if is_safetensors(file):
        return _read_safetensors(file, sha256)
    walked = checked_content(file, sha256)
    with foreign(f"{file} cannot be read as a checkpoint, it is damaged, truncated or not one", ModelFileError):
        try:
            with torch.serialization.safe_globals(stand_ins(walked.classes)):
                content = plain(torch.load(walked.stream, map_location="cpu", weights_only=True))
        except pickle.UnpicklingError as error:
            odd = strangers(walked.classes)
            raise ModelFileError(
                f"{file} holds more than tensors and plain values{odd and f' ({odd})'}: refused, and no "
                "code in it was run; save only `model.state_dict()` where it was made"
            ) from error
    if not isinstance(content, dict):
        raise ModelFileError(f"{file} holds a {type(content).__name__}, expected a checkpoint")
    return content


def _read_safetensors(file: Path, sha256: str | None) -> dict[str, Any]:
    """What `save_checkpoint` wrote, as it stands in a file of `torch.save`; of others a bare table of tensors."""
    with foreign(f"{file} cannot be read as a checkpoint, it is damaged, truncated or not one", ModelFileError):
        content = file.read_bytes()  # once: what is checked is what is used
        refuse_another(file, content, sha256)
        has_checksum(file, content, SAFETENSORS_MARK, 8)
        weights = safetensors.torch.load(content)
        noted = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")]).get("__metadata__") or {}
        if METADATA_KEY not in noted:
            return weights
        return {METADATA_KEY: noted[METADATA_KEY], "config": json.loads(noted.get("config", "")), "weights": weights}


def named_tensors(file: Path, state: Any) -> Weights:
    """`state`, checked to be a table of tensors, none of them larger than its memory.

    Raises:
        ModelFileError: it is none, or a tensor is larger than what it views.
    """
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()) or not state:
        found = release_format.some(state)
        raise ModelFileError(f"{file}: expected its weights to be a table of named tensors, found {found}")
    return refuse_views(file, {str(key): value.detach() for key, value in state.items()})
