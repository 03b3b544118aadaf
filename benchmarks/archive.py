"""Archives: what `batch` costs beside bare processes, what survives kills, planning and search.

    python -m benchmarks.archive speed VIDEO... [--rounds 5]     # two workers and two bare processes, in turn
    python -m benchmarks.archive kill VIDEO... [--times 10]      # a worker, then the driver, at random moments
    python -m benchmarks.archive kill VIDEO... --ray --join 4    # actors of Ray, four long videos made of these
    python -m benchmarks.archive plan                            # 100,000 paths
    python -m benchmarks.archive find                            # a million tubes

Each bare process reads its half of the videos with a `Detector` and writes their tubes; machines are shared: what
counts is the ratio of a round's two times. `kill` compares all files of a run that was disturbed with those of one that
was not.
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from time import monotonic, process_time, sleep

import cv2
import numpy as np

from yowo_deploy.archive import find
from yowo_deploy.archive.plan import plan
from yowo_deploy.archive.tables import TUBES, parquet, schema
from yowo_deploy.benchmark.timing import median_interval
from yowo_deploy.video.reader import open_video

BARE = """
import sys
from yowo_deploy import Detector, open_source
from yowo_deploy.sinks import TubesSink
threads, backend, output, *videos = sys.argv[1:]
with Detector.open(threads=int(threads), backend=backend) as detector:
    for number, video in enumerate(videos):
        detector.reset(video)
        with open_source(video) as source, TubesSink(f"{output}/{number}.json", video, detector.spec.labels) as sink:
            for result in detector.stream(source):
                sink.write(result.frame, result)
"""
TUBE_ROWS, PATHS = 1_000_000, 100_000


def main() -> None:
    """Run one of the measurements and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=["speed", "kill", "plan", "find"])
    parser.add_argument("videos", nargs="*")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--segment", default="10")
    parser.add_argument("--backend", default="openvino")
    parser.add_argument("--ray", action="store_true")
    parser.add_argument("--join", type=int, default=0, metavar="N", help="make N long videos of those that are given")
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    random.seed(given.seed)
    with tempfile.TemporaryDirectory() as folder:
        if given.join:
            given.videos = joined(given.videos, given.join, Path(folder))
        {"speed": speed, "kill": kill, "plan": plan_many, "find": find_many}[given.what](given, Path(folder))


def speed(given: argparse.Namespace, folder: Path) -> None:
    """Times, and times of processors, of two workers and of two bare processes, in turn."""
    threads = str(max(1, (os.cpu_count() or 1) // 2))
    rounds: dict[str, list[tuple[float, float]]] = {"batch": [], "bare": []}
    for number in range(given.rounds):
        order: list[tuple[str, Callable[[], object]]] = [
            ("batch", lambda: subprocess.run(command(given, folder / "out"), check=True, stderr=subprocess.DEVNULL)),
            ("bare", lambda: bare(given, threads, folder)),
        ]
        for name, work in order if number % 2 else reversed(order):
            shutil.rmtree(folder / "out", ignore_errors=True)
            start, cpu_s = monotonic(), children_s()
            work()
            rounds[name].append((monotonic() - start, children_s() - cpu_s))
        took = ", ".join(f"{name} {each[-1][0]:.1f} s ({each[-1][1]:.1f} of CPU)" for name, each in rounds.items())
        print(f"round {number + 1}, load {os.getloadavg()[0]:.1f}: {took}", flush=True)
    for column, what in enumerate(("rate", "rate by CPU time")):
        ratios = np.array(rounds["bare"])[:, column] / np.array(rounds["batch"])[:, column]
        ratio, low, high = median_interval(ratios)
        print(f"{what} of batch over that of two bare processes: {ratio:.3f}, 95 % interval {low:.3f} to {high:.3f}")


def children_s() -> float:
    """CPU time of the processes that were waited for, and of theirs."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(given: argparse.Namespace, output: Path, *more: str) -> list[str]:
    """Of a run of `batch` with two workers."""
    options = ["-o", str(output), "--workers", "2", "--segment", given.segment, "--backend", given.backend, "--quiet"]
    ray = ["--ray", "local", "--threads", "1"] if given.ray else []
    return [sys.executable, "-m", "yowo_deploy", "batch", *given.videos, *options, *ray, *more]


def bare(given: argparse.Namespace, threads: str, folder: Path) -> None:
    """Two processes, each with half of the videos."""
    halves = given.videos[::2], given.videos[1::2]
    places = [folder / name for name in ("one", "other")]
    for place in places:
        place.mkdir(exist_ok=True)
    made = [
        subprocess.Popen([sys.executable, "-c", BARE, threads, given.backend, place, *half])
        for place, half in zip(places, halves, strict=True)
    ]
    assert [each.wait() for each in made] == [0, 0]


def joined(videos: Sequence[str], count: int, folder: Path) -> list[str]:
    """Long videos, each of its share of some videos, one after the other, with a key frame every 12 frames."""
    paths = [str(folder / f"joined{number}.avi") for number in range(count)]
    for number, path in enumerate(paths):
        writer = None
        for video in videos[number::count]:
            with open_video(video) as reader:
                writer = writer or cv2.VideoWriter(path, cv2.VideoWriter.fourcc(*"XVID"), 25, reader.size_wh)
                for frame in reader:
                    writer.write(frame)
        assert writer is not None
        writer.release()
    return paths


def kill(given: argparse.Namespace, folder: Path) -> None:
    """Compare runs in which a worker, or the driver, was killed with one by processes of this machine that was not."""
    start = monotonic()
    subprocess.run(command(argparse.Namespace(**vars(given) | {"ray": False}), folder / "whole"), check=True)
    expected = contents(folder / "whole")
    pieces = len(parts(folder / "whole"))
    print(f"undisturbed: {monotonic() - start:.1f} s, {len(expected)} files, {pieces} of them parts", flush=True)
    for who in ("worker", "driver"):
        same = number = 0
        while number < given.times:
            output = folder / "disturbed"
            moment = disturbed(given, output, who, pieces)
            odd = differences(contents(output), expected)
            print(f"SIGKILL of a {who} {moment or 'came too late'}: {odd or 'the same files'}", flush=True)
            same, number = same + (bool(moment) and not odd), number + bool(moment)
            shutil.rmtree(output)
        print(f"SIGKILL of a {who}: {same} of {number} runs gave the same files", flush=True)


def disturbed(given: argparse.Namespace, output: Path, who: str, pieces: int) -> str:
    """Run, kill when a random number of parts is there, resume where it was the driver; when that was, "" if never."""
    driver = subprocess.Popen(command(given, output), start_new_session=True)
    enough, moment = random.randrange(pieces), ""
    targets = [driver.pid]
    while driver.poll() is None and (len(parts(output)) < enough or not targets):
        sleep(0.02)
        targets = workers_of(driver, given) if who == "worker" else targets
    sleep(random.uniform(0, 1))
    targets = workers_of(driver, given) if who == "worker" else targets
    if targets and driver.poll() is None:
        os.kill(random.choice(targets), signal.SIGKILL)
        moment = f"with {len(parts(output))} of {pieces} parts"
    if who == "driver" and driver.wait():
        subprocess.run(command(given, output, "--resume"), check=True)
    assert who == "driver" or driver.wait() == 0
    return moment


def parts(folder: Path) -> list[Path]:
    """Stored detections of pieces."""
    return [path for path in folder.rglob("parts/*/*.npz") if not path.name.startswith(".")]


def workers_of(driver: subprocess.Popen[bytes], given: argparse.Namespace) -> list[int]:
    """Processes that run a model."""
    return descendants(driver.pid, "ray::_Actor" if given.ray else "yowo_deploy.worker_pool")


def descendants(root: int, name: str) -> list[int]:
    """Processes below one whose command line has a name."""
    parents, named = dict[int, int](), list[int]()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(entry.name)] = int(entry.joinpath("stat").read_text().rpartition(")")[2].split()[1])
            if name in entry.joinpath("cmdline").read_text():
                named.append(int(entry.name))
        except OSError:
            continue
    return [each for each in named if root in lineage(each, parents)]


def lineage(number: int, parents: dict[int, int]) -> list[int]:
    """A process, its parent, and so on."""
    found = [number]
    while (number := parents.get(number, 0)) > 1:
        found.append(number)
    return found


def contents(folder: Path) -> dict[str, bytes]:
    """All files below a folder."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in folder.rglob("*") if file.is_file()}


def differences(found: Mapping[str, bytes], expected: Mapping[str, bytes]) -> list[str]:
    """A line for each file that is in one of two runs alone, or is not the same, with where it begins to differ."""
    lines = []
    for name in sorted({*found, *expected}):
        here, there = found.get(name), expected.get(name)
        if here is None or there is None:
            lines.append(f"{name}: {'missing' if here is None else 'not expected'}")
        elif here != there:
            place = next((at for at, pair in enumerate(zip(here, there, strict=False)) if len({*pair}) > 1), len(there))
            near = slice(max(0, place - 40), place + 40)
            lines.append(f"{name}: {here[near]!r}, expected {there[near]!r}, at byte {place}")
    return lines


def plan_many(given: argparse.Namespace, folder: Path) -> None:
    """Time and memory of planning."""
    names = "".join(f"/archive/{number % 1000}/{number}.mp4\n" for number in range(PATHS))
    (folder / "list.txt").write_text(names)
    start, cpu = monotonic(), process_time()
    videos = plan([folder / "list.txt"])
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    took = f"{monotonic() - start:.2f} s ({process_time() - cpu:.2f} of CPU)"
    print(f"{len(videos)} paths are planned in {took}; {most:.0f} MB at the peak of the process")


def find_many(given: argparse.Namespace, folder: Path) -> None:
    """Time of a search in a table of a million rows with their boxes."""
    arrow, rng = parquet(), np.random.default_rng(0)
    with arrow.parquet.ParquetWriter(folder / TUBES, schema(), compression="zstd") as writer:
        for part in range(20):
            writer.write_table(arrow.table(rows(part, TUBE_ROWS // 20, rng), schema=schema()))
    print(f"{TUBE_ROWS} rows, {os.path.getsize(folder / TUBES) >> 20} MB")
    find(folder, "label3", 0.99, 2.0)
    seconds, cpu = [], process_time()
    for _ in range(5):
        start = monotonic()
        found = find(folder, "label3", 0.9, 2.0, limit=1000)
        seconds.append(monotonic() - start)
    cpu = (process_time() - cpu) / len(seconds)
    took = f"{np.median(seconds):.2f} s, {min(seconds):.2f} to {max(seconds):.2f} s, {cpu:.2f} s of CPU"
    print(f"find: {len(found)} moments in {took}")


def rows(part: int, count: int, rng: np.random.Generator) -> dict[str, Sequence[object]]:
    """Columns of tubes of 20 to 60 frames."""
    frames = rng.integers(20, 60, count)
    first = rng.integers(0, 100_000, count)
    boxes = [rng.random(4 * each, np.float32) for each in frames]
    label = rng.integers(0, 21, count)
    return {
        "source": [f"/archive/{part * count + number // 100}.mp4" for number in range(count)],
        "tube": np.arange(count),
        "person": np.arange(count),
        "class_id": label.astype(np.int32),
        "label": [f"label{each}" for each in label],
        "score": rng.random(count, np.float32),
        "first_frame": first,
        "last_frame": first + frames - 1,
        "first_time": first / 25,
        "last_time": (first + frames - 1) / 25,
        "seconds": frames / 25,
        "width": np.full(count, 320, np.int32),
        "height": np.full(count, 240, np.int32),
        "boxes": boxes,
    }


if __name__ == "__main__":
    main()
