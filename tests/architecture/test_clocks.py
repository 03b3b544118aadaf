"""No test depends on how fast a machine is: none reads a clock, sleeps, or gives up waiting after a while.

What is meant is provoked: by an event that is waited for without a deadline, by a clock of the test, by counting.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

CLOCKS = {"sleep", "perf_counter", "monotonic", "process_time", "time"}
WAITS = {"wait", "join", "result", "acquire", "communicate"}
# File -> why it may. None of these can fail because something took long.
MAY = {
    "waiting.py": "looks again and again until something holds, and never gives up",
    "local_camera.py": "a camera's pace",
    "hostile/kills.py": "a signal comes at a random moment of a run as long as one before, and every moment is right",
    "yowo_deploy/benchmark/test_stages.py": "a stopwatch inside a call never shows more than one around it",
    "yowo_deploy/benchmark/test_timing.py": "a stopwatch inside a call never shows more than one around it",
    "yowo_deploy/test_stream_pool.py": "naps mix the order of threads, and every order gives the same",
}


def objections(source: str) -> list[str]:
    """What the rule has against a test file, one sentence each."""
    return [
        f"{node.lineno}: {told}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Call) and (told := _objection(node))
    ]


def _objection(call: ast.Call) -> str | None:
    path = ast.unparse(call.func).split(".")
    if path[-1] in CLOCKS and path[:-1] in ([], ["time"]):
        return f"calls {'.'.join(path)}: provoke what is meant, or turn a clock of the test's own"
    limits = [each.value for each in call.keywords if each.arg == "timeout"]
    limits += call.args[:1] if path[-1] in WAITS and len(path) > 1 else []
    if any(isinstance(each, ast.Constant) and isinstance(each.value, int | float) for each in limits):
        return f"{path[-1]} gives up after a while: pytest's time-out is the only deadline"
    return None


def test_no_test_depends_on_time(project_root: Path) -> None:
    files = {str(file.relative_to(project_root / "tests")): file for file in (project_root / "tests").rglob("*.py")}
    assert files.keys() >= MAY.keys()
    found = {name: objections(file.read_text(encoding="utf-8")) for name, file in files.items()}
    assert {name for name, told in found.items() if told} == MAY.keys(), found


@pytest.mark.parametrize(
    "code",
    [
        "assert perf_counter() - start < 3",
        "end = time.monotonic() + 10",
        "time.sleep(0.1)",
        "now = time.time()",
        "thread.join(20)",
        "assert future.result(timeout=1.5)",
        "process.communicate(timeout=60)",
        "subprocess.run(command, timeout=300)",
        "together.wait(10)",
    ],
)
def test_a_test_that_would_depend_on_time_is_found(code: str) -> None:
    assert len(objections(code)) == 1


@pytest.mark.parametrize(
    "code",
    ["thread.join()", "', '.join(names)", "clock.now += 3", "future.result()", "open_source(url, timeout_s=0.5)"],
)
def test_what_waits_as_long_as_it_takes_may(code: str) -> None:
    assert objections(code) == []
