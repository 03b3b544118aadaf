"""Long attacks: `python -m benchmarks.hostile kills --seconds 600`; what is short of them runs in `tests/hostile`.

A campaign tries to break commands for so long, prints each fault once, and ends with its figures and exit code 1 if
there was a fault. Figures of long runs stand in HOSTILE.md.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field, replace
from functools import partial
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.hostile.failing_calls import ERRORS, Commands, build
from tests.hostile.kills import Undisturbed, killed
from tests.hostile.onnx_files import file
from tests.hostile.spec_texts import PLAN
from tests.hostile.writers import TRAINERS, WRITERS, Writer, prepared
from yowo_deploy.errors import YowoError
from yowo_deploy.model_files.checksum import with_checksum
from yowo_deploy.model_files.default import model_path
from yowo_deploy.model_files.onnx_reader import read_onnx_file
from yowo_deploy.model_files.plan_record import read_plan, read_verified, to_name, write_plan
from yowo_deploy.spec import ModelSpec

LIGHT = ("yowo_deploy.backends.ort", "yowo_deploy.backends.ov", "matplotlib.backends.backend_agg")
# Plots take most of the time of a short run; `data stats` and `detect --timeline` write some as well.
HEAVY = ("-matplotlib", "yowo_deploy.backends.ort", "yowo_training.pipeline", "yowo_export.pipeline")
SHARES = {  # of the trials, in hundredths, of what takes long; the others share the rest
    "train": 12, "export": 2, "bench --json": 1, "data stats": 2, "detect --timeline": 2, "detect, all": 3,
    "detect, run folder": 3,
}  # fmt: skip


@dataclass
class Campaign:
    """How long, from which seed, and what was found."""

    seconds: float
    seed: int = 0
    tries: int = 0
    faults: dict[str, int] = field(default_factory=dict)
    start: float = field(default_factory=time.perf_counter)

    @property
    def over(self) -> bool:
        return time.perf_counter() - self.start > self.seconds

    def add(self, where: str, faults: list[str], said: Sequence[str] = ()) -> None:
        """Count one try with its faults; print new ones, and what the faulty runs said."""
        self.tries += 1
        if any(fault not in self.faults for fault in faults):
            print("\n".join((f"{where}: {'; '.join(faults)}", *said)), flush=True)
        for fault in faults:
            self.faults[fault] = self.faults.get(fault, 0) + 1

    def __str__(self) -> str:
        return f"{self.tries} tries in {time.perf_counter() - self.start:.0f} s, {sum(self.faults.values())} faults"


def calls(campaign: Campaign) -> None:
    """The N-th system call that writes fails, of every command that writes, for every N and three errors."""
    with TemporaryDirectory() as name:
        every = [(writer, kind) for writer in WRITERS for kind in ERRORS]
        with closing(_commands(Path(name), *LIGHT)) as commands:
            _all_calls(campaign, commands, Path(name), every)


def training(campaign: Campaign) -> None:
    """As `calls`, of `train` and `export`.

    The hundreds of calls of a training run fail in turn with one of the three errors; every tenth run is resumed.
    """
    with TemporaryDirectory() as name, closing(_commands(Path(name), *HEAVY)) as commands:
        _, step, export = TRAINERS
        trained = _trained(commands, Path(name))
        _all_calls(campaign, commands, Path(name), [(export, kind) for kind in ERRORS], trained)
        undisturbed = Undisturbed(commands, Path(name), trained)
        for number in range(undisturbed.of(step).calls):
            if campaign.over:
                return
            kind = [*ERRORS][number % len(ERRORS)]
            place = prepared(Path(name) / f"step-{number}", step)
            ended = commands.run(step.arguments, place, number, ERRORS[kind])
            faults = step.faults(place, ended)
            if number % 10 == 0:
                ended = commands.run((*step.arguments, *step.again), place)
                faults += step.after_restart(place, ended, undisturbed.of(step).place)
            campaign.add(f"{step.name}, {kind} at call {number}", faults)
            shutil.rmtree(place)


def _all_calls(
    campaign: Campaign,
    commands: Commands,
    folder: Path,
    every: list[tuple[Writer, str]],
    trained: Path | None = None,
) -> None:
    for writer, kind in every:
        number, failed = 0, True
        while failed and not campaign.over:
            place = prepared(folder / f"{writer.name}-{kind}-{number}", writer, trained)
            ended = commands.run(writer.arguments, place, number, ERRORS[kind])
            campaign.add(f"{writer.name}, {kind} at call {number}", writer.faults(place, ended))
            number, failed = number + 1, ended.failed
            shutil.rmtree(place)


def kills(campaign: Campaign) -> None:
    """SIGKILL or SIGTERM at random moments of every command that writes; then it is started again.

    Half of the moments are calls that write, the others any time. Before the last start up to five runs are ended.
    """
    generator, signals, number = random.Random(campaign.seed), Counter[str](), 0
    with (
        TemporaryDirectory() as name,
        closing(_commands(Path(name), *LIGHT)) as light,
        closing(_commands(Path(name), *HEAVY)) as heavy,
    ):
        both = {
            light: Undisturbed(light, Path(name)),
            heavy: Undisturbed(heavy, Path(name), _trained(heavy, Path(name))),
        }
        writers = [*WRITERS, TRAINERS[0], TRAINERS[2]]
        rest = (100 - sum(SHARES.values())) / (len(writers) - len(SHARES))
        shares = [SHARES.get(writer.name, rest) for writer in writers]
        while not campaign.over:
            writer = generator.choices(writers, shares)[0]
            commands, place = heavy if writer in TRAINERS else light, Path(name) / f"trial-{number}"
            trial = killed(commands, writer, place, both[commands], generator)
            signals.update(f"{writer.name} {sent.name}" for sent in trial.sent)
            campaign.add(f"{writer.name}, trial {number} of seed {campaign.seed}, {trial}", trial.faults, trial.said)
            shutil.rmtree(place)
            number += 1
            if number % 50 == 0:
                print(f"{campaign}; {signals.total()} signals", flush=True)
    for each, count in sorted(signals.items()):
        print(f"{count:5} {each}")
    by_kind = {kind.name: sum(n for each, n in signals.items() if kind.name in each) for kind in SENT}
    print(f"{signals.total()} runs ended by a signal: {by_kind}")


def bits(campaign: Campaign) -> None:
    """One flipped bit in an ONNX file, a checkpoint in both forms, a plan, its hash and its spec beside it."""
    generator, flips = random.Random(campaign.seed), Counter[str]()
    with TemporaryDirectory() as name:
        files = _files_with_checksums(Path(name))
        whole = {path: path.read_bytes() for path, _, _ in files}
        while not campaign.over:
            for path, used, read in files:
                bit = generator.randrange(8 * (used or len(whole[path])))
                damaged = bytearray(whole[path])
                damaged[bit // 8] ^= 1 << bit % 8
                path.write_bytes(damaged)
                with suppress(YowoError):
                    read()
                    campaign.add(f"{path.name}, bit {bit}", [f"{path.name}: a flipped bit was not noticed"])
                path.write_bytes(whole[path])
                flips[path.name] += 1
    campaign.tries = flips.total()
    print(", ".join(f"{name}: {count}" for name, count in flips.items()))


def _files_with_checksums(folder: Path) -> list[tuple[Path, int, Callable[[], object]]]:
    """Files, the bytes of each that are used (0: all), and what reads it."""
    from yowo_training.checkpoints.checkpoint import load_checkpoint, save_checkpoint
    from yowo_training.models.yowo import Yowo, YowoConfig

    small, large, plan = folder / "small.onnx", folder / "default.onnx", folder / "m.plan"
    small.write_bytes(file())
    small.write_bytes(with_checksum(small.read_bytes()))
    shutil.copy(model_path("default"), large)
    tables = [folder / "m.pt", folder / "m.safetensors"]
    spec = ModelSpec(labels=("a",), anchors=((1.0, 2.0),), clip_length=4, input_size=(64, 64))
    for path in tables:
        save_checkpoint(path, Yowo(YowoConfig("tiny2d", None, spec.output_channels, width=1)), spec, {"step": 1})
    labels = tuple(sha256(str(number).encode()).hexdigest() for number in range(300))  # too long for the plan itself
    record, beside = to_name(replace(PLAN, spec=PLAN.spec.replace(labels=labels)))
    write_plan(plan, b"ftrt" + bytes(99) + record.encode() + bytes(999), beside)

    def read() -> object:
        return read_plan(plan), read_verified(plan)

    of_plan = [(plan, 0, read), (folder / "m.plan.sha256", 64, read), (folder / "m.plan.json", 0, read)]
    return [
        *((path, 0, partial(read_onnx_file, path)) for path in (small, large)),
        *((path, 0, partial(load_checkpoint, path)) for path in tables),
        *of_plan,
    ]


SENT = (signal.SIGKILL, signal.SIGTERM)


def _commands(folder: Path, *modules: str) -> Commands:
    library = build(folder)
    if library is None:
        raise SystemExit("needs Linux and a C compiler")
    return Commands(library, *modules)


def _trained(commands: Commands, folder: Path) -> Path:
    """A checkpoint; and what training and export import late, they have imported."""
    _, step, export = TRAINERS
    place = prepared(folder / "warm", step)
    commands.warm(step.arguments, place)
    trained = place / "run" / "best.pt"
    commands.warm(export.arguments, prepared(folder / "warm-export", export, trained))
    return trained


CAMPAIGNS: dict[str, Callable[[Campaign], None]] = {
    "calls": calls, "training": training, "kills": kills, "bits": bits,
}  # fmt: skip


def main() -> None:
    """Run one campaign."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("campaign", choices=CAMPAIGNS)
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    campaign = Campaign(given.seconds, given.seed)
    CAMPAIGNS[given.campaign](campaign)
    print(f"{given.campaign}: {campaign}")
    sys.exit(bool(campaign.faults))


if __name__ == "__main__":
    main()
