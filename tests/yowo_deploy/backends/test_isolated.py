"""An engine in another process answers as it would here, and takes nothing with it when it dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.waiting import NEVER_S
from yowo_deploy import child_process
from yowo_deploy.backends.isolated import Isolated
from yowo_deploy.backends.loader import open_model
from yowo_deploy.diagnostics.probe_model import write_one_layer
from yowo_deploy.errors import EngineError, InputError, MissingExtraError, ModelFileError

pytest.importorskip("onnxruntime")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("apart") / "one.onnx"
    write_one_layer(path)
    return path


def test_it_answers_as_it_would_here(file: Path) -> None:
    with open_model(file, "onnxruntime") as here, Isolated(file, backend="onnxruntime") as there:
        clips = np.random.default_rng(0).standard_normal((1, *here.spec.clip_shape), np.float32)
        np.testing.assert_array_equal(there.infer(clips), here.infer(clips))
        assert (there.name, there.spec, there.parallel) == (here.name, here.spec, here.parallel)
        assert there.outputs(clips, ["not there"]) == {}


def test_errors_come_back_as_they_are_and_it_goes_on(file: Path) -> None:
    with Isolated(file, backend="onnxruntime") as there:
        with pytest.raises(InputError, match="clips have shape"):
            there.infer(np.zeros((1, 3, 4, 5, 6), np.float32))
        assert np.isfinite(there.infer(np.zeros((1, *there.spec.clip_shape), np.float32))).all()
    with pytest.raises(ModelFileError):
        Isolated(Path(__file__), backend="onnxruntime")


def test_an_error_with_its_own_form_comes_back_too() -> None:
    import pickle

    error = pickle.loads(pickle.dumps(MissingExtraError("openvino", "openvino")))
    assert type(error) is MissingExtraError and "yowo-deploy[openvino]" in str(error) and error.extra == "openvino"


@pytest.mark.parametrize(("blow", "word"), [(signal.SIGSEGV, "Segmentation fault"), (signal.SIGKILL, "Killed")])
def test_a_crash_is_an_error_that_says_of_what(
    blow: signal.Signals, word: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(child_process, "_PATIENCE_S", NEVER_S)  # to die, which takes a busy machine a while
    with Isolated(file, backend="onnxruntime") as there:
        os.kill(there._child.process.pid, blow)
        with pytest.raises(EngineError, match=f"one.onnx died: {word}"):
            there.infer(np.zeros((1, *there.spec.clip_shape), np.float32))


def test_an_engine_that_hangs_is_an_error_too(file: Path) -> None:
    with Isolated(file, backend="onnxruntime") as there:
        os.kill(there._child.process.pid, signal.SIGSTOP)
        there._limit_s = 0.2
        with pytest.raises(EngineError, match=r"gave no answer in 0\.2 s"):
            there.infer(np.zeros((1, *there.spec.clip_shape), np.float32))
        with pytest.raises(EngineError, match="is closed, or its process has died"):
            there.infer(np.zeros((1, *there.spec.clip_shape), np.float32))


def test_an_answer_nobody_waited_for_is_not_taken_for_the_next(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> object:
        raise KeyboardInterrupt

    with Isolated(file, backend="onnxruntime") as there:
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(there._child.connection, "recv", interrupted)
            there.infer(np.zeros((1, *there.spec.clip_shape), np.float32))
        with pytest.raises(EngineError, match="open it again"):
            there.infer(np.ones((1, *there.spec.clip_shape), np.float32))


def test_a_script_without_a_guard_is_not_run_again(file: Path, tmp_path: Path) -> None:
    """As multiprocessing's own way of starting processes would."""
    script = tmp_path / "script.py"
    script.write_text(
        "from yowo_deploy.backends.isolated import Isolated\nprint('once')\n"
        f"with Isolated({str(file)!r}, backend='onnxruntime') as model:\n    print(model.name)\n"
    )
    path = os.pathsep.join(entry for entry in sys.path if entry)
    done = subprocess.run(
        [sys.executable, script], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": path}
    )
    assert done.stdout.split() == ["once", "onnxruntime"], done.stderr
