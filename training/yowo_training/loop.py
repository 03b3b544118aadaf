"""The training loop: recipe and data set in, best checkpoint out. Shows nothing itself; it reports by yielding."""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic

import torch
from torch import Tensor, nn

from yowo_deploy.ahead import Prefetch
from yowo_deploy.artifacts import atomic_write, write_text
from yowo_deploy.datasets.base import AnnotatedVideo, Dataset, split_present
from yowo_deploy.errors import InputError, YowoError
from yowo_deploy.evaluate import evaluate
from yowo_deploy.spec import ModelSpec
from yowo_training.average import Average
from yowo_training.backbones.base import Backbone
from yowo_training.backbones.efficientnet import EfficientNetLite0
from yowo_training.backbones.motion import MotionLite0
from yowo_training.backend import TorchBackend
from yowo_training.branch_weights import Filled, load_branch
from yowo_training.checkpoint import Checkpoint, save_checkpoint
from yowo_training.clips import Batch, batches
from yowo_training.loss import LossParts, yowo_loss
from yowo_training.model import Yowo
from yowo_training.recipes import Recipe

WARMUP = 0.05  # share of the run over which the learning rate rises
CLIP_NORM = 10.0
FIRST_VALIDATION = 0.2  # share of the run before which no checkpoint is worth keeping
VALIDATIONS = 5
VALIDATION_EVERY = 8  # frames: neighbours say the same


@dataclass(frozen=True)
class Report:
    """The state of a run after one step.

    Attributes:
        done: share of the run, 0 to 1.
        loss: total of this step.
        clips_per_s: of the steps themselves, over the whole run.
        frame_map: of the validation that followed this step, if one did.
    """

    step: int
    epoch: int
    done: float
    loss: float
    clips_per_s: float
    frame_map: float | None


@dataclass
class Budget:
    """How long to train: wall-clock minutes if given, else epochs."""

    minutes: float | None
    epochs: int

    def __post_init__(self) -> None:
        if (self.minutes is not None and self.minutes <= 0) or self.epochs <= 0:
            raise InputError(f"a run needs time: --minutes {self.minutes}, --epochs {self.epochs}")
        self._start = monotonic()

    def done(self, clips_seen: int, clips_an_epoch: int) -> float:
        """Share of the run that lies behind, 0 to 1."""
        if self.minutes is not None:
            return min(1.0, (monotonic() - self._start) / (60 * self.minutes))
        return min(1.0, clips_seen / (self.epochs * clips_an_epoch))


class Run:
    """One training run; `best` is the checkpoint file to use when it is over.

    Args:
        output: folder for best.pt, last.pt, args.json and metrics.jsonl.
        validation: share of the training recordings that is held out to choose the best checkpoint.
                The test split is never looked at.
        weights: files to start branches from, by the name of the branch: "backbone_2d" or "backbone_3d".
    """

    def __init__(
        self,
        recipe: Recipe,
        dataset: Dataset,
        output: Path,
        budget: Budget,
        seed: int = 0,
        validation: float = 0.04,
        weights: Mapping[str, str] | None = None,
    ) -> None:
        torch.manual_seed(seed)
        self.recipe, self.budget, self.seed = recipe, budget, seed
        self.spec: ModelSpec = recipe.spec(dataset)
        self.rules = dataset.rules
        present, self.absent = split_present(dataset.videos("train"))
        self.training, self.held_out = hold_out(present, validation)
        self.output = Path(output)
        self.model = build(recipe, self.spec)
        self.filled = {name: fill(self.model, name, path) for name, path in (weights or {}).items()}
        self.average = Average(self.model, recipe.ema)
        self.best_map = -1.0
        arguments = {"recipe": recipe.name, "seed": seed, "minutes": budget.minutes, "epochs": budget.epochs}
        arguments |= {"videos": len(self.training), "held_out": len(self.held_out), "weights": dict(weights or {})}
        write_text(self.output / "args.json", json.dumps(arguments))
        self._metrics: list[str] = []

    @property
    def best(self) -> Path:
        """The checkpoint that was best on the held-out recordings."""
        return self.output / "best.pt"

    def __iter__(self) -> Iterator[Report]:
        """Train, one report a step; best.pt and last.pt are there when it ends."""
        anchors = torch.tensor(self.spec.anchors)
        optimizer = build_optimizer(self.model, self.recipe, tuple(self.filled))
        clips, seconds, done = 0, 0.0, 0.0
        next_validation = FIRST_VALIDATION
        with Prefetch(batches(self.training, self.spec, self.recipe, self.seed), depth=4) as stream:
            for step, batch in enumerate(stream, start=1):
                start = monotonic()
                set_rate(optimizer, rate_at(done, self.recipe.first_2d))
                loss = self._step(batch, anchors, optimizer, done)
                seconds, clips = seconds + monotonic() - start, clips + len(batch.clips)
                done = self.budget.done(clips, len(self.training))
                frame_map = None
                if done >= min(next_validation, 1.0):
                    frame_map = self._validate(step)
                    next_validation += (1 - FIRST_VALIDATION) / (VALIDATIONS - 1)
                yield Report(step, batch.epoch, done, loss, clips / seconds, frame_map)
                if done >= 1.0:
                    return

    def _step(self, batch: Batch, anchors: Tensor, optimizer: torch.optim.Optimizer, done: float) -> float:
        self.model.train()
        chance = 0.0 if done < self.recipe.first_2d else self.recipe.heard_3d
        heard_3d = None if chance == 1 else torch.bernoulli(torch.full((len(batch.clips),), chance))
        parts: LossParts = yowo_loss(
            self.model(batch.clips, heard_3d=heard_3d), batch.targets, anchors, self.recipe.loss
        )
        loss = parts.total
        if not math.isfinite(loss.item()):
            kept = self.output / "bad_batch.pt"
            with atomic_write(kept) as temporary:
                torch.save(vars(batch), temporary)
            raise YowoError(f"the loss is {loss.item()}, so the run stops; the batch that did it is in {kept}")
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_NORM)
        optimizer.step()
        self.average.update(self.model)
        return loss.item()

    def _validate(self, step: int) -> float:
        """Score the averaged weights on the held-out recordings; keep them, as best if they are."""
        backend = TorchBackend.of(Checkpoint(self.average.model, self.spec))
        found = evaluate(backend, self.held_out or self.training[:8], VALIDATION_EVERY, rules=self.rules)
        figures = {"step": step, "frame_map": found.frame_map.mean, "recall": found.recall, "accuracy": found.accuracy}
        self._metrics.append(json.dumps(figures))
        write_text(self.output / "metrics.jsonl", "\n".join(self._metrics) + "\n")
        save_checkpoint(self.output / "last.pt", self.average.model, self.spec, figures)
        if found.frame_map.mean >= self.best_map:
            self.best_map = found.frame_map.mean
            save_checkpoint(self.best, self.average.model, self.spec, figures)
        return found.frame_map.mean


def fill(model: Yowo, branch: str, path: str) -> Filled:
    """Load a branch's weights from a file; see `load_branch`.

    Raises:
        InputError: the model has no such branch.
    """
    backbone = getattr(model, branch)
    if not isinstance(backbone, Backbone):
        raise InputError(f"{path} is meant for {branch}, which this recipe does not have")
    return load_branch(backbone, path)


def build(recipe: Recipe, spec: ModelSpec) -> Yowo:
    """A fresh network in the memory layout that trains fastest on a CPU, pretrained where the recipe says so."""
    model = Yowo(recipe.config(spec))
    if recipe.imagenet:
        if isinstance(model.backbone_3d, MotionLite0):
            model.backbone_3d.load_imagenet()
        if isinstance(model.backbone_2d, EfficientNetLite0):
            model.backbone_2d.load_imagenet()
            model.backbone_2d.freeze(recipe.frozen_blocks)
    # Measured with yowo-lite on two cores: 18 clips/s instead of 9 in the 2-D branch, 22 instead of 19 in the 3-D one.
    for weight in model.parameters():
        if weight.ndim >= 4:
            layout = torch.channels_last if weight.ndim == 4 else torch.channels_last_3d
            weight.data = weight.data.contiguous(memory_format=layout)
    return model


def build_optimizer(model: Yowo, recipe: Recipe, filled: tuple[str, ...] = ()) -> torch.optim.Optimizer:
    """AdamW; norms and biases without decay, pretrained weights at a rate of their own.

    Args:
        filled: branches that were started from a file.
    """
    started = {*filled, "backbone_2d", "backbone_3d"} if recipe.imagenet else set(filled)
    pretrained = {p for name, p in model.named_parameters() if name.partition(".")[0] in started}
    groups = []
    for is_pretrained in (True, False):
        for decays in (True, False):
            trained = (p for p in model.parameters() if p.requires_grad)
            chosen = [p for p in trained if (p in pretrained) == is_pretrained and (p.ndim > 1) == decays]
            rate = recipe.learning_rate * (recipe.pretrained_rate if is_pretrained else 1.0)
            decay = recipe.weight_decay if decays else 0.0
            groups.append({"params": chosen, "lr": rate, "peak": rate, "weight_decay": decay})
    return torch.optim.AdamW([group for group in groups if group["params"]])


def set_rate(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Set every group's learning rate to its own height times `factor`."""
    for group in optimizer.param_groups:
        group["lr"] = group["peak"] * factor


def rate_at(done: float, first_2d: float = 0.0) -> float:
    """The learning rate as a share of its height: up in a line, then down as a cosine to 1 %.

    Args:
        first_2d: where the 3-D branch joins. A cycle of its own, down to 20 %, lies before it.
    """
    if done < first_2d:
        return 0.2 + 0.8 * rate_at(done / first_2d)
    done = (done - first_2d) / (1 - first_2d)
    if done < WARMUP:
        return max(done / WARMUP, 0.01)
    return 0.01 + 0.99 * (1 + math.cos(math.pi * (done - WARMUP) / (1 - WARMUP))) / 2


def hold_out(videos: Sequence[AnnotatedVideo], share: float) -> tuple[list[AnnotatedVideo], list[AnnotatedVideo]]:
    """Training and validation videos; a recording is on one side only, and the choice never changes."""

    def held(video: AnnotatedVideo) -> bool:
        return zlib.crc32(video.group.encode()) % 1000 < 1000 * share

    return [v for v in videos if not held(v)], [v for v in videos if held(v)]
