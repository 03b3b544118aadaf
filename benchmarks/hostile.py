"""Long attacks: `python -m benchmarks.hostile calls --seconds 600`; what is short of them runs in `tests/hostile`.

A campaign tries to break commands for so long, prints each fault once, and ends with its figures and exit code 1 if
there was a fault. Figures of long runs stand in HOSTILE.md.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.hostile.failing_calls import ERRORS, Commands, build
from tests.hostile.writers import WRITERS, prepared


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

    def add(self, where: str, faults: list[str]) -> None:
        """Count one try with its faults."""
        self.tries += 1
        for fault in faults:
            if fault not in self.faults:
                print(f"{where}: {fault}", flush=True)
            self.faults[fault] = self.faults.get(fault, 0) + 1

    def __str__(self) -> str:
        return f"{self.tries} tries in {time.perf_counter() - self.start:.0f} s, {sum(self.faults.values())} faults"


def calls(campaign: Campaign) -> None:
    """The N-th system call that writes fails, of every command that writes, for every N and three errors."""
    with TemporaryDirectory() as name:
        library = build(Path(name))
        if library is None:
            raise SystemExit("needs Linux and a C compiler")
        commands = Commands(library, "yowo_deploy.backends.ort", "yowo_deploy.backends.ov")
        for where, faults in _failing_calls(commands, Path(name)):
            campaign.add(where, faults)
            if campaign.over:
                break
        commands.close()


def _failing_calls(commands: Commands, folder: Path) -> Iterator[tuple[str, list[str]]]:
    for writer in WRITERS:
        for kind, error in ERRORS.items():
            number, failed = 0, True
            while failed:
                place = prepared(folder / f"{writer.name}-{kind}-{number}", writer)
                ended = commands.run(writer.arguments, place, number, error)
                yield f"{writer.name}, {kind} at call {number}", writer.faults(place, ended)
                number, failed = number + 1, ended.failed


CAMPAIGNS: dict[str, Callable[[Campaign], None]] = {"calls": calls}


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
