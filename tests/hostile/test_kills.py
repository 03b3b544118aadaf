"""SIGKILL and SIGTERM, whenever they come, lose no file and leave no temporary one; `train` resumes to the same bits.

The long form sends hundreds at random moments: `python -m benchmarks.hostile kills`.
"""

from __future__ import annotations

import errno
import random
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.hostile import HEAVY
from tests.hostile.failing_calls import Commands, build
from tests.hostile.kills import Undisturbed, killed
from tests.hostile.writers import TRAINERS, WRITERS, Writer, prepared

CHEAP = [
    each
    for each in WRITERS
    if each.name.endswith((" -o", "detect --json", "--tubes", "import", "cvat", "--fix", "--save"))
]


def started(folder: Path, *modules: str) -> Commands:
    """A process that runs commands; skips without a compiler."""
    library = build(folder)
    if library is None:
        pytest.skip("needs Linux and a C compiler")
    return Commands(library, *modules)


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    """Forks in which no PyTorch is loaded."""
    for name in ("onnxruntime", "matplotlib", "defusedxml"):
        pytest.importorskip(name)
    process = started(tmp_path_factory.mktemp("shim"), "yowo_deploy.backends.ort")
    yield process
    process.close()


@pytest.mark.parametrize("writer", CHEAP, ids=lambda writer: writer.name)
def test_sigterm_at_any_call_that_writes_leaves_nothing_half_and_nothing_stray(
    writer: Writer, commands: Commands, tmp_path: Path
) -> None:
    calls = Undisturbed(commands, tmp_path).of(writer).calls
    assert calls > 0
    for call in range(calls):
        place = prepared(tmp_path / "run", writer)
        ended = commands.run(writer.arguments, place, call, -signal.SIGTERM)
        assert ended.code == (128 + signal.SIGTERM) * ended.failed  # encoders make a call more or less
        assert writer.after_signal(place, ended, signal.SIGTERM) == [], call
        shutil.rmtree(place)


@pytest.mark.parametrize("writer", CHEAP, ids=lambda writer: writer.name)
def test_after_signals_at_random_moments_the_next_start_ends_as_if_there_had_been_none(
    writer: Writer, commands: Commands, tmp_path: Path
) -> None:
    trial = killed(commands, writer, tmp_path / "run", Undisturbed(commands, tmp_path), random.Random(writer.name))
    assert trial.faults == [], str(trial)


def test_training_that_signals_or_a_full_disk_end_is_resumed_to_the_same_bits(tmp_path: Path) -> None:
    pytest.importorskip("torch")
    train = TRAINERS[0]
    process = started(tmp_path, *HEAVY)
    whole, place = Undisturbed(process, tmp_path).of(train), prepared(tmp_path / "run", train)
    arguments = train.arguments
    for sent, call in ((signal.SIGTERM, whole.calls // 3), (signal.SIGKILL, whole.calls // 2)):
        ended = process.run(arguments, place, call, -sent)
        assert ended.code in (-sent, 128 + sent) and train.after_signal(place, ended, sent) == []
        arguments = (*train.arguments, *train.again)
    assert train.after_restart(place, process.run(arguments, place), whole.place) == []
    place = prepared(tmp_path / "full", train)
    ended = process.run(train.arguments, place, whole.calls - 60, errno.ENOSPC)  # in the state of the last step
    assert ended.code == 1 and train.faults(place, ended) == []
    assert train.after_restart(place, process.run(arguments, place), whole.place) == []
    process.close()
