"""`batch` on a real Ray: whatever dies on the way, its files are to the bit those of processes of this machine.

One minute on two idle cores, with the environment made, which takes half of one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from configparser import ConfigParser
from pathlib import Path

import pytest

from benchmarks.archive import contents, descendants, differences
from tests.waiting import wait_until

pytestmark = pytest.mark.slow
# A run lasts long enough to be disturbed in its middle: about 30 pieces of each film.
FRAMES, BEGUN, ALL = 400, 5, 60


@pytest.fixture(scope="module")
def python(made_once: Callable[[str, Callable[[Path], object]], Path], project_root: Path) -> Path:
    """Of an environment with what the extras [openvino,ray] ask for, and pytest, whose files are imported there."""
    config = ConfigParser()
    config.read(project_root / "setup.cfg")
    extras, names = config["options.extras_require"], ("openvino", "archive", "ray")
    needs = [config["options"]["install_requires"], *(extras[name] for name in names), "pytest"]
    packages = [each for text in needs for each in text.split() if not each.startswith("yowo-deploy")]

    def make(folder: Path) -> None:
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True)
        pip = [folder / "venv/bin/python", "-m", "pip", "install", "-q", "-c", project_root / "constraints.txt"]
        subprocess.run([*pip, *packages], check=True)

    return made_once("ray", make) / "venv/bin/python"


@pytest.fixture(scope="module")
def films(film: Callable[..., Path], model: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder that every run is started in: two long videos and a damaged one, and the model."""
    folder = tmp_path_factory.mktemp("films")
    for number in range(2):
        film(folder / f"film{number}.avi", FRAMES, number)
    whole = (folder / "film1.avi").read_bytes()
    (folder / "broken.avi").write_bytes(whole[: len(whole) // 2])
    (folder / "small.onnx").write_bytes(model.read_bytes())
    return folder


class Runs:
    """Runs of the command, all in one folder with the same options."""

    def __init__(self, python: Path, films: Path, root: Path) -> None:
        self.python, self.films = python, films
        paths = {"PYTHONPATH": str(root), "PYTHONSAFEPATH": "1"}
        # By default its actors would starve beside other tests, at a niceness of 15.
        self.environment = os.environ | paths | {"RAY_raylet_start_wait_time_s": "600", "RAY_worker_niceness": "0"}

    def start(self, output: Path, *more: str) -> subprocess.Popen[str]:
        command = [self.python, "-m", "yowo_deploy", "batch", "film0.avi", "film1.avi", "broken.avi", "-o", output]
        command += ["--model", "small.onnx", "--backend", "openvino", "--conf", "0.3", "--keep", "0.2", "--on", "0.3"]
        command += ["--segment", "1", "--workers", "2", "--threads", "1", "--quiet", "--json", *more]
        return self._popen(command, self.films)

    def end(self, process: subprocess.Popen[str]) -> None:
        """Wait for a run in which only the damaged video fails."""
        output, errors = process.communicate()
        assert [type(json.loads(line)) for line in output.splitlines()] and process.returncode == 1
        assert errors.count("Error") == 1 and "broken.avi breaks off" in errors, errors

    def script(self, code: str, folder: Path) -> subprocess.Popen[str]:
        return self._popen([self.python, "-c", code], folder)

    def _popen(self, command: Sequence[str | Path], folder: Path) -> subprocess.Popen[str]:
        pipe = subprocess.PIPE
        return subprocess.Popen(
            command, cwd=folder, env=self.environment, stdin=pipe, stdout=pipe, stderr=pipe, text=True
        )


@pytest.fixture(scope="module")
def runs(python: Path, films: Path, project_root: Path) -> Runs:
    return Runs(python, films, project_root)


@pytest.fixture(scope="module")
def expected(runs: Runs, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """All files of a run without Ray that nothing disturbed."""
    folder = tmp_path_factory.mktemp("expected") / "out"
    runs.end(runs.start(folder))
    found = contents(folder)
    assert sum(name.endswith(".npz") for name in found) > ALL and len(found["tubes.jsonl"].splitlines()) > ALL
    return found


def wait_for_its_middle(process: subprocess.Popen[str], folder: Path) -> None:
    """Until some pieces are done, of many more."""
    wait_until(lambda: len(parts(folder)) >= BEGUN or process.poll() is not None)
    assert process.poll() is None and len(parts(folder)) < ALL


def parts(folder: Path) -> list[Path]:
    return [path for path in (folder / "parts").rglob("*.npz") if not path.name.startswith(".")]


def actors(of: int) -> list[int]:
    """Processes of actors at work, below one."""
    return descendants(of, "ray::_Actor.do")


def test_a_killed_worker_changes_nothing(runs: Runs, expected: dict[str, bytes], tmp_path: Path) -> None:
    process = runs.start(tmp_path / "out", "--ray", "local")
    wait_for_its_middle(process, tmp_path / "out")
    wait_until(lambda: bool(actors(process.pid)))
    os.kill(actors(process.pid)[0], signal.SIGKILL)
    runs.end(process)
    assert differences(contents(tmp_path / "out"), expected) == []


def test_a_killed_driver_leaves_what_is_done_and_the_rest_for_later(
    runs: Runs, expected: dict[str, bytes], tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    process = runs.start(folder, "--ray", "local")
    wait_for_its_middle(process, folder)
    process.kill()
    process.communicate()
    before = {path: path.stat().st_ino for path in parts(folder)}
    runs.end(runs.start(folder, "--ray", "local", "--resume"))
    assert differences(contents(folder), expected) == []
    kept = [path for path, inode in before.items() if path.stat().st_ino == inode]
    assert len(kept) >= len(before) - 2  # its two workers may live for a moment longer, and do a piece twice


NODES = """
import sys
from ray.cluster_utils import Cluster
cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
node = cluster.add_node(wait=False, num_cpus=1)
print(cluster.address, node.all_processes["raylet"][0].process.pid, flush=True)
sys.stdin.readline()
cluster.remove_node(node, allow_graceful=False)
print("gone", flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def nodes(runs: Runs, tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """Two nodes with a processor each, in another folder; a line for it removes the second of them at once."""
    process = runs.script(NODES, tmp_path)
    yield process
    process.communicate()


def test_when_a_node_goes_away_the_rest_goes_on(
    nodes: subprocess.Popen[str], runs: Runs, expected: dict[str, bytes], tmp_path: Path
) -> None:
    """And there is no room for another actor: the one that is left does all."""
    assert nodes.stdin is not None and nodes.stdout is not None
    address, raylet = nodes.stdout.readline().split()
    process = runs.start(tmp_path / "out", "--ray", address)
    wait_for_its_middle(process, tmp_path / "out")
    wait_until(lambda: bool(actors(int(raylet))))
    print("now", file=nodes.stdin, flush=True)
    assert nodes.stdout.readline() == "gone\n" and process.poll() is None and not actors(int(raylet))
    runs.end(process)
    assert differences(contents(tmp_path / "out"), expected) == []


LAWS = """
import json
import ray
from functools import partial
from pathlib import Path
from tests.yowo_deploy.test_worker_pool import Sums, cannot_make, make, run
from yowo_deploy.archive.ray_actors import RayPool, open_ray
from yowo_deploy.errors import YowoError

class Other(Sums):
    greeting = "good day"

def unlike(mark):
    try:
        Path(mark).mkdir()
        return Sums()
    except FileExistsError:
        return Other()

ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
folder = Path.cwd()
tasks = [1, ("die",), 2, ("fail",), ("bug",), ("full",), ("die once", str(folder / "once")), 3]
with open_ray(make, 5, "local", 1e9, 1, False) as workers:  # three of them find no room
    assert workers.greeting == "hello"
    print(json.dumps([(each.value, each.reason) for task in tasks for each in run(workers, [task])]))
begun, needs = folder / "begun", {"num_cpus": 1, "num_gpus": 0}
with RayPool(ray, make, 1, 60.0, needs, False, lambda: 100.0 if begun.exists() else 0.0) as workers:
    [hung] = run(workers, [("hang", str(begun))])
    begun.unlink()
    print(json.dumps([hung.reason, [each.value for each in run(workers, [1])]]))
for bad, number, threads in [(cannot_make, 1, 1), (partial(unlike, str(folder / "mark")), 2, 1), (make, None, 3)]:
    try:
        with open_ray(bad, number, "local", 60.0, threads, False) as workers:
            while True:
                run(workers, [1])
    except YowoError as error:
        print(json.dumps([type(error).__name__, str(error)]))
assert ray.is_initialized()  # what the caller opened stays open
"""


def test_actors_are_workers_as_processes_are(runs: Runs, tmp_path: Path) -> None:
    """What dies, fails or is a bug costs its task alone; what hangs is ended; workers that differ are refused."""
    process = runs.script(LAWS, tmp_path)
    output, errors = process.communicate()
    assert process.returncode == 0, errors
    tasks, hung, *refused = [json.loads(line) for line in output.splitlines() if line.startswith("[")]  # Ray writes too
    died = [None, "3 actors died of it: ActorDiedError"]
    failed = [[None, "this one fails"], [None, "unexpected error: LookupError: a bug"]]
    full = [None, "out.npz: No space left on device"]
    assert tasks == [[2, ""], died, [3, ""], *failed, full, ["alive", ""], [4, ""]]
    assert hung == ["no sign of life for 60 s: the decoder or the engine hangs", [2]]
    assert refused == [
        ["InputError", "no such model"],
        ["EngineError", "the nodes of the Ray cluster differ: expected the same model and versions on each"],
        ["EngineError", "no node of the Ray cluster has 3 CPUs: lower --threads"],
    ]
