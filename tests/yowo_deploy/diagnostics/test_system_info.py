"""What is written beside a measurement: the machine as it is, and as nvidia-smi tells where there is a GPU."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from yowo_deploy.diagnostics import system_info as machine_module
from yowo_deploy.diagnostics.system_info import describe_machine, free_memory_bytes, gpu_memory_bytes, in_words


def test_the_machine_is_described_in_plain_values() -> None:
    machine = json.loads(json.dumps(describe_machine()))
    assert machine["cpu"] and machine["cores"] == len(os.sched_getaffinity(0))
    assert machine["packages"]["numpy"] == np.__version__ and machine["packages"]["yowo-deploy"]
    assert machine["python"] == ".".join(map(str, sys.version_info[:3]))
    assert len(machine["load"]) == 3 and machine["memory_gib"] > 0
    assert f"{machine['cpu']}, {machine['cores']} cores" in in_words(machine) and "\n" not in in_words(machine)


def test_peak_memory_is_of_this_process_and_does_not_fall() -> None:
    """In a process of its own, started by one that once held more: its figure must not be inherited."""
    ballast = np.ones(1 << 26)  # 512 MiB
    code = (
        "from yowo_deploy.diagnostics.system_info import peak_memory_bytes as peak; "
        "import numpy as np; before = peak(); "
        "held = np.ones(1 << 24); del held; print(before, peak())"
    )
    told = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    before, after = map(int, told.split())
    assert before < ballast.nbytes / 2
    assert after - before == pytest.approx((1 << 24) * 8, rel=0.05)


def test_a_gpu_is_told_with_driver_clocks_and_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for nvidia-smi, in the words of the real one."""
    script = f"""#!/bin/sh
case "$*" in
    *clocks.sm*) echo "1980 MHz, 2619 MHz, 1980 MHz" ;;
    *query-gpu*) echo "NVIDIA L4, 580.65.06, 8.9, 23034 MiB" ;;
    *query-compute-apps*) echo "1, 300 MiB"; echo "{os.getpid()}, 512 MiB" ;;
    *) echo "| NVIDIA-SMI 580.65.06    CUDA Version: 13.0 |" ;;
esac
"""
    file = tmp_path / "nvidia-smi"
    file.write_text(script)
    file.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    machine = describe_machine()
    [gpu] = machine["gpus"]
    assert gpu["name"] == "NVIDIA L4" and gpu["driver_version"] == "580.65.06"
    assert gpu["clocks.sm"] == gpu["clocks.max.sm"] == "1980 MHz" and gpu["clocks.mem"] == "2619 MHz"
    assert "NVIDIA L4 (driver 580.65.06)" in in_words(machine)
    assert gpu_memory_bytes() == 512 << 20


@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [("max", "5", 8 << 30), (str(6 << 30), str(5 << 30), 1 << 30), (str(1 << 62), "5", 8 << 30), ("5", "9", 0)],
)
def test_free_memory_is_what_the_container_leaves(
    limit: str, used: str, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = {"/proc/meminfo": f"MemTotal: 1 kB\nMemAvailable:   {8 << 20} kB\n"}
    said |= {"/sys/fs/cgroup/memory.max": limit + "\n", "/sys/fs/cgroup/memory.current": used + "\n"}
    monkeypatch.setattr(machine_module, "_read", lambda path: said.get(path, ""))
    assert free_memory_bytes() == free
    said["/proc/meminfo"] = ""
    assert free_memory_bytes() is None
