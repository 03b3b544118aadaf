"""What is written beside a measurement: the machine as it is, and as nvidia-smi tells where there is a GPU."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from yowo_deploy.diagnostics import system_info as machine_module
from yowo_deploy.diagnostics.system_info import (
    describe_machine,
    free_memory_bytes,
    in_words,
    instructions,
    processor_in_words,
    provenance,
    speed_words,
)


def test_the_machine_is_described_in_plain_values() -> None:
    machine = json.loads(json.dumps(describe_machine()))
    assert machine["cpu"] and machine["cores"] == len(os.sched_getaffinity(0))
    assert machine["packages"]["numpy"] == np.__version__ and machine["packages"]["yowo-deploy"]
    assert machine["python"] == ".".join(map(str, sys.version_info[:3]))
    assert len(machine["load"]) == 3 and machine["memory_gib"] > 0
    words = f"{machine['cpu']} ({speed_words(machine['instructions'])}), {machine['cores']} cores"
    assert words in in_words(machine) and "\n" not in in_words(machine)


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("flags\t\t: fpu avx2 avx512f avx512_vnni avx512_bf16 amx_tile", "AVX2, AVX-512, VNNI, bf16, AMX"),
        ("flags\t\t: fpu avx avx2 avx512ifma", "AVX2; no AVX-512, VNNI, bf16, AMX"),
        ("flags\t\t: avx2 avx_vnni", "AVX2, VNNI; no AVX-512, bf16, AMX"),
        ("Features\t: fp asimd asimddp bf16", "NEON, VNNI, bf16; no AVX-512, AMX"),
        ("", "no AVX-512, VNNI, bf16, AMX"),
    ],
)
def test_what_decides_the_speed_of_a_processor_is_named(
    flags: str, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"processor : 0\nmodel name\t: EPYC avx512_vnni\n{flags}\nbogomips : 1\n"
    monkeypatch.setattr(machine_module, "_read", lambda path: text if path == "/proc/cpuinfo" else "")
    assert speed_words(instructions()) == words
    assert processor_in_words() == f"EPYC avx512_vnni ({words})"


def test_a_report_names_its_files_by_hash_its_date_processor_and_versions(tmp_path: Path) -> None:
    (tmp_path / "a.onnx").write_bytes(b"abc")
    found = provenance({"reference": tmp_path / "a.onnx"})
    # The first test vector of FIPS 180-2.
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert found["reference"] == f"a.onnx, SHA-256 {known}"
    age = datetime.now(timezone.utc) - datetime.fromisoformat(found["date"])
    assert age.days in (0, -1)  # a clock may be set back by a little
    assert describe_machine()["cpu"] in found["machine"] and f"numpy {np.__version__}" in found["versions"]
    assert provenance({}, describe_machine() | {"date": "then"})["date"] == "then"


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


@pytest.mark.parametrize(
    ("limit", "used", "free"),
    [("max", "5", 8 << 30), (str(6 << 30), str(5 << 30), 1 << 30), (str(1 << 62), "5", 8 << 30), ("5", "9", 0)],
)
def test_free_memory_is_what_the_container_leaves(
    limit: str, used: str, free: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = {"/sys/fs/cgroup/memory.max": limit + "\n", "/sys/fs/cgroup/memory.current": used + "\n"}
    monkeypatch.setattr(machine_module, "_read", lambda path: group.get(path, ""))
    monkeypatch.setattr(psutil, "virtual_memory", lambda: SimpleNamespace(available=8 << 30))
    assert free_memory_bytes() == free


def test_without_psutil_clock_and_memory_are_unknown_and_the_rest_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psutil", None)
    machine = describe_machine()
    assert machine["clock_mhz"] is machine["memory_gib"] is free_memory_bytes() is None
    assert machine["cpu"] and machine["cores"] and "MHz" not in in_words(machine)


def test_memory_is_that_of_the_machine() -> None:
    """Against the kernel's own figure, which psutil reads on Linux."""
    total = re.search(r"^MemTotal:\s+(\d+) kB", Path("/proc/meminfo").read_text(), re.M)
    assert total is not None and describe_machine()["memory_gib"] == round(int(total[1]) / 2**20, 1)
    assert 0 <= (free_memory_bytes() or -1) <= int(total[1]) * 1024
