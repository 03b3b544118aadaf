"""A model file is opened in the backend that can run it, or refused with the reason."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from yowo_deploy.backends import loader
from yowo_deploy.backends.loader import BACKENDS, ONNX_ENGINES, is_checkpoint, open_model
from yowo_deploy.errors import InputError, MissingExtraError, ModelFileError, YowoError
from yowo_deploy.spec import ModelSpec

onnx = pytest.importorskip("onnx")


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, onnx_model: Callable[..., Any], spec: ModelSpec) -> Path:
    """The small network."""
    path = tmp_path_factory.mktemp("models") / "small.onnx"
    path.write_bytes(onnx_model(spec).SerializeToString())
    return path


def test_without_a_name_the_first_installed_engine_is_taken(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    installed = [name for name, (_, library, _) in ONNX_ENGINES.items() if loader.find_spec(library)]
    if not installed:
        pytest.skip("no engine is installed")
    assert open_model(file).name == installed[0]


# As an engine's import could: a process of its own, a request to a host, a file in the home.
TELLS_OF_ITSELF = """
import sys
watched = ("os.fork", "os.posix_spawn", "subprocess.Popen", "socket.connect", "socket.getaddrinfo")
sys.addaudithook(lambda event, arguments: event in watched and print(event, arguments, flush=True))
"""
RUNS_A_MODEL = """
import numpy as np
from yowo_deploy.backends import open_model
with open_model(sys.argv[1], sys.argv[2]) as model:
    model.infer(np.zeros((1, *model.spec.clip_shape), np.float32))
"""


@pytest.mark.parametrize("name", ONNX_ENGINES)
def test_no_engine_asks_a_host_or_starts_a_process_or_writes_into_the_home(
    name: str, file: Path, tmp_path: Path
) -> None:
    """OpenVINO does all three when it is imported, but where CI is in the environment; ONNX Runtime the last, by
    native code, whose requests Python does not see."""
    pytest.importorskip(ONNX_ENGINES[name][1])
    kept = {key: value for key, value in os.environ.items() if key in ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH")}
    code = TELLS_OF_ITSELF + RUNS_A_MODEL
    done = subprocess.run(
        [sys.executable, "-c", code, file, name],
        env=kept | {"HOME": str(tmp_path)},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert list(tmp_path.iterdir()) == []


def write_text(path: Path) -> None:
    path.write_text("hello, I am a model\n" * 20)


def write_nothing(path: Path) -> None:
    path.touch()


def write_zip(path: Path) -> None:
    """What `torch.save` writes begins so."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02.")


def write_onnx(path: Path) -> None:
    path.write_bytes(onnx.ModelProto(ir_version=8).SerializeToString())


@pytest.mark.parametrize(
    ("write", "backend", "error", "expected"),
    [
        (None, None, InputError, "model not found"),
        (Path.mkdir, None, InputError, "is a folder"),
        (write_nothing, "openvino", InputError, "is empty"),
        (write_text, "openvino", ModelFileError, "is not an ONNX file"),
        (write_text, "onnxruntime", ModelFileError, "is not an ONNX file"),
        (write_text, "pytorch", InputError, "pytorch runs only checkpoints.*choose openvino or onnxruntime"),
        (write_zip, "openvino", InputError, "openvino cannot run the checkpoint .*export it to ONNX first"),
        (write_zip, "onnxruntime", InputError, "onnxruntime cannot run the checkpoint"),
        (write_onnx, "tensorflow", InputError, f"'tensorflow' is not known, expected one of {', '.join(BACKENDS)}"),
        (write_onnx, "openvino", ModelFileError, "holds no graph"),
    ],
)
def test_what_no_engine_takes_is_refused(
    write: Callable[[Path], None] | None, backend: str | None, error: type[YowoError], expected: str, tmp_path: Path
) -> None:
    if backend in ONNX_ENGINES:
        pytest.importorskip(ONNX_ENGINES[backend][1])
    file = tmp_path / "model.onnx"
    if write is not None:
        write(file)
    with pytest.raises(error, match=expected):
        open_model(file, backend)


@pytest.mark.parametrize(
    ("name", "options", "expected"),
    [
        ("openvino", {"device": "cuda"}, "openvino runs on the cpu here, not on 'cuda'"),
        ("openvino", {"streaming": True}, "streaming is True, expected 'one' or 'many'"),
        ("openvino", {"precision": "int8"}, "in bf16 or fp32, not in int8"),
        ("onnxruntime", {"device": "npu"}, "has no device 'npu', expected cpu, cuda, "),
        ("onnxruntime", {"precision": "fp16"}, "leave --precision fp16 out"),
        ("onnxruntime", {"cache": "folder"}, "has no compiled model to cache on cpu.*leave out the cache folder"),
    ],
)
def test_nothing_else_is_done_than_was_asked(name: str, options: dict[str, Any], expected: str, file: Path) -> None:
    pytest.importorskip(ONNX_ENGINES[name][1])
    with pytest.raises(InputError, match=expected):
        open_model(file, name, **options)


@pytest.mark.parametrize(
    ("backend", "expected"),
    [
        ("openvino", r"openvino is not installed.*yowo-deploy\[openvino\]"),
        ("onnxruntime", r"onnxruntime is not installed.*yowo-deploy\[onnxruntime\]"),
        (None, r"an engine for ONNX files is not installed.*yowo-deploy\[openvino\]"),
    ],
)
def test_an_engine_that_is_not_installed_is_named_with_its_extra(
    backend: str | None, expected: str, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loader, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=expected):
        open_model(file, backend)
    with pytest.raises(MissingExtraError, match=r"onnxruntime is not installed.*yowo-deploy\[cuda\]"):
        open_model(file, device="cuda")


def test_a_checkpoint_runs_without_a_cache_and_says_so(tmp_path: Path) -> None:
    write_zip(tmp_path / "a.pth")
    with pytest.raises(InputError, match="has no compiled model to cache"):
        open_model(tmp_path / "a.pth", cache=tmp_path / "cache")
    assert not (tmp_path / "cache").exists()


def test_a_checkpoint_without_torch_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_zip(tmp_path / "a.pth")
    monkeypatch.setattr(loader, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"PyTorch.*yowo-deploy\[train\]"):
        open_model(tmp_path / "a.pth")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"PK\x03\x04rest", True),
        (b"\x80\x02\x8a\x0a", True),
        (b"\x80\x04\x95\x00", True),
        (b"\x08\x08\x12\x07pytorch", False),
        (b"P", False),
        (b"hello", False),
    ],
)
def test_a_checkpoint_is_known_by_its_first_bytes(content: bytes, expected: bool, tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(content)
    assert is_checkpoint(tmp_path / "model.onnx") is expected


@pytest.mark.parametrize("works", [True, False])
def test_auto_is_the_gpu_where_one_works(works: bool, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where it does not, and with options of another engine, it is what no device means."""
    opened: list[str] = []
    monkeypatch.setattr(loader, "_runs_on_gpu", lambda path: works)
    monkeypatch.setattr(loader, "_onnx", lambda path, backend, device: opened.append(device))
    for options in ({}, {"threads": 1}, {"backend": "openvino"}):
        with pytest.raises(TypeError):  # the engine above is none
            open_model(file, device="auto", **options)
    assert opened == ["cuda" if works else "cpu", "cpu", "cpu"]


def test_the_gpu_of_another_machine_is_not_asked(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loader, "find_spec", lambda name: None)
    assert not loader._runs_on_gpu(file)


def test_a_number_is_a_gpu(file: Path) -> None:
    assert [loader.full_device(name) for name in ("0", "1", "cpu", "cuda:1", "tensorrt")] == [
        "cuda:0",
        "cuda:1",
        "cpu",
        "cuda:1",
        "tensorrt",
    ]
