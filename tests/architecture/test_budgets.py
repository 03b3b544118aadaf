"""Every room keeps its budget of lines: raising one is a decision, stated in the commit that does it."""

from __future__ import annotations

from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "yowo_deploy"
RUNTIME_ROOT = sorted(path.stem for path in PACKAGE.glob("*.py") if path.stem != "evaluation")

# Lines of Python with docstrings and blanks, of all files below these paths. A budget is a ratchet, what the room holds
# today; the first ones, 23,700 of all together, were set before hardened readers, run folders, tube scores, serving,
# archives and streaming forms came in. A feature makes room for itself, or raises its room's budget in its commit.
BUDGETS: dict[str, tuple[int, tuple[str, ...]]] = {
    "runtime": (
        15_192,
        (
            *(f"yowo_deploy/{name}.py" for name in RUNTIME_ROOT),
            "yowo_deploy/preprocess",
            "yowo_deploy/postprocess",
            "yowo_deploy/model_files",
            "yowo_deploy/backends",
            "yowo_deploy/video",
            "yowo_deploy/visuals",
            "yowo_deploy/sinks",
        ),
    ),
    "datasets": (5_728, ("yowo_deploy/datasets",)),
    "measurement": (
        2_684,
        (
            "yowo_deploy/evaluation.py",
            "yowo_deploy/metrics",
            "yowo_deploy/benchmark",
            "yowo_deploy/diagnostics",
        ),
    ),
    "command line and detection": (4_221, ("yowo_deploy/cli", "yowo_deploy/detection")),
    "serving": (2_518, ("yowo_deploy/serving",)),
    "archive": (1_783, ("yowo_deploy/archive",)),
    "export": (5_658, ("export",)),
    "training": (5_812, ("training",)),
}


def python_lines(project_root: Path, places: tuple[str, ...]) -> int:
    """Lines of the files at some places: folders with all below them, or patterns."""
    files = [file for place in places for file in _files(project_root, place)]
    return sum(len(file.read_text(encoding="utf-8").splitlines()) for file in files)


def _files(project_root: Path, place: str) -> list[Path]:
    if place.endswith(".py"):
        return sorted(project_root.glob(place))
    return sorted((project_root / place).rglob("*.py"))


@pytest.mark.parametrize("room", BUDGETS)
def test_a_room_keeps_its_budget(room: str, project_root: Path) -> None:
    budget, places = BUDGETS[room]
    assert python_lines(project_root, places) <= budget


def test_every_python_file_is_in_one_room(project_root: Path) -> None:
    counted = [file for _, places in BUDGETS.values() for place in places for file in _files(project_root, place)]
    product = [file for top in ("yowo_deploy", "export", "training") for file in _files(project_root, top)]
    assert sorted(counted) == sorted(product)
