"""What `parity --bisect` takes of a network with large values: memory within its bound, and no more engines than that
makes necessary."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.waiting import NEVER_S
from yowo_deploy.backends.accepted import accept
from yowo_deploy.spec import ModelSpec
from yowo_export.exporter import export_onnx
from yowo_export.graph.layers import layers_of
from yowo_training.checkpoints.checkpoint import Checkpoint, save_checkpoint
from yowo_training.models.yowo import Yowo, YowoConfig

pytestmark = pytest.mark.slow

MEMORY = 512 << 20  # of 2.5 GB: 129 layers have 421 MB of values, the largest 73 MB, and six copies count
SLACK = 64 << 20  # what allocators and onnx-ir hold beside values
# Loaded by every Python that has its folder in PYTHONPATH, which `Isolated` passes on. Not sampled from outside: on a
# busy machine the peaks lie between two looks. Not by getrusage: a process inherits that of the one that started it.
WRITES_ITS_PEAK = """
import atexit, os, re
def write():
    with open("/proc/self/status") as status, open(os.path.join(os.environ["PEAKS"], str(os.getpid())), "w") as file:
        file.write(re.search(r"^VmHWM:\\s+(\\d+) kB", status.read(), re.M)[1])
atexit.register(write)
"""
# An engine that was asked to end is killed after ten seconds, which on a busy machine it needs for its last words.
PATIENT_PARITY = f"""
import sys
from yowo_deploy import child_process
from yowo_deploy.cli import main
child_process._PATIENCE_S = {NEVER_S}
sys.argv[0] = "yowo-deploy"
main()
"""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Few weights and large values, as the models themselves are none of what is bounded."""
    folder = tmp_path_factory.mktemp("mobilenetv2")
    spec = ModelSpec(labels=("run", "sit"), anchors=((1.0, 2.0),), clip_length=16)
    torch.manual_seed(0)
    model = Yowo(YowoConfig("tiny2d", "mobilenetv2_1x", spec.output_channels, width=64)).eval()
    save_checkpoint(folder / "m.pt", model, spec, {})
    export_onnx(Checkpoint(model, spec), folder / "m.onnx")
    made = folder / "m.pt", folder / "m.onnx"
    for file in made:
        accept(file)  # a trial would start engines too
    return made


def test_bisect_stays_within_its_memory_and_starts_no_more_engines_than_that_takes(
    files: tuple[Path, Path], tmp_path: Path
) -> None:
    plain, plain_engines = peaks(tmp_path / "plain", *files)
    bisect, bisect_engines = peaks(tmp_path / "bisect", *files, "--bisect", "--memory", f"{MEMORY >> 20}MiB")
    assert len(plain_engines) == 2
    # The engines of a bisection are started one after the other: no two of them hold values at once.
    assert bisect + max(bisect_engines) - plain - max(plain_engines) <= MEMORY + SLACK
    passes, odd = divmod(len(bisect_engines) - 2, 2)
    values = 6 * sum(layer.bytes for layer in layers_of(files[1]))
    assert not odd and values / MEMORY <= passes <= 2 * values / MEMORY + 1  # any two in a row are more than MEMORY


def peaks(folder: Path, reference: Path, candidate: Path, *options: str) -> tuple[int, list[int]]:
    """The most bytes that `parity` held, and the most that each of its engines did."""
    for name in ("site", "peaks"):
        (folder / name).mkdir(parents=True)
    (folder / "site" / "sitecustomize.py").write_text(WRITES_ITS_PEAK, encoding="utf-8")
    path = os.pathsep.join([str(folder / "site"), *(entry for entry in sys.path if entry)])
    command = [sys.executable, "-c", PATIENT_PARITY, "parity", str(reference), str(candidate), "--clips", "1"]
    environment = os.environ | {"PYTHONPATH": path, "PEAKS": str(folder / "peaks")}
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, env=environment) as process:
        assert process.stdout is not None and process.stdout.read().startswith(b"PASSED")
    found = {int(file.name): 1024 * int(file.read_text()) for file in (folder / "peaks").iterdir()}
    return found.pop(process.pid), list(found.values())
