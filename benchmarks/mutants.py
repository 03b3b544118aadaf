"""Spoiled files for the readers: `python -m benchmarks.mutants gate --count 1000000`; HOSTILE.md has figures.

Kinds: gate (ONNX files), spec, plan, checkpoint. Each mutant follows from the seed and its number. They are read in
child processes, so that a signal is noticed and the campaign goes on; any error but ours, a message of several lines or
over 500 characters, and a mutant of over ten seconds are faults. Exit code 1 if there was one.
"""

from __future__ import annotations

import argparse
import io
import random
import resource
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from tests.hostile.onnx_files import SPEC, mutants, onnx_files, random_graphs
from tests.hostile.spec_texts import PLAN, PLAN_VALUES, in_plan, spoiled_json
from yowo_deploy.errors import YowoError
from yowo_deploy.model_files.checksum import DIGITS, SAFETENSORS_MARK, ZIP_MARK, checksum
from yowo_deploy.model_files.onnx_reader import checked_file
from yowo_deploy.model_files.plan_record import read_plan, to_name
from yowo_deploy.spec import ModelSpec

PIECE = 1_000  # mutants of one seed, in one process
LONGEST, MOST_S = 500, 10.0


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
    generator, values = random.Random(seed), SPEC.to_dict()
    for _ in range(count):
        text = spoiled_json(values, generator)
        yield lambda text=text: ModelSpec.from_json(text)  # type: ignore[misc]


def plan(seed: int, count: int, folder: Path) -> Iterator[Callable[[], object]]:
    """Records of plans with the right checksum, and bytes of a plan changed."""
    generator, file = random.Random(seed), folder / "m.plan"
    name, _ = to_name(PLAN)
    whole = b"ftrt" + b"\0" * 99 + name.encode() + b"\0" * 9
    for content in mutants(whole, count, seed):
        file.write_bytes(in_plan(spoiled_json(PLAN_VALUES, generator)) if generator.random() < 0.7 else content)
        yield lambda: read_plan(file)


def checkpoint(seed: int, count: int, folder: Path) -> Iterator[Callable[[], object]]:
    """Four forms in turn: bytes of a file changed, then its checksum too; its pickle changed in an archive written
    anew, as other tools write it; bytes of a file of safetensors changed, with its checksum.
    """
    from yowo_training.checkpoints.checkpoint import load_checkpoint, save_checkpoint
    from yowo_training.models.yowo import Yowo, YowoConfig

    generator, file, tables = random.Random(seed), folder / "m.pt", folder / "m.safetensors"
    small = ModelSpec(labels=("a",), anchors=((1.0, 2.0),), clip_length=4, input_size=(64, 64))
    for path in (file, tables):
        save_checkpoint(path, Yowo(YowoConfig("tiny2d", None, small.output_channels, width=1)), small, {"step": 1})
    good, table = file.read_bytes(), tables.read_bytes()
    header = 8 + int.from_bytes(table[:8], "little")
    with zipfile.ZipFile(file) as archive:
        members = {each.filename: archive.read(each) for each in archive.infolist()}
    pickled, comment = next(name for name in members if name.endswith(".pkl")), len(ZIP_MARK) + DIGITS
    ends = (good.index(b"PK\x03\x04", 4), len(good) - comment)  # the pickle is the first member
    for number in range(count):
        path = tables if number % 4 == 3 else file
        match number % 4:
            case 0:
                content = spoiled_bytes(good, (ends[0], ends[0], len(good)), generator)
            case 1:
                content = spoiled_bytes(good[:-comment], ends, generator) + ZIP_MARK
                content += checksum(content, len(content))
            case 2:
                other = spoiled_bytes(members[pickled], (len(members[pickled]),), generator)
                content = rewritten(members | {pickled: other})
            case _:
                body = bytearray(spoiled_bytes(table[8:], (header, header, len(table) - 8), generator))
                body[: len(SAFETENSORS_MARK)] = SAFETENSORS_MARK
                whole = bytearray(table[:8]) + body
                at = 8 + len(SAFETENSORS_MARK)
                whole[at : at + DIGITS] = checksum(whole, at)
                content = bytes(whole)
        path.write_bytes(content)
        yield lambda path=path: load_checkpoint(path)  # type: ignore[misc]


def spoiled_bytes(content: bytes, ends: tuple[int, ...], generator: random.Random) -> bytes:
    """One to three places before one of the ends changed, or grown by up to eight bytes."""
    spoiled = bytearray(content)
    for _ in range(generator.randint(1, 3)):
        at = generator.randrange(generator.choice(ends))
        piece = generator.randbytes(generator.choice((0, 1, 1, 1, 2, 8)))
        spoiled[at : at + generator.choice((0, len(piece), len(piece)))] = piece
    return bytes(spoiled)


def rewritten(members: dict[str, bytes]) -> bytes:
    """An archive of these members."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name), content)
    return made.getvalue()


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
        f"{given.kind}: {outcomes.total():,} mutants from seed {given.seed} in {time.monotonic() - start:.0f} s "
        f"({resource.getrusage(resource.RUSAGE_CHILDREN).ru_utime:.0f} s of CPU): "
        f"{outcomes['read']:,} read, {outcomes['refused']:,} refused, {len(faults)} faults"
    )
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
