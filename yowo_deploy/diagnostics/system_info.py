"""What machine this is and what runs on it, for who reads a measurement later. Imports no engine."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import subprocess
from pathlib import Path
from typing import Any

from yowo_deploy.diagnostics.doctor import MODULES, TIMEOUT_S, find_gpus
from yowo_deploy.version import __version__

_INSTRUCTIONS = ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "amx_int8")
_CONTAINER = (  # what a container may use and uses, of both kinds of control groups
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)
_CLOCKS = ("clocks.sm", "clocks.mem", "clocks.max.sm")


def describe_machine() -> dict[str, Any]:
    """Plain values, ready for JSON: versions, CPU, clocks now, load, memory, GPUs with driver; None for the unknown.

    `cores` are those that this process may use. Clocks are read when it is called: call it right after the work. In
    a virtual machine they are what the host tells, often a constant.
    """
    about = _read("/proc/cpuinfo")
    clocks = [float(value) for value in re.findall(r"^cpu MHz\s*: ([\d.]+)", about, re.M)]
    name = re.search(r"^model name\s*: (.+)", about, re.M)
    memory = re.search(r"^MemTotal:\s+(\d+) kB", _read("/proc/meminfo"), re.M)
    gpus, gpu_note = find_gpus()
    return {
        "cpu": name[1] if name else platform.processor() or platform.machine(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": [flag for flag in _INSTRUCTIONS if flag in about],
        "clock_mhz": round(sum(clocks) / len(clocks)) if clocks else None,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        "load": [round(value, 2) for value in os.getloadavg()],
        "memory_gib": round(int(memory[1]) / 2**20, 1) if memory else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {"yowo-deploy": __version__, **_packages()},
        "gpus": [gpu | clock for gpu, clock in zip(gpus, _gpu_clocks(len(gpus)), strict=True)],
        "gpu_note": gpu_note,
    }


def in_words(machine: dict[str, Any]) -> str:
    """One line of `describe_machine`."""
    clock = f", {machine['clock_mhz']} MHz" if machine["clock_mhz"] else ""
    gpus = "".join(f", {gpu.get('name')} (driver {gpu.get('driver_version')})" for gpu in machine["gpus"])
    load = ", ".join(f"{value:g}" for value in machine["load"])
    return f"{machine['cpu']}, {machine['cores']} cores{clock}{gpus}; load average {load}"


def peak_memory_bytes() -> int | None:
    """The most memory that this process ever held, Python and all libraries with it; None where nobody counts it.

    Not by `getrusage`, whose figure a process inherits from the one that started it.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB", _read("/proc/self/status"), re.M)
    return int(found[1]) * 1024 if found else None


def free_memory_bytes() -> int | None:
    """What can be taken without swapping, in a container within its limit; None where nobody says."""
    found = re.search(r"^MemAvailable:\s+(\d+) kB", _read("/proc/meminfo"), re.M)
    if not found:
        return None
    free = int(found[1]) * 1024
    for limit, used in ((_read(one).strip(), _read(other).strip()) for one, other in _CONTAINER):
        if limit.isdecimal() and used.isdecimal():
            free = min(free, max(0, int(limit) - int(used)))
    return free


def gpu_memory_bytes() -> int | None:
    """What this process holds on GPUs now, by nvidia-smi; None where there is none or it does not tell."""
    told = _nvidia_smi("--query-compute-apps=pid,used_memory")
    rows = [re.fullmatch(r"(\d+), (\d+) MiB", line) for line in told]
    held = [int(row[2]) << 20 for row in rows if row and int(row[1]) == os.getpid()]
    return sum(held) if held else None


def _packages() -> dict[str, str]:
    wheels = importlib.metadata.packages_distributions()
    names = sorted({name for module in MODULES for name in wheels.get(module, [])})
    return {name: importlib.metadata.version(name) for name in names}


def _gpu_clocks(count: int) -> list[dict[str, str]]:
    if not count:
        return []
    rows = [line.split(", ") for line in _nvidia_smi(f"--query-gpu={','.join(_CLOCKS)}")]
    return [dict(zip(_CLOCKS, row, strict=False)) for row in (*rows, *[[]] * count)[:count]]


def _nvidia_smi(query: str) -> list[str]:
    try:
        asked = ["nvidia-smi", query, "--format=csv,noheader"]
        told = subprocess.run(asked, capture_output=True, text=True, timeout=TIMEOUT_S)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return told.stdout.splitlines() if told.returncode == 0 else []


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
