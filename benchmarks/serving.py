"""A frame through HTTP, beside the bare `Detector`, in turn: `python -m benchmarks.serving [VIDEO]`.

A detector here and `yowo-deploy serve` in a process of its own get the same frames; the client stays connected, and
frames come with pauses as a camera's do. Machines are shared: what counts is the difference of a frame's two times, at
the median.
"""

from __future__ import annotations

import argparse
import http.client
import json
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle, islice

import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.detector import Detector
from yowo_deploy.serving.tensors import HEADER
from yowo_deploy.video.sources import open_source

SIZE_WH = (320, 240)


def main() -> None:
    """Print what HTTP adds to a frame."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video", nargs="?", help="its frames are decoded before; noise of 320x240 by default")
    parser.add_argument("--model", default="default")
    parser.add_argument("--backend")
    parser.add_argument("--frames", type=int, default=200)
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two frames")
    given = parser.parse_args()
    options = ["--model", given.model, *(("--backend", given.backend) if given.backend else ())]
    frames = frames_of(given.video, given.frames)
    with served(options) as port, Detector.open(given.model, backend=given.backend) as detector:
        pairs = measure(detector, port, frames, given.pause)
    bare, over = np.array(pairs)[len(pairs) // 10 :].T
    added = over - bare
    low, middle, high = np.percentile(added, [25, 50, 75])
    print(f"{len(added)} frames: Detector {np.median(bare):.2f} ms, HTTP {np.median(over):.2f} ms at the median")
    print(f"HTTP adds {middle:.2f} ms to a frame at the median, half of them {low:.2f} to {high:.2f} ms")


@contextmanager
def served(options: Sequence[str]) -> Iterator[int]:
    """The port of a server with these options."""
    command = [sys.executable, "-m", "yowo_deploy", "serve", "--port", "0", *options]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        try:
            found = next(filter(None, (re.search(r":(\d+)/$", line.rstrip()) for line in process.stderr)))
            yield int(found[1])
        finally:
            process.terminate()


def measure(detector: Detector, port: int, frames: Sequence[Frame], pause_s: float) -> list[tuple[float, float]]:
    """Milliseconds of each frame, bare and through HTTP; which comes first alternates."""
    line, pairs = http.client.HTTPConnection("127.0.0.1", port), []
    for number, frame in enumerate(frames):
        ways = [lambda f=frame: detector.push(f), lambda f=frame, n=number: send(line, f, n == 0)]
        order = (0, 1) if number % 2 else (1, 0)
        spent = [0.0, 0.0]
        for way in order:
            time.sleep(pause_s)
            start = time.perf_counter()
            ways[way]()
            spent[way] = 1000 * (time.perf_counter() - start)
        pairs.append((spent[0], spent[1]))
    line.close()
    return pairs


def send(line: http.client.HTTPConnection, frame: Frame, start: bool) -> None:
    """One frame of a sequence, with its tensor and the answer's as bytes."""
    shape = {"name": "frame", "shape": frame.shape, "datatype": "UINT8"}
    tensor = {**shape, "parameters": {"binary_data_size": frame.nbytes}}
    flags = {"sequence_id": 1, "sequence_start": start, "binary_data_output": True}
    head = json.dumps({"inputs": [tensor], "parameters": flags}).encode()
    line.request("POST", "/v2/models/yowo_stream/infer", b"".join((head, frame)), {HEADER: str(len(head))})
    answer = line.getresponse()
    answer.read()
    assert answer.status == 200


def frames_of(video: str | None, count: int) -> list[Frame]:
    """That many frames, from the beginning again where there are fewer."""
    if video is None:
        numbers = np.random.default_rng(0)
        some = [numbers.integers(0, 256, (SIZE_WH[1], SIZE_WH[0], 3), np.uint8) for _ in range(32)]
    else:
        with open_source(video) as source:
            some = [timed.image for timed in islice(source, count)]
    return list(islice(cycle(some), count))


if __name__ == "__main__":
    main()
