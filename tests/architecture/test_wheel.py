"""One wheel carries the three packages whole, and runs with nothing but its base requirements installed."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from yowo_deploy.datasets.synthetic.generator import make_synthetic

pytestmark = pytest.mark.slow

SOURCES = ("LICENSE", "README.md", "pyproject.toml", "setup.cfg")
DIST_INFO = {"METADATA", "RECORD", "WHEEL", "entry_points.txt", "licenses/LICENSE", "top_level.txt"}
# What pip says when it cannot reach an index; any other failure to install is the wheel's own.
UNREACHABLE = ("connection broken by", "Max retries exceeded", "Temporary failure in name resolution")


def _run(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory, project_root: Path, package_folders: list[Path]) -> Path:
    """A wheel built from a copy of the sources, so that nothing left by an earlier build gets into it."""
    copy = tmp_path_factory.mktemp("sources")
    for name in SOURCES:
        shutil.copy2(project_root / name, copy)
    for folder in package_folders:
        target = copy / folder.relative_to(project_root)
        shutil.copytree(folder, target, ignore=shutil.ignore_patterns("__pycache__"))
    built = _run(sys.executable, "-m", "build", "--wheel", "--no-isolation", copy, cwd=copy)
    assert built.returncode == 0, built.stdout + built.stderr
    [file] = (copy / "dist").glob("*.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory, project_root: Path) -> Path:
    """The `bin` folder of a fresh environment that holds the wheel and its base requirements."""
    folder = tmp_path_factory.mktemp("installed") / "venv"
    return _install(sys.executable, folder, wheel, "--constraint", project_root / "constraints.txt")


def _install(python: str | Path, folder: Path, *what: str | Path, signs: tuple[str, ...] = UNREACHABLE) -> Path:
    """The `bin` folder of a new environment of that Python with some wheels; skips where pip says one of the signs."""
    created = _run(python, "-m", "venv", folder, cwd=folder.parent)
    assert created.returncode == 0, created.stdout + created.stderr
    pip = _run(folder / "bin" / "python", "-m", "pip", "install", "--no-input", *what, cwd=folder)
    if pip.returncode and any(sign in pip.stderr for sign in signs):
        pytest.skip("no package index has the wheel's requirements for this Python, or none can be reached")
    assert pip.returncode == 0, pip.stderr
    return folder / "bin"


def other_python(version: str) -> Path | None:
    """The interpreter of a version, on the path or among pyenv's."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    named = shutil.which(f"python{version}")
    for python in [*sorted(pyenv.glob(f"{version}.*/bin/python")), *([Path(named)] if named else [])]:
        if _run(python, "-c", "import venv", cwd=Path.home()).returncode == 0:  # pyenv's names answer for none
            return python
    return None


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path, package_folders: list[Path]) -> None:
    expected = {
        file.relative_to(folder.parent).as_posix()
        for folder in package_folders
        for file in folder.rglob("*")
        if file.is_file() and "__pycache__" not in file.parts
    }
    dist_info = "-".join(wheel.name.split("-")[:2]) + ".dist-info"
    expected |= {f"{dist_info}/{name}" for name in DIST_INFO}
    assert set(zipfile.ZipFile(wheel).namelist()) == expected


def test_the_packages_say_that_they_are_typed(package_folders: list[Path]) -> None:
    assert [folder.name for folder in package_folders if not (folder / "py.typed").is_file()] == []


def test_the_command_runs_from_the_wheel(installed: Path, tmp_path: Path) -> None:
    shown = _run(installed / "yowo-deploy", "--help", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "export" in shown.stdout


def test_the_package_imports_without_torch(installed: Path, tmp_path: Path) -> None:
    code = "import importlib.util as u, yowo_deploy; print(u.find_spec('torch'), yowo_deploy.__file__)"
    imported = _run(installed / "python", "-c", code, cwd=tmp_path)
    assert imported.returncode == 0, imported.stderr
    torch, file = imported.stdout.split()
    assert torch == "None"
    assert Path(file).is_relative_to(installed.parent)


def test_cmake_finds_the_cpp_runtime_in_the_wheel(installed: Path, tmp_path: Path) -> None:
    cmake = shutil.which("cmake", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if cmake is None:
        pytest.skip("no cmake on this machine")
    folder = _run(installed / "python", "-m", "yowo_deploy", "--cmakedir", cwd=tmp_path).stdout.strip()
    assert Path(folder).is_relative_to(installed.parent)
    (tmp_path / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.16)\nproject(own NONE)\nfind_package(yowo_deploy CONFIG REQUIRED)\n"
        "get_target_property(folder yowo::yowo INTERFACE_INCLUDE_DIRECTORIES)\n"
        "file(WRITE found ${folder}/yowo/yowo.hpp)\n"
    )
    configured = _run(cmake, "-S", ".", "-B", "build", f"-Dyowo_deploy_DIR={folder}", cwd=tmp_path)
    assert configured.returncode == 0, configured.stderr
    header = Path((tmp_path / "found").read_text())
    assert header.is_file() and header.is_relative_to(installed.parent)


def test_a_missing_extra_is_named_in_one_line(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "x.pth").write_bytes(b"a checkpoint, as far as a machine without torch can tell")
    exported = _run(installed / "yowo-deploy", "export", "x.pth", "--clip", "8", cwd=tmp_path)
    assert exported.returncode == 1, exported.stderr
    [line] = exported.stderr.splitlines()
    assert line.startswith("Error: ")
    assert "yowo-deploy[export]" in line
    assert [file.name for file in tmp_path.iterdir()] == ["x.pth"]


@pytest.mark.parametrize("version", ["3.10", "3.13"])
def test_the_runtime_detects_on_the_oldest_python_and_a_newer_one(
    version: str, wheel: Path, tmp_path: Path, project_root: Path
) -> None:
    """With whatever versions of its requirements that Python gets; mypy checks our own code for the oldest."""
    if (python := other_python(version)) is None:
        pytest.skip(f"no Python {version} on this machine")
    oldest = re.search(r"python_requires = >=([\d.]+)", (project_root / "setup.cfg").read_text(encoding="utf-8"))
    assert oldest is not None and oldest[1] == "3.10"
    signs = (*UNREACHABLE, "No matching distribution found")  # an index at hand may hold one Python's wheels alone
    commands = _install(python, tmp_path / "venv", f"{wheel}[onnxruntime]", signs=signs)
    make_synthetic(tmp_path / "made", 1, 1)
    video = next((tmp_path / "made").rglob("*.avi"))
    ended = _run(commands / "yowo-deploy", "detect", video, "--json", "-", "--conf", "0.01", cwd=tmp_path)
    assert ended.returncode == 0, ended.stderr
    frames = [json.loads(line) for line in ended.stdout.splitlines()]
    assert frames and any(frame["detections"] for frame in frames)
    listed = _run(commands / "yowo-deploy", "doctor", "--json", cwd=tmp_path)
    assert json.loads(listed.stdout)["packages"]["numpy"], listed.stdout
