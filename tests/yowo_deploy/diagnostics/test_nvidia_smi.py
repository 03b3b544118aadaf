"""What `nvidia-smi` tells, by a stand-in that speaks like the real one."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.waiting import NEVER_S
from yowo_deploy.diagnostics import nvidia_smi as smi_module
from yowo_deploy.diagnostics.nvidia_smi import find_gpus, gpu_memory_bytes
from yowo_deploy.diagnostics.system_info import describe_machine, in_words


def nvidia_smi(folder: Path, monkeypatch: pytest.MonkeyPatch, script: str) -> None:
    tool = folder / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\n{script}\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")


def test_gpus_are_what_nvidia_smi_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rows = "NVIDIA H200, 580.1, 9.0, 143771 MiB\\nNVIDIA L4, 580.1, 8.9, 23034 MiB\\n"
    page = "| NVIDIA-SMI 580.1   Driver Version: 580.1   CUDA Version: 13.0 |"
    nvidia_smi(tmp_path, monkeypatch, f"case $1 in --query-gpu*) printf '{rows}';; *) echo '{page}';; esac")
    gpus, note = find_gpus()
    assert [gpu["name"] for gpu in gpus] == ["NVIDIA H200", "NVIDIA L4"]
    assert gpus[1]["compute_cap"] == "8.9" and gpus[1]["memory.total"] == "23034 MiB"
    assert note == "CUDA 13.0 by the driver"


@pytest.mark.parametrize(
    ("script", "timeout_s", "note"),
    [
        ("echo it could not talk to the driver; exit 9", NEVER_S, "it could not talk to the driver"),
        ("exec sleep infinity", 0.1, "nvidia-smi did not answer"),
    ],
)
def test_a_driver_that_does_not_answer_is_one_plain_line(
    script: str, timeout_s: float, note: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smi_module, "TIMEOUT_S", timeout_s)
    nvidia_smi(tmp_path, monkeypatch, script)
    gpus, told = find_gpus()
    assert gpus == () and told.startswith(f"no NVIDIA GPU can be used: {note}")


def test_no_gpu_is_one_plain_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_gpus() == ((), "no NVIDIA GPU: nvidia-smi is not installed")


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
