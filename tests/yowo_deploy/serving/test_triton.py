"""A real Triton on this CPU, from nvidia-pytriton's wheel: its answers, ours and a `Detector`'s are equal. 40 s on two
idle cores, once downloaded (57 MB)."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from tests.waiting import wait_until
from tests.yowo_deploy.serving.calls import Running
from yowo_deploy.detector import Detector
from yowo_deploy.serving import app
from yowo_deploy.serving.repository import CLIENT, write_triton
from yowo_deploy.spec import ModelSpec

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux" or os.uname().machine != "x86_64", reason="the wheel is for this alone"),
    pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="the stub loads the libraries of one Python, 3.11 here"),
]
WHEEL, NUMPY, CLIENT_PACKAGE = "nvidia-pytriton==0.7.0", "numpy==1.26.4", "tritonclient[http]==2.73.0"
FRAMES = 12


def _pip(*arguments: str | Path) -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "-q", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def server_files(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The folder `tritonserver` of the wheel, with the stub in its place and a numpy that it can use."""

    def make(folder: Path) -> None:
        _pip("download", "--no-deps", "--dest", folder, WHEEL)
        with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
            wheel.extractall(folder)
        server = folder / "pytriton" / "tritonserver"
        backend = server / "backends" / "python"
        shutil.copy(server / "python_backend_stubs" / "3.11" / "triton_python_backend_stub", backend)
        for program in (server / "bin" / "tritonserver", backend / "triton_python_backend_stub"):
            program.chmod(0o755)
        _pip(
            "install", "--no-deps", "--no-compile", "--target", backend, NUMPY
        )  # which the stub imports before it runs a line of ours

    if not list(Path("/usr/lib").glob("*/libpython3.11.so.1.0")):
        if shutil.which("apt-get") is None or os.geteuid() != 0:
            pytest.skip("no libpython3.11.so, and no root with apt-get to install it")
        subprocess.run(["apt-get", "install", "-y", "-qq", "libpython3.11"], check=True)
    return made_once("triton", make) / "pytriton" / "tritonserver"


@pytest.fixture(scope="module")
def client(made_once: Callable[[str, Callable[[Path], object]], Path]) -> Path:
    """The folder of the official client and all that it needs."""
    return made_once("tritonclient", lambda folder: _pip("install", "--no-compile", "--target", folder, CLIENT_PACKAGE))


@pytest.fixture(scope="module")
def model(spec: ModelSpec, onnx_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    onnx = pytest.importorskip("onnx")
    file = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(onnx_model(spec.replace(confidence_threshold=0.02)), file)
    return file


@pytest.fixture(scope="module")
def triton(server_files: Path, model: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of a Triton that has the repository of the small network."""
    ours = [str(Path(__file__).parents[3]), str(Path(np.__file__).parents[1])]
    repository = write_triton(model, tmp_path_factory.mktemp("triton") / "repository", os.pathsep.join(ours))
    shutil.rmtree(repository / "yowo_clip")  # its backend is not in the wheel
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command: list[str | Path] = [
        server_files / "bin" / "tritonserver",
        f"--model-repository={repository}",
        f"--http-port={port}",
    ]
    command += [f"--backend-directory={server_files / 'backends'}", "--http-address=127.0.0.1"]
    command += ["--allow-grpc=false", "--allow-metrics=false", "--exit-timeout-secs=1"]
    log = repository.parent / "log"
    with log.open("w") as stream:
        # Of a python3 in PATH that is an environment's the stub would take numpy 2.
        process = subprocess.Popen(command, stdout=stream, stderr=stream, env={"PATH": os.defpath})
    try:
        wait_until(lambda: process.poll() is not None or _answers(port))
        assert process.poll() is None, log.read_text()[-3000:]
        yield port
    finally:
        process.terminate()
        process.wait()


def _answers(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port)) as line:
            line.sendall(b"GET /v2/health/ready HTTP/1.0\r\n\r\n")
            return b" 200 " in line.recv(100)
    except OSError:
        return False


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Noise in which the small network finds something."""
    file = tmp_path_factory.mktemp("video") / "noise.avi"
    writer = cv2.VideoWriter(str(file), cv2.VideoWriter.fourcc(*"MJPG"), 25, (64, 48))
    numbers = np.random.default_rng(0)
    for _ in range(FRAMES):
        writer.write(numbers.integers(0, 256, (48, 64, 3), np.uint8))
    writer.release()
    return file


@pytest.fixture(scope="module")
def expected(model: Path, video: Path) -> list[dict[str, Any]]:
    """What a detector finds."""
    capture, found = cv2.VideoCapture(str(video)), []
    with Detector.open(model) as detector:
        for _ in range(FRAMES):
            each = detector.push(np.asarray(capture.read()[1], np.uint8)).detections
            ids = each.tracker_id
            assert ids is not None
            found.append(
                {"boxes": each.xyxy.tolist(), "scores": each.confidence.tolist(), "classes": each.class_id.tolist()}
                | {"people": ids.tolist()}
            )
    assert sum(len(each["scores"]) for each in found) > FRAMES
    return found


def sent(client: Path, video: Path, port: int, sequence: str = "1") -> subprocess.Popen[str]:
    """The client, at work with the libraries of its own first; OpenCV is that of the tests."""
    command = [sys.executable, CLIENT, video, "--url", f"127.0.0.1:{port}", "--sequence", sequence]
    own = {**os.environ, "PYTHONPATH": str(client)}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=own)


def lines(process: subprocess.Popen[str]) -> list[dict[str, Any]]:
    out, errors = process.communicate()
    assert process.returncode == 0, errors
    return [json.loads(line) for line in out.splitlines()]


def test_the_official_client_gets_a_detectors_answers_from_our_server(
    client: Path, video: Path, model: Path, expected: list[dict[str, Any]]
) -> None:
    with Running(app(model)) as running:
        assert lines(sent(client, video, running.port)) == expected


def test_triton_gives_two_sequences_at_once_a_detectors_answers(
    triton: int, client: Path, video: Path, expected: list[dict[str, Any]]
) -> None:
    both = [sent(client, video, triton, sequence) for sequence in ("7", "door")]
    assert [lines(each) for each in both] == [expected, expected]
    assert lines(sent(client, video, triton, "7")) == expected  # begun anew
