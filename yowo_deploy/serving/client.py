"""Send a video to `yowo_stream`, of Triton or of `yowo-deploy serve`: python client.py [--url HOST:PORT] VIDEO

Needs tritonclient[http] and OpenCV alone. A line of JSON a frame: boxes, scores, classes, people.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any
from uuid import uuid4

import cv2
import tritonclient.http as triton

OUTPUTS = ("boxes", "scores", "classes", "people")


def main() -> None:
    """Read the arguments, and print what the server finds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("video")
    parser.add_argument("--url", default="127.0.0.1:8000")
    parser.add_argument("--frames", type=int, default=1 << 30, help="to send at most")
    parser.add_argument("--sequence", default=str(uuid4()), help="number or name of the sequence, one of its own")
    asked = parser.parse_args()
    sequence = int(asked.sequence) if asked.sequence.isdigit() else asked.sequence
    client = triton.InferenceServerClient(asked.url)
    capture, number = cv2.VideoCapture(asked.video), 0
    more, frame = capture.read()
    while more and number < asked.frames:
        more, after = capture.read()
        end = not more or number + 1 == asked.frames
        sys.stdout.write(json.dumps(push(client, frame, sequence, number == 0, end)) + "\n")
        frame, number = after, number + 1


def push(client: Any, frame: Any, sequence: int | str, start: bool, end: bool) -> dict[str, Any]:
    """The outputs for the next frame of a sequence."""
    given = triton.InferInput("frame", list(frame.shape), "UINT8")
    given.set_data_from_numpy(frame)
    wanted = [triton.InferRequestedOutput(name) for name in OUTPUTS]
    flags = {"sequence_id": sequence, "sequence_start": start, "sequence_end": end}
    answer = client.infer("yowo_stream", [given], outputs=wanted, **flags)
    return {name: answer.as_numpy(name).tolist() for name in OUTPUTS}


if __name__ == "__main__":
    main()
