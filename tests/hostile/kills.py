"""Commands that a signal ends at a random moment, and that are then started again."""

from __future__ import annotations

import random
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from tests.hostile.failing_calls import Commands, Ended
from tests.hostile.writers import Writer, prepared

MOST = 5  # runs of a trial that get a signal


class Whole(NamedTuple):
    """A run to which nothing happened: its folder, its calls that write, its time."""

    place: Path
    calls: int
    seconds: float


class Undisturbed:
    """Runs to which nothing happens, one of each command."""

    def __init__(self, commands: Commands, folder: Path, trained: Path | None = None) -> None:
        self.trained = trained
        self._commands, self._folder, self._runs = commands, folder, dict[str, Whole]()

    def of(self, writer: Writer) -> Whole:
        """The run of a command, made once.

        Raises:
            RuntimeError: it went wrong.
        """
        if writer.name not in self._runs:
            place = prepared(self._folder / f"{writer.name}-undisturbed", writer, self.trained)
            start = time.monotonic()
            ended = self._commands.run(writer.arguments, place)
            if faults := writer.faults(place, ended) or ended.said * (ended.code != 0):
                raise RuntimeError(f"{writer.name}: {faults}")
            self._runs[writer.name] = Whole(place, ended.calls, time.monotonic() - start)
        return self._runs[writer.name]


@dataclass
class Trial:
    """What was sent to the runs of one command, at which moments, and what was wrong then and after the next start.

    Attributes:
        said: the ends of what faulty runs wrote to stderr.
    """

    sent: list[signal.Signals] = field(default_factory=list)
    moments: list[str] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def add(self, ended: Ended, faults: list[str]) -> None:
        """Count what was wrong with a run."""
        self.faults += faults
        if faults:
            self.said.append(ended.said.strip()[-2000:])

    def __str__(self) -> str:
        return " then ".join(self.moments)


def killed(commands: Commands, writer: Writer, place: Path, undisturbed: Undisturbed, rng: random.Random) -> Trial:
    """Start a command in a new folder, end it by signals, and let it run to its end.

    Runs that were over before their signal came count as whole ones.
    """
    trial, whole = Trial(), undisturbed.of(writer)
    prepared(place, writer, undisturbed.trained)
    arguments = writer.arguments
    for _ in range(rng.randint(1, MOST)):
        sent = rng.choice((signal.SIGKILL, signal.SIGTERM))
        if rng.random() < 0.5:
            call = rng.randrange(whole.calls)
            trial.moments.append(f"{sent.name} at call {call}")
            ended = commands.run(arguments, place, call, -sent)
        else:
            seconds = rng.random() * whole.seconds
            trial.moments.append(f"{sent.name} after {seconds:.3f} s")
            ended = commands.end(arguments, place, sent, seconds)
        trial.add(ended, writer.after_signal(place, ended, sent))
        arguments = (*writer.arguments, *writer.again)
        if ended.code == 0:
            break
        trial.sent.append(sent)
    ended = commands.run(arguments, place)
    trial.add(ended, writer.after_restart(place, ended, whole.place))
    return trial
