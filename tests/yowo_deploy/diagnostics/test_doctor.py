"""The doctor survives every patient, says what ails it, and gives the command that helps."""

from __future__ import annotations

import configparser
import os
import re
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.waiting import NEVER_S
from yowo_deploy.diagnostics import doctor
from yowo_deploy.diagnostics.doctor import TRIALS, Finding, Health, Trial, attempt, clash, examine, install
from yowo_deploy.diagnostics.probe_model import clip_kernel_answer, write_one_layer
from yowo_deploy.diagnostics.system_info import MODULES
from yowo_deploy.errors import ModelFileError, VideoError


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TIMEOUT_S", NEVER_S)


def trial(code: str, library: str = "numpy", kind: doctor.Kind = "backend") -> Trial:
    return Trial("a patient", kind, library, "openvino", code, ("openvino", "cpu"))


@pytest.mark.parametrize(
    ("code", "state", "note"),
    [
        ("pass", "works", "s with its start"),
        ("import sys; print('chatter'); print('more', file=sys.stderr)", "works", "s with its start"),
        ("raise ValueError('no such device')", "fails", "no such device"),
        ("from yowo_deploy.errors import InputError; raise InputError('not here: x')", "fails", "not here: x"),
        ("raise SystemExit('a wrong answer')", "fails", "a wrong answer"),
        ("print('CUDA is broken'); raise SystemExit(3)", "fails", "CUDA is broken"),
        ("raise SystemExit(3)", "fails", "no reason given"),
        ("import sys; sys.stderr.buffer.write(b'\\xff bytes'); raise SystemExit(3)", "fails", "\ufffd bytes"),
        (
            "import sys; print('E: libcublas.so.13: cannot open shared object file: No such', file=sys.stderr); "
            "raise ValueError('CUDA did not start')",
            "fails",
            "libcublas.so.13: cannot open shared object file; CUDA did not start",
        ),
        (
            "raise OSError('libcuda.so.1: cannot open shared object file: none')",
            "fails",
            "libcuda.so.1: cannot open shared object file: none",
        ),
        ("import os; os.abort()", "fails", "its process died: Aborted"),
        ("import os; os.kill(os.getpid(), 9)", "fails", "its process died: Killed"),
        ("import os; os.kill(os.getpid(), 11)", "fails", "its process died: Segmentation fault"),
        ("import nothing_of_this_name", "fails", "No module named 'nothing_of_this_name'"),
    ],
)
def test_whatever_happens_to_a_patient_is_one_line(
    code: str, state: str, note: str, capfd: pytest.CaptureFixture[str]
) -> None:
    found = attempt(trial(code), has_gpu=False)
    assert found.state == state and found.note.endswith(note) and "\n" not in found.note
    assert capfd.readouterr() == ("", "")


def test_a_patient_that_hangs_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TIMEOUT_S", 0.1)
    found = attempt(trial("import threading; threading.Event().wait()"), has_gpu=False)
    assert (found.state, found.note) == ("fails", "no answer in 0 s")


def test_a_library_that_is_hidden_is_missing_with_its_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)  # what an import finds where there is none
    found = attempt(TRIALS[0], has_gpu=False)
    assert found.state == "missing" and found.note == "openvino is not installed"
    assert found.remedy == "pip install 'yowo-deploy[openvino]'"


def test_what_needs_a_gpu_is_not_tried_without_one() -> None:
    kinds = {attempt(one, has_gpu=False).state for one in TRIALS if one.needs_gpu}
    assert kinds == {"no gpu"}


@pytest.mark.parametrize("tried", [each for each in TRIALS if not each.needs_gpu], ids=lambda each: str(each.name))
def test_what_is_installed_works(tried: Trial, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(tried.library)
    (tmp_path / "numpy.py").write_text("raise SystemExit('the folder where the user stands was imported from')")
    monkeypatch.chdir(tmp_path)
    assert attempt(tried, has_gpu=False).state == "works"


@pytest.mark.gpu
@pytest.mark.skipif(not shutil.which("nvidia-smi"), reason="no NVIDIA GPU: nvidia-smi is not installed")
@pytest.mark.parametrize("tried", [each for each in TRIALS if each.needs_gpu], ids=lambda each: str(each.name))
def test_on_a_gpu_what_does_not_work_says_why(tried: Trial) -> None:
    found = attempt(tried, has_gpu=True)
    assert found.state == "works" or (len(found.note) > 10 and "Traceback" not in found.note)


def test_a_wrong_answer_is_no_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("onnxruntime")
    path = tmp_path / "one_layer.onnx"
    write_one_layer(path)
    doctor.run_one_layer(str(path), "onnxruntime", "cpu")
    clip, kernel, answer = clip_kernel_answer()
    monkeypatch.setattr(doctor, "clip_kernel_answer", lambda: (clip, kernel, answer + 2**-8))
    with pytest.raises(ModelFileError, match="output is wrong"):
        doctor.run_one_layer(str(path), "onnxruntime", "cpu")


def test_frames_that_come_back_otherwise_are_no_video(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    doctor.write_video(str(tmp_path / "a.webm"))
    monkeypatch.setattr(doctor, "VideoReader", lambda path: _Grey())
    with pytest.raises(VideoError, match="came back as"):
        doctor.write_video(str(tmp_path / "b.webm"))


class _Grey:
    def __enter__(self) -> list[np.ndarray]:
        return [np.full((48, 64, 3), 128, np.uint8)] * 4

    def __exit__(self, *_: object) -> None:
        pass


def test_a_builder_that_builds_nothing_is_told(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx")
    (tmp_path / "text.onnx").write_text("no model")
    command = [sys.executable, "-c", doctor._BUILD, str(tmp_path / "text.onnx"), "tensorrt_rtx"]
    assert doctor._failure(command, dict(os.environ), str(tmp_path))


@pytest.mark.parametrize(
    ("kind", "code", "runs_models"),
    [("backend", "pass", True), ("backend", "import os; os.abort()", False), ("builder", "pass", False)],
)
def test_one_that_crashes_keeps_no_other_from_its_turn(
    kind: doctor.Kind, code: str, runs_models: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doctor, "TRIALS", (trial("import os; os.kill(os.getpid(), 9)"), trial(code, kind=kind)))
    heard: list[tuple[int, str]] = []
    found = examine(lambda done, name: heard.append((done, name)))
    assert [finding.kind for finding in found.findings] == ["backend", kind]
    assert found.findings[0].note == "its process died: Killed"
    assert found.runs_models is runs_models
    assert heard == [(0, "a patient"), (1, "a patient")]


def test_versions_are_those_of_the_wheels(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "TRIALS", ())
    found = examine()
    assert found.packages["numpy"] == f"numpy {np.__version__}"
    assert set(found.packages) == set(MODULES)
    assert found.python == sys.version.split()[0]


@pytest.mark.parametrize(
    ("module", "wheels", "kept"),
    [
        ("onnxruntime", ["onnxruntime", "onnxruntime-gpu"], "'yowo-deploy[cuda]'"),
        ("onnxruntime", ["onnxruntime", "onnxruntime-openvino"], "'yowo-deploy[onnxruntime]'"),
        ("onnxruntime", ["onnxruntime-directml", "onnxruntime-openvino"], "'yowo-deploy[onnxruntime]'"),
        ("cv2", ["opencv-python", "opencv-python-headless"], "opencv-python-headless"),
        ("cv2", ["opencv-contrib-python", "opencv-python"], "opencv-python-headless"),
        ("cv2", ["opencv-python-headless", "opencv-python-headless"], None),
        ("onnxruntime", ["onnxruntime-gpu"], None),
        ("onnxruntime", [], None),
    ],
)
def test_wheels_that_lie_over_each_other_are_told_with_what_helps(
    module: str, wheels: list[str], kept: str | None
) -> None:
    told = clash(module, wheels)
    if kept is None:
        assert told == ""
    else:
        assert told.endswith(f"run `pip uninstall -y {' '.join(wheels)} && pip install {kept}`")


def test_two_wheels_are_found_where_they_lie(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("onnxruntime", "onnxruntime-gpu"):
        folder = tmp_path / f"{name.replace('-', '_')}-9.9.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9.9\n")
        (folder / "top_level.txt").write_text("onnxruntime\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(doctor, "TRIALS", ())
    found = examine()
    assert found.packages["onnxruntime"] == "onnxruntime 9.9, onnxruntime-gpu 9.9"
    [told] = [sentence for sentence in found.clashes if "onnxruntime" in sentence]
    assert told.startswith("onnxruntime and onnxruntime-gpu lie over each other")


@pytest.mark.parametrize("has_gpu", [False, True])
def test_every_extra_that_is_recommended_exists_and_is_for_this_machine(has_gpu: bool, project_root: Path) -> None:
    setup = configparser.ConfigParser()
    setup.read(project_root / "setup.cfg")
    recommended = [*MODULES.values(), *(each.extra for each in TRIALS if has_gpu or not each.needs_gpu)]
    named = {name for extra in recommended if extra for name in re.split(r"[\[\],]", install(extra, has_gpu))[1:-1]}
    assert named <= set(setup["options.extras_require"]) and "openvino" in named
    # Never both wheels of ONNX Runtime, whatever of it is followed.
    assert named & {"onnxruntime", "export", "cuda", "export-cuda", "demo"} == (
        {"cuda", "export-cuda"} if has_gpu else {"onnxruntime", "export"}
    )


def test_health_without_an_engine_runs_no_models() -> None:
    video = Finding("VP8", "video", "works", "")
    assert not Health("3", "Linux", "a processor", {}, (), "", (video,), ()).runs_models
