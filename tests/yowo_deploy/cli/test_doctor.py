"""`yowo-deploy doctor`: figures to stdout, talk to stderr, exit code 0 if an engine runs models."""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
from click.testing import CliRunner, Result

from tests.waiting import NEVER_S
from yowo_deploy.cli import cli
from yowo_deploy.diagnostics import doctor
from yowo_deploy.diagnostics.doctor import Trial

CHATTY = Trial("chatty", "backend", "numpy", "", "print('EP Error: falling back')")
CRASHES = Trial("crashes", "backend", "numpy", "", "import os; os.abort()")
HIDDEN = Trial("hidden", "backend", "openvino", "openvino", "pass")


def run(monkeypatch: pytest.MonkeyPatch, *trials: Trial, arguments: tuple[str, ...] = ("--json",)) -> Result:
    monkeypatch.setattr(doctor, "TRIALS", trials)
    monkeypatch.setattr(doctor, "TIMEOUT_S", NEVER_S)
    monkeypatch.setitem(sys.modules, "openvino", None)
    return CliRunner().invoke(cli, ["doctor", *arguments])


@pytest.mark.parametrize(
    ("trials", "exit_code", "states"),
    [
        ((CHATTY,), 0, ["works"]),
        ((CRASHES, CHATTY), 0, ["fails", "works"]),
        ((CRASHES,), 1, ["fails"]),
        ((HIDDEN,), 1, ["missing"]),
        ((), 1, []),
    ],
)
def test_the_exit_code_tells_whether_an_engine_runs_models(
    trials: tuple[Trial, ...], exit_code: int, states: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    result = run(monkeypatch, *trials)
    assert result.exit_code == exit_code
    found = json.loads(result.stdout)  # and nothing else there
    assert found["runs_models"] is (exit_code == 0)
    assert [finding["state"] for finding in found["findings"]] == states


def test_a_person_reads_the_command_that_helps_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "clash", lambda module, wheels: f"two wheels of {module}: run `pip uninstall -y them`")
    result = run(monkeypatch, HIDDEN, CRASHES, dataclasses.replace(HIDDEN, name="another"), arguments=())
    assert result.exit_code == 1
    lines = result.stdout.splitlines()
    assert "pip install 'yowo-deploy[openvino]'  # hidden; another" in lines
    assert "two wheels of cv2: run `pip uninstall -y them`" in lines
    assert "No backend runs models here." in lines
    assert any("crashes" in line and "its process died: Aborted" in line for line in lines)
