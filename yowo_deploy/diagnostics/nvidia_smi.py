"""NVIDIA GPUs, their clocks and memory, as `nvidia-smi` reports them."""

from __future__ import annotations

import os
import re
import subprocess

TIMEOUT_S = 60.0  # a driver that is just loading takes seconds
_GPU_FIELDS = ("name", "driver_version", "compute_cap", "memory.total")
_CLOCKS = ("clocks.sm", "clocks.mem", "clocks.max.sm")


def find_gpus() -> tuple[tuple[dict[str, str], ...], str]:
    """The GPUs by name, driver, compute capability and memory; and a note: CUDA's version, or why there is no GPU."""
    try:
        done = _run(f"--query-gpu={','.join(_GPU_FIELDS)}", "--format=csv,noheader")
        if done.returncode:
            return (), f"no NVIDIA GPU can be used: {last_line(done.stderr, done.stdout)}"
        page = _run().stdout
    except OSError:
        return (), "no NVIDIA GPU: nvidia-smi is not installed"
    except subprocess.TimeoutExpired:
        return (), f"no NVIDIA GPU can be used: nvidia-smi did not answer in {TIMEOUT_S:.0f} s"
    rows = [[value.strip() for value in line.split(",")] for line in done.stdout.splitlines() if line.strip()]
    version = re.search(r"CUDA\b[^:\n]*Version\s*:\s*([\d.]+)", page)
    gpus = tuple(dict(zip(_GPU_FIELDS, row, strict=False)) for row in rows)
    return gpus, f"CUDA {version[1]} by the driver" if version else "the driver does not tell its CUDA version"


def gpu_clocks(count: int) -> list[dict[str, str]]:
    """Clocks of each of `count` GPUs now; empty where they are unknown."""
    if not count:
        return []
    rows = [line.split(", ") for line in _lines(f"--query-gpu={','.join(_CLOCKS)}")]
    return [dict(zip(_CLOCKS, row, strict=False)) for row in (*rows, *[[]] * count)[:count]]


def gpu_memory_bytes() -> int | None:
    """GPU memory that this process holds now; None where there is no GPU or it is unknown."""
    rows = [re.fullmatch(r"(\d+), (\d+) MiB", line) for line in _lines("--query-compute-apps=pid,used_memory")]
    held = [int(row[2]) << 20 for row in rows if row and int(row[1]) == os.getpid()]
    return sum(held) if held else None


def last_line(*texts: str) -> str:
    """The last line of the first text that has one: of a traceback the message, without the name of its error."""
    lines = [line for text in texts for line in reversed(text.splitlines()) if line.strip()]
    return re.sub(r"^[\w.]+(Error|Exception): ", "", lines[0].strip())[:500] if lines else "no reason given"


def _lines(query: str) -> list[str]:
    try:
        done = _run(query, "--format=csv,noheader")
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.splitlines() if done.returncode == 0 else []


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["nvidia-smi", *arguments], capture_output=True, text=True, timeout=TIMEOUT_S)
