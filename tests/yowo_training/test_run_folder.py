"""results.png shows the whole run when it is over, and is not drawn more often than a person looks."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

pytest.importorskip("torch")
plots = pytest.importorskip("yowo_deploy.visuals.plots")

from yowo_deploy.errors import InputError  # noqa: E402
from yowo_training import run_folder  # noqa: E402
from yowo_training.run_folder import WRITE_EVERY_S, RunFolder  # noqa: E402
from yowo_training.trainer import Report  # noqa: E402


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[float]]:
    """The epochs of each drawing; nothing else is drawn."""
    found: list[list[float]] = []
    monkeypatch.setattr(plots, "training_plot", lambda columns, path: found.append(columns["epoch"].tolist()))
    monkeypatch.setattr(RunFolder, "_predictions", lambda folder: np.zeros((8, 8, 3), np.uint8))
    return found


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    made = SimpleNamespace(now=0.0)
    monkeypatch.setattr(run_folder, "monotonic", lambda: made.now)
    return made


def folder_of(path: Path, step: int = 0) -> RunFolder:
    (path / "best.pt").touch()
    progress = SimpleNamespace(step=step, best_map=1.0)
    run: Any = SimpleNamespace(output=path, progress=progress, latest=None, chosen=None, best=path / "best.pt")
    return RunFolder(run)


def report(epoch: int, frame_map: float | None = 0.5) -> Report:
    return Report(epoch + 1, epoch, 0.5, {"box": 1.0}, 1.0, 1e-3, 1.0, 10.0, frame_map)


def test_validations_that_follow_at_once_are_drawn_once_and_all_of_them(
    tmp_path: Path, drawn: list[list[float]], clock: SimpleNamespace
) -> None:
    folder = folder_of(tmp_path)
    for epoch in range(5):
        folder.add(report(epoch))
    assert drawn == []
    folder.end()
    assert drawn == [[1, 2, 3, 4, 5]]


def test_a_validation_is_drawn_with_the_first_step_at_which_a_drawing_is_due(
    tmp_path: Path, drawn: list[list[float]], clock: SimpleNamespace
) -> None:
    folder = folder_of(tmp_path)
    folder.add(report(0))
    clock.now += 2 * WRITE_EVERY_S
    folder.add(report(1, None))
    folder.add(report(2))
    assert drawn == [[1, 2]]
    clock.now += 2 * WRITE_EVERY_S
    folder.add(report(3))
    clock.now += 2 * WRITE_EVERY_S
    folder.add(report(4, None))  # no validation since: nothing new to see
    folder.end()
    assert drawn == [[1, 2], [1, 2, 3, 4]]


def test_a_run_that_was_killed_before_its_end_is_drawn_when_it_is_started_again(
    tmp_path: Path, drawn: list[list[float]], clock: SimpleNamespace
) -> None:
    folder = folder_of(tmp_path)
    for epoch in range(3):
        folder.add(report(epoch))
    folder_of(tmp_path, step=3).end()
    assert drawn == [[1, 2, 3]]


@pytest.mark.parametrize("content", ["1,2,3\n", "epoch,loss\n1,2\n", "epoch,step,loss\n1\n", "epoch,step\n1,nan\n"])
def test_a_table_without_steps_is_damaged(content: str, tmp_path: Path) -> None:
    (tmp_path / "results.csv").write_text(content)
    with pytest.raises(InputError, match="is damaged, remove it"):
        folder_of(tmp_path)
