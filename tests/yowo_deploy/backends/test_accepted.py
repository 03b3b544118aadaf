"""Files that are not known are tried in a process of their own, once."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from yowo_deploy import child_process
from yowo_deploy.backends import accepted, isolated_server, loader
from yowo_deploy.backends.accepted import accept, list_path
from yowo_deploy.backends.isolated import Isolated
from yowo_deploy.backends.loader import open_model
from yowo_deploy.diagnostics.probe_model import write_one_layer
from yowo_deploy.errors import EngineError, InputError, ModelFileError
from yowo_deploy.files import sha256_of
from yowo_deploy.model_files.default import model_path

pytest.importorskip("onnxruntime")


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model that nobody knows, beside a list of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setattr(loader, "is_accepted", accepted.is_accepted)
    path = tmp_path / "one.onnx"
    write_one_layer(path)
    return path


def is_accepted(file: Path) -> bool:
    return accepted.is_accepted(sha256_of(file))


def open_once(file: Path, **options: Any) -> None:
    with open_model(file, "onnxruntime", **options) as model:
        model.infer(np.zeros((1, *model.spec.clip_shape), np.float32))


def test_a_file_is_tried_once_and_known_by_its_content(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trials: list[str] = []
    monkeypatch.setattr(Isolated, "try_out", lambda self: trials.append(self._path))
    open_once(file, trust=False)
    other = tmp_path / "other name"
    other.write_bytes(file.read_bytes())
    for again in (file, other):
        open_once(again, trust=False)
    assert trials == [str(file)] and is_accepted(other)
    other.write_bytes(file.read_bytes() + b"\x72\x00")  # an empty entry of metadata
    open_once(other, trust=False)
    assert trials == [str(file), str(other)]


def test_a_trial_is_real_and_none_takes_place_where_none_is_asked_for(file: Path) -> None:
    open_once(file)
    open_once(file, trust=True)
    assert not is_accepted(file)
    open_once(file, trust=False)
    assert is_accepted(file)


def test_a_file_that_carries_a_streaming_form_is_tried_in_both(monkeypatch: pytest.MonkeyPatch) -> None:
    tried: list[bool] = []

    def opened(*given: Any, **options: Any) -> Any:
        model = loader.open_pinned(*given, **options)
        answer = model.infer
        monkeypatch.setattr(model, "infer", lambda clips: (tried.append(model.spec.streaming), answer(clips))[1])
        return model

    monkeypatch.setattr(isolated_server, "open_pinned", opened)
    path, options = str(model_path("default")), {"backend": "onnxruntime", "trust": True}
    isolated_server._Trial(opened(path, None, **options), path, None, options).run()
    assert tried == [False, True]


def test_the_model_of_the_package_is_known_without_a_list(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "sha256_of", lambda path: pytest.fail("it was hashed"))
    assert loader.admit("default") is None


@pytest.mark.parametrize("blow", [signal.SIGSEGV, signal.SIGKILL])
def test_a_file_that_crashes_its_engine_is_one_line_and_stays_unknown(
    blow: signal.Signals, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def crash(self: Isolated) -> None:
        os.kill(self._child.process.pid, blow)
        self._ask("infer", np.zeros((1, *self.spec.clip_shape), np.float32))

    monkeypatch.setattr(Isolated, "try_out", crash)
    with pytest.raises(ModelFileError, match=r"not known and failed .* died: .*--trust") as refused:
        open_once(file, trust=False)
    assert "\n" not in str(refused.value) and not is_accepted(file)


def test_a_file_that_takes_for_ever_or_all_memory_is_refused(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "TRIAL_BYTES", -8 * file.stat().st_size + (16 << 20))  # less than numpy takes
    with pytest.raises(ModelFileError, match="failed when it was tried"):
        open_once(file, trust=False)
    monkeypatch.undo()
    monkeypatch.setattr(child_process, "_PATIENCE_S", 0.0)
    with pytest.raises(EngineError, match="gave no answer in 0 s"):
        Isolated(file, limit_s=0.0, backend="onnxruntime")


def test_errors_of_a_trial_are_those_of_opening(file: Path) -> None:
    file.write_bytes(b"no model")
    with pytest.raises(ModelFileError, match="is not an ONNX file"):
        open_once(file, trust=False)
    with pytest.raises(InputError, match="parallel is 0"):
        open_once(file, trust=False, parallel=0)


def test_a_home_that_cannot_be_written_means_a_trial_each_time(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "state").write_text("a file where the folder should be")
    accept(file)
    assert not is_accepted(file)
    open_once(file, trust=False)
    monkeypatch.delenv("XDG_STATE_HOME")
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    assert list_path() is None
    accept(file)
    assert not is_accepted(file)


def test_the_list_is_bounded_and_keeps_the_newest(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(accepted, "MOST", 3)
    made = [tmp_path / str(number) for number in range(5)]
    for number, path in enumerate(made):
        path.write_text(str(number))
        accept(path)
    accept(made[3])
    assert [is_accepted(path) for path in made] == [False, False, True, True, True]
    path = list_path()
    assert path is not None and len(path.read_text().splitlines()) == 3


OTHER = b"\x72\x00"  # an empty entry of metadata: another file that loads as well


def becomes_another(file: Path) -> None:
    """As an attacker who may write into the folder does: another file of this name, moved into its place."""
    other = file.with_name("other")
    other.write_bytes(file.read_bytes() + OTHER)
    other.replace(file)


def test_a_file_that_changes_after_its_trial_is_not_opened(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    admit = loader.admit

    def admitted(path: Path, **options: Any) -> str | None:
        digest = admit(path, **options)
        becomes_another(path)
        return digest

    monkeypatch.setattr(loader, "admit", admitted)
    with pytest.raises(ModelFileError, match="was changed while it was opened"):
        open_once(file, trust=False)


def test_a_file_that_changes_before_or_within_its_trial_stays_unknown(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "is_accepted", lambda sha256: becomes_another(file))  # hashed, and not yet tried
    with pytest.raises(ModelFileError, match="was changed while it was opened"):
        open_once(file, trust=False)
    assert not is_accepted(file)
    monkeypatch.setattr(loader, "is_accepted", accepted.is_accepted)
    monkeypatch.setattr(Isolated, "try_out", lambda self: becomes_another(file))  # tried, and not yet known
    with pytest.raises(ModelFileError, match="was changed while it was opened"):
        open_once(file, trust=False)
    assert not is_accepted(file)


@pytest.mark.parametrize("damage", [lambda path: path.chmod(0o666), lambda path: path.write_text("x" * 10**6)])
def test_a_list_that_others_may_have_written_is_none(damage: Any, file: Path) -> None:
    accept(file)
    path = list_path()
    assert path is not None and is_accepted(file)
    damage(path)
    assert not is_accepted(file)
