"""All that a stopped run needs to go on as if it had never stopped. Knows files; nothing of how to train."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from yowo_deploy.artifacts import atomic_write, existing_file
from yowo_deploy.errors import InputError, ModelFileError
from yowo_training.average import Average
from yowo_training.checkpoint import read_tensors
from yowo_training.model import Yowo


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        step: batches seen.
        seconds: of wall clock, over all its parts.
        next_validation: share of the run at which the next one is due.
        best_map: of the validations so far; -1 before the first.
        metrics: a JSON line for each validation.
    """

    step: int = 0
    seconds: float = 0.0
    next_validation: float = 0.0
    best_map: float = -1.0
    metrics: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class RunState:
    """The parts of a run whose values change.

    Attributes:
        arguments: what the run was started with; a run goes on with the same alone.
    """

    arguments: dict[str, Any]
    network: nn.Module
    average: Average[Yowo]
    optimizer: torch.optim.Optimizer
    scaler: torch.amp.GradScaler
    progress: Progress

    def save(self, path: Path) -> None:
        """Write everything, whole or not at all."""
        content = {
            "arguments": self.arguments,
            "progress": asdict(self.progress),
            "network": self.network.state_dict(),
            "average": self.average.model.state_dict(),
            "updates": self.average.updates,
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.scaler.state_dict(),
        }
        with atomic_write(path) as temporary:
            torch.save(content, temporary)

    def load(self, path: Path) -> None:
        """Take over what `save` wrote.

        Raises:
            InputError: no such file, or it is of a run with other arguments.
            ModelFileError: it is damaged, or of another network.
        """
        content = read_tensors(existing_file(path, "state of a run"))
        if content.get("arguments") != self.arguments:
            raise InputError(
                f"{path} is of a run started with {content.get('arguments')}, this one with {self.arguments}"
            )
        try:
            self.network.load_state_dict(content["network"])
            self.average.model.load_state_dict(content["average"])
            self.average.updates = content["updates"]
            self.optimizer.load_state_dict(content["optimizer"])
            self.scaler.load_state_dict(content["scaler"])
            vars(self.progress).update(content["progress"])
        except (KeyError, ValueError, RuntimeError) as error:
            raise ModelFileError(f"{path} does not fit this run ({error}); start it anew") from error
