"""C++ on ONNX Runtime gives the bits of Python on ONNX Runtime; and the code for TensorRT is C++."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from tests.yowo_deploy.test_cpp import cmake, compare, compare_pool, noise, tool
from tests.yowo_export.conftest import small_checkpoint
from yowo_deploy.model_files.default import model_path
from yowo_deploy.spec import Precision
from yowo_export import export
from yowo_export.exporter import export_onnx
from yowo_export.precision.convert import Wish, lower_model
from yowo_export.sample_clips import made_up_clips

if TYPE_CHECKING:
    from tests.conftest import MadeOnce

DEBIAN = Path("/etc/apt/sources.list.d/debian.sources")
HEADERS = "usr/include/onnxruntime"


def fetch_headers(folder: Path) -> None:
    """ONNX Runtime's headers, which its wheel lacks, from Debian's stable release, wherever this machine gets Debian
    from; skips on another system."""
    if not DEBIAN.is_file() or shutil.which("apt-get") is None:
        pytest.skip("no headers of ONNX Runtime, and no Debian to get them from")
    entries = re.split(r"\n\s*\n", DEBIAN.read_text())
    stable = [
        re.sub(r"(?m)^Suites:.*", "Suites: stable", each) for each in entries if re.search(r"/debian/?$", each, re.M)
    ]
    (folder / "stable.sources").write_text("\n\n".join(stable) + "\n")
    for name in ("state/lists/partial", "cache/archives/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)  # another worker may have been here, in vain
    places = {"SourceList": "/dev/null", "SourceParts": folder}
    options = [f"-oDir::Etc::{name}={place}" for name, place in places.items()]
    options += [f"-oDir::State={folder}/state", f"-oDir::Cache={folder}/cache"]
    for command in (["update"], ["download", "libonnxruntime-dev"]):
        done = subprocess.run(["apt-get", "-qq", *options, *command], cwd=folder, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"no headers of ONNX Runtime from Debian: {done.stderr.strip().splitlines()[-1:]}")
    [package] = folder.glob("*.deb")
    subprocess.run(["dpkg-deb", "-x", package, folder], check=True)


@pytest.fixture(scope="session")
def built(made_once: MadeOnce, project_root: Path) -> Path:
    """The folder with a `live` that has ONNX Runtime alone: the wheel's library, under the names that linkers want."""
    onnxruntime = pytest.importorskip("onnxruntime")
    tool("g++")

    def make(folder: Path) -> None:
        headers, libraries = Path("/", HEADERS), folder / "libraries"
        if not headers.is_dir():
            fetch_headers(folder)
            headers = folder / HEADERS
        libraries.mkdir(exist_ok=True)
        [library] = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
        for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
            (libraries / name).unlink(missing_ok=True)
            (libraries / name).symlink_to(library)
        options = ["-DYOWO_QUICK=ON", "-DCMAKE_DISABLE_FIND_PACKAGE_OpenVINO=ON"]
        options += [f"-DYOWO_onnxruntime_INCLUDE={headers}", f"-DYOWO_onnxruntime_LIBRARY={libraries / name[:-2]}"]
        cmake(project_root / "tests" / "cpp", folder / "build", *options, target="live")

    return made_once("cpp onnxruntime", make) / "build"


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, {"clips": True}, {"every": 2}, {"clips": True, "parallel": 2}])
def test_onnxruntime_gives_the_results_of_python(options: dict[str, Any], built: Path, tmp_path: Path) -> None:
    given = {"confidence": 0.001, "keep": 0.0005, **options}
    assert compare(noise(12), model_path("default"), built, tmp_path, given, "onnxruntime") >= 6


@pytest.mark.slow
@pytest.mark.parametrize("options", [{"decode": True}, {"streaming": True}, {"batch": 1}])
def test_other_files_too(options: dict[str, Any], built: Path, tmp_path: Path) -> None:
    model = export("default", tmp_path / "m.onnx", **options)
    assert compare(noise(12), model, built, tmp_path, {"confidence": 0.001, "keep": 0.0005}, "onnxruntime") >= 6


@pytest.mark.slow
@pytest.mark.parametrize("clips", [False, True])
def test_a_pool_too(clips: bool, built: Path, tmp_path: Path) -> None:
    compare_pool(clips, built, tmp_path, "onnxruntime")


@pytest.mark.slow
@pytest.mark.parametrize("precision", ["fp16", "int8"])
def test_lower_precisions_too(precision: Precision, built: Path, tmp_path: Path) -> None:
    single, low, checkpoint = tmp_path / "single.onnx", tmp_path / "low.onnx", small_checkpoint()
    export_onnx(checkpoint, single)
    clips = made_up_clips(checkpoint.spec, 2)
    lower_model(single, low, clips, Wish(precision, "onnxruntime", max_drop=None), judged=1)
    assert compare(noise(12), low, built, tmp_path, {"confidence": 0.05, "keep": 0.01}, "onnxruntime") >= 6


@pytest.mark.slow
def test_what_onnxruntime_cannot_load_is_an_error_in_one_line(built: Path, tmp_path: Path) -> None:
    (tmp_path / "frames").write_bytes(b"")
    for words, reason in (
        ([], "is not there or cannot be read"),
        (["backend=openvino"], "openvino"),
        (["backend=tensorrt"], "runs only plans"),
    ):
        model = model_path("default") if words else tmp_path / "absent.onnx"
        done = subprocess.run(
            [built / "live", model, tmp_path / "frames", "8", "8", *words], capture_output=True, text=True
        )
        assert done.returncode == 1 and done.stderr.startswith("Error: ") and len(done.stderr.splitlines()) == 1
        assert reason in done.stderr


@pytest.mark.parametrize("flavour", ["tensorrt", "tensorrt-rtx"])
def test_the_code_for_tensorrt_agrees_with_the_rest(flavour: str, project_root: Path, tmp_path: Path) -> None:
    """Its calls are not checked: the library's own headers are not to be had."""
    (tmp_path / "main.cpp").write_text('#include "yowo/yowo.hpp"\nint main() { yowo::open_model("x"); }\n')
    define = f"-DYOWO_WITH_{flavour.upper().replace('-', '_')}"
    folders = [f"-I{project_root / name}" for name in ("yowo_deploy/include", "tests/cpp/stand_ins")]
    warnings = ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Wconversion"]
    command = [tool("g++"), "-std=c++17", "-fsyntax-only", *warnings, define, *folders, tmp_path / "main.cpp"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
