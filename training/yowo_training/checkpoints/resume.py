"""Save and load the complete state of a training run."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yowo_deploy.errors import InputError, ModelFileError, foreign
from yowo_deploy.files import existing_file
from yowo_training.checkpoints.checkpoint import read_tensors, write_tensors
from yowo_training.models.ema import Average
from yowo_training.models.yowo import Yowo

LENGTH = ("minutes", "epochs")  # arguments that a run may be resumed with more of


@dataclass
class Progress:
    """Progress of a run.

    Attributes:
        step: number of batches done.
        seconds: wall-clock time, over all its parts.
        next_validation: fraction of the run at which the next one is due.
        best_map: of the validations so far; -1 before the first.
        best_epoch: of that validation.
        metrics: a JSON line for each validation.
        finished: the run is complete.
    """

    step: int = 0
    seconds: float = 0.0
    next_validation: float = 0.0
    best_map: float = -1.0
    best_epoch: int = 0
    metrics: list[str] = field(default_factory=list)
    finished: bool = False


@dataclass(frozen=True)
class RunState:
    """All state of a run.

    Attributes:
        arguments: of the run; it can be resumed with equal ones only, but for its length (`LENGTH`).
    """

    arguments: dict[str, Any]
    network: nn.Module
    average: Average[Yowo]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    progress: Progress

    def save(self, path: Path) -> None:
        """Write everything, atomically."""
        content = {
            "arguments": self.arguments,
            "progress": asdict(self.progress),
            "network": self.network.state_dict(),
            "average": self.average.model.state_dict(),
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        write_tensors(path, content)

    def load(self, path: Path) -> dict[str, Any]:
        """Restore what `save` wrote; the arguments that it was written with.

        Raises:
            InputError: no such file, or it is of a run with other arguments.
            ModelFileError: it is damaged, or of another network.
        """
        content = read_tensors(existing_file(path, "state of a run"))
        stored = content.get("arguments")
        given: dict[str, Any] = stored if isinstance(stored, dict) else {}
        refuse_other_arguments(path, given, self.arguments)
        with foreign(f"{path} does not fit this run, start a new one", ModelFileError):
            self.network.load_state_dict(content["network"])
            self.average.model.load_state_dict(content["average"])
            self.average.updates = content["updates"]
            self.optimizer.load_state_dict(content["optimizer"])
            self.scaler.load_state_dict(content["scaler"])
            vars(self.progress).update(content["progress"])
        return given


def refuse_other_arguments(path: Path, given: Mapping[str, Any], arguments: Mapping[str, Any]) -> None:
    """Raise an InputError if the run that wrote `path` had other arguments, its length aside."""
    names = sorted((given.keys() | arguments.keys()) - set(LENGTH))
    if other := [name for name in names if given.get(name) != arguments.get(name)]:
        raise InputError(
            f"{path} is of a run started with another {', '.join(other)}: start this one in another folder"
        )


def is_over(record: Path, arguments: Mapping[str, Any]) -> bool:
    """Whether the record belongs to a finished run.

    Raises:
        InputError: it does, and the run had other arguments.
    """
    given = recorded(record)
    if not given.pop("finished", False):
        return False
    given.pop("called_with", None)
    if any(given.get(name) != arguments[name] for name in LENGTH):
        raise InputError(f"{record} is of a finished run without a state.pt to continue: give its best.pt to --start")
    refuse_other_arguments(record, given, json.loads(json.dumps(arguments)))
    return True


def recorded(record: Path) -> dict[str, Any]:
    """What args.json holds; nothing where it is not there or damaged."""
    with suppress(InputError), foreign(str(record)):
        given = json.loads(record.read_text(encoding="utf-8"))
        return given if isinstance(given, dict) else {}
    return {}
