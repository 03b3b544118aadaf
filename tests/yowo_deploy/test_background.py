"""No thread of ours is in native code when Python ends, whatever was left open."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

# Left open, at work in native code for as long as the program lives. stdout is flushed when Python ends already, and
# sleeps then: a thread that comes back from native code meanwhile is unwound, which aborts the process.
_PROGRAM = """
import sys, threading, time
import cv2, numpy as np
from yowo_deploy.backends.base import Engine
from yowo_deploy.boxes import Detections
from yowo_deploy.prefetch import Prefetch
from yowo_deploy.result import Result
from yowo_deploy.sinks.video import VideoSink
from yowo_deploy.spec import ModelSpec
from yowo_deploy.stream_pool import StreamPool
from yowo_deploy.video import writer
from yowo_deploy.video.cameras import Captured
from yowo_deploy.video.sources import Source

class Late:
    closed = False
    def flush(self):
        time.sleep(2 * sys.is_finalizing())

BIG, begun = np.zeros((1000, 1000, 3), np.uint8), threading.Event()

def at_work():
    begun.set()
    cv2.GaussianBlur(BIG, (0, 0), 5)
    return np.zeros((480, 640, 3), np.uint8)

def pictures():
    while True:
        yield at_work()

class Feed:
    name, live, fps, size_wh, frames_declared, reconnects = "feed", True, 25.0, (64, 48), 0, 0
    def frames(self):
        for number, picture in enumerate(pictures()):
            yield Captured(picture, number / 25)
    def stop(self): ...
    close = stop

class Slow(Engine):
    name, spec = "slow", ModelSpec(labels=("walk",), anchors=((1.0, 1.0),), clip_length=4, input_size=(32, 32))
    def infer(self, clips):
        at_work()
        return np.zeros((1, 6, 1, 1), np.float32)

class Encoder:
    def __init__(self, *_): ...
    def write(self, picture):
        at_work()
    def close(self): ...

def interrupted(*_):
    start(*_)
    begun.wait()
    raise SystemExit(3)

sys.stdout, kind = Late(), sys.argv[1]
if kind == "prefetch":
    left = Prefetch(pictures(), depth=10**9)
if kind == "a start that a signal interrupts":
    start, threading.Thread.start = threading.Thread.start, interrupted
    left = Prefetch(pictures(), depth=10**9)
if kind == "source":
    left = Source(Feed(), "drop-oldest")
    next(iter(left))
if kind == "pool":
    left = StreamPool(Slow())
    left.add("endless", pictures())
    next(iter(left))
if kind == "sink":
    writer._ENCODERS[".webm"] = Encoder
    left = VideoSink(sys.argv[2], 25, (640, 480))
    for number in range(30):
        picture = np.zeros((480, 640, 3), np.uint8)
        left.write(picture, Result(number, picture, Detections.empty(1), ("walk",), {}, number / 25))
begun.wait()
sys.exit(3)
"""


@pytest.mark.parametrize("kind", ["prefetch", "a start that a signal interrupts", "source", "pool", "sink"])
def test_what_is_left_open_does_not_abort_the_program(kind: str, tmp_path: Path) -> None:
    code = [sys.executable, "-c", _PROGRAM, kind, tmp_path / "a.webm"]
    done = subprocess.run(code, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (3, "")
    assert list(tmp_path.iterdir()) == []


PYTHON_ALONE = {  # daemon threads that wait or run in Python's own code, where the end of Python may unwind them
    "yowo_deploy/cli/detect.py", "yowo_deploy/serving/metrics.py", "yowo_deploy/sinks/mqtt_connection.py",
    "yowo_deploy/sinks/outbox.py", "yowo_deploy/video/host_gate.py", "yowo_deploy/worker_pool.py",
}  # fmt: skip


def test_other_daemon_threads_run_python_alone(project_root: Path) -> None:
    found = {
        file.relative_to(project_root).as_posix()
        for top in ("yowo_deploy", "training", "export")
        for file in (project_root / top).rglob("*.py")
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "threading.Thread"
    }
    assert found == PYTHON_ALONE
