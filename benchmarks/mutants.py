"""Spoiled files for the readers: `python -m benchmarks.mutants gate --count 1000000`; HOSTILE.md has figures.

Kinds: gate (ONNX files), spec, plan, checkpoint. Each mutant follows from the seed and its number. They are read in
child processes, so that a signal is noticed and the campaign goes on; any error but ours, a message of several lines or
over 500 characters, and a mutant of over ten seconds are faults. Exit code 1 if there was one.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.hostile.onnx_files import SPEC, mutants, onnx_files, random_graphs
from yowo_deploy.errors import YowoError
from yowo_deploy.model_files.onnx_reader import checked_file
from yowo_deploy.model_files.plan_record import PlanFile, read_plan, to_name
from yowo_deploy.spec import METADATA_KEY, ModelSpec

PIECE = 1_000  # mutants of one seed, in one process
LONGEST, MOST_S = 500, 10.0
# What stands in place of values in JSON.
VALUES = [
    None, True, False, 0, -1, 1, 0.5, 1e308, -1e308, 10**400, 2**31, 2**63, "", "a", "\x1b[31m", "\ud800", "a" * 10**5,
    [], [[]], [0], [None], ["a", "a"], [1] * 10**4, {}, {"a": 1}, [[1.0, 2.0]], [[0, 0]], [[1e999, 1]], "fp16", "int8",
]  # fmt: skip


def spoiled_json(values: dict[str, Any], generator: random.Random) -> str:
    """JSON with some values, keys or letters changed."""
    made = json.loads(json.dumps(values))
    for _ in range(generator.randint(1, 3)):
        name = generator.choice([*made, "other"]) if made else "other"
        match generator.randrange(4):
            case 0 if name in made:
                del made[name]
            case 1 if name in made and isinstance(made[name], (int, float)):
                made[name] = made[name] * generator.choice((-1, 0, 2, 1000, 2**40, 0.1))
            case _:
                made[name] = generator.choice(VALUES)
    text = json.dumps(made)
    if generator.random() < 0.3:
        at = generator.randrange(len(text))
        text = text[:at] + generator.choice(("", '"', "[" * generator.choice((1, 10**5)), "NaN", "\0", ",", "1e999"))
        text += json.dumps(made)[at + generator.randint(0, 4) :]
    return text


def gate(seed: int, count: int, folder: Path) -> Iterator[Callable[[], object]]:
    """Bytes of the good files changed, and graphs at random."""
    good = [content for content, verdict in onnx_files().values() if not verdict]
    half = count // 2
    for content in mutants(good[seed % len(good)], half, seed):
        yield lambda content=content: checked_file(content, Path("m")).model_bytes()  # type: ignore[misc]
    for content in random_graphs(count - half, seed):
        yield lambda content=content: checked_file(content, Path("m")).model_bytes()  # type: ignore[misc]


def spec(seed: int, count: int, folder: Path) -> Iterator[Callable[[], object]]:
    """JSON of a spec."""
    generator = random.Random(seed)
    for _ in range(count):
        text = spoiled_json(SPEC.to_dict(), generator)
        yield lambda text=text: ModelSpec.from_json(text)  # type: ignore[misc]


def plan(seed: int, count: int, folder: Path) -> Iterator[Callable[[], object]]:
    """Records of plans with the right checksum, and bytes of a plan changed."""
    generator, file = random.Random(seed), folder / "m.plan"
    good = PlanFile(SPEC, "tensorrt", "10.8.0", "8.9", "ab" * 32, (1, 2, 4))
    name, _ = to_name(good)
    whole = b"ftrt" + b"\0" * 99 + name.encode() + b"\0" * 9
    values = json.loads(name.split(" ", 4)[-1])
    from yowo_deploy.model_files.plan_record import _sealed

    for content in mutants(whole, count, seed):
        if generator.random() < 0.7:
            spoiled = _sealed("json", spoiled_json(values, generator)).encode(errors="replace")
            content = b"ftrt" + b"\0" * 99 + spoiled + b"\0" * 9
        file.write_bytes(content)
        yield lambda: read_plan(file)


def checkpoint(seed: int, count: int, folder: Path) -> Iterator[Callable[[], object]]:
    """Bytes of a checkpoint changed, most of them in its pickle."""
    from yowo_training.checkpoints.checkpoint import load_checkpoint, save_checkpoint
    from yowo_training.models.yowo import Yowo, YowoConfig

    generator, file = random.Random(seed), folder / "m.pt"
    small = ModelSpec(labels=("a",), anchors=((1.0, 2.0),), clip_length=4, input_size=(64, 64))
    save_checkpoint(file, Yowo(YowoConfig("tiny2d", None, small.output_channels, width=8)), small, {"step": 1})
    good = file.read_bytes()
    end = good.index(b"PK\x03\x04", 4)  # the pickle is the first member
    assert METADATA_KEY.encode() in good[:end]
    for _ in range(count):
        spoiled = bytearray(good)
        for _ in range(generator.randint(1, 3)):
            at = generator.randrange(generator.choice((end, end, len(spoiled))))
            piece = generator.randbytes(generator.randint(0, 8))
            spoiled[at : at + generator.choice((0, len(piece)))] = piece
        file.write_bytes(spoiled)
        yield lambda: load_checkpoint(file)


KINDS = {"gate": gate, "spec": spec, "plan": plan, "checkpoint": checkpoint}


def read_all(kind: str, seed: int, count: int, connection: Connection) -> None:
    """Read the mutants of one seed, in a child process; counts by outcome, and faults, go back."""
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        for number, read in enumerate(KINDS[kind](seed, count, Path(folder))):
            connection.send(number)
            start = time.process_time()
            try:
                read()
                outcomes["read"] += 1
            except YowoError as error:
                outcomes["refused"] += 1
                if "\n" in str(error) or len(str(error)) > LONGEST:
                    faults.append(f"{seed}/{number}: message of {len(str(error))} characters: {str(error)[:200]!r}")
            except BaseException as error:  # what the campaign looks for
                faults.append(f"{seed}/{number}: {type(error).__name__}: {str(error)[:200]}")
            if time.process_time() - start > MOST_S:
                faults.append(f"{seed}/{number}: {time.process_time() - start:.1f} s")
    connection.send((outcomes, faults))


def campaign(kind: str, count: int, seed: int, seconds: float) -> tuple[Counter[str], list[str]]:
    """Counts by outcome, and what went wrong."""
    outcomes: Counter[str] = Counter()
    faults: list[str] = []
    start, context = time.monotonic(), get_context("fork")
    while outcomes.total() < count and time.monotonic() - start < seconds:
        here, there = context.Pipe(duplex=False)
        child = context.Process(target=read_all, args=(kind, seed, min(PIECE, count - outcomes.total()), there))
        child.start()
        there.close()
        latest: Any = -1
        try:
            while isinstance(latest, int):
                latest = here.recv()
        except EOFError:
            child.join()
            faults.append(f"{seed}/{latest}: the process ended with {child.exitcode}")
            outcomes["died"] += latest + 1
        else:
            child.join()
            outcomes += latest[0]
            faults += latest[1]
        seed += 1
        if seed % 50 == 0:
            print(f"{outcomes.total():,} {dict(outcomes)}, {len(faults)} faults", flush=True)
    return outcomes, faults


def main() -> None:
    """Run one kind and print what was seen."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=KINDS)
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seconds", type=float, default=float("inf"))
    given = parser.parse_args()
    start = time.monotonic()
    outcomes, faults = campaign(given.kind, given.count, given.seed, given.seconds)
    print("\n".join(faults[:50]))
    print(
        f"{given.kind}: {outcomes.total():,} mutants from seed {given.seed} in {time.monotonic() - start:.0f} s: "
        f"{outcomes['read']:,} read, {outcomes['refused']:,} refused, {len(faults)} faults"
    )
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
