"""A frame with and without an MQTT receiver, in turn: `python -m benchmarks.receivers mqtt://127.0.0.1/bench VIDEO`.

Blocks of frames take turns, each through a detector of its own over the same kind of engine, so that what the sink's
thread still sends falls on frames with it. Machines are shared: read the ratio, not the times.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from itertools import cycle, islice

import numpy as np

from yowo_deploy.arrays import Frame
from yowo_deploy.detector import Detector
from yowo_deploy.postprocess.events import Events
from yowo_deploy.sinks import MqttSink
from yowo_deploy.sinks.mqtt import MqttBroker
from yowo_deploy.video.sources import open_source

BLOCK = 25


def main() -> None:
    """Print the 50th and 95th percentile of a frame, and their ratio."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("broker")
    parser.add_argument("video")
    parser.add_argument("--frames", type=int, default=600, help="of each kind")
    parser.add_argument("--on", type=float, default=0.1, help="score that begins an event: low, for many of them")
    given = parser.parse_args()
    with open_source(given.video) as source:
        frames = list(islice(cycle([timed.image for timed in islice(source, 200)]), given.frames))
    events = Events(on=given.on, off=given.on / 2, min_frames=2, update_frames=5)
    with Detector.open() as bare, Detector.open() as heard, MqttBroker(given.broker) as broker:
        with MqttSink(broker, "bench", events) as sink:
            plain, sent = [], []
            for at in range(0, given.frames, BLOCK):
                plain += milliseconds(bare, frames[at : at + BLOCK])
                sent += milliseconds(heard, frames[at : at + BLOCK], sink)
        counts = broker.counts
    for percent in (50, 95):
        one, other = (np.percentile(each[BLOCK:], percent) for each in (plain, sent))
        print(f"p{percent}: {one:.2f} ms without, {other:.2f} ms with the sink: {other / one:.3f}")
    print(f"messages: {dict(counts)}")


def milliseconds(detector: Detector, frames: Sequence[Frame], sink: MqttSink | None = None) -> list[float]:
    """Of each frame, from the detector to the sink's queue."""
    spent = []
    for frame in frames:
        start = time.perf_counter()
        result = detector.push(frame)
        if sink is not None:
            sink.write(frame, result)
        spent.append(1000 * (time.perf_counter() - start))
    return spent


if __name__ == "__main__":
    main()
