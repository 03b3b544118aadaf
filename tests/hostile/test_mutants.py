"""The campaign of spoiled files, for a moment: `python -m benchmarks.mutants`."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

OWN_KIND = """
import os, signal
from benchmarks import mutants
def kind(seed, count, folder):
    yield lambda: None
    yield lambda: {fault}
    yield lambda: None
mutants.KINDS["own"] = kind
print(mutants.campaign("own", 3, 0, 1e9))
"""


def run(project_root: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, *words], cwd=project_root, capture_output=True, text=True)


@pytest.mark.parametrize("kind", ["gate", "spec", "plan", "checkpoint"])
def test_mutants_are_read_or_refused_with_a_line(kind: str, project_root: Path) -> None:
    if kind == "checkpoint" and importlib.util.find_spec("torch") is None:
        pytest.skip("no torch")
    done = run(project_root, "-m", "benchmarks.mutants", kind, "--count", "150", "--seed", "22")
    found = re.search(r"150 mutants .*: (\d+) read, (\d+) refused, 0 faults", done.stdout)
    assert done.returncode == 0 and found, done.stdout + done.stderr
    assert int(found[1]) > 0 and int(found[2]) > 0


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", "0/1: the process ended with -11"),
        ("[][1]", "0/1: IndexError"),
    ],
)
def test_what_is_no_error_of_ours_is_noticed(fault: str, told: str, project_root: Path) -> None:
    done = run(project_root, "-c", OWN_KIND.format(fault=fault))
    assert told in done.stdout, done.stdout + done.stderr
