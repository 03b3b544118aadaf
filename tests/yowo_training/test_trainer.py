"""The loop learns, goes on where it was stopped, is the same in several processes, and never loses a good file."""

from __future__ import annotations

import math
import resource
import socket
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from yowo_deploy.datasets import AnnotatedVideo, Dataset, open_dataset
from yowo_deploy.datasets.base import Rules
from yowo_deploy.datasets.synthetic.generator import make_synthetic
from yowo_deploy.errors import InputError, ModelFileError, OutputError, YowoError
from yowo_deploy.evaluation import Evaluation, evaluate_videos
from yowo_deploy.metrics import ClassAp
from yowo_training import trainer
from yowo_training.checkpoints.checkpoint import load_checkpoint, save_checkpoint
from yowo_training.data.held_out import hold_out
from yowo_training.finetune import has_folded_norms
from yowo_training.loss import LossWeights
from yowo_training.model_init import build
from yowo_training.models.backbones.tiny import Tiny3d
from yowo_training.models.ema import Average
from yowo_training.optimizer import build_optimizer, rate_at, rate_factor
from yowo_training.recipes import Recipe, find_recipe
from yowo_training.torch_backend import TorchBackend
from yowo_training.trainer import Budget, Run, many_labels

TINY = replace(find_recipe("yowo-tiny"), width=32, input_size=(64, 64), batch=4, loss=LossWeights())


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    folder = tmp_path_factory.mktemp("synthetic")
    make_synthetic(folder, videos_train=12, videos_test=6)
    return open_dataset("synthetic", folder)


class Chosen:
    """A data set with other training videos."""

    def __init__(self, dataset: Dataset, videos: Sequence[AnnotatedVideo]) -> None:
        self.labels, self.anchors, self.anchor_grid = dataset.labels, dataset.anchors, dataset.anchor_grid
        self.rules: Rules = dataset.rules
        self.judged_classes, self.exclusive = dataset.judged_classes, dataset.exclusive
        self._videos = videos

    def videos(self, split: str) -> Sequence[AnnotatedVideo]:
        return self._videos


@pytest.mark.slow
def test_two_clips_are_learnt_by_heart(dataset: Dataset, tmp_path: Path) -> None:
    # A grid of 4 x 4 cells: with 2 x 2, three people would share cells, and only one of them can be learnt.
    recipe = replace(TINY, input_size=(128, 128), jitter=0.0, colour=0.0, batch=2, epochs=250, ema=0.9)
    recipe = replace(recipe, weight_decay=0.0)
    two = Chosen(dataset, dataset.videos("train")[:2])
    run = Run(recipe, two, tmp_path, Budget(None, recipe.epochs), validation=0.0)
    reports = list(run)
    losses = [report.loss for report in reports]
    assert np.mean(losses[-20:]) < 0.01 * np.mean(losses[:3])
    assert reports[-1].done == 1.0 and reports[-1].frame_map is not None
    assert run.progress.best_map > 0.95  # every person found, in the right class, in every frame judged
    loaded = load_checkpoint(run.best)
    assert loaded.spec.labels == dataset.labels
    assert {path.name for path in tmp_path.iterdir()} == {
        "best.pt",
        "best.safetensors",
        "last.pt",
        "args.json",
        "metrics.jsonl",
        "state.pt",
    }


def test_the_same_seed_gives_the_same_losses(dataset: Dataset, tmp_path: Path) -> None:
    def losses(seed: int) -> list[float]:
        run = Run(TINY, dataset, tmp_path / str(seed), Budget(None, 1), seed=seed, overwrite=True)
        return [report.loss for report in run]

    assert losses(1) == losses(1) != losses(2)


def weights_of(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path).model.state_dict()


def same(first: dict[str, torch.Tensor], second: dict[str, torch.Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_run_that_was_left_goes_on_to_the_same_weights(
    dataset: Dataset, tmp_path: Path, accumulate: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", 0.0)
    recipe = replace(TINY, auxiliary=0.5, heard_3d=0.7, accumulate=accumulate)
    whole = Run(recipe, dataset, tmp_path / "whole", Budget(None, 3))
    losses = [report.loss for report in whole]
    for report in Run(recipe, dataset, tmp_path / "cut", Budget(None, 3)):
        if report.step == 5:
            break
    assert (tmp_path / "cut" / "state.pt").exists()
    rest = Run(recipe, dataset, tmp_path / "cut", Budget(None, 3), resume=True)
    went_on = {report.step: report.loss for report in rest}
    saved = 4 - 4 % accumulate  # behind the report of a step, and between two steps of the optimizer nothing
    assert went_on == {step: loss for step, loss in enumerate(losses, start=1) if step > saved}
    assert same(weights_of(tmp_path / "whole" / "last.pt"), weights_of(tmp_path / "cut" / "last.pt"))
    assert (tmp_path / "cut" / "metrics.jsonl").read_text() == (tmp_path / "whole" / "metrics.jsonl").read_text()


def write_silhouettes(path: Path, videos: Sequence[AnnotatedVideo]) -> str:
    """The middle of the picture as the actor of each video."""
    mask = np.zeros((60, 80), np.uint8)
    mask[15:45, 20:60] = 1
    rows = np.tile(np.packbits(mask.reshape(-1)), (len(videos), 1))
    np.savez(path, videos=np.array([v.name for v in videos]), starts=np.arange(len(videos) + 1), masks=rows)
    return str(path)


def test_a_run_on_mosaics_pasted_actors_and_people_of_unknown_actions_goes_on_to_the_same_weights(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", 0.0)
    recipe = replace(TINY, mosaic=0.6, zoom=0.6, late_starts=0.3, auxiliary=0.5, loss=find_recipe("yowo-tiny").loss)
    recipe = replace(recipe, paste=0.5)
    masks = write_silhouettes(tmp_path / "masks.npz", dataset.videos("train")[::2])
    actors, people = (Chosen(dataset, dataset.videos("train")[part]) for part in (slice(8), slice(8, 12)))

    def run(folder: str, resume: bool = False) -> Run:
        budget = Budget(None, 2)
        more: dict[str, Any] = {"people": people, "silhouettes": masks}
        return Run(recipe, actors, tmp_path / folder, budget, validation=0.2, resume=resume, **more)

    whole = run("whole")
    assert len(whole.sampled) == len(whole.training) + 4 and len(whole.held_out) > 0
    losses = [report.loss for report in whole]
    for report in run("cut"):
        if report.step == 2:
            break
    assert [report.loss for report in run("cut", resume=True)] == losses[1:] and all(map(math.isfinite, losses))
    assert same(weights_of(tmp_path / "whole" / "last.pt"), weights_of(tmp_path / "cut" / "last.pt"))
    with pytest.raises(InputError, match="annotations"):
        Run(recipe, actors, tmp_path / "whole", Budget(None, 2), validation=0.2, resume=True, silhouettes=masks)
    others = write_silhouettes(tmp_path / "others.npz", dataset.videos("train")[::3])
    for given, complaint in ((others, "silhouettes"), (None, "only with these")):
        with pytest.raises(InputError, match=complaint):
            Run(
                recipe,
                actors,
                tmp_path / "whole",
                Budget(None, 2),
                0,
                0.2,
                resume=True,
                people=people,
                silhouettes=given,
            )
    with pytest.raises(InputError, match="only with these"):
        Run(TINY, actors, tmp_path / "none", Budget(None, 2), silhouettes=masks)


def test_what_is_saved_is_mixed_with_the_weights_that_the_run_began_with(dataset: Dataset, tmp_path: Path) -> None:
    first = Run(TINY, dataset, tmp_path / "first", Budget(None, 1))
    assert len(list(first)) > 0
    start, recipe = str(first.output / "last.pt"), replace(TINY, start_share=0.25, learning_rate=0.01)
    run = Run(recipe, dataset, tmp_path / "second", Budget(None, 1), start=start)
    assert len(list(run)) > 0
    before, after = weights_of(Path(start)), run.average.model.state_dict()
    for name, value in weights_of(run.output / "last.pt").items():
        if value.is_floating_point():
            torch.testing.assert_close(value, 0.25 * before[name] + 0.75 * after[name], rtol=1e-5, atol=1e-6)
    assert not torch.equal(before["conv_final.weight"], after["conv_final.weight"])
    with pytest.raises(InputError, match="--start"):
        Run(recipe, dataset, tmp_path / "third", Budget(None, 1))


def test_a_branch_from_a_network_with_folded_norms_has_its_norms_settled(dataset: Dataset, tmp_path: Path) -> None:
    fresh = Run(TINY, dataset, tmp_path / "fresh", Budget(None, 1))
    assert not has_folded_norms(fresh.model)
    with torch.no_grad():
        for norm in fresh.model.modules():
            if isinstance(norm, _BatchNorm):  # as in a checkpoint that was made of an ONNX file
                norm.weight.fill_(math.sqrt(1 + norm.eps))
    save_checkpoint(tmp_path / "folded.pt", fresh.model, fresh.spec, {})
    run = Run(TINY, dataset, tmp_path / "run", Budget(None, 1), weights={"backbone_2d": str(tmp_path / "folded.pt")})
    assert not has_folded_norms(run.model)


def leave_after_two_steps(dataset: Dataset, folder: Path, budget: Budget, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", 0.0)
    for report in Run(TINY, dataset, folder, budget):
        if report.step == 2:
            return


def test_a_run_goes_on_with_its_own_arguments_alone(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_after_two_steps(dataset, tmp_path, Budget(None, 3), monkeypatch)
    for other in ({"seed": 1}, {"recipe": replace(TINY, learning_rate=1e-4)}):
        arguments: dict[str, Any] = {"recipe": TINY, "budget": Budget(None, 3), **other}
        with pytest.raises(InputError, match="is of a run started with"):
            Run(dataset=dataset, output=tmp_path, resume=True, **arguments)
    [first, *others] = dataset.videos("train")
    moved = replace(first.tubes[0], xyxy=first.tubes[0].xyxy + 1)
    redrawn = Chosen(dataset, [replace(first, tubes=(moved, *first.tubes[1:])), *others])
    renamed, refitted = (Chosen(dataset, dataset.videos("train")) for _ in range(2))
    renamed.labels = dataset.labels[::-1]
    refitted.anchors = tuple((1.1 * w, h) for w, h in dataset.anchors)
    for what, changed in (("annotations", redrawn), ("labels", renamed), ("anchors", refitted)):
        with pytest.raises(InputError, match=f"started with another {what}: "):
            Run(TINY, changed, tmp_path, Budget(None, 3), resume=True)
    (tmp_path / "state.pt").write_bytes((tmp_path / "state.pt").read_bytes()[:-100])
    with pytest.raises(ModelFileError, match="damaged"):
        Run(TINY, dataset, tmp_path, Budget(None, 3), resume=True)


def test_a_stopped_run_is_not_overwritten_and_a_finished_one_not_repeated(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_after_two_steps(dataset, tmp_path, Budget(None, 2), monkeypatch)
    orphan = tmp_path / ".state.yowo-4194305-0123abcd.pt"  # of a process that was killed while it wrote: no such number
    orphan.touch()
    with pytest.raises(InputError, match="holds a run: continue with --resume"):
        Run(TINY, dataset, tmp_path, Budget(None, 2))
    assert list(Run(TINY, dataset, tmp_path, Budget(None, 2), resume=True))
    assert not orphan.exists()
    best = (tmp_path / "best.pt").read_bytes()
    assert list(Run(TINY, dataset, tmp_path, Budget(None, 2), resume=True)) == []
    assert (tmp_path / "best.pt").read_bytes() == best
    steps = [report.step for report in Run(TINY, dataset, tmp_path, Budget(None, 4), resume=True)]
    clips = len(Run(TINY, dataset, tmp_path / "new", Budget(None, 4)).training)
    assert steps == [*range(math.ceil(2 * clips / TINY.batch) + 1, math.ceil(4 * clips / TINY.batch) + 1)]
    assert list(Run(TINY, dataset, tmp_path, Budget(None, 4), resume=True)) == []


def test_a_run_without_progress_ends_early(dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    never_better = Evaluation(ClassAp(np.array([-0.5])), {}, 0.0, 0.0, 1, 0)
    monkeypatch.setattr(trainer, "evaluate_videos", lambda *_, **__: never_better)
    # Without patience a validation every two epochs of ten, or four of twenty; a batch may reach into the next epoch.
    for patience, epochs, first, last in ((None, 10, 9, 10), (4, 20, 4, 5)):
        run = Run(TINY, dataset, tmp_path / str(patience), Budget(None, epochs), patience=patience)
        run.progress.best_map = 0.0
        assert first <= [report.epoch for report in run][-1] <= last
        assert run.progress.finished


def test_five_recordings_or_a_fifth_are_held_out(dataset: Dataset) -> None:
    one = dataset.videos("train")[0]
    for count, share, expected in ((4, 0.04, 0), (5, 0.04, 1), (12, 0.04, 2), (40, 0.01, 5), (40, 0.0, 0)):
        videos = [replace(one, group=str(number)) for number in range(count)]
        training, held_out = hold_out(videos, share)
        assert len(held_out) == expected and len(training) + len(held_out) == count


def test_a_flipped_bit_in_the_state_is_noticed(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    leave_after_two_steps(dataset, tmp_path, Budget(None, 2), monkeypatch)
    content = bytearray((tmp_path / "state.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (tmp_path / "state.pt").write_bytes(content)
    with pytest.raises(ModelFileError, match="is damaged"):
        Run(TINY, dataset, tmp_path, Budget(None, 2), resume=True)


def test_the_last_batches_count_when_they_do_not_fill_a_step(dataset: Dataset, tmp_path: Path) -> None:
    run = Run(replace(TINY, accumulate=50), dataset, tmp_path, Budget(None, 1), validation=0.0)
    before = run.model.conv_final.weight.clone()
    [*_] = run
    assert not torch.equal(run.model.conv_final.weight, before)


def test_a_gradient_that_is_no_number_stops_the_run_before_the_weights_are_lost(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = Run(TINY, dataset, tmp_path, Budget(None, 1))
    before = run.model.conv_final.weight.clone()
    run.model.conv_final.weight.register_hook(lambda gradient: gradient * math.nan)
    with pytest.raises(YowoError, match="the gradient is nan"):
        list(run)
    assert torch.equal(run.model.conv_final.weight, before) and (tmp_path / "bad_batch.pt").exists()


def test_a_full_disk_leaves_the_last_good_files(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trainer, "SAVE_EVERY_S", 0.0)
    run = Run(TINY, dataset, tmp_path, Budget(None, 3), validation=0.0)
    for report in run:
        if report.frame_map is not None:
            break
    good = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    assert {"last.pt", "state.pt"} <= good.keys()
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    for size in (0, len(good["args.json"]), len(good["last.pt"]) // 2, len(good["state.pt"]) - 100):
        rest = Run(TINY, dataset, tmp_path, Budget(None, 3), validation=0.0, resume=True)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
        try:
            with pytest.raises(OutputError, match="File too large"):
                [*_] = rest
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()}.items() >= good.items()
        assert not [path for path in tmp_path.iterdir() if path.name.startswith(".")]


def test_two_batches_whose_gradients_are_added_make_one_step_of_both(dataset: Dataset, tmp_path: Path) -> None:
    # Without batch norm, whose statistics are those of each batch alone, and without dropout.
    def trained(batch: int, accumulate: int) -> list[torch.Tensor]:
        recipe = replace(TINY, batch=batch, accumulate=accumulate, optimizer="sgd", halve_at=(99,))
        run = Run(recipe, dataset, tmp_path / str(batch), Budget(None, 1), validation=0.0)
        for module in run.model.modules():
            if isinstance(module, _BatchNorm | torch.nn.Dropout2d):
                module.train = lambda mode=True, module=module: module  # type: ignore[method-assign, misc]
                module.training = False
        [*_] = run
        return [p.detach().clone() for p in run.model.parameters()]

    for one, two in zip(trained(4, 1), trained(2, 2), strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-6)  # sums in another order


@pytest.mark.slow
def test_two_processes_train_as_one_with_the_batch_doubled(tmp_path: Path) -> None:
    make_synthetic(tmp_path / "data", videos_train=16, videos_test=6)
    for output, batch, processes in (("one", 8, 1), ("two", 4, 2)):
        command = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", str(processes)]
        command += ["--master-port", str(_free_port()), "--no-python", sys.executable, "-c", SHARED]
        done = subprocess.run(
            [*command, str(tmp_path / "data"), str(tmp_path / output), str(batch)],
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-2000:]
    one, two = (torch.load(tmp_path / output / "weights.pt") for output in ("one", "two"))
    assert one.keys() == two.keys()
    for name in one:
        torch.testing.assert_close(one[name], two[name], rtol=1e-9, atol=1e-12, msg=name)


SHARED = """
import sys
from pathlib import Path
from dataclasses import replace
import torch
from yowo_deploy.datasets import open_dataset
from yowo_training import trainer
from yowo_training.recipes import find_recipe
torch.set_num_threads(1)
# In float32 the order of sums shows after a step: fresh batch norms pass almost no gradient through, and magnify it.
torch.set_default_dtype(torch.float64)
recipe = replace(find_recipe("yowo-tiny"), width=32, input_size=(64, 64), batch=int(sys.argv[3]), optimizer="sgd",
                 learning_rate=1e-3, halve_at=(99,))
folder, output = Path(sys.argv[1]), Path(sys.argv[2])
run = trainer.Run(recipe, open_dataset("synthetic", folder), output, trainer.Budget(None, 3), validation=0.0)
for module in run.model.modules():
    if isinstance(module, torch.nn.Dropout2d):
        module.p = 0.0
run._validate = lambda epoch: None  # engines take float32
for report in run:
    pass
if run.team.leads:
    torch.save(run.model.state_dict(), output / "weights.pt")
"""


def _free_port() -> int:
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        return int(held.getsockname()[1])


def test_a_frozen_3d_branch_stays_as_its_file_has_it(dataset: Dataset, tmp_path: Path) -> None:
    recipe = replace(TINY, frozen_3d=True)
    with pytest.raises(InputError, match="--weights-3d"):
        Run(recipe, dataset, tmp_path, Budget(None, 1))
    save_checkpoint(tmp_path / "start.pt", build(TINY, TINY.spec(dataset)), TINY.spec(dataset), {})
    started = Run(recipe, dataset, tmp_path / "started", Budget(None, 1), start=str(tmp_path / "start.pt"))
    assert started.model.backbone_3d is not None
    assert not any(p.requires_grad for p in started.model.backbone_3d.parameters())
    given = Tiny3d(last_stride=1).state_dict()
    torch.save(given, tmp_path / "branch.pt")
    weights = {"backbone_3d": str(tmp_path / "branch.pt")}
    run = Run(recipe, dataset, tmp_path / "run", Budget(None, 1), weights=weights)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}
    [*_] = run
    changed = {name for name, value in run.model.state_dict().items() if not torch.equal(value, before[name])}
    assert not any(name.startswith("backbone_3d.") for name in changed)  # norms and their statistics included
    assert any(name.startswith("backbone_2d.") for name in changed)


def test_the_3d_branch_first_learns_what_clips_are_about_and_alone(dataset: Dataset, tmp_path: Path) -> None:
    recipe = replace(TINY, first_3d=0.5, auxiliary=0.5)
    run = Run(recipe, dataset, tmp_path, Budget(None, 4), validation=0.0)
    of_2d = {name: value.clone() for name, value in run.model.state_dict().items() if "backbone_3d" not in name}
    seen = []
    for report in run:
        seen.append(set(report.parts))
        if report.done < 0.5:
            now = run.model.state_dict()
            assert all(torch.equal(now[name], value) for name, value in of_2d.items())
    half = len(seen) // 2
    assert seen == [{"clip"}] * half + [{"box", "confidence", "class"}] * half


def test_a_flow_branch_learns_with_the_others_and_first_with_the_3d_branch(dataset: Dataset, tmp_path: Path) -> None:
    recipe = replace(TINY, backbone_extra="tiny3d_s16", first_3d=0.5, auxiliary=0.5)
    run = Run(recipe, dataset, tmp_path, Budget(None, 4), validation=0.0)
    before = {name: value.clone() for name, value in run.model.state_dict().items()}

    def learnt() -> set[str]:
        now = run.model.state_dict()
        return {name.partition(".")[0] for name, value in before.items() if not torch.equal(now[name], value)}

    for report in run:
        if report.done < 0.5:
            assert learnt() == {"backbone_3d", "backbone_extra"}
    assert learnt() >= {"backbone_3d", "backbone_2d", "backbone_extra", "cfam", "conv_final"}
    spec = load_checkpoint(run.best).spec
    assert ("backbone_extra", "flow", "clip") in spec.branches
    again = Run(recipe, dataset, tmp_path, Budget(None, 8), validation=0.0, resume=True)
    assert again.progress.step == run.progress.step and not again.progress.finished


def test_a_recording_is_never_on_both_sides(dataset: Dataset) -> None:
    videos = [replace(video, group=f"group {index // 3}") for index, video in enumerate(dataset.videos("train"))]
    training, held_out = hold_out(videos, 0.4)
    assert len(training) + len(held_out) == len(videos) and training and held_out
    assert not {v.group for v in training} & {v.group for v in held_out}


def test_one_recording_is_not_held_out_whole(dataset: Dataset) -> None:
    videos = [replace(video, group="yard 18") for video in dataset.videos("train")]
    assert hold_out(videos, 0.9) == (videos, [])


def test_videos_with_nobody_in_them_are_neither_shown_nor_judged(dataset: Dataset, tmp_path: Path) -> None:
    people = dataset.videos("train")
    empty = [replace(video, name=f"empty {number}", tubes=()) for number, video in enumerate(people[:10])]
    run = Run(TINY, Chosen(dataset, [*empty, *people]), tmp_path, Budget(None, 2), validation=0.0)
    reports = list(run)
    assert run.unannotated == len(empty) and len(run.training) == len(people)
    assert len(reports) == 2 * len(people) / TINY.batch and run.best.exists()


def test_what_is_kept_is_the_average_where_it_was_best_on_the_held_out_recordings(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged: list[tuple[list[str], Rules]] = []
    figures = iter((0.3, 0.5, 0.4, 0.2, 0.1))
    averages = []
    run = Run(TINY, dataset, tmp_path, Budget(None, 6), validation=0.3)

    def judge(
        backend: Any, videos: Sequence[AnnotatedVideo], every: int, rules: Rules, tube_scores: bool
    ) -> Evaluation:
        assert not tube_scores
        judged.append(([video.name for video in videos], rules))
        averages.append({name: value.clone() for name, value in run.average.model.state_dict().items()})
        return Evaluation(ClassAp(np.array([next(figures)])), {}, 0.0, 0.0, 1, 0)

    monkeypatch.setattr(trainer, "evaluate_videos", judge)
    run.rules = "ava"
    [*_] = run
    assert run.held_out and judged == [([video.name for video in run.held_out], "ava")] * 5
    assert same(weights_of(run.best), averages[1]) and same(weights_of(tmp_path / "last.pt"), averages[-1])
    assert not same(averages[-1], run.model.state_dict())


def test_every_step_has_the_rate_of_its_place_in_the_run(dataset: Dataset, tmp_path: Path) -> None:
    for name, recipe in (("cosine", TINY), ("halved", replace(TINY, optimizer="sgd", halve_at=(1, 3)))):
        run = Run(recipe, dataset, tmp_path / name, Budget(None, 2), validation=0.0)
        begun = 0.0
        for report in run:
            factor = rate_factor(recipe, report.step, begun)
            for group in run._optimizer.param_groups:
                assert group["lr"] == pytest.approx(recipe.learning_rate * factor)
            begun = report.done
    assert [rate_factor(replace(TINY, halve_at=(1, 3)), step, 0.0) for step in (1, 2, 3, 4)] == [1, 0.5, 0.5, 0.25]


def test_a_step_goes_no_further_than_the_clipped_gradient(dataset: Dataset, tmp_path: Path) -> None:
    steep = replace(TINY, optimizer="sgd", halve_at=(99,), momentum=0.0, weight_decay=0.0, loss=LossWeights(1e6))
    run = Run(steep, dataset, tmp_path, Budget(None, 1), validation=0.0)
    before = [p.detach().clone() for p in run.model.parameters()]
    next(iter(run))
    moved = math.sqrt(
        sum(float((p.detach() - was).square().sum()) for p, was in zip(run.model.parameters(), before, strict=True))
    )
    assert moved == pytest.approx(trainer.CLIP_NORM * steep.learning_rate, rel=1e-3)


@pytest.mark.parametrize("auxiliary", [0.0, 0.5])
def test_what_each_branch_has_to_name_alone_counts_as_the_recipe_says(
    dataset: Dataset, tmp_path: Path, auxiliary: float
) -> None:
    report = next(iter(Run(replace(TINY, auxiliary=auxiliary), dataset, tmp_path, Budget(None, 1), validation=0.0)))
    chance = 2 * math.log(len(dataset.labels))  # both branches know nothing yet
    assert report.loss - sum(report.parts.values()) == pytest.approx(auxiliary * chance, abs=0.5 * auxiliary + 1e-4)


@pytest.mark.parametrize("heard", [0.0, 1.0])
def test_a_3d_branch_that_is_not_heard_learns_nothing(dataset: Dataset, tmp_path: Path, heard: float) -> None:
    recipe = replace(TINY, heard_3d=heard, weight_decay=0.0)
    run = Run(recipe, dataset, tmp_path, Budget(None, 1), validation=0.0)
    assert run.model.backbone_3d is not None and run.model.backbone_2d is not None
    branches = (list(run.model.backbone_3d.parameters()), list(run.model.backbone_2d.parameters()))
    before = [[p.detach().clone() for p in branch] for branch in branches]
    [*_] = run
    stayed = [all(map(torch.equal, *pair)) for pair in zip(branches, before, strict=True)]
    assert stayed == [heard == 0.0, False]


def test_a_loss_that_is_no_number_stops_the_run_and_keeps_the_batch(dataset: Dataset, tmp_path: Path) -> None:
    run = Run(TINY, dataset, tmp_path, Budget(None, 1))
    with torch.no_grad():
        run.model.conv_final.weight.fill_(math.nan)
    with pytest.raises(YowoError, match="nan"):
        list(run)
    assert (tmp_path / "bad_batch.pt").exists() and not (tmp_path / "last.pt").exists()


@pytest.mark.parametrize(("minutes", "epochs"), [(0.0, 5), (-1.0, 5), (None, 0)])
def test_a_run_without_time_is_refused(minutes: float | None, epochs: int) -> None:
    with pytest.raises(InputError, match="needs --minutes or --epochs above 0"):
        Budget(minutes, epochs)


def test_the_rate_rises_then_falls() -> None:
    rates = [rate_at(done) for done in np.linspace(0, 1, 101)]
    top = int(np.argmax(rates))
    assert rates[top] == pytest.approx(1.0) and 4 <= top <= 6
    assert rates[:top] == sorted(rates[:top]) and rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)


def test_every_parameter_is_trained_once_and_norms_do_not_decay(dataset: Dataset) -> None:
    recipe: Recipe = find_recipe("yowo-lite")
    model = build(recipe, recipe.spec(dataset))
    groups = build_optimizer(model, recipe).param_groups
    chosen = [id(p) for group in groups for p in group["params"]]
    assert sorted(chosen) == sorted(id(p) for p in model.parameters() if p.requires_grad)
    frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
    stays = ("stem", *(f"blocks.{index}" for index in range(recipe.frozen_blocks)))
    prefixes = tuple(f"backbone_2d.{part}." for part in stays)
    assert frozen == {name for name, _ in model.named_parameters() if name.startswith(prefixes)} and frozen
    begun = {id(p) for name, p in model.named_parameters() if name.startswith(recipe.pretrained)}
    assert recipe.pretrained_rate != 1 and begun
    for group in groups:
        assert (group["weight_decay"] == 0) == all(p.ndim <= 1 for p in group["params"])
        factor = recipe.pretrained_rate if id(group["params"][0]) in begun else 1.0
        assert all((id(p) in begun) == (factor != 1.0) for p in group["params"])
        assert group["lr"] == recipe.learning_rate * factor
    sgd = build_optimizer(model, replace(recipe, optimizer="sgd", momentum=0.7)).param_groups
    assert {group["momentum"] for group in sgd} == {0.7}


def test_imagenet_weights_that_are_not_there_are_not_passed_over_in_silence(dataset: Dataset) -> None:
    recipe = replace(TINY, imagenet=True)
    with pytest.raises(InputError, match="no ImageNet weights for tiny2d, tiny3d_s16"):
        build(recipe, recipe.spec(dataset))


def test_the_average_trails_the_weights_and_never_leaves_their_range() -> None:
    network = torch.nn.Linear(1, 1, bias=False)
    average = Average(network, decay=0.9)
    seen = []
    for value in (0.0, 1.0, 1.0, 1.0):
        network.weight.data.fill_(value)
        average.update(network)
        seen.append(average.model.weight.item())
    assert seen[1:] == sorted(seen[1:]) and 0 < seen[-1] <= 1


def write_films(folder: Path) -> None:
    """Two films as AVA has them, cut to minute 15: two people each, with a pose (colour) and acts (stripes)."""
    poses = (
        (12, (200, 40, 40), 1.9),
        (11, (40, 200, 40), 1.4),
        (1, (40, 40, 200), 1.0),
    )  # label, colour, height to width
    acts = ((17, (255, 255, 255)), (80, (0, 0, 0)), (74, (0, 255, 255)), (59, (255, 0, 255)))
    people = [[(0, (0, 2)), (2, (1,))], [(1, (0, 3)), (0, (1, 2))]]  # of each: pose, acts
    rows: list[str] = []
    for film, pair in enumerate(people):
        rng = np.random.default_rng(film)
        place = cv2.resize(rng.integers(60, 200, (6, 8, 3)).astype(np.uint8), (128, 96), interpolation=cv2.INTER_CUBIC)
        (folder / "frames" / f"film{film}").mkdir(parents=True)
        for number in range(1, 302):  # from second 900 on, 30 a second
            picture, seconds = place.copy(), (number - 1) / 30
            for person, (pose, does) in enumerate(pair):
                label, colour, tall = poses[pose]
                left = round(64 * person + 20 + 10 * np.sin(1.3 * seconds + person + film))
                top = round(26 + 5 * np.sin(0.9 * seconds + person))
                right, bottom = left + 24, top + round(24 * tall)
                cv2.rectangle(picture, (left, top), (right, bottom), colour, -1)
                for act in does:
                    stripe = left + 3 + 6 * act
                    cv2.rectangle(picture, (stripe - 2, top + 3), (stripe + 2, bottom - 3), acts[act][1], -1)
                if seconds % 1 == 0 and seconds >= 2:
                    box = f"{left / 128:.3f},{top / 96:.3f},{right / 128:.3f},{bottom / 96:.3f}"
                    labels = (label, *(acts[act][0] for act in does))
                    rows += [f"film{film},{900 + int(seconds):04},{box},{each},{person}\n" for each in labels]
            assert cv2.imwrite(str(folder / "frames" / f"film{film}" / f"film{film}_{number:06d}.jpg"), picture)
    for part in ("train", "val"):
        (folder / f"ava_{part}_v2.2.csv").write_text("".join(rows))


def test_people_with_many_labels_are_learnt_and_judged_by_the_rules_of_ava(tmp_path: Path) -> None:
    """Reached 99.3, recall 1.0; the assertion leaves room for the rounding of other processors."""
    write_films(tmp_path)
    dataset = open_dataset("ava", tmp_path)
    tiny = find_recipe("yowo-tiny")
    recipe = replace(tiny, loss=replace(tiny.loss, focal_gamma=0.5))
    run = Run(recipe, dataset, tmp_path / "run", Budget(None, 640), validation=0.0)
    assert run.spec.class_activation == "softmax+sigmoid" and run.spec.softmax_classes == 14
    many = many_labels(run.spec, run.training)
    assert many is not None and np.flatnonzero(many.shares.numpy()).tolist() == [0, 10, 11, 16, 58, 73, 79]
    assert many.shares.max() == 0.5
    assert list(run)[-1].step == 160
    learnt = load_checkpoint(run.best)
    assert learnt.spec.labels == dataset.labels
    found = evaluate_videos(TorchBackend.of(learnt), dataset.videos("test"), rules="ava")
    assert found.frame_map.mean > 0.6 and found.recall > 0.8
