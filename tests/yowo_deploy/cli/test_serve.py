"""`serve` as a person starts it: what it says, what it refuses, and how it ends."""

from __future__ import annotations

import http.client
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from tests.waiting import wait_until
from tests.yowo_deploy.serving.calls import ask, binary
from yowo_deploy.cli import cli
from yowo_deploy.errors import InputError
from yowo_deploy.spec import ModelSpec


@pytest.fixture(scope="module")
def model(spec: ModelSpec, onnx_model: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    file = tmp_path_factory.mktemp("model") / "small.onnx"
    onnx.save(onnx_model(spec), file)
    return file


@pytest.fixture
def process(model: Path, project_root: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """`serve` in a process of its own, and its port."""
    command = [sys.executable, "-m", "yowo_deploy", "serve", "--model", str(model), "--backend", "onnxruntime"]
    started = subprocess.Popen([*command, "--port", "0"], cwd=project_root, stderr=subprocess.PIPE, text=True)
    assert started.stderr is not None
    for line in started.stderr:
        if found := re.search(r"at http://127\.0\.0\.1:(\d+)/", line):
            yield started, int(found[1])
            break
    started.kill()
    started.wait()


def connection(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port)


@pytest.mark.parametrize("kind", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_the_request_at_work_end(kind: int, process: tuple[subprocess.Popen[str], int]) -> None:
    server, port = process
    path, body, headers = binary({"frame": np.zeros((48, 64, 3), np.uint8)}, sequence_id=1, sequence_start=True)
    assert ask(connection(port), path, body, headers).status == 200
    line = connection(port)
    line.putrequest("POST", path)
    for name, value in {**headers, "Content-Length": str(len(body))}.items():
        line.putheader(name, value)
    line.endheaders(body[:100])
    other = connection(port)
    assert ask(other, "/v2/health/ready").status == 200  # by now the first request has begun
    server.send_signal(kind)
    wait_until(lambda: _refuses(port))
    line.send(body[100:])
    assert line.getresponse().status == 200
    assert server.wait() == 0
    assert server.stderr is not None and server.stderr.read() == ""


def _refuses(port: int) -> bool:
    try:
        ask(connection(port), "/v2/health/live")
    except ConnectionError:
        return True
    return False


def test_an_address_open_to_others_needs_a_token(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("YOWO_TOKEN", raising=False)
    for host in ("0.0.0.0", "::", "192.0.2.1", "example.org"):
        with pytest.raises(InputError, match="YOWO_TOKEN"):
            CliRunner().invoke(cli, ["serve", "--host", host], catch_exceptions=False)


def test_a_token_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="token cannot be read"):
        CliRunner().invoke(cli, ["serve", "--token-file", str(tmp_path / "none")], catch_exceptions=False)


@pytest.mark.parametrize("content", ["/dev/zero", b"a" * 100_000, b"\xff" * 20])
def test_a_token_file_that_has_no_end_is_not_read_to_it(content: str | bytes, tmp_path: Path) -> None:
    file = tmp_path / "token"
    if isinstance(content, str):
        file.symlink_to(content)
    else:
        file.write_bytes(content)
    with pytest.raises(InputError, match="token cannot be read"):
        CliRunner().invoke(cli, ["serve", "--token-file", str(file)], catch_exceptions=False)


def test_a_port_that_is_taken_is_said_before_the_model_is_loaded(process: tuple[subprocess.Popen[str], int]) -> None:
    with pytest.raises(InputError, match=f"port {process[1]}"):
        CliRunner().invoke(cli, ["serve", "--model", "none", "--port", str(process[1])], catch_exceptions=False)
