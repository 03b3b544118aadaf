"""`.ci/run`: the processor first, then `make check` and `make test`, and their exit code."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

TOOLS = ("bash", "dirname", "env", "grep", "sed", "uname")


def run_ci(project_root: Path, folder: Path, **commands: str) -> subprocess.CompletedProcess[str]:
    """`.ci/run` where these commands and `TOOLS` are the only ones; each is the text of a shell script."""
    programs = folder / "bin"
    programs.mkdir()
    for name in TOOLS:
        (programs / name).symlink_to(shutil.which(name) or pytest.skip(f"no {name}"))
    for name, text in commands.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    (folder / ".ci").mkdir()
    script = shutil.copy(project_root / ".ci" / "run", folder / ".ci")
    return subprocess.run([script], capture_output=True, text=True, env=os.environ | {"PATH": str(programs)})


LSCPU = 'echo "Architecture: x86_64"; echo "Model name: a processor"; echo "Flags: avx2"; echo "Vulnerability X: none"'


def test_the_processor_comes_before_what_may_fail(project_root: Path, tmp_path: Path) -> None:
    done = run_ci(project_root, tmp_path, lscpu=LSCPU, make='echo "make $1"; [ $1 = check ]')
    expected = ["Architecture: x86_64", "Model name: a processor", "Flags: avx2", "make check", "make test"]
    assert done.stdout.splitlines() == expected and done.returncode == 1


@pytest.mark.parametrize("lscpu", [{}, {"lscpu": "exit 1"}, {"lscpu": "exit 0"}], ids=["none", "fails", "empty"])
def test_a_machine_without_lscpu_is_described_all_the_same(
    lscpu: dict[str, str], project_root: Path, tmp_path: Path
) -> None:
    done = run_ci(project_root, tmp_path, **lscpu, make='echo "make $1"')
    *about, check, test = done.stdout.splitlines()
    assert about and about[0] and (check, test, done.returncode) == ("make check", "make test", 0)
