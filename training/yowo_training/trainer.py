"""The training loop: recipe and data set in, best checkpoint out, one report yielded per step."""

from __future__ import annotations

import copy
import json
import math
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from time import monotonic
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from yowo_deploy.backends.loader import SAFETENSORS
from yowo_deploy.datasets.base import AnnotatedVideo, Dataset, annotations_hash, split_present
from yowo_deploy.errors import InputError, YowoError
from yowo_deploy.evaluation import Evaluation, evaluate_videos
from yowo_deploy.files import sha256_of, sweep, write_text
from yowo_deploy.prefetch import Prefetch
from yowo_deploy.spec import ModelSpec
from yowo_training.checkpoints.checkpoint import Checkpoint, save_checkpoint, write_tensors
from yowo_training.checkpoints.resume import LENGTH, Progress, RunState, is_over, recorded
from yowo_training.data.actors import silhouettes_for
from yowo_training.data.clip_sampler import Batch, FrameCache, batches
from yowo_training.data.held_out import hold_out
from yowo_training.data.people import with_people
from yowo_training.distributed import join_team, mean_of, shared
from yowo_training.finetune import STARTED, fine_tuning, has_folded_norms, settle_norms, started
from yowo_training.loss import ManyLabels, yowo_loss
from yowo_training.model_init import build, fill, freeze_3d
from yowo_training.models.auxiliary_heads import Supervised, clip_loss
from yowo_training.models.ema import Average, mixed
from yowo_training.models.yowo import Yowo
from yowo_training.optimizer import build_optimizer, rate_factor, set_rate
from yowo_training.recipes import Recipe, fields_of
from yowo_training.torch_backend import DTYPES, TorchBackend

CLIP_NORM = 10.0
BATCHES_TO_SETTLE = 2  # from which norms take their statistics
FIRST_VALIDATION = 0.2  # fraction of the run before the first checkpoint
VALIDATIONS = 5
VALIDATION_EVERY = 8  # frames: neighbouring ones hardly differ
FRAMES_NOT_HELD_OUT = 40  # roughly: frames evaluated where no recording is held out
OF_A_RUN = ("state.pt", "last.pt", "best.pt", "best.safetensors")  # files that hold hours of work
SAVE_EVERY_S = 120.0  # most that a killed run loses


@dataclass(frozen=True)
class Report:
    """The state of a run after one step.

    Attributes:
        step: from 1.
        done: fraction of the run, 0 to 1.
        parts: of the loss: box, confidence and class of the output; or clip, while only the 3-D branch is trained.
        loss: the sum that was minimised in this step.
        rate: learning rate of new weights, at its peak the recipe's.
        seconds: of the run so far.
        clips_per_s: since this process started, loading included.
        frame_map: of the validation that followed this step, if one did.
    """

    step: int
    epoch: int
    done: float
    parts: dict[str, float]
    loss: float
    rate: float
    seconds: float
    clips_per_s: float
    frame_map: float | None


@dataclass(frozen=True)
class Budget:
    """How long to train: wall-clock minutes if given, else epochs."""

    minutes: float | None
    epochs: int

    def __post_init__(self) -> None:
        if (self.minutes is not None and self.minutes <= 0) or self.epochs <= 0:
            raise InputError(f"a run needs --minutes or --epochs above 0, found {self.minutes} and {self.epochs}")

    def done(self, seconds: float, clips_seen: int, clips_an_epoch: int) -> float:
        """Fraction of the run that is done, 0 to 1."""
        if self.minutes is not None:
            return min(1.0, seconds / (60 * self.minutes))
        return min(1.0, clips_seen / (self.epochs * clips_an_epoch))


class Run:
    """One training run; `best` is its result.

    Started by `torchrun`, each process is one `Run`, and they train one network (see `distributed`).

    Args:
        recipe, dataset, budget: network and schedule; the videos; how long to train.
        seed: of sampling, augmentation and new weights.
        output: folder for best.pt, best.safetensors, last.pt, args.json, metrics.jsonl and state.pt, which it resumes.
        validation: fraction of the training recordings held out to choose the best checkpoint; never of the test split.
        weights: files to start branches from, by branch: "backbone_2d" or "backbone_3d".
        device: "cpu", "cuda" or "cuda:N".
        resume: continue from the state.pt in `output`, if there is one, up to `budget`. By epochs and on a CPU, the
            final weights are, bit for bit, those of an uninterrupted run.
        cache_bytes: of decoded frames in memory, see `FrameCache`.
        start: checkpoint or ONNX file of the recipe's network to start branches and CFAM from (see `started`).
        overwrite: the first step removes the checkpoints of another run in `output`.
        patience: end the run when no validation was better for so many epochs; there is one at each fifth of them.
        people: videos of people whose actions are not known, to train on as well (see `with_people`).
        silhouettes: file of the actors' masks, for a recipe that pastes them (see `Silhouettes`).

    Attributes:
        training: annotated videos to train on.
        sampled: these, and those of `people`.
        latest, chosen: figures of the last validation and of the best one in this process; None before.
        called_with: arguments to write into args.json beside those of the run.

    Raises:
        InputError: no such device; or `output` holds a run, without `resume` or `overwrite`, or with other arguments.
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
        device: str = "cpu",
        resume: bool = False,
        cache_bytes: int | None = None,
        start: str | None = None,
        overwrite: bool = False,
        patience: int | None = None,
        people: Dataset | None = None,
        silhouettes: str | None = None,
    ) -> None:
        torch.manual_seed(seed)
        recipe = recipe if start is None else fine_tuning(recipe)
        self.recipe, self.budget, self.seed, self.rules = recipe, budget, seed, dataset.rules
        self.start, self.patience = start, patience
        self.latest: Evaluation | None = None
        self.chosen: Evaluation | None = None
        self.called_with: dict[str, Any] = {}
        self.device, self.team = join_team(device)
        self.spec: ModelSpec = recipe.spec(dataset)
        present, self.absent = split_present(dataset.videos("train"))
        annotated = [video for video in present if video.tubes]
        self.training, self.held_out = hold_out(annotated, validation)
        self.sampled = self.training if people is None else with_people(self.training, people, self.held_out)
        self.unannotated = len(present) - len(annotated)
        self.output, self.cache = Path(output), FrameCache(cache_bytes)
        self.silhouettes = silhouettes_for(recipe.name, recipe.paste, silhouettes)
        self.model = build(recipe, self.spec) if start is None else started(recipe, self.spec, start)
        self.filled = {name: fill(self.model, name, path) for name, path in (weights or {}).items()}
        from_files = (*self.filled, *(STARTED if start else ()))
        if recipe.frozen_3d:
            freeze_3d(self.model, from_files)
        if has_folded_norms(self.model):
            settle_norms(self.model, (batch.clips for batch in islice(self.batches(), BATCHES_TO_SETTLE)))
        self._beginning = copy.deepcopy(self.model.state_dict()) if recipe.start_share else {}
        self.model.to(self.device)
        supervised = Supervised(self.model, self.spec.classes, recipe.auxiliary > 0).to(self.device)
        self._network = shared(supervised, self.team, self.device, sometimes_idle=recipe.first_3d > 0)
        self.average = Average(self.model, recipe.ema)
        self._optimizer = build_optimizer(supervised, recipe, from_files)
        self._scaler = torch.amp.GradScaler(self.device.type, enabled=recipe.precision == "fp16")
        self._anchors = torch.tensor(self.spec.anchors, device=self.device)
        self._many = many_labels(self.spec, self.training)
        self.progress = Progress(next_validation=max(FIRST_VALIDATION, recipe.first_3d + FIRST_VALIDATION / 2))
        arguments = {"recipe": fields_of(recipe), "seed": seed, **asdict(budget)} | ({"start": start} if start else {})
        arguments |= {"videos": len(self.training), "held_out": len(self.held_out), "weights": dict(weights or {})}
        arguments |= {"labels": list(self.spec.labels), "anchors": [list(anchor) for anchor in self.spec.anchors]}
        arguments |= {"annotations": annotations_hash((*self.sampled, *self.held_out)), "processes": self.team.size}
        arguments |= {"silhouettes": sha256_of(silhouettes)} if silhouettes else {}
        self._state = RunState(arguments, supervised, self.average, self._optimizer, self._scaler, self.progress)
        self._arguments, self._overwrite = arguments, overwrite and not resume
        self._open_folder(resume, arguments)

    def _open_folder(self, resume: bool, arguments: dict[str, Any]) -> None:
        """Resume from the folder, or start; every process does the same; the first removes what killed ones left."""
        if self.team.leads:
            sweep(self.output, again=True)
        if not (resume or self._overwrite) and any((self.output / name).exists() for name in OF_A_RUN):
            raise InputError(
                f"{self.output} holds a run: continue with --resume, replace with --overwrite, or take another folder"
            )
        if resume and self._state_file.exists():
            given = self._state.load(self._state_file)
            if any(given.get(name) != arguments[name] for name in LENGTH):
                self._lengthen()
        elif resume and (record := self.output / "args.json").exists():
            self.progress.finished = is_over(record, arguments)
        self.team.agree(self.progress.step, "steps of the run, from state.pt: several machines need one folder")

    def _lengthen(self) -> None:
        """After a change of the budget, spread the validations that are left over what is left of the run."""
        done = self._done()
        self.progress.finished = done >= 1
        self.progress.next_validation = done + (1 - done) / VALIDATIONS

    def batches(self, first: int = 0, share: tuple[int, int] = (0, 1)) -> Iterator[Batch]:
        """The batches of this run; see `batches`."""
        return batches(self.sampled, self.spec, self.recipe, self.seed, first, share, self.cache, self.silhouettes)

    @property
    def best(self) -> Path:
        """The checkpoint with the best frame-mAP on the held-out recordings."""
        return self.output / "best.pt"

    def result(self) -> Yowo:
        """What is validated and saved: the averaged weights, mixed with those of the beginning as the recipe says."""
        return mixed(self.average.model, self._beginning, self.recipe.start_share)

    @property
    def _state_file(self) -> Path:
        return self.output / "state.pt"

    def __iter__(self) -> Iterator[Report]:
        """Train, one report per step; writes best.pt and last.pt. A finished run has no steps left."""
        if self.progress.finished:
            if self.team.leads and not recorded(self.output / "args.json").get("finished"):  # killed before it was
                self._write_arguments(finished=True)
            return
        if self.team.leads:
            for name in OF_A_RUN if self._overwrite and not self.progress.step else ():
                (self.output / name).unlink(missing_ok=True)
            self._write_arguments(finished=False)
        progress, before = self.progress, self.progress.seconds
        first, start, saved = progress.step, monotonic(), monotonic()
        with Prefetch(self.batches(first, (self.team.rank, self.team.size)), depth=4) as stream:
            for batch in stream:
                done = self._done()
                parts, loss = self._step(batch, done)
                progress.step += 1
                progress.seconds = before + monotonic() - start
                done, frame_map = self._done(), None
                whole = progress.step % self.recipe.accumulate == 0
                if done >= 1 and not whole:
                    self._update()
                over = done >= 1
                scheduled = done >= min(progress.next_validation, 1.0)
                if validated := scheduled or self._asked_by_patience(done):
                    frame_map = self._validate(batch.epoch)
                    over = over or self._out_of_patience(batch.epoch)
                    progress.next_validation += scheduled * (1 - FIRST_VALIDATION) / (VALIDATIONS - 1)
                due = validated or monotonic() - saved > SAVE_EVERY_S
                clips = (progress.step - first) * self.recipe.batch * self.team.size
                speed, seconds = clips / (monotonic() - start), progress.seconds
                peak = max(group["lr"] for group in self._optimizer.param_groups)
                yield Report(progress.step, batch.epoch, done, parts, loss, peak, seconds, speed, frame_map)
                if self.team.leads and (over or (whole and due)):  # last, so that a killed run lacks no file of before
                    progress.finished = over
                    self._state.save(self._state_file)
                    saved = monotonic()
                if over:
                    break
        if self.team.leads:
            self._write_arguments(finished=True)

    def _write_arguments(self, finished: bool) -> None:
        content = {**self._arguments, "finished": finished, "called_with": self.called_with}
        write_text(self.output / "args.json", json.dumps(content, indent=1))

    def _asked_by_patience(self, done: float) -> bool:
        """Whether this step ends a fifth of `patience`, in whole epochs, with an output that is trained already."""
        clips, fifth = self.recipe.batch * self.team.size, max(1, (self.patience or 0) // VALIDATIONS)
        before, now = ((self.progress.step - ago) * clips // (fifth * len(self.sampled)) for ago in (1, 0))
        return self.patience is not None and done >= self.recipe.first_3d and now > before

    def _out_of_patience(self, epoch: int) -> bool:
        """Whether no validation was better for too long; the same in every process."""
        waited = self.patience is not None and epoch - self.progress.best_epoch >= self.patience
        return mean_of(float(waited and self.team.leads), self.team, self.device) > 0

    def _done(self) -> float:
        clips = self.progress.step * self.recipe.batch * self.team.size
        return self.budget.done(mean_of(self.progress.seconds, self.team, self.device), clips, len(self.sampled))

    def _step(self, batch: Batch, done: float) -> tuple[dict[str, float], float]:
        recipe, step = self.recipe, self.progress.step + 1
        # The seed depends on the step and the rank only, so that a run can resume anywhere.
        torch.manual_seed(zlib.crc32(f"{self.seed} {step} {self.team.rank}".encode()))
        set_rate(self._optimizer, rate_factor(recipe, (step - 1) // recipe.accumulate + 1, done))
        self._network.train()
        if recipe.frozen_3d and self.model.backbone_3d is not None:
            self.model.backbone_3d.eval()  # freezes the statistics of its norms
        loss, parts = self._loss(batch, done)
        self._refuse_non_finite("loss", loss.item(), batch)
        torch.autograd.backward(self._scaler.scale(loss / recipe.accumulate))
        if step % recipe.accumulate == 0:
            norm = self._update()
            if not self._scaler.is_enabled():  # the scaler skips such a step
                self._refuse_non_finite("gradient", norm, batch)
        return parts, loss.item()

    def _update(self) -> float:
        """One step of the optimizer, unless the gradient is non-finite; its norm."""
        self._scaler.unscale_(self._optimizer)
        norm = nn.utils.clip_grad_norm_(self._network.parameters(), CLIP_NORM).item()
        if math.isfinite(norm) or self._scaler.is_enabled():
            self._scaler.step(self._optimizer)
            self._scaler.update()
            self.average.update(self.model)
        self._optimizer.zero_grad()
        return norm

    def _loss(self, batch: Batch, done: float) -> tuple[Tensor, dict[str, float]]:
        recipe, smoothing = self.recipe, self.recipe.loss.label_smoothing
        clips, targets = batch.clips.to(self._anchors), [boxes.to(self.device) for boxes in batch.targets]
        heard_3d = None if recipe.heard_3d == 1 else (batch.luck < recipe.heard_3d).to(clips)
        dtype = DTYPES[recipe.precision]
        with torch.autocast(self.device.type, dtype, enabled=dtype != torch.float32):
            if done < recipe.first_3d:
                loss = torch.stack([clip_loss(x, targets, smoothing) for x in self._network(clips, only_3d=True)]).sum()
                return loss, {"clip": loss.item()}
            output, named = self._network(clips, heard_3d)
            parts = yowo_loss(output, targets, self._anchors, recipe.loss, self._many)
            auxiliary = sum((clip_loss(logits, targets, smoothing) for logits in named), parts.total.new_zeros(()))
        box = (parts.x + parts.y + parts.w + parts.h).item()
        shown = {"box": box, "confidence": parts.confidence.item(), "class": parts.classes.item()}
        return parts.total + recipe.auxiliary * auxiliary, shown

    def _refuse_non_finite(self, what: str, value: float, batch: Batch) -> None:
        if math.isfinite(value):
            return
        file = self.output / ("bad_batch.pt" if self.team.size == 1 else f"bad_batch.{self.team.rank}.pt")
        write_tensors(file, vars(batch))
        raise YowoError(f"the {what} is {value}, so the run stops; the batch that caused it is in {file}")

    def _validate(self, epoch: int) -> float | None:
        """Evaluate the averaged weights on the held-out recordings and save them; on the leader only."""
        if not self.team.leads:
            return None
        result = self.result()
        backend = TorchBackend.of(Checkpoint(result, self.spec))
        videos = [replace(video, judged=None) for video in self.held_out or self.training[:8]]
        every = VALIDATION_EVERY
        if not self.held_out:  # of little value, so it must not take a short run's time
            every = max(every, sum(len(video.annotated_frames()) for video in videos) // FRAMES_NOT_HELD_OUT)
        found = evaluate_videos(backend, videos, every, rules=self.rules, tube_scores=False)
        self.latest = found
        measured = {"frame_map": found.frame_map.mean, "recall": found.recall, "accuracy": found.accuracy}
        figures: dict[str, float | None] = {"step": self.progress.step}
        figures |= {k: None if math.isnan(v) else v for k, v in measured.items()}
        self.progress.metrics.append(json.dumps(figures))
        write_text(self.output / "metrics.jsonl", "\n".join(self.progress.metrics) + "\n")
        save_checkpoint(self.output / "last.pt", result, self.spec, figures)
        if found.frame_map.mean >= self.progress.best_map:
            self.progress.best_map, self.progress.best_epoch, self.chosen = found.frame_map.mean, epoch, found
            for path in (self.best.with_suffix(SAFETENSORS), self.best):
                save_checkpoint(path, result, self.spec, figures)
        return found.frame_map.mean


def many_labels(spec: ModelSpec, videos: Sequence[AnnotatedVideo]) -> ManyLabels | None:
    """Parameters of the class loss for boxes with many labels; None where a box has one."""
    if spec.class_activation == "softmax":
        return None
    counts, boxes = torch.zeros(spec.classes), 0
    for video in (video for video in videos if video.tubes):
        boxes += len(np.unique(np.concatenate([np.column_stack([t.frames, t.xyxy]) for t in video.tubes]), axis=0))
        for tube in video.tubes:
            counts[tube.class_id] += len(tube)
    return ManyLabels(spec.softmax_classes, counts / max(1, boxes))
