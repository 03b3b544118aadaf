"""`build` and `inspect` of a plan as a user types them, with TensorRT-RTX, which needs no GPU to build."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from yowo_deploy.cli import cli
from yowo_deploy.cli.build import parse_batch
from yowo_deploy.cli.console import parse_bytes
from yowo_deploy.errors import InputError, ModelFileError, OutputError, YowoError
from yowo_deploy.model_files.plan_record import read_plan
from yowo_deploy.spec import ModelSpec

pytest.importorskip("tensorrt_rtx", reason="TensorRT-RTX is not installed; it builds plans without a GPU")


def run(*arguments: object) -> Result:
    """The command in this process; an error of ours is in `exception`, everything else is raised."""
    result = CliRunner().invoke(cli, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, (YowoError, SystemExit)):
        raise result.exception
    return result


@pytest.fixture
def small(tmp_path: Path, onnx_model: Callable[..., Any], spec: ModelSpec) -> Path:
    path = tmp_path / "small.onnx"
    path.write_bytes(onnx_model(spec).SerializeToString())
    return path


def test_a_plan_lies_beside_its_onnx_file_and_says_what_it_is(small: Path, spec: ModelSpec) -> None:
    result = run("build", small, "--target", "tensorrt-rtx", "--batch", "1:2:4", "--workspace", "512MiB", "--no-tf32")
    assert result.exit_code == 0 and result.stdout.strip() == str(small.with_suffix(".plan"))
    found = json.loads(run("inspect", small.with_suffix(".plan"), "--json").stdout)
    assert found["kind"] == "plan" and found["hash"] == "as recorded" and found["flavour"] == "tensorrt-rtx"
    assert found["batch"] == [1, 2, 4] and found["workspace"] == 512 << 20 and found["tf32"] is False
    assert found["precision"] == "fp32" and found["spec"] == json.loads(spec.to_json())
    onnx = json.loads(run("inspect", small, "--json").stdout)
    assert found["onnx_sha256"] == onnx["sha256"] and found["spec"] == onnx["spec"]
    shown = run("inspect", small.with_suffix(".plan")).stdout
    assert "tensorrt-rtx" in shown and "1, 2, 4" in shown and "walk, sit, stand" in shown


def test_a_plan_is_inspected_where_tensorrt_is_not_installed(small: Path, tmp_path: Path) -> None:
    assert run("build", small, "--target", "tensorrt-rtx").exit_code == 0
    code = (
        "import sys\n"
        "for name in ('tensorrt', 'tensorrt_rtx', 'cuda', 'torch', 'onnx'): sys.modules[name] = None\n"
        "from yowo_deploy.cli import main\n"
        "main()\n"
    )
    command = [sys.executable, "-c", code, "inspect", str(small.with_suffix(".plan")), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[3])
    assert json.loads(done.stdout)["version"].startswith("1."), done.stderr


def test_a_plan_that_was_cut_or_changed_is_not_described(small: Path) -> None:
    run("build", small, "--target", "tensorrt-rtx")
    plan = small.with_suffix(".plan")
    content = plan.read_bytes()
    plan.write_bytes(content[:-10])
    assert "it is cut off" in str(run("inspect", plan).exception)
    plan.write_bytes(content[:-10] + b"0123456789")
    refused = run("inspect", plan).exception
    assert isinstance(refused, ModelFileError) and "not what was built" in str(refused)
    Path(f"{plan}.sha256").unlink()
    assert json.loads(run("inspect", plan, "--json").stdout)["hash"] == "not recorded"


def test_a_second_build_is_taken_from_the_cache(small: Path, tmp_path: Path) -> None:
    arguments = ("build", small, "--target", "tensorrt-rtx", "--cache", tmp_path / "plans", "-o")
    assert "taken from" not in run(*arguments, tmp_path / "a.plan").stderr
    assert f"taken from {tmp_path / 'plans'}" in run(*arguments, tmp_path / "b.plan").stderr
    assert (tmp_path / "a.plan").read_bytes() == (tmp_path / "b.plan").read_bytes()


def test_the_model_of_the_package_builds(tmp_path: Path) -> None:
    assert run("build", "default", "--target", "tensorrt-rtx", "-o", tmp_path / "a.plan").exit_code == 0
    assert read_plan(tmp_path / "a.plan").spec.classes == 21


def test_the_installed_library_is_the_target(small: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from yowo_deploy.backends import trt

    monkeypatch.setattr(trt, "find_spec", lambda name: name == "tensorrt_rtx" or None)
    assert run("build", small).exit_code == 0
    assert read_plan(small.with_suffix(".plan")).flavour == "tensorrt-rtx"


@pytest.mark.parametrize(
    ("target", "message"),
    [((), "neither TensorRT, .* without one"), (("--target", "tensorrt"), "tensorrt is not installed")],
)
def test_a_library_that_is_missing_is_named_before_any_search(
    target: tuple[str, ...], message: str, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from yowo_deploy.backends import trt

    monkeypatch.setattr(trt, "find_spec", lambda name: None)
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    found = run("build", small, "--fp16", "--calibration", "no-such-videos", *target)
    assert isinstance(found.exception, YowoError) and re.search(message, str(found.exception))


def text(folder: Path) -> Path:
    (folder / "text.onnx").write_text("hello, I am a model\n" * 20)
    return folder / "text.onnx"


def checkpoint(folder: Path) -> Path:
    (folder / "a.pth").write_bytes(b"PK\x03\x04rest")
    return folder / "a.pth"


BAD_CALLS: list[tuple[Callable[[Path], list[object]], type[YowoError], str]] = [
    (lambda folder: ["small.onnx", "--batch", "1:8"], InputError, "batch '1:8' is not understood"),
    (lambda folder: ["small.onnx", "--batch", "many"], InputError, "expected one number, or three as in 1:8:16"),
    (lambda folder: ["small.onnx", "--batch", "8:4:16"], InputError, "expected smallest, usual and largest"),
    (lambda folder: ["small.onnx", "--batch", "0"], InputError, "from 1 on"),
    (lambda folder: ["small.onnx", "--workspace", "4GB"], InputError, "workspace '4GB' is not understood"),
    (lambda folder: ["small.onnx", "--version-compatible"], InputError, "leave --version-compatible out"),
    (lambda folder: ["small.onnx", "--timing-cache", "t"], InputError, "leave --timing-cache out"),
    (lambda folder: ["small.onnx", "-o", "small.onnx"], OutputError, "is the input itself"),
    (lambda folder: ["none.onnx"], InputError, "ONNX file not found"),
    (lambda folder: [text(folder)], ModelFileError, "is not an ONNX file"),
    (lambda folder: [checkpoint(folder)], InputError, "is not an ONNX file: `yowo-deploy export` writes one"),
]


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS, ids=[row[2] for row in BAD_CALLS])
def test_a_bad_call_is_one_clear_error(
    call: Callable[[Path], list[object]],
    error: type[YowoError],
    message: str,
    small: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    arguments = call(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    refused = run("build", *arguments, "--target", "tensorrt-rtx").exception
    assert isinstance(refused, error) and message in str(refused) and "\n" not in str(refused)
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


INTERRUPTED_TWICE = """
import os, signal, threading
from yowo_export import pipeline, plan_builder as plan
heard, build, listen = threading.Semaphore(0), plan.build_plan, plan._interrupts_go_to
def listen_to(cancel):
    return listen(lambda: (cancel(), heard.release()))
def interrupt(share):
    print('step')
    for _ in range(2):
        signal.pthread_kill(threading.get_ident(), signal.SIGINT)  # wakes this thread alone, as the system may choose
        if not heard.acquire(timeout=60):  # so that the signal comes in this step, however busy the machine is
            os._exit(3)
plan._interrupts_go_to = listen_to
pipeline.build_plan = lambda onnx, output, options, cache, update: build(onnx, output, options, cache, interrupt)
from yowo_deploy.cli import main
main()
"""


def test_ctrl_c_is_no_traceback(small: Path, project_root: Path, default_interrupts: None) -> None:
    """The interrupt of a terminal, sent twice while the builder is at its first step."""
    paths = os.pathsep.join(str(project_root / folder) for folder in ("", "training", "export"))
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED_TWICE, "build", str(small), "--target", "tensorrt-rtx"],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": paths},
    )
    assert done.returncode == 130 and "interrupted" in done.stderr and "Traceback" not in done.stderr, done.stderr
    assert [path.name for path in small.parent.iterdir()] == ["small.onnx"]
    assert done.stdout.count("step") == 1  # the build was ended, not only its result thrown away


@pytest.mark.parametrize(
    ("given", "expected"), [("1", (1, 1, 1)), ("16", (16, 16, 16)), ("1:8:16", (1, 8, 16)), ("08:8:8", (8, 8, 8))]
)
def test_a_batch_is_one_number_or_three(given: str, expected: tuple[int, int, int]) -> None:
    assert parse_batch(given) == expected


@pytest.mark.parametrize("given", ["", "1:2", "1:2:3:4", "-1", "1.5", "1:8:x", "٣", "1 :2:3"])
def test_other_batches_are_refused(given: str) -> None:
    with pytest.raises(InputError, match="is not understood"):
        parse_batch(given)


@pytest.mark.parametrize(
    ("given", "expected"), [("0", 0), ("1024", 1024), ("1KiB", 1024), ("512MiB", 512 << 20), ("4 GiB", 4 << 30)]
)
def test_a_size_has_a_unit_of_two(given: str, expected: int) -> None:
    assert parse_bytes(given, "workspace") == expected


@pytest.mark.parametrize("given", ["", "GiB", "4GB", "4g", "-1", "1.5GiB", "4 TiB"])
def test_other_sizes_are_refused(given: str) -> None:
    with pytest.raises(InputError, match="is not understood"):
        parse_bytes(given, "workspace")
