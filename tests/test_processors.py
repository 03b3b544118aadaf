"""The same answers on every processor: other BLAS kernels, instruction sets and thread counts, in child processes.

Preprocessing and post-processing give the same bits; what an engine rounds stays within the limits that docs/parity.md
states. A setting that this processor lacks is left out of its child, never failed.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

LIMIT_PX, LIMIT_SCORE = 0.05, 1e-3  # docs/parity.md, "Preprocessing to the bit"

CHILD = """
import hashlib, json, sys
import cv2
import numpy as np
from yowo_deploy.backends.loader import open_model
from yowo_deploy.postprocess.decode import decode, detect
from yowo_deploy.model_files.default import model_path
from yowo_deploy.preprocess.frames import preprocess, resize
from yowo_deploy.spec import ModelSpec
from yowo_deploy.postprocess.tubes import OnlineLinker

cv2.setNumThreads(int(sys.argv[1]))
bits = hashlib.sha256()
for seed, (width, height) in enumerate([(320, 240), (640, 361), (99, 80), (1280, 720)]):
    frame = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    for name in ("nearest", "bilinear", "bicubic"):
        spec = ModelSpec(("a",), ((1.0, 2.0),), resize_filter=name, mean=(0.45, 0.4, 0.1), std=(0.225, 0.3, 1.0))
        bits.update(preprocess(frame, spec).tobytes())
        bits.update(resize(frame, (160, 96), name, (10.25, -3.5, width - 7.125, height + 2.0)).tobytes())

labels = tuple("abcdefghijklmnopqrstuvwx")
after, linker = hashlib.sha256(), OnlineLinker()
for activation in ("softmax", "softmax+sigmoid"):
    spec = ModelSpec(labels, ((1.0, 3.0), (2.0, 2.5)), class_activation=activation, softmax_classes=9)
    for seed in range(20):
        raw = np.random.default_rng(seed).normal(0, 2, (spec.output_channels, 7, 7)).astype(np.float32)
        found = detect(raw, spec, (320, 240), 0.05)
        linker.follow(found)
        for values in (found.xyxy, found.scores, linker.tracker_id):
            after.update(values.tobytes())

clip = np.repeat(np.random.default_rng(0).random((1, 3, 16, 7, 7), np.float32), 32, axis=3).repeat(32, axis=4)
model = {}
for engine in ("openvino", "onnxruntime"):
    with open_model(model_path("default"), engine, threads=int(sys.argv[1])) as backend:
        boxes, objectness, probabilities = decode(backend.infer(clip)[0], backend.spec)
    model[engine] = {"boxes": boxes.tolist(), "scores": (objectness[:, None] * probabilities).tolist()}
print(json.dumps({"preprocessing": bits.hexdigest(), "after": after.hexdigest(), "model": model}))
"""


def numpy_without(*lost: str) -> str:
    """What numpy is told to leave out: of these, what it could use here."""
    from numpy._core import _multiarray_umath as built

    return " ".join(name for name in lost if name in built.__cpu_dispatch__ and built.__cpu_features__.get(name))


def has(flag: str) -> bool:
    """Whether the processor has an instruction set, as Linux names it."""
    try:
        return flag in Path("/proc/cpuinfo").read_text(encoding="utf-8").split()
    except OSError:
        return False


OLD = ("X86_V3", "X86_V4", "AVX512_ICL", "AVX512_SPR", "AVX2", "FMA3", "AVX512F", "AVX512CD", "AVX512_SKX")
SETTINGS: dict[str, tuple[int, dict[str, str]]] = {
    "one thread": (1, {"OPENBLAS_NUM_THREADS": "1"}),
    "prescott": (1, {"OPENBLAS_CORETYPE": "Prescott", "NPY_DISABLE_CPU_FEATURES": numpy_without(*OLD),
                     "OPENCV_CPU_DISABLE": "AVX512-SKX,AVX2,FP16,AVX,SSE4.2"}),
    "haswell": (2, {"OPENBLAS_CORETYPE": "Haswell", "NPY_DISABLE_CPU_FEATURES": numpy_without(*OLD[1:4], *OLD[6:]),
                    "OPENCV_CPU_DISABLE": "AVX512-SKX", "ONEDNN_MAX_CPU_ISA": "AVX2", "OV_CPU_MAX_ISA": "AVX2"}),
    "zen": (2, {"OPENBLAS_CORETYPE": "Zen", "OPENBLAS_NUM_THREADS": "2"}),
    "skylakex": (2, {"OPENBLAS_CORETYPE": "SkylakeX", "ONEDNN_MAX_CPU_ISA": "AVX512_CORE"}),
}  # fmt: skip
NEEDS = {"haswell": "avx2", "zen": "avx2", "skylakex": "avx512bw"}


def answers(project_root: Path, threads: int, **environment: str) -> dict[str, Any]:
    """What a process under such an environment computes."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith(("OPENBLAS", "NPY_", "ONEDNN"))}
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", CHILD, str(threads)],
        cwd=project_root, env=clean | environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.fixture(scope="module")
def here(project_root: Path) -> dict[str, Any]:
    """What this processor computes when nothing is forbidden."""
    pytest.importorskip("openvino")
    pytest.importorskip("onnxruntime")
    return answers(project_root, 2)


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_another_processor_gives_the_same_answers(name: str, here: dict[str, Any], project_root: Path) -> None:
    if name in NEEDS and not has(NEEDS[name]):
        pytest.skip(f"this processor has no {NEEDS[name]}")
    threads, environment = SETTINGS[name]
    there = answers(project_root, threads, **environment)
    assert there["preprocessing"] == here["preprocessing"]
    assert there["after"] == here["after"]
    for engine, found in there["model"].items():
        boxes, expected = (np.array(each["boxes"]) * (320, 240, 320, 240) for each in (found, here["model"][engine]))
        np.testing.assert_allclose(boxes, expected, atol=LIMIT_PX, rtol=0)
        scores, expected = (np.array(each["scores"]) for each in (found, here["model"][engine]))
        np.testing.assert_allclose(scores, expected, atol=LIMIT_SCORE, rtol=0)


def test_the_settings_do_change_what_computes(here: dict[str, Any], project_root: Path) -> None:
    """Otherwise the test above compared a processor with itself."""
    script = "import numpy as np; x = np.random.default_rng(0).random((300, 300), 'f'); print(hash((x @ x).tobytes()))"
    printed = {
        subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True,
            env=os.environ | {"OPENBLAS_CORETYPE": kernel, "PYTHONHASHSEED": "0"},
        ).stdout
        for kernel in ("Prescott", "Haswell")
    }  # fmt: skip
    assert len(printed) == (2 if has("avx2") else 1)
