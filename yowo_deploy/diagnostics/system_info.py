"""Processor, memory, GPUs and package versions of this machine, to record with a measurement."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from yowo_deploy.diagnostics.nvidia_smi import find_gpus, gpu_clocks
from yowo_deploy.files import sha256_of
from yowo_deploy.version import __version__

# Top-level module -> the extra that brings it; "" for what every installation has.
MODULES = {"numpy": "", "cv2": "", "openvino": "openvino", "onnxruntime": "onnxruntime", "torch": "train"}
MODULES |= {"onnx": "export", "onnx_ir": "export", "onnxscript": "export", "tensorrt": "tensorrt"}
MODULES |= {"tensorrt_rtx": "tensorrt-rtx", "cuda": "tensorrt", "av": "video", "matplotlib": "plots"}
MODULES |= {"psutil": "bench"}
# What decides how fast a network runs on a CPU: a flag of /proc/cpuinfo, and what it gives.
_GIVES = {"avx2": "AVX2", "asimd": "NEON", "avx512f": "AVX-512", "avx512_vnni": "VNNI", "avx_vnni": "VNNI"}
_GIVES |= {"asimddp": "VNNI", "avx512_bf16": "bf16", "bf16": "bf16", "amx_tile": "AMX"}
_WANTED = ("AVX-512", "VNNI", "bf16", "AMX")
_CONTAINER = (  # limit and use of a container, of both kinds of control groups; psutil knows the host alone
    ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current"),
    ("/sys/fs/cgroup/memory/memory.limit_in_bytes", "/sys/fs/cgroup/memory/memory.usage_in_bytes"),
)


def describe_machine() -> dict[str, Any]:
    """Date, versions, CPU, clocks now, load, memory, GPUs with driver: plain values, ready for JSON; None for unknown.

    `cores` are those that this process may use. Clock and memory need psutil, the [bench] extra. Clocks are read when
    it is called: call it right after the work. In a virtual machine they are what the host reports, often a constant.
    """
    psutil = _psutil()
    clock = psutil.cpu_freq() if psutil else None
    gpus, gpu_note = find_gpus()
    return {
        "date": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "cpu": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": instructions(),
        "clock_mhz": round(clock.current) if clock else None,
        "governor": _read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor").strip() or None,
        "load": [round(value, 2) for value in os.getloadavg()],
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1) if psutil else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "packages": {"yowo-deploy": __version__, **_packages()},
        "gpus": [gpu | clocks for gpu, clocks in zip(gpus, gpu_clocks(len(gpus)), strict=True)],
        "gpu_note": gpu_note,
    }


def instructions() -> list[str]:
    """What decides how fast a network runs on this CPU: AVX2, NEON, AVX-512, VNNI (products of bytes), bf16, AMX."""
    flags = re.search(r"^(?:flags|Features)\s*: (.+)", _read("/proc/cpuinfo"), re.M)
    there = set(flags[1].split()) if flags else set()
    return list(dict.fromkeys(name for flag, name in _GIVES.items() if flag in there))


def speed_words(found: Sequence[str]) -> str:
    """ "AVX2; no AVX-512, VNNI, bf16, AMX", of `instructions`."""
    lacking = [name for name in _WANTED if name not in found]
    return "; ".join(filter(None, (", ".join(found), f"no {', '.join(lacking)}" if lacking else "")))


def processor_in_words() -> str:
    """Of this machine: "AMD EPYC (AVX2; no AVX-512, VNNI, bf16, AMX)"."""
    return f"{_processor()} ({speed_words(instructions())})"


def in_words(machine: Mapping[str, Any]) -> str:
    """One line of `describe_machine`."""
    clock = f", {machine['clock_mhz']} MHz" if machine["clock_mhz"] else ""
    gpus = "".join(f", {gpu.get('name')} (driver {gpu.get('driver_version')})" for gpu in machine["gpus"])
    load = ", ".join(f"{value:g}" for value in machine["load"])
    speed = speed_words(machine["instructions"])
    return f"{machine['cpu']} ({speed}), {machine['cores']} cores{clock}{gpus}; load average {load}"


def provenance(files: Mapping[str, str | os.PathLike[str]], machine: Mapping[str, Any] | None = None) -> dict[str, str]:
    """What a report was made of, when and where, in words: SHA-256 of each file, date, processor, versions.

    Args:
        files: those that are read, by their role.
        machine: of `describe_machine`; that of now by default.
    """
    machine = machine or describe_machine()
    versions = {"python": machine["python"], **machine["packages"]}
    return {
        **{role: f"{Path(file).name}, SHA-256 {sha256_of(file)}" for role, file in files.items()},
        "date": machine["date"],
        "machine": in_words(machine),
        "versions": ", ".join(f"{name} {version}" for name, version in versions.items()),
    }


def peak_memory_bytes() -> int | None:
    """Most resident memory that this process ever held, all libraries included; None where the system does not count.

    Not `getrusage`, whose figure a process inherits from its parent; psutil has no peak on Linux.
    """
    found = re.search(r"^VmHWM:\s+(\d+) kB", _read("/proc/self/status"), re.M)
    return int(found[1]) * 1024 if found else None


def free_memory_bytes() -> int | None:
    """Memory available without swapping, in a container within its limit; None without psutil."""
    psutil = _psutil()
    if psutil is None:
        return None
    free = int(psutil.virtual_memory().available)
    for limit, used in ((_read(one).strip(), _read(other).strip()) for one, other in _CONTAINER):
        if limit.isdecimal() and used.isdecimal():
            free = min(free, max(0, int(limit) - int(used)))
    return free


def _processor() -> str:
    name = re.search(r"^model name\s*: (.+)", _read("/proc/cpuinfo"), re.M)
    return name[1] if name else platform.processor() or platform.machine()


def _psutil() -> Any:
    """The module psutil; None where the extra that brings it is not installed."""
    try:
        import psutil
    except ImportError:
        return None
    return psutil


def wheels_by_module() -> dict[str, list[str]]:
    """The installed distributions that bring each of `MODULES`; none for a module that is not installed."""
    found = dict(importlib.metadata.packages_distributions())
    for module in MODULES.keys() - found.keys():  # Python 3.10 misses wheels without a list of their modules: numpy's
        with suppress(importlib.metadata.PackageNotFoundError):
            found[module] = [importlib.metadata.metadata(module)["Name"]]
    return {module: list(found.get(module, [])) for module in MODULES}


def _packages() -> dict[str, str]:
    names = sorted({name for wheels in wheels_by_module().values() for name in wheels})
    return {name: importlib.metadata.version(name) for name in names}


def _read(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except OSError:
        return ""
